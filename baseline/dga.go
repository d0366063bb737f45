package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// DGA configures the dga detector.
type DGA struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// MinDomains is how many different registered domains that do not exist must be asked for within five minutes.
	MinDomains int `yaml:"min_domains"`
}

func defaultDGA() DGA { return DGA{Mode: On, MinDomains: 10} }

func (c DGA) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if c.MinDomains < 3 || c.MinDomains > maxMissingDomains {
		report(path+".min_domains", fmt.Sprintf("%d is outside 3 to %d", c.MinDomains, maxMissingDomains))
	}
}

const (
	dgaVersion        = 1
	dgaWindow         = 5 * minute
	maxMissingDomains = 64
	maxDomainSamples  = 8
	nxDomain          = 3 // RFC 1035 4.1.1
	dgaHabitDays      = 3 // on so many days it is this workload's way: crawlers, mail servers, resolvers of logs
)

// dga finds programs that try one generated domain after the other until one exists. Names that a resolver's search list made of one
// name count as one: they share its registered domain.
type dga struct {
	Nop
	memory[tries]
	c DGA
}

// tries is what one workload asked for in vain.
type tries struct {
	days  uint8    // on which it happened, saturating
	day   int64    // the last of them
	told  Severity // as what on that day
	today float64  // the most domains in one window of that day
	level float64  // and of the days before, decaying

	window  int64 // not kept from here on
	missing []uint64
	names   map[uint64]struct{} // registered domains asked for in the window, at most 4 * maxMissingDomains
	random  int                 // of missing: look generated
	samples []string
}

func newDGA(c DGA, env *env) *dga {
	return &dga{c: c, memory: newMemory(env, dgaVersion, encodeTries, decodeTries)}
}

func encodeTries(t *tries, out *writer) {
	out.uint(uint64(t.days))
	out.int(t.day)
	out.uint(uint64(t.told))
	out.float(t.today)
	out.float(t.level)
}

func decodeTries(r *reader, t *tries) {
	t.days, t.day, t.told, t.today, t.level = uint8(r.uint()), r.int(), Severity(r.uint()), r.float(), r.float()
}

// Name counts a domain that was asked for.
func (d *dga) Name(n *enrich.Name) {
	if n.Kind.OfConnection() {
		return
	}
	domain, real := domainOf(n.Name.Name)
	if !real {
		return
	}
	s := d.of(d.env.w)
	t := &s.v
	if w := n.Time / dgaWindow; w > t.window {
		t.window, t.missing, t.random, t.samples = w, t.missing[:0], 0, t.samples[:0]
		t.names = nil
	}
	h := hash64(domain)
	if len(t.names) < 4*maxMissingDomains {
		if t.names == nil {
			t.names = map[uint64]struct{}{}
		}
		t.names[h] = struct{}{}
	}
	if n.RCode != nxDomain || slices.Contains(t.missing, h) || len(t.missing) >= maxMissingDomains {
		return
	}
	t.missing = append(t.missing, h)
	label, _, _ := strings.Cut(domain, ".")
	if looksRandom(label) {
		t.random++
	}
	if len(t.samples) < maxDomainSamples {
		t.samples = append(t.samples, domain)
	}
	if len(t.missing) >= d.c.MinDomains && 2*len(t.missing) > len(t.names) {
		d.judge(s, n)
	}
}

// judge tells a workload that looks for domains which do not exist: low, medium when most of them look generated.
func (d *dga) judge(s *remembered[tries], n *enrich.Name) {
	t := &s.v
	severity := Low
	if 5*t.random >= 3*len(t.missing) {
		severity = Medium
	}
	day := n.Time / dayLength
	if day != t.day {
		t.level = max(.8*t.level, t.today)
		t.day, t.days, t.today, t.told = day, min(t.days+1, 100), 0, Info
	}
	t.today = max(t.today, float64(len(t.missing)))
	d.touch(s)
	if severity <= t.told || t.days > dgaHabitDays && t.today <= 3*t.level {
		return
	}
	t.told = severity
	f := Finding{
		Time: max(n.Time, d.env.now), Window: day*dayLength + int64(severity), Instance: n.Container, Subject: "generated domains", Severity: severity,
		Score: .3 + .5*float64(t.random)/float64(len(t.missing)), Attack: []string{"T1568.002", "T1071.004"},
		Method: enrich.MethodIP, Confidence: enrich.High,
		Evidence: map[string]any{
			"missing_domains": len(t.missing), "limit": d.c.MinDomains, "asked_domains": len(t.names), "look_generated": t.random,
			"window_seconds": dgaWindow / 1e9, "examples": slices.Clone(t.samples), "days_before": t.days - 1,
		},
	}
	f.Summary = fmt.Sprintf("%q asked for %d domains within 5 minutes that do not exist, %d of them look generated, such as %s",
		n.Container.Name, len(t.missing), t.random, quoted(t.samples, 3))
	d.env.report(f)
}

// quoted lists some of the texts, which came off the wire.
func quoted(texts []string, most int) string {
	var out []string
	for _, s := range texts[:min(len(texts), most)] {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return strings.Join(out, ", ")
}
