package baseline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Learning configures when a workload counts as known.
type Learning struct {
	// Hours of event time since the first flow before a workload is no longer marked learning.
	Hours int `yaml:"hours"`
	// ActiveHours is the number of different hours with traffic that it needs besides.
	ActiveHours int `yaml:"active_hours"`
	// MaxWorkloads bounds the table; the one that was silent longest is forgotten first.
	MaxWorkloads int `yaml:"max_workloads"`
}

func defaultLearning() Learning { return Learning{Hours: 24, ActiveHours: 6, MaxWorkloads: 8192} }

func (c Learning) validate(path string, report func(path, message string)) {
	if c.Hours < 0 || c.Hours > 24*28 {
		report(path+".hours", fmt.Sprintf("%d is outside 0 to 672", c.Hours))
	}
	if c.ActiveHours < 0 || c.ActiveHours > max(c.Hours, 1) {
		report(path+".active_hours", fmt.Sprintf("%d is outside 0 to hours (%d)", c.ActiveHours, c.Hours))
	}
	if c.MaxWorkloads < 1 {
		report(path+".max_workloads", fmt.Sprintf("%d is less than 1", c.MaxWorkloads))
	}
}

// WorkloadState is what the engine knows of one workload.
type WorkloadState struct {
	Workload   string   `json:"workload"`
	FirstSeen  int64    `json:"first_seen"` // event time, ns
	LastSeen   int64    `json:"last_seen"`  // event time, ns; to the hour after a restart
	Learning   bool     `json:"learning"`
	ReadyAt    int64    `json:"ready_at"` // when learning ended, or will end at the earliest, ns
	Containers []string `json:"containers"`
}

const (
	hour             = int64(time.Hour)
	maxInstances     = 32   // container ids kept per workload, newest last
	maxContainerMemo = 8192 // containers whose workload is remembered by pointer
	maxHolders       = 1 << 16
)

// workload is one workload's place in the engine. Detectors may keep the pointer until forget names it.
type workload struct {
	name        string
	index       int   // dense and reused after forget; never part of any output
	first       int64 // event time of the first flow, ns; 0 none yet
	last        int64
	activeHours int
	lastHour    int64
	ready       int64 // when learning ended; 0 still learning
	named       bool  // DNS answers of this workload have been seen
	outbound    bool  // it has opened a connection
	instances   []*enrich.Container
	dirty       bool
}

// learns reports whether the workload is still learning.
func (w *workload) learns() bool { return w.ready == 0 }

// forgetter is a detector that keeps state per workload index.
type forgetter interface{ forget(w *workload) }

// holder remembers the workload of a container by the number that the connection table gave it.
type holder struct {
	c *enrich.Container
	w *workload
}

// learning is the table of workloads.
type learning struct {
	c          Learning
	byName     map[string]*workload
	byIndex    []*workload // nil where free
	looked     int64       // minute of the last tick
	free       []int
	memo       map[*enrich.Container]*workload
	holders    []holder    // by enrich.Flow.Holder
	queue      []*workload // dirty, oldest change first
	gone       []string    // forgotten since the last Dirty
	forgetters []forgetter
	outbound   int // workloads that opened a connection
	evicted    *metrics.Counter
	count      *metrics.Gauge
}

func newLearning(c Learning, set *metrics.Set) *learning {
	l := &learning{
		c: c, byName: map[string]*workload{}, memo: map[*enrich.Container]*workload{},
		evicted: set.NewCounter(`wharfwatch_baseline_evicted_total{table="workloads"}`),
		count:   set.NewGauge(`wharfwatch_baseline_keys{table="workloads"}`, nil),
	}
	return l
}

// named returns the workload of that name and makes it if needed.
func (l *learning) named(name string) *workload {
	if w := l.byName[name]; w != nil {
		return w
	}
	for len(l.byName) >= l.c.MaxWorkloads {
		l.forgetOldest()
	}
	w := &workload{name: name, index: len(l.byIndex), lastHour: -1}
	if n := len(l.free); n > 0 {
		w.index, l.free = l.free[n-1], l.free[:n-1]
		l.byIndex[w.index] = w
	} else {
		l.byIndex = append(l.byIndex, w)
	}
	l.byName[name] = w
	return w
}

// of returns the workload of a container.
func (l *learning) of(c *enrich.Container) *workload {
	if w := l.memo[c]; w != nil {
		return w
	}
	w := l.named(c.Workload)
	if len(l.memo) >= maxContainerMemo {
		clear(l.memo) // only a memo: it fills again
	}
	l.memo[c] = w
	w.instances = slices.DeleteFunc(w.instances, func(o *enrich.Container) bool { return o.ID == c.ID })
	if len(w.instances) >= maxInstances {
		w.instances = w.instances[1:]
	}
	w.instances = append(w.instances, c)
	return w
}

// peek is the workload of a flow if that is known without looking far.
func (l *learning) peek(f *enrich.Flow) *workload {
	if i := int(f.Holder); i < len(l.holders) && l.holders[i].c == f.Container {
		return l.holders[i].w
	}
	return nil
}

// ofFlow is the workload of a flow.
func (l *learning) ofFlow(f *enrich.Flow) *workload {
	if w := l.peek(f); w != nil {
		return w
	}
	w := l.of(f.Container)
	if i := int(f.Holder); i > 0 && i < maxHolders {
		if i >= len(l.holders) {
			l.holders = append(l.holders, make([]holder, i+1-len(l.holders))...)
		}
		l.holders[i] = holder{f.Container, w}
	}
	return w
}

// flow notes a flow's time and returns its workload.
func (l *learning) flow(f *enrich.Flow) *workload {
	w := l.ofFlow(f)
	w.last = max(w.last, f.Time)
	if h := f.Time / hour; h > w.lastHour {
		l.activeHour(w, f.Time, h)
	}
	if f.Opener == enrich.OpenerLocal && !w.outbound {
		w.outbound = true
		l.outbound++
		l.touch(w)
	}
	return w
}

func (l *learning) activeHour(w *workload, at, h int64) {
	w.lastHour = h
	w.activeHours++
	if w.first == 0 {
		w.first = at
	}
	l.touch(w)
}

// name notes that the workload's DNS answers can be seen.
func (l *learning) name(n *enrich.Name) *workload {
	w := l.of(n.Container)
	if !w.named && n.Kind == flow.NameDNS {
		w.named = true
		l.touch(w)
	}
	return w
}

// tick ends the learning of those that have seen enough. It looks once a minute.
func (l *learning) tick(now int64) {
	if now/(60*1e9) == l.looked {
		return
	}
	l.looked = now / (60 * 1e9)
	for _, w := range l.byIndex {
		if w != nil && w.ready == 0 && w.first != 0 && w.activeHours >= l.c.ActiveHours && now-w.first >= int64(l.c.Hours)*hour {
			w.ready = now
			l.touch(w)
		}
	}
	l.count.Set(float64(len(l.byName)))
}

// isLearning reports whether a workload, known or not, is still learning.
func (l *learning) isLearning(name string) bool {
	w := l.byName[name]
	return w == nil || w.learns()
}

func (l *learning) touch(w *workload) {
	if !w.dirty {
		w.dirty = true
		l.queue = append(l.queue, w)
	}
}

// forgetOldest drops the workload that was silent longest, by last flow and name.
func (l *learning) forgetOldest() {
	var oldest *workload
	for _, w := range l.byIndex {
		if w != nil && (oldest == nil || cmp.Or(cmp.Compare(w.last, oldest.last), cmp.Compare(w.name, oldest.name)) < 0) {
			oldest = w
		}
	}
	for _, f := range l.forgetters {
		f.forget(oldest)
	}
	if oldest.outbound {
		l.outbound--
	}
	delete(l.byName, oldest.name)
	clear(l.memo)
	clear(l.holders)
	l.byIndex[oldest.index] = nil
	l.free = append(l.free, oldest.index)
	l.queue = slices.DeleteFunc(l.queue, func(w *workload) bool { return w == oldest })
	l.gone = append(l.gone, oldest.name)
	l.evicted.Inc()
}

// states lists the workloads by name.
func (l *learning) states() []WorkloadState {
	out := make([]WorkloadState, 0, len(l.byName))
	for _, name := range slices.Sorted(maps.Keys(l.byName)) {
		w := l.byName[name]
		s := WorkloadState{Workload: name, FirstSeen: w.first, LastSeen: w.last, Learning: w.learns(), ReadyAt: w.ready}
		if s.ReadyAt == 0 && w.first != 0 {
			s.ReadyAt = w.first + int64(l.c.Hours)*hour
		}
		for _, c := range w.instances {
			s.Containers = append(s.Containers, c.Name)
		}
		out = append(out, s)
	}
	return out
}

const learningVersion = 1

// Dirty yields the workloads that changed.
func (l *learning) Dirty(yield func(key string, blob []byte) bool) {
	for len(l.gone) > 0 {
		if l.byName[l.gone[0]] == nil && !yield(l.gone[0], nil) {
			return
		}
		l.gone = l.gone[1:]
	}
	var out writer
	for len(l.queue) > 0 {
		w := l.queue[0]
		out.reset(learningVersion)
		out.int(w.first)
		out.int(w.last)
		out.int(w.ready)
		out.int(w.lastHour)
		out.uint(uint64(w.activeHours))
		out.bool(w.named)
		out.bool(w.outbound)
		if !yield(w.name, out.b) {
			return
		}
		w.dirty = false
		l.queue = l.queue[1:]
	}
}

// Restore takes a workload back.
func (l *learning) Restore(key string, blob []byte) error {
	r := newReader(blob, learningVersion)
	first, last, ready, lastHour := r.int(), r.int(), r.int(), r.int()
	active, named, outbound := r.uint(), r.bool(), r.bool()
	if err := r.done(); err != nil {
		return err
	}
	w := l.named(key)
	if outbound && !w.outbound {
		l.outbound++
	}
	w.first, w.last, w.ready, w.lastHour = first, last, ready, lastHour
	w.activeHours, w.named, w.outbound = int(active), named, outbound
	return nil
}

// activeSince counts the workloads that opened connections and were seen in or after the given hour.
func (l *learning) activeSince(sinceHour int64) (n int) {
	for _, w := range l.byIndex {
		if w != nil && w.outbound && w.lastHour >= sinceHour {
			n++
		}
	}
	return n
}
