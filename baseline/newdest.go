package baseline

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// NewDestination configures the new-destination detector.
type NewDestination struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// ClosedDestinations is the most that a closed-world workload calls.
	ClosedDestinations int `yaml:"closed_destinations"`
	// ClosedNews is the most that it called for the first time in the last seven days.
	ClosedNews int `yaml:"closed_news"`
}

func defaultNewDestination() NewDestination {
	return NewDestination{Mode: On, ClosedDestinations: 8, ClosedNews: 1}
}

func (c NewDestination) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if c.ClosedDestinations < 0 || c.ClosedDestinations > circleExact {
		report(path+".closed_destinations", fmt.Sprintf("%d is outside 0 to %d", c.ClosedDestinations, circleExact))
	}
	if c.ClosedNews < 0 || c.ClosedNews > 100 {
		report(path+".closed_news", fmt.Sprintf("%d is outside 0 to 100", c.ClosedNews))
	}
}

const (
	settleSeconds = 24 * 3600 // after another image came, new destinations are its
	steadySeconds = 7 * 24 * 3600
	newsPause     = 24 * hour // between two findings of info about one workload
)

// newDestination tells of the first call to a place by a workload that calls few: a database that opens anything outbound. What a
// workload calls is kept by circles.
type newDestination struct {
	Nop
	memory[newsTold]
	c      NewDestination
	env    *env
	silent map[string]*metrics.Counter
}

// newsTold is when a workload's new destinations were told last, event time in ns.
type newsTold struct{ at, info int64 }

const newDestinationVersion = 1

func newNewDestination(c NewDestination, env *env) *newDestination {
	d := &newDestination{c: c, env: env, silent: map[string]*metrics.Counter{}}
	for _, reason := range []string{"learning", "open", "shared", "site", "unsure", "told"} {
		d.silent[reason] = env.set.NewCounter(fmt.Sprintf("wharfwatch_baseline_new_destination_silent_total{reason=%q}", reason))
	}
	d.memory = newMemory(env, newDestinationVersion,
		func(v *newsTold, out *writer) { out.int(v.at); out.int(v.info) },
		func(r *reader, v *newsTold) { v.at, v.info = r.int(), r.int() })
	return d
}

// Flow looks at first calls to addresses that are no container's: calls between containers are for east-west.
func (d *newDestination) Flow(f *enrich.Flow) {
	a := &d.env.circles.now
	if !a.fresh || f.PeerIs != nil || f.Proto != flow.TCP && f.Proto != flow.UDP || f.Proto == flow.UDP && f.PeerPort == 123 {
		return
	}
	w := d.env.w
	if w.learns() || d.env.quiet {
		d.silent["learning"].Inc()
		return
	}
	c := d.env.circles.ofIndex(w)
	out, all := 0, -1
	for _, k := range c.all {
		all++
		if k.out && k.dest != a.dest {
			out++
		}
	}
	news := c.news7(f.Start) - 1
	age := f.Start/1e9 - w.first/1e9
	callers := d.env.circles.callers(a.dest, f.Time)
	active := max(d.env.learning.activeSince(f.Time/hour-24), 1)
	renewed := c.change != 0 && f.Start/1e9-c.change < settleSeconds
	closed := c.spilled == 0 && all <= d.c.ClosedDestinations && (age < steadySeconds || news <= d.c.ClosedNews)
	severity, score, silent := Info, .2, ""
	switch {
	case callers > 1:
		silent = "shared" // others call it: a common service, or a change made to several
	case !closed:
		if kept := d.at(w); kept != nil && f.Time-max(kept.v.info, kept.v.at) < newsPause {
			silent = "open"
		}
	case a.place != outside && all > 0:
		silent = "site"
	case out > 0 && (!w.named || age < steadySeconds):
		silent = "unsure" // without names, addresses of one service look like many; a week shows whether new ones are rare
	case renewed:
	case a.place != outside || active < 2:
		severity, score = Low, .4
	default:
		severity, score = Medium, .65
	}
	if silent != "" {
		d.silent[silent].Inc()
		return
	}
	kept := d.of(w)
	if closed && f.Time-kept.v.at < hour && kept.v.at != 0 {
		d.silent["told"].Inc() // one story: what it calls next is in the evidence of others
		return
	}
	if closed {
		kept.v.at = f.Time
	} else {
		kept.v.info = f.Time
	}
	d.touch(kept)
	d.env.report(Finding{
		Time: max(f.Time, d.env.now), Window: f.Start - f.Start%1e9, Workload: w.name, Instance: f.Container, Subject: peerSubject(f),
		Severity: severity, Score: score, Method: f.Method, Confidence: f.Confidence, Attack: []string{"T1071", "T1105"},
		Summary: d.summary(f, out, closed, renewed),
		Evidence: map[string]any{
			"destinations_known": all, "outside_destinations_known": out, "new_destinations_7d": news, "closed_world": closed,
			"closed_destinations": d.c.ClosedDestinations, "closed_news": d.c.ClosedNews, "watched_days": age / daySeconds,
			"new_image": renewed, "peer_name": f.PeerName, "destinations_prevalence": []int{callers, active},
			"container_address": f.Local.String(),
		},
	})
}

func (d *newDestination) summary(f *enrich.Flow, out int, closed, renewed bool) string {
	s := fmt.Sprintf("%q (%q) calls %s for the first time", f.Container.Name, f.Container.Image, peerLabel(f))
	switch {
	case renewed:
		s += ", since another image runs"
	case !closed:
		s += ", one of many places"
	case out == 0:
		s += "; it never called the outside before"
	default:
		s += fmt.Sprintf("; it calls %d outside places and hardly ever a new one", out)
	}
	return s
}
