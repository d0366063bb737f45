package baseline

import "slices"

// today remembers, per workload, what it was told with on one day of event time. It embeds into detectors that speak once a day.
type today struct{ byIndex []*toldToday }

type toldToday struct {
	day int64
	all []uint64
}

// of is what a workload was told with on a day; another day begins empty.
func (t *today) of(w *workload, day int64) *toldToday {
	for len(t.byIndex) <= w.index {
		t.byIndex = append(t.byIndex, nil)
	}
	d := t.byIndex[w.index]
	if d == nil {
		d = &toldToday{}
		t.byIndex[w.index] = d
	}
	if day != d.day {
		d.day, d.all = day, d.all[:0]
	}
	return d
}

func (d *toldToday) has(key uint64) bool { return slices.Contains(d.all, key) }

func (t *today) forget(w *workload) {
	if w.index < len(t.byIndex) {
		t.byIndex[w.index] = nil
	}
}
