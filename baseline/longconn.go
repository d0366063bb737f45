package baseline

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// LongConnection configures the long-connection detector.
type LongConnection struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// Hours that a connection must be open.
	Hours float64 `yaml:"hours"`
	// EpisodeHours without a long connection to a destination until one is told again.
	EpisodeHours int `yaml:"episode_hours"`
	// MaxPerWorkload bounds the destinations of long connections remembered for one workload.
	MaxPerWorkload int `yaml:"max_per_workload"`
}

func defaultLongConnection() LongConnection {
	return LongConnection{Mode: On, Hours: 4, EpisodeHours: 168, MaxPerWorkload: 64}
}

func (c LongConnection) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if !(c.Hours >= .1 && c.Hours <= 168) {
		report(path+".hours", fmt.Sprintf("%v is outside 0.1 to 168", c.Hours))
	}
	if c.EpisodeHours < 1 || c.EpisodeHours > 24*35 {
		report(path+".episode_hours", fmt.Sprintf("%d is outside 1 to 840", c.EpisodeHours))
	}
	if c.MaxPerWorkload < 1 || c.MaxPerWorkload > 4096 {
		report(path+".max_per_workload", fmt.Sprintf("%d is outside 1 to 4096", c.MaxPerWorkload))
	}
}

// longConnection finds connections that stay open for hours to a place that few call: a tunnel, a remote shell, a C2 over WebSocket. The
// connection table says with every report when its connection began, so that short ones cost nothing here; kept is, per workload, to
// which destinations long ones led before. Those of the learning time are known: database pools, message queues, push services.
type longConnection struct {
	Nop
	c       LongConnection
	env     *env
	least   int64 // ns
	byIndex []*longTies
	queue   []*longTies // dirty, oldest change first
	gone    []string
	evicted *metrics.Counter
	silent  map[string]*metrics.Counter
}

// longTies are the destinations of one workload's long connections, the longest unused first.
type longTies struct {
	w            *workload
	all          []longTie
	dirty, freed bool
}

type longTie struct {
	dest  uint64 // see destinationHash
	last  int64  // event time of the last report of a long connection, ns
	early bool   // known from the learning time
	told  bool   // in this episode
	conn  uint64 // told or considered last
}

func newLongConnection(c LongConnection, env *env) *longConnection {
	d := &longConnection{
		c: c, env: env, least: int64(c.Hours * float64(time.Hour)),
		evicted: env.set.NewCounter(`wharfwatch_baseline_evicted_total{table="long-connection"}`),
		silent:  map[string]*metrics.Counter{},
	}
	for _, reason := range []string{"known", "neighbour", "common", "site"} {
		d.silent[reason] = env.set.NewCounter(fmt.Sprintf("wharfwatch_baseline_long_connection_silent_total{reason=%q}", reason))
	}
	return d
}

// Flow looks at the reports of connections that are old enough.
func (d *longConnection) Flow(f *enrich.Flow) {
	if f.Time-f.Start < d.least || f.Start <= 0 || f.Confidence < enrich.High || f.Opener == enrich.OpenerRemote || isPlumbing(f) {
		return
	}
	if f.Opener == enrich.OpenerUnknown && (f.LocalPort < 32768 || f.PeerPort == 0 || f.PeerPort >= 10000) {
		return
	}
	t := d.of(d.env.w)
	dest := destinationHash(f)
	i := slices.IndexFunc(t.all, func(o longTie) bool { return o.dest == dest })
	fresh := i < 0
	if fresh {
		if len(t.all) >= d.c.MaxPerWorkload {
			t.all = slices.Delete(t.all, 0, 1)
			d.evicted.Inc()
		}
		t.all = append(t.all, longTie{dest: dest, early: d.env.w.learns() || d.env.quiet})
		i = len(t.all) - 1
	}
	tie := t.all[i]
	if tie.told && f.Time-tie.last > int64(d.c.EpisodeHours)*hour {
		tie.told, tie.conn = false, 0
	}
	tie.last = max(tie.last, f.Time)
	judged := tie.conn == f.Conn && !fresh
	tie.conn = f.Conn
	if !judged && !tie.told {
		tie.told = d.judge(f, &tie, dest)
	}
	t.all = append(slices.Delete(t.all, i, i+1), tie)
	if !t.dirty {
		t.dirty = true
		d.queue = append(d.queue, t)
	}
}

// judge tells a long connection that deserves it.
func (d *longConnection) judge(f *enrich.Flow, tie *longTie, dest uint64) bool {
	w, where := d.env.w, place(f, d.env.site)
	callers := d.env.circles.callers(dest, f.Time)
	active := max(d.env.learning.activeSince(f.Time/hour-24), 1)
	alone, fresh := callers <= 1 && active >= 2, !w.learns() && d.env.circles.since(w, dest) > w.ready
	reason := ""
	switch {
	case where == neighbour:
		reason = "neighbour"
	case where == siteAddress:
		reason = "site"
	case callers >= 3:
		reason = "common"
	case tie.early && !w.learns(), !fresh && !alone:
		reason = "known"
	}
	if reason != "" {
		d.silent[reason].Inc()
		return false
	}
	if d.env.quiet {
		return false
	}
	odd, unnamed := !usualPort(f.PeerPort), w.named && f.PeerName == "" && f.PeerIs == nil
	out := Finding{
		Time: max(f.Time, d.env.now), Window: f.Start - f.Start%1e9, Workload: w.name, Instance: f.Container, Subject: peerSubject(f),
		Severity: Info, Score: .3, Method: f.Method, Confidence: f.Confidence, Attack: []string{"T1071"},
		Evidence: map[string]any{
			"open_seconds": (f.Time - f.Start) / 1e9, "threshold_seconds": d.least / 1e9, "began": rfc3339(f.Start), "seen_from_beginning": !f.Midstream,
			"bytes_sent": f.TotalSent, "bytes_received": f.TotalReceived, "peer_name": f.PeerName, "odd_port": odd, "new_destination": fresh,
			"destinations_prevalence": []int{callers, active}, "container_address": f.Local.String(),
		},
	}
	if f.Asked != "" {
		out.Evidence["asked_name"] = f.Asked
	}
	if odd {
		out.Attack = append(out.Attack, "T1571")
	}
	switch {
	case fresh && alone && where == outside && (odd || unnamed):
		out.Severity, out.Score = Medium, .65
	case fresh, alone && (odd || unnamed):
		out.Severity, out.Score = Low, .4
	}
	out.Summary = fmt.Sprintf("%q has held a connection to %s open for %s, %s out and %s in", f.Container.Name, peerLabel(f),
		spoken(time.Duration(f.Time-f.Start)), size(float64(f.TotalSent)), size(float64(f.TotalReceived)))
	if alone {
		out.Summary += "; no other workload calls it"
	}
	d.env.report(out)
	return true
}

func (d *longConnection) of(w *workload) *longTies {
	for len(d.byIndex) <= w.index {
		d.byIndex = append(d.byIndex, nil)
	}
	if d.byIndex[w.index] == nil {
		d.byIndex[w.index] = &longTies{w: w}
	}
	return d.byIndex[w.index]
}

// forget drops a workload.
func (d *longConnection) forget(w *workload) {
	if w.index < len(d.byIndex) && d.byIndex[w.index] != nil {
		d.byIndex[w.index].freed = true
		d.byIndex[w.index] = nil
		d.gone = append(d.gone, w.name)
	}
}

const longConnectionVersion = 1

// Dirty yields the workloads whose long connections changed.
func (d *longConnection) Dirty(yield func(key string, blob []byte) bool) {
	for len(d.gone) > 0 {
		if d.env.learning.byName[d.gone[0]] == nil && !yield(d.gone[0], nil) {
			return
		}
		d.gone = d.gone[1:]
	}
	var out writer
	for len(d.queue) > 0 {
		t := d.queue[0]
		if !t.freed {
			out.reset(longConnectionVersion)
			out.uint(uint64(len(t.all)))
			for _, v := range t.all {
				out.uint(v.dest)
				out.int(v.last)
				out.bool(v.early)
				out.bool(v.told)
				out.uint(v.conn)
			}
			if !yield(t.w.name, out.b) {
				return
			}
		}
		t.dirty = false
		d.queue = d.queue[1:]
	}
}

// Restore takes a workload back.
func (d *longConnection) Restore(key string, blob []byte) error {
	r := newReader(blob, longConnectionVersion)
	var all []longTie
	for range r.count(5, 4096) {
		all = append(all, longTie{r.uint(), r.int(), r.bool(), r.bool(), r.uint()})
	}
	if err := r.done(); err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b longTie) int { return cmp.Compare(a.last, b.last) })
	d.of(d.env.learning.named(key)).all = all[max(0, len(all)-d.c.MaxPerWorkload):]
	return nil
}

// peerSubject is a flow's destination as a subject: 203.0.113.9:443/tcp.
func peerSubject(f *enrich.Flow) string {
	return destSubject(f.Peer, f.PeerPort, f.Proto)
}

func destSubject(a flow.Addr, port uint16, proto uint8) string {
	s := series{key: destKey{a, port, proto}}
	return s.destination()
}

// peerLabel is a flow's destination for people: with the name where one was resolved or the container where there is one.
func peerLabel(f *enrich.Flow) string {
	switch {
	case f.PeerIs != nil:
		return fmt.Sprintf("%q (%s)", f.PeerIs.Name, peerSubject(f))
	case f.PeerName != "":
		return fmt.Sprintf("%q (%s)", f.PeerName, peerSubject(f))
	}
	return peerSubject(f)
}
