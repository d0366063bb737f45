package baseline

import (
	"math"
)

// coalesced is the definition of beats, for tests: intervals between the first events of chains with gaps up to g.
func coalesced(starts []float64, g float64) (intervals []float64) {
	starts = starts[max(0, len(starts)-512):]
	beat := starts[0]
	for i := 1; i < len(starts); i++ {
		if starts[i]-starts[i-1] > g {
			intervals = append(intervals, max(starts[i]-beat, .001))
			beat = starts[i]
		}
	}
	return intervals[max(0, len(intervals)-maxIntervals):]
}

func bestFit(starts []float64, s *Scratch) BeaconFit {
	best := BeaconFit{LLR: math.Inf(-1)}
	for _, g := range beaconGaps {
		f := FitBeacon(coalesced(starts, g), g, s)
		if f.Beats > minFit && f.LLR > best.LLR {
			best = f
		}
	}
	return best
}
