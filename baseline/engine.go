package baseline

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Config is the `baseline` part of the configuration: one struct per detector, next to its code.
type Config struct {
	Learning Learning `yaml:"learning"`
	Beacon   Beacon   `yaml:"beacon"`

	EgressSpike    EgressSpike    `yaml:"egress_spike"`
	EgressSlow     EgressSlow     `yaml:"egress_slow"`
	EastWest       EastWest       `yaml:"east_west"`
	NewDestination NewDestination `yaml:"new_destination"`
	Scan           Scan           `yaml:"scan"`
	HostNetwork    HostNetwork    `yaml:"host_network"`
	Posture        Posture        `yaml:"posture"`
	Lifecycle      Lifecycle      `yaml:"lifecycle"`

	LongConnection LongConnection `yaml:"long_connection"`
	DNSBypass      DNSBypass      `yaml:"dns_bypass"`
	Spoof          Spoof          `yaml:"spoof"`
	Unlisted       Unlisted       `yaml:"unlisted"`
	DGA            DGA            `yaml:"dga"`
	Intel          Intel          `yaml:"intel"`
	Miner          Miner          `yaml:"miner"`
	TunnelTool     TunnelTool     `yaml:"tunnel_tool"`
	ExposedAPI     ExposedAPI     `yaml:"exposed_api"`
	DNSTunnel      DNSTunnel      `yaml:"dns_tunnel"`
}

// Default is what wharfwatch does without a configuration file.
func Default() Config {
	return Config{
		Learning: defaultLearning(),
		Beacon:   defaultBeacon(),

		EgressSpike:    defaultEgressSpike(),
		EgressSlow:     defaultEgressSlow(),
		EastWest:       defaultEastWest(),
		NewDestination: defaultNewDestination(),
		Scan:           defaultScan(),
		HostNetwork:    defaultHostNetwork(),
		Posture:        defaultPosture(),
		Lifecycle:      defaultLifecycle(),

		LongConnection: defaultLongConnection(),
		DNSBypass:      defaultDNSBypass(),
		Spoof:          defaultSpoof(),
		Unlisted:       defaultUnlisted(),
		DGA:            defaultDGA(),
		Intel:          defaultIntel(),
		Miner:          defaultMiner(),
		TunnelTool:     defaultTunnelTool(),
		ExposedAPI:     defaultExposedAPI(),
		DNSTunnel:      defaultDNSTunnel(),
	}
}

// Validate reports every problem with the path of its key.
func (c Config) Validate(report func(path, message string)) {
	c.Learning.validate("learning", report)
	c.Beacon.validate("beacon", report)
	c.EgressSpike.validate("egress_spike", report)
	c.EgressSlow.validate("egress_slow", report)
	c.EastWest.validate("east_west", report)
	c.NewDestination.validate("new_destination", report)
	c.Scan.validate("scan", report)
	c.HostNetwork.validate("host_network", report)
	c.Posture.validate("posture", report)
	c.Lifecycle.validate("lifecycle", report)
	c.LongConnection.validate("long_connection", report)
	c.DNSBypass.validate("dns_bypass", report)
	c.Spoof.validate("spoof", report)
	c.Unlisted.validate("unlisted", report)
	c.DGA.validate("dga", report)
	c.Intel.validate("intel", report)
	c.Miner.validate("miner", report)
	c.TunnelTool.validate("tunnel_tool", report)
	c.ExposedAPI.validate("exposed_api", report)
	c.DNSTunnel.validate("dns_tunnel", report)
}

// detectors is the only registration list. A detector is one file, its field in Config and its line here.
func (c Config) detectors(env *env) []registered {
	return []registered{
		{"beacon", c.Beacon.Mode, func() Detector { return newBeacon(c.Beacon, env) }},
		{"egress-spike", c.EgressSpike.Mode, func() Detector { return newEgress(c.EgressSpike, env) }},
		{"egress-slow", c.EgressSlow.Mode, func() Detector { return newEgressSlow(c.EgressSlow, env) }},
		{"east-west", c.EastWest.Mode, func() Detector { return newEastWest(c.EastWest, env) }},
		{"new-destination", c.NewDestination.Mode, func() Detector { return newNewDestination(c.NewDestination, env) }},
		{"scan", c.Scan.Mode, func() Detector { return newScan(c.Scan, env) }},
		{"host-network", c.HostNetwork.Mode, func() Detector { return newHostNetwork(c.HostNetwork, env) }},
		{"posture", c.Posture.Mode, func() Detector { return newPosture(c.Posture, env) }},
		{"lifecycle", c.Lifecycle.Mode, func() Detector { return newLifecycle(c.Lifecycle, env) }},
		{"long-connection", c.LongConnection.Mode, func() Detector { return newLongConnection(c.LongConnection, env) }},
		{"spoof", c.Spoof.Mode, func() Detector { return newSpoof(c.Spoof, env) }},
		{"unlisted", c.Unlisted.Mode, func() Detector { return newUnlisted(c.Unlisted, env) }},
		{"dns-bypass", c.DNSBypass.Mode, func() Detector { return newDNSBypass(c.DNSBypass, env) }},
		{"dga", c.DGA.Mode, func() Detector { return newDGA(c.DGA, env) }},
		{"intel", c.Intel.Mode, func() Detector { return newIntel(c.Intel, env) }},
		{"miner", c.Miner.Mode, func() Detector { return newMiner(c.Miner, env) }},
		{"tunnel-tool", c.TunnelTool.Mode, func() Detector { return newTunnelTool(c.TunnelTool, env) }},
		{"exposed-api", c.ExposedAPI.Mode, func() Detector { return newExposedAPI(c.ExposedAPI, env) }},
		{"dns-tunnel", c.DNSTunnel.Mode, func() Detector { return newDNSTunnel(c.DNSTunnel, env) }},
	}
}

// Mode says whether a detector speaks.
type Mode string

// The modes.
const (
	On     Mode = "on"
	Shadow Mode = "shadow" // learns and counts what it would have told
	Off    Mode = "off"    // is not built at all
)

func (m Mode) validate(path string, report func(path, message string)) {
	if m != On && m != Shadow && m != Off {
		report(path, fmt.Sprintf("unknown mode %q: on, shadow or off", string(m)))
	}
}

type registered struct {
	id   string
	mode Mode
	make func() Detector
}

// env is what the Engine lends to every detector. One goroutine uses it.
type env struct {
	// report takes a finding. The detector fills everything but ID, Learning and, where Instance is set, Workload.
	report func(Finding)
	set    *metrics.Set
	now    int64 // the last tick, event time in ns; 0 before the first
	quiet  bool  // findings go nowhere: `replay --learn`
	// w is the workload of the Flow, Name or Event in hand; nil for an Event without a container. It may be kept, and it carries
	// a small dense index, so that a detector finds its own state for it without a map.
	w          *workload
	learning   *learning
	site       []flow.Prefix // the operator's own networks, beacon.site_networks
	indicators *Indicators   // nil: none
	circles    *circles
}

// Engine runs the detectors. It is an enrich.Sink. All methods belong to one goroutine.
type Engine struct {
	env       env
	detectors []running
	foreseers []foreseer
	workloads [batch]*workload
	states    []keeper
	pending   []Finding // since the last tick
	raising   *running  // whose call is running
	report    func(Finding)
	cursor    int // of Dirty
	flows     *metrics.Counter
	names     *metrics.Counter
	events    *metrics.Counter
}

type running struct {
	Detector
	id   string
	mode Mode
	told [Critical + 1]*metrics.Counter
}

type keeper struct {
	id string
	Stateful
}

// New makes an engine that hands its findings to report, in the goroutine of the call that raised them: findings of an Event right
// after it, all others at the next Tick, ordered by time and id.
func New(c Config, set *metrics.Set, report func(Finding)) *Engine {
	if set == nil {
		set = metrics.NewSet()
	}
	e := &Engine{
		report: report,
		flows:  set.NewCounter("wharfwatch_baseline_flows_total"),
		names:  set.NewCounter("wharfwatch_baseline_names_total"),
		events: set.NewCounter("wharfwatch_baseline_events_total"),
	}
	e.env = env{report: e.raise, set: set, learning: newLearning(c.Learning, set), site: prefixes(c.Beacon.SiteNetworks...)}
	e.env.circles = newCircles(e.env.learning, e.env.site, set)
	e.env.learning.forgetters = append(e.env.learning.forgetters, e.env.circles)
	e.foreseers = append(e.foreseers, e.env.circles)
	e.states = append(e.states, keeper{"learning", e.env.learning}, keeper{"circles", e.env.circles})
	for _, r := range c.detectors(&e.env) {
		if r.mode == Off {
			continue
		}
		d := running{Detector: r.make(), id: r.id, mode: r.mode}
		for s := range d.told {
			d.told[s] = set.NewCounter(fmt.Sprintf("wharfwatch_baseline_findings_total{detector=%q,severity=%q,mode=%q}", r.id, Severity(s), r.mode))
		}
		e.detectors = append(e.detectors, d)
		if s, ok := d.Detector.(Stateful); ok {
			e.states = append(e.states, keeper{r.id, s})
		}
		if f, ok := d.Detector.(forgetter); ok {
			e.env.learning.forgetters = append(e.env.learning.forgetters, f)
		}
		if f, ok := d.Detector.(foreseer); ok {
			e.foreseers = append(e.foreseers, f)
		}
	}
	return e
}

// Flow gives one side of a connection to every detector.
func (e *Engine) Flow(f *enrich.Flow) {
	e.flows.Inc()
	e.flow(f)
}

// Flows gives sides of connections to every detector, one after the other.
func (e *Engine) Flows(fs []enrich.Flow) {
	e.flows.Add(len(fs))
	for len(fs) > 0 {
		n := min(len(fs), batch)
		e.ahead(fs[:n])
		for i := range fs[:n] {
			e.flow(&fs[i])
		}
		fs = fs[n:]
	}
}

func (e *Engine) flow(f *enrich.Flow) {
	e.env.w = e.env.learning.flow(f)
	e.env.circles.flow(f, e.env.w)
	for i := range e.detectors {
		e.raising = &e.detectors[i]
		e.raising.Flow(f)
	}
}

// batch is how many flows are looked up ahead.
const batch = 32

// foreseer is a detector that touches the memory of some flows before they come one by one, so that the cache misses overlap. Between
// two flows of one destination come those of thousands of others: judging a connection costs little, waiting for memory does.
type foreseer interface {
	// ahead gets flows and, by place, their workloads, nil where new. It must not change anything.
	ahead(fs []enrich.Flow, ws []*workload)
}

func (e *Engine) ahead(fs []enrich.Flow) {
	if len(fs) == 1 {
		return
	}
	ws := e.workloads[:len(fs)]
	for i := range fs {
		ws[i] = e.env.learning.peek(&fs[i])
	}
	for _, d := range e.foreseers {
		d.ahead(fs, ws)
	}
}

// Name gives a name to every detector.
func (e *Engine) Name(n *enrich.Name) {
	e.names.Inc()
	if n.Container == nil {
		return
	}
	e.env.w = e.env.learning.name(n)
	for i := range e.detectors {
		e.raising = &e.detectors[i]
		e.raising.Name(n)
	}
}

// Event gives a change at an engine to every detector and reports what they raise before it returns.
func (e *Engine) Event(v *enrich.Event) {
	e.events.Inc()
	e.env.w = nil
	if v.Container != nil {
		e.env.w = e.env.learning.of(v.Container)
	}
	first := len(e.pending)
	for i := range e.detectors {
		e.raising = &e.detectors[i]
		e.raising.Event(v)
	}
	e.flush(first)
}

// Gap says that input is missing.
func (e *Engine) Gap(g flow.Gap) {
	for i := range e.detectors {
		e.raising = &e.detectors[i]
		e.raising.Gap(g)
	}
}

// Tick moves event time on and reports what was raised since the last tick. A tick that does not move time forward is ignored.
func (e *Engine) Tick(now int64) {
	if now <= e.env.now {
		return
	}
	e.env.now = now
	e.env.w = nil
	e.env.learning.tick(now)
	e.env.circles.known.apply()
	for i := range e.detectors {
		e.raising = &e.detectors[i]
		e.raising.Tick(now)
	}
	e.flush(0)
}

// SetQuiet makes the engine learn without telling: for `replay --learn`.
func (e *Engine) SetQuiet(quiet bool) { e.env.quiet = quiet }

// Workloads says what is known of every workload, ordered by name.
func (e *Engine) Workloads() []WorkloadState { return e.env.learning.states() }

// Dirty puts the blobs of up to max keys that changed since they were last put, the longest waiting first and the detectors in turn:
// one whose keys change faster than they are put does not keep the others.
// put returns false when it did not take the blob: the key stays dirty and Dirty ends. Nothing is put while findings wait for the
// next tick, so that no state says "told" before the finding left.
func (e *Engine) Dirty(max int, put func(detector, key string, blob []byte) bool) {
	if len(e.pending) > 0 {
		return
	}
	for range e.states {
		s := e.states[e.cursor%len(e.states)]
		more := true
		s.Dirty(func(key string, blob []byte) bool {
			if max <= 0 {
				more = false
				return false
			}
			max--
			more = put(s.id, key, blob)
			return more
		})
		e.cursor = (e.cursor + 1) % len(e.states)
		if !more {
			return
		}
	}
}

// Restore takes back what Dirty put, in any order, before the first flow. A blob of a detector that is off or unknown is ignored.
// An error means that this key starts afresh.
func (e *Engine) Restore(detector, key string, blob []byte) error {
	for _, s := range e.states {
		if s.id == detector {
			if err := s.Restore(key, blob); err != nil {
				return fmt.Errorf("restore %s of %q: %w", detector, key, err)
			}
		}
	}
	return nil
}

// raise takes a finding from the detector whose call is running.
func (e *Engine) raise(f Finding) {
	d := e.raising
	f.Detector = d.id
	if f.Workload == "" && f.Instance != nil {
		f.Workload = f.Instance.Workload
	}
	f.ID = findingID(f.Detector, f.Workload, f.Subject, f.Window)
	f.Learning = f.Learning || e.env.learning.isLearning(f.Workload)
	if e.env.quiet {
		return
	}
	d.told[f.Severity].Inc()
	if d.mode == On {
		e.pending = append(e.pending, f)
	}
}

// flush reports pending[first:], ordered.
func (e *Engine) flush(first int) {
	due := e.pending[first:]
	slices.SortStableFunc(due, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.ID, b.ID))
	})
	for _, f := range due {
		e.report(f)
	}
	clear(due)
	e.pending = e.pending[:first]
}

// findingID is half a SHA-256 over the parts that name a finding, each with its length before it, in hex.
func findingID(detector, workload, subject string, window int64) string {
	h := sha256.New()
	var b [8]byte
	for _, s := range []string{detector, workload, subject} {
		binary.BigEndian.PutUint64(b[:], uint64(len(s)))
		h.Write(b[:])
		h.Write([]byte(s))
	}
	binary.BigEndian.PutUint64(b[:], uint64(window))
	h.Write(b[:])
	return hex.EncodeToString(h.Sum(nil)[:16])
}
