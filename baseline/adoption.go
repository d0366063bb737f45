package baseline

import (
	"fmt"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
)

const maxAdoptionRows = 30

// adoption collects what already ran when an engine was first seen: one report instead of pages.
type adoption struct {
	running, stopped int
	host, root, odd  int // on the host's network; privileged; with any other setting worth a word
	rows             []adoptionRow
	omitted          int
	time             int64
}

// adoptionRow is one container that stands out.
type adoptionRow struct {
	Workload  string `json:"workload"`
	Container string `json:"container"`
	What      string `json:"what"`
}

// collect takes a container of the first list into the report.
func (p *posture) collect(v *enrich.Event, settings []setting) {
	a := p.reports[v.Engine]
	if a == nil {
		if len(p.reports) >= maxEngines {
			return
		}
		a = &adoption{}
		p.reports[v.Engine] = a
	}
	c := v.Container
	a.time = max(a.time, v.Time)
	if !c.Running {
		a.stopped++
	} else {
		a.running++
	}
	what := texts(settings)
	if c.HostNetwork() {
		what = append([]string{"the host's network"}, what...)
		a.host++
	}
	if len(what) == 0 {
		return
	}
	switch {
	case c.Posture.Privileged:
		a.root++
	case !c.HostNetwork():
		a.odd++
	}
	if len(a.rows) == maxAdoptionRows {
		a.omitted++
		return
	}
	a.rows = append(a.rows, adoptionRow{c.Workload, c.Name, strings.Join(what, ", ")})
}

// reportAdoption tells what was adopted, if anything stands out.
func (p *posture) reportAdoption(v *enrich.Event) {
	a := p.reports[v.Engine]
	delete(p.reports, v.Engine)
	if a == nil {
		return
	}
	f := Finding{
		Time: max(v.Time, a.time, p.env.now), Workload: "host:" + v.Engine, Subject: "adoption", Severity: Low, Score: .3,
		Method: enrich.MethodNone, Confidence: enrich.Exact, Attack: []string{"T1610"},
		Evidence: map[string]any{"engine": v.Engine, "running": a.running, "stopped": a.stopped, "on_host_network": a.host, "privileged": a.root},
	}
	f.Window = f.Time
	f.Summary = fmt.Sprintf("adopted %d running containers of engine %q", a.running, v.Engine)
	if a.running == 1 {
		f.Summary = fmt.Sprintf("adopted 1 running container of engine %q", v.Engine)
	}
	if a.stopped > 0 {
		f.Summary += fmt.Sprintf(" and %d stopped", a.stopped)
	}
	var parts []string
	for _, part := range []struct {
		n    int
		text string
	}{{a.host, "on the host's network"}, {a.root, "privileged"}, {a.odd, "with other settings that weaken isolation"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.text))
		}
	}
	if len(parts) == 0 {
		return
	}
	f.Summary += ": " + strings.Join(parts, ", ")
	f.Evidence["containers"], f.Evidence["omitted"] = a.rows, a.omitted
	p.env.report(f)
}
