package baseline

import (
	"fmt"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// TunnelTool configures the tunnel-tool detector.
type TunnelTool struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// Ignore are tools that may be used.
	Ignore []string `yaml:"ignore"`
}

func defaultTunnelTool() TunnelTool { return TunnelTool{Mode: On, Ignore: []string{}} }

func (c TunnelTool) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	known := map[string]bool{}
	e, err := parseEndpoints(tunnelToolsText)
	if err != nil {
		report(path, err.Error())
	}
	for _, tool := range e.domains {
		known[tool] = true
	}
	for _, tool := range e.ports {
		known[tool] = true
	}
	for i, tool := range c.Ignore {
		if !known[tool] {
			report(fmt.Sprintf("%s.ignore[%d]", path, i), fmt.Sprintf("unknown tool %q: baseline/lists/tunnel-tools.txt has them", tool))
		}
	}
}

const (
	toolsVersion = 1
	maxTools     = 32 // of one workload
)

// tunnelTool finds tools that open a way in from outside through a connection outwards.
type tunnelTool struct {
	Nop
	memory[usedTools]
	list endpoints
}

// usedTools are those that one workload was seen with, hashed with how surely.
type usedTools struct{ known []uint64 }

func newTunnelTool(c TunnelTool, env *env) *tunnelTool {
	d := &tunnelTool{memory: newMemory(env, toolsVersion, encodeTools, decodeTools)}
	d.list, _ = parseEndpoints(tunnelToolsText) // checked by Validate and by a test
	for _, tool := range c.Ignore {
		for domain, t := range d.list.domains {
			if t == tool {
				delete(d.list.domains, domain)
			}
		}
		for port, t := range d.list.ports {
			if t == tool {
				delete(d.list.ports, port)
			}
		}
	}
	return d
}

func encodeTools(v *usedTools, out *writer) { out.hashes(v.known) }
func decodeTools(r *reader, v *usedTools)   { v.known = r.hashes(maxTools) }

// Name looks at names that are resolved or asked for.
func (d *tunnelTool) Name(n *enrich.Name) {
	tool, domain := d.list.whose(n.Name.Name)
	if tool == "" {
		return
	}
	if !n.Kind.OfConnection() {
		d.tell(n.Container, n.Time, tool, n.Name.Name, domain, Info, "resolved", enrich.MethodIP, enrich.High)
		return
	}
	severity := Medium
	if d.env.w.learns() {
		severity = Low
	}
	d.tell(n.Container, n.Time, tool, n.Name.Name, domain, severity, "called", enrich.MethodIP, enrich.High)
}

// Flow looks at names that flows carry, and at ports.
func (d *tunnelTool) Flow(f *enrich.Flow) {
	if f.Kind&enrich.Open == 0 || f.Opener == enrich.OpenerRemote || f.Confidence < enrich.High || f.PeerIs != nil {
		return
	}
	if name := calledName(f); name != "" { // a name that is not listed says more than a port
		if tool, domain := d.list.whose(name); tool != "" {
			severity := Medium
			if d.env.w.learns() {
				severity = Low
			}
			d.tell(f.Container, f.Time, tool, name, domain, severity, "called", f.Method, f.Confidence)
		}
		return
	}
	if now := &d.env.circles.now; now.fresh && now.place == outside {
		if tool := d.list.ports[portKey{f.PeerPort, f.Proto}]; tool != "" {
			severity := Low
			if d.env.w.learns() {
				severity = Info
			}
			d.tell(f.Container, f.Time, tool, subjectOfPeer(f), subjectOfPeer(f), severity, "port", f.Method, f.Confidence)
		}
	}
}

// tell speaks once of a workload and a tool, and again when it becomes surer.
func (d *tunnelTool) tell(c *enrich.Container, at int64, tool, name, subject string, severity Severity, how string, method enrich.Method, sure enrich.Confidence) {
	s := d.of(d.env.w)
	for worse := severity; worse <= Critical; worse++ {
		h := hash64(tool) + uint64(worse)
		for _, have := range s.v.known {
			if have == h {
				return
			}
		}
	}
	remember(&s.v.known, hash64(tool)+uint64(severity), maxTools)
	d.touch(s)
	f := Finding{
		Time: max(at, d.env.now), Window: at, Instance: c, Subject: subject, Severity: severity, Score: .3 + .2*float64(severity),
		Attack: []string{"T1090", "T1219", "T1572"}, Method: method, Confidence: sure,
		Evidence: map[string]any{"tool": tool, "name": name, "how": how},
	}
	switch how {
	case "resolved":
		f.Summary = fmt.Sprintf("%q (%q) looked up %q, which is %s's", c.Name, c.Image, name, tool)
	case "called":
		f.Summary = fmt.Sprintf("%q (%q) called %q, which is %s's: it can let others in", c.Name, c.Image, name, tool)
	default:
		f.Summary = fmt.Sprintf("%q (%q) called %s, a new place at the port of %s", c.Name, c.Image, name, tool)
	}
	d.env.report(f)
}
