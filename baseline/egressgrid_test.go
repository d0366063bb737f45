package baseline

import (
	"math/rand/v2"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/eval"
	"github.com/wharfwatch/wharfwatch/flow"
)

// egressTold runs the detector over a trace and returns the bins that were told.
func egressTold(c EgressSpike, bins []float64) (told []int) {
	all := Default()
	all.EgressSpike, all.Beacon.Mode = c, Off
	first := epoch / binLength
	e := New(all, metrics.NewSet(), func(f Finding) { told = append(told, int(f.Window/binLength-first)) })
	box := &enrich.Container{ID: "1", Workload: "w", Image: "i"}
	for i, v := range bins {
		at := (first+int64(i))*binLength + sec
		e.Flow(&enrich.Flow{
			Kind: enrich.Update, Time: at, Container: box, Peer: flow.Addr4(1), PeerPort: 443, Proto: flow.TCP,
			Opener: enrich.OpenerLocal, Sent: uint64(v), Confidence: enrich.Exact, Method: enrich.MethodIP,
		})
		e.Tick(at + 1)
	}
	e.Tick((first + int64(len(bins)) + 2) * binLength)
	return told
}

// TestEgressGrid holds the floors of the egress benchmark: 120 containers of 21 days, without absolute floors, so that the statistics
// alone are judged. A hit is told between the beginning of the attack and an hour after its end; chance is what the twin tells then.
func TestEgressGrid(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: weeks of 120 containers")
	}
	c := defaultEgressSpike()
	c.FloorBytes, c.FloorRatio, c.PriorFactor = 1, 1, 1e12
	const containers = 120
	attacks := []struct {
		name   string
		bins   int
		times  float64
		least  float64 // share found
		hits   int
		chance int
	}{
		{name: "spike10x30m", bins: 6, times: 10, least: .88},
		{name: "spike30x10m", bins: 2, times: 30, least: .95},
	}
	false14, warm := 0, 0
	for n := range containers {
		r := rand.New(rand.NewPCG(uint64(n), 77))
		twin, base := eval.Egress(r)
		quiet := egressTold(c, twin)
		for _, bin := range quiet {
			if bin >= 14*binsPerDay {
				false14++
			} else if bin >= 3*binsPerDay {
				warm++
			}
		}
		onset := 15*binsPerDay + r.IntN(3*binsPerDay)
		for i := range attacks {
			a := &attacks[i]
			bins := append([]float64(nil), twin...)
			for b := onset; b < onset+a.bins; b++ {
				bins[b] += a.times * base
			}
			within := func(told []int) bool {
				for _, bin := range told {
					if bin >= onset && bin < onset+a.bins+binsPerHour {
						return true
					}
				}
				return false
			}
			if within(egressTold(c, bins)) {
				a.hits++
			}
			if within(quiet) {
				a.chance++
			}
		}
	}
	for _, a := range attacks {
		hit, chance := float64(a.hits)/containers, float64(a.chance)/containers
		t.Logf("%s: found %.2f, chance %.2f", a.name, hit, chance)
		if hit < a.least {
			t.Errorf("%s: found %.2f, less than %.2f", a.name, hit, a.least)
		}
	}
	rate := float64(false14) / containers / 7
	t.Logf("false episodes per container and day: %.3f after day 14, %.3f from day 3 to 14", rate, float64(warm)/containers/11)
	if rate > .05 {
		t.Errorf("false episodes per container and day: %.3f, more than .05", rate)
	}
}
