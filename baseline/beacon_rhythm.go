package baseline

import (
	"math"
	"slices"

	"github.com/wharfwatch/wharfwatch/flow"
)

// rhythm is a fit with what it was made from.
type rhythm struct {
	BeaconFit
	first, last int64 // beats, ns
	intervals   []float64
}

// fitting is the working memory for fits.
type fitting struct {
	scratch Scratch
	buf     [len(beaconGaps)][keptSpans]float64
}

// fit coalesces the spans at every gap and keeps the likeliest. An interval that overlaps a gap in the input says nothing and is
// left out, unless that would leave less than half: input that is always incomplete has missed beats, which the model knows.
// A likelihood ratio below worth need not be exact.
func (s *series) fit(gaps []flow.Gap, worth float64, m *fitting) (best rhythm) {
	best.LLR = math.Inf(-1)
	spans := s.spans[max(0, len(s.spans)-keptSpans):]
	var before []float64
	for g, gap := range beaconGaps {
		r := s.intervals(spans, uint32(gap*1000), gaps, m.buf[g][:0])
		if len(r.intervals) < minFit || g > 0 && slices.Equal(r.intervals, before) {
			continue // the same beats, and a wider gap never makes them likelier
		}
		before = r.intervals
		r.BeaconFit = fitBeacon(r.intervals, gap, fitFloors{leastDeviation, max(worth, best.LLR)}, &m.scratch)
		if r.LLR > best.LLR {
			best = r
		}
	}
	return best
}

func (s *series) intervals(spans []span, gap uint32, gaps []flow.Gap, out []float64) (r rhythm) {
	all := s.coalesce(spans, gap, nil, out)
	if len(gaps) == 0 || len(all.intervals) == 0 {
		return all
	}
	n := len(all.intervals)
	if some := s.coalesce(spans, gap, gaps, out); 2*len(some.intervals) >= n {
		return some
	}
	return s.coalesce(spans, gap, nil, out)
}

// coalesce makes beats and the intervals between them, the newest 127.
func (s *series) coalesce(spans []span, gap uint32, gaps []flow.Gap, out []float64) (r rhythm) {
	if len(spans) == 0 {
		return r
	}
	beat, end := spans[0].at, spans[0].last
	began := [keptSpans]uint32{}
	next := 0
	for _, v := range spans[1:] {
		if v.at-end > gap {
			for next < len(gaps) && gaps[next].To <= s.nanos(beat) {
				next++
			}
			if next == len(gaps) || gaps[next].From >= s.nanos(v.at) {
				began[len(out)] = beat
				out = append(out, max(float64(v.at-beat)/1000, .001))
			}
			beat = v.at
		}
		end = v.last
	}
	if cut := len(out) - maxIntervals; cut > 0 {
		out = out[cut:]
		r.first = s.nanos(began[cut])
	} else {
		r.first = s.nanos(began[0])
	}
	r.last, r.intervals = s.nanos(beat), out
	return r
}

func (s *series) nanos(rel uint32) int64 { return (s.base + int64(rel)) * 1e6 }
