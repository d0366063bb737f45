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
