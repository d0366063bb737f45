package baseline

import (
	"fmt"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// Intel configures the intel detector.
type Intel struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// Files are lists of indicators, read by the caller of the room and handed to Engine.SetIndicators.
	Files []string `yaml:"files"`
}

func defaultIntel() Intel { return Intel{Mode: On, Files: []string{}} }

func (c Intel) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	for i, f := range c.Files {
		if strings.TrimSpace(f) == "" {
			report(fmt.Sprintf("%s.files[%d]", path, i), "an empty name")
		}
	}
}

// maxHits is how many indicators a workload is told with in a day.
const maxHits = 64

// intel compares whom workloads call, and what they ask for, with lists of what is known to be bad.
type intel struct {
	Nop
	today
	env     *env
	dropped *metrics.Counter
}

func newIntel(_ Intel, env *env) *intel {
	return &intel{env: env, dropped: env.set.NewCounter(`wharfwatch_baseline_refused_total{table="intel"}`)}
}

// SetIndicators gives the engine lists of what is known to be bad, in the place of those it has. x must not change afterwards.
func (e *Engine) SetIndicators(x *Indicators) { e.env.indicators = x }

// Name compares names that are resolved or asked for.
func (d *intel) Name(n *enrich.Name) {
	x := d.env.indicators
	if x == nil {
		return
	}
	asked := n.Kind.OfConnection()
	hit := x.ofName(n.Name.Name, asked)
	what := fmtLookedUp
	if asked {
		what = fmtCalled
		if hit == nil {
			hit = x.ofJA4(n.JA4)
		}
	}
	if hit == nil {
		return
	}
	subject := n.Name.Name
	if subject == "" {
		subject = n.Server.String()
	}
	d.tell(hit, Finding{
		Time: n.Time, Instance: n.Container, Subject: subject, Severity: High, Method: enrich.MethodIP, Confidence: enrich.High,
		Attack:   []string{"T1071"},
		Evidence: map[string]any{"direction": "outbound", "name": n.Name.Name, "ja4": n.JA4, "peer": n.Server.String()},
		Summary:  fmt.Sprintf(what, n.Container.Name, n.Container.Image, fmt.Sprintf("%q", subject)),
	})
}

const (
	fmtLookedUp = "%q (%q) looked up %s"
	fmtCalled   = "%q (%q) called %s"
)

// Flow compares the other side of a new connection. Being called from a listed address is what every open port on the Internet sees:
// information.
func (d *intel) Flow(f *enrich.Flow) {
	x := d.env.indicators
	if x == nil || f.Kind&enrich.Open == 0 || f.PeerIs != nil || f.Confidence < enrich.High {
		return
	}
	hit := x.ofAddr(f.Peer)
	if f.Opener == enrich.OpenerRemote {
		if hit != nil && !f.NoReply {
			d.tell(hit, Finding{
				Time: f.Time, Instance: f.Container, Subject: subjectOfPeer(f), Severity: Info, Method: f.Method, Confidence: f.Confidence,
				Attack:   []string{"T1190"},
				Evidence: map[string]any{"direction": "inbound", "peer": f.Peer.String(), "port": f.LocalPort},
				Summary:  fmt.Sprintf("%q (%q) was called at port %d by %s", f.Container.Name, f.Container.Image, f.LocalPort, f.Peer),
			})
		}
		return
	}
	if hit == nil {
		hit = x.ofName(f.Asked, true)
	}
	if hit == nil {
		hit = x.ofName(f.PeerName, false)
	}
	if hit == nil {
		hit = x.ofJA4(f.JA4)
	}
	if hit == nil {
		return
	}
	d.tell(hit, Finding{
		Time: f.Time, Instance: f.Container, Subject: subjectOfPeer(f), Severity: High, Method: f.Method, Confidence: f.Confidence,
		Attack: []string{"T1071"},
		Evidence: map[string]any{
			"direction": "outbound", "name": calledName(f), "ja4": f.JA4, "peer": f.Peer.String(), "port": f.PeerPort, "answered": !f.NoReply,
		},
		Summary: fmt.Sprintf(fmtCalled, f.Container.Name, f.Container.Image, labelOfPeer(f)),
	})
}

// tell speaks once a day of a workload and an indicator.
func (d *intel) tell(hit *Indicator, f Finding) {
	day := f.Time / dayLength
	told, key := d.of(d.env.w, day), hash64(hit.Value)+uint64(f.Severity)
	if told.has(key) {
		return
	}
	if len(told.all) >= maxHits {
		d.dropped.Inc()
		return
	}
	told.all = append(told.all, key)
	f.Window = day*dayLength + int64(key>>34) // another indicator of the same place is another finding
	f.Time = max(f.Time, d.env.now)
	f.Score = .1 + .25*float64(f.Severity)
	f.Evidence["indicator"], f.Evidence["kind"], f.Evidence["list"], f.Evidence["says"] = hit.Value, hit.Kind, hit.List, hit.Text
	f.Summary += fmt.Sprintf(", which list %q knows", hit.List)
	if hit.Text != "" {
		f.Summary += fmt.Sprintf(" as %q", hit.Text)
	}
	d.env.report(f)
}
