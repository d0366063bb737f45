package baseline

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// prevalence knows which workloads talk to a destination, by address and by name. What detectors see and add in one second becomes
// visible to all at the next tick, so that no verdict depends on who came first within it. It holds what the live series say and
// nothing else: after a restart it is built again from them.
type prevalence struct {
	of      map[prevalenceKey][]caller
	changes []prevalenceChange
	max     int
	full    *metrics.Counter
}

type prevalenceKey struct {
	dest destKey // the address is zero where name is set
	name string
}

type caller struct {
	w     *workload
	count int // of its series
}

type prevalenceChange struct {
	key  prevalenceKey
	w    *workload
	gone bool
}

func newPrevalence(table string, max int, set *metrics.Set) *prevalence {
	return &prevalence{
		of: map[prevalenceKey][]caller{}, max: max,
		full: set.NewCounter(fmt.Sprintf("wharfwatch_baseline_refused_total{table=%q}", table)),
	}
}

// add says that a series of w leads to key, or no longer does.
func (p *prevalence) change(key prevalenceKey, w *workload, gone bool) {
	p.changes = append(p.changes, prevalenceChange{key, w, gone})
}

// apply makes the changes visible.
func (p *prevalence) apply() {
	for _, c := range p.changes {
		callers, known := p.of[c.key]
		i := 0
		for i < len(callers) && callers[i].w != c.w {
			i++
		}
		switch {
		case i < len(callers) && c.gone:
			if callers[i].count--; callers[i].count == 0 {
				callers = append(callers[:i], callers[i+1:]...)
			}
		case i < len(callers):
			callers[i].count++
		case c.gone:
		case !known && len(p.of) >= p.max:
			p.full.Inc() // the destination stays unknown, that is rare: more is told, not less
			continue
		default:
			callers = append(callers, caller{c.w, 1})
		}
		if len(callers) == 0 {
			delete(p.of, c.key)
		} else {
			p.of[c.key] = callers
		}
	}
	clear(p.changes)
	p.changes = p.changes[:0]
}

// callers counts the workloads, active since the given hour, that talk to key.
func (p *prevalence) callers(key prevalenceKey, sinceHour int64) (n int) {
	for _, c := range p.of[key] {
		if c.w.lastHour >= sinceHour {
			n++
		}
	}
	return n
}
