package baseline

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// EastWest configures the east-west detector.
type EastWest struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// SensitivePorts are those whose new callers matter: remote shells, engines, orchestrators, databases, file shares.
	SensitivePorts []int `yaml:"sensitive_ports"`
	// MaxNews is how many new destinations of the last seven days make a workload one that calls everybody, such as a monitoring server.
	MaxNews int `yaml:"max_news"`
}

func defaultEastWest() EastWest {
	return EastWest{
		Mode: On, MaxNews: 5,
		SensitivePorts: []int{22, 23, 445, 1433, 2375, 2376, 2379, 3306, 3389, 5432, 5900, 5985, 6379, 6443, 9200, 10250, 11211, 27017},
	}
}

func (c EastWest) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if len(c.SensitivePorts) > 256 {
		report(path+".sensitive_ports", fmt.Sprintf("%d ports are more than 256", len(c.SensitivePorts)))
	}
	for i, p := range c.SensitivePorts {
		if p < 1 || p > 65535 {
			report(fmt.Sprintf("%s.sensitive_ports[%d]", path, i), fmt.Sprintf("%d is no port", p))
		}
	}
	if c.MaxNews < 1 || c.MaxNews > 1000 {
		report(path+".max_news", fmt.Sprintf("%d is outside 1 to 1000", c.MaxNews))
	}
}

// shellPorts lead to control over what listens there; between containers of one project even they are only worth a word.
var shellPorts = map[int]bool{22: true, 23: true, 445: true, 2375: true, 2376: true, 2379: true, 3389: true, 5900: true, 5985: true, 6443: true, 10250: true}

// eastWest tells of the first call from one workload to another's port. The edges are part of the circles.
type eastWest struct {
	Nop
	memory[newsTold]
	c         EastWest
	env       *env
	sensitive map[int]bool
	silent    map[string]*metrics.Counter
}

const eastWestVersion = 1

func newEastWest(c EastWest, env *env) *eastWest {
	d := &eastWest{c: c, env: env, sensitive: map[int]bool{}, silent: map[string]*metrics.Counter{}}
	for _, p := range c.SensitivePorts {
		d.sensitive[p] = true
	}
	for _, reason := range []string{"learning", "neighbour", "new-peer", "open", "told"} {
		d.silent[reason] = env.set.NewCounter(fmt.Sprintf("wharfwatch_baseline_east_west_silent_total{reason=%q}", reason))
	}
	d.memory = newMemory(env, eastWestVersion,
		func(v *newsTold, out *writer) { out.int(v.at); out.int(v.info) },
		func(r *reader, v *newsTold) { v.at, v.info = r.int(), r.int() })
	return d
}

// Flow looks at first calls between containers of different workloads.
func (d *eastWest) Flow(f *enrich.Flow) {
	a := &d.env.circles.now
	if !a.fresh || f.PeerIs == nil || f.PeerIs.Workload == f.Container.Workload {
		return
	}
	w, port := d.env.w, int(f.PeerPort)
	c := d.env.circles.ofIndex(w)
	peer := d.env.learning.byName[f.PeerIs.Workload]
	renewed := c.change != 0 && f.Start/1e9-c.change < settleSeconds
	news := c.news7(f.Start) - 1
	sensitive := d.sensitive[port]
	silent := ""
	switch {
	case w.learns() || d.env.quiet:
		silent = "learning"
	case a.place == neighbour && !(sensitive && shellPorts[port]):
		silent = "neighbour" // its own database, or the new part of its own project
	case peer == nil || peer.learns():
		silent = "new-peer" // a service that just came gets its first callers
	case news >= d.c.MaxNews && !shellPorts[port]:
		silent = "open"
	}
	kept := d.of(w)
	if silent == "" && kept.v.at != 0 && f.Time-kept.v.at < hour {
		silent = "told"
	}
	if silent != "" {
		d.silent[silent].Inc()
		return
	}
	severity, score := Info, .2
	switch {
	case renewed || news >= d.c.MaxNews:
	case a.place == neighbour:
		severity, score = Low, .4
	case sensitive:
		severity, score = Medium, .65
	}
	if severity > Info {
		kept.v.at = f.Time
		d.touch(kept)
	}
	callers := d.env.circles.callers(a.dest, f.Time)
	out := Finding{
		Time: max(f.Time, d.env.now), Window: f.Start - f.Start%1e9, Workload: w.name, Instance: f.Container, Subject: peerSubject(f),
		Severity: severity, Score: score, Method: f.Method, Confidence: f.Confidence, Attack: []string{"T1021", "T1210"},
		Summary: fmt.Sprintf("%q calls port %d of %q for the first time", f.Container.Name, port, f.PeerIs.Name),
		Evidence: map[string]any{
			"peer_workload": f.PeerIs.Workload, "peer_container": f.PeerIs.Name, "port": port, "sensitive_port": sensitive,
			"same_project_or_network": a.place == neighbour, "callers_of_port": callers, "new_destinations_7d": news, "max_news": d.c.MaxNews,
			"new_image": renewed, "no_reply": f.NoReply, "container_address": f.Local.String(),
		},
	}
	if a.place != neighbour {
		out.Summary += fmt.Sprintf(", which belongs to %q", f.PeerIs.Workload)
	}
	if callers > 1 {
		out.Summary += fmt.Sprintf("; %d workloads do", callers)
	}
	d.env.report(out)
}
