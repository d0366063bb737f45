package baseline

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wharfwatch/wharfwatch/eval"
)

// gridFloors are the mean true positive rates at LLR >= 6 that must not be undercut, per window.
var gridFloors = []float64{.946, .832, .830}

// TestFitBeaconGrid draws the whole benchmark from ten seeds: no aperiodic key may reach LLR 6, the mean recall stays above its floor,
// and the period of what is found is right.
func TestFitBeaconGrid(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the benchmark from ten seeds")
	}
	for i, w := range eval.Windows {
		t.Run(fmt.Sprintf("%.0fh", w.Length/3600), func(t *testing.T) {
			t.Parallel()
			var s Scratch
			var recall float64
			hits, totals := map[string]int{}, map[string]int{}
			aperiodic, off, found := 0, 0, 0
			const seeds = 10
			for seed := uint64(1); seed <= seeds; seed++ {
				hit, total := 0, 0
				for _, k := range eval.Beacons(w, seed) {
					f := bestFit(k.Starts, &s)
					if !k.Periodic {
						if aperiodic++; f.LLR >= 6 {
							t.Errorf("seed %d: aperiodic %s reaches LLR %.2f: %+v", seed, k.Name, f.LLR, f)
						}
						continue
					}
					total++
					totals[k.Name]++
					if f.LLR >= 6 {
						hit++
						hits[k.Name]++
					}
					if f.LLR >= 6 && k.Name == "cs_j0.1" {
						if found++; math.Abs(f.Period-.95*k.Period) > .03*k.Period {
							off++
						}
					}
				}
				recall += float64(hit) / float64(total) / seeds
			}
			if aperiodic < 500*seeds {
				t.Errorf("%d aperiodic keys, fewer than %d", aperiodic, 500*seeds)
			}
			if recall < gridFloors[i] {
				t.Errorf("mean recall %.4f is below %.3f", recall, gridFloors[i])
			}
			if found == 0 || 50*off > found {
				t.Errorf("the period of %d of %d keys with 10 %% jitter is off by more than 3 %%", off, found)
			}
			t.Logf("mean recall %.4f over %d seeds, %d aperiodic keys", recall, seeds, aperiodic)
			for _, name := range slices.Sorted(maps.Keys(totals)) {
				t.Logf("  %-24s %.2f", name, float64(hits[name])/float64(totals[name]))
			}
		})
	}
}

// TestFitBeaconScale stretches time, the gap and the one absolute floor together: the likelihood ratio must not notice.
func TestFitBeaconScale(t *testing.T) {
	var s Scratch
	for _, k := range eval.Beacons(eval.Window{Length: 2 * 3600, Reps: 1}, 5) {
		d := coalesced(k.Starts, 2)
		if len(d) < minFit {
			continue
		}
		want := fitBeacon(d, 2, fitFloors{.02, math.Inf(-1)}, &s)
		for _, scale := range []float64{.125, 3, 60} {
			e := slices.Clone(d)
			for i := range e {
				e[i] *= scale
			}
			got := fitBeacon(e, 2*scale, fitFloors{.02 * scale, math.Inf(-1)}, &s)
			if math.Abs(got.LLR-want.LLR) > 1e-6 || math.Abs(got.Period/want.Period-scale) > 1e-6*scale {
				t.Errorf("%s stretched by %v: LLR %v instead of %v, period %v instead of %v", k.Name, scale, got.LLR, want.LLR, got.Period, scale*want.Period)
			}
		}
	}
}

func TestFitBeaconShort(t *testing.T) {
	var s Scratch
	for n := range minFit {
		if f := FitBeacon(slices.Repeat([]float64{60}, n), 2, &s); f.LLR != 0 || f.Period != 0 {
			t.Errorf("%d intervals give %+v", n, f)
		}
	}
	if f := FitBeacon(slices.Repeat([]float64{60}, 1000), 2, &s); f.Beats != maxIntervals+1 {
		t.Errorf("1000 intervals count as %d beats", f.Beats)
	}
}

// TestFitBeaconOdd feeds what arithmetic dislikes: nothing may become NaN or infinite.
func TestFitBeaconOdd(t *testing.T) {
	var s Scratch
	r := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		d := make([]float64, minFit+r.IntN(maxIntervals))
		for i := range d {
			d[i] = max(.001, math.Exp(40*r.Float64()-15))
			if r.IntN(3) == 0 {
				d[i] = .001
			}
		}
		f := FitBeacon(d, .05, &s)
		for _, v := range []float64{f.LLR, f.Period, f.RelSD, f.Miss, f.NullShare, f.TimeShare} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("%v gives %+v", d, f)
			}
		}
	}
}

func jittered(n int, period, jitter float64, seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	d := make([]float64, n)
	for i := range d {
		d[i] = period * (1 - jitter*r.Float64())
	}
	return d
}

func TestFitBeaconAllocatesNothing(t *testing.T) {
	var s Scratch
	d := jittered(maxIntervals, 60, .3, 1)
	if n := testing.AllocsPerRun(20, func() { FitBeacon(d, 2, &s) }); n != 0 {
		t.Errorf("%v allocations per fit", n)
	}
}

func BenchmarkFitBeacon(b *testing.B) {
	var s Scratch
	for _, n := range []int{15, 31, maxIntervals} {
		d := jittered(n, 60, .3, 1)
		b.Run(fmt.Sprintf("intervals=%d", n), func(b *testing.B) {
			for b.Loop() {
				FitBeacon(d, 2, &s)
			}
		})
	}
}

// BenchmarkCV is the yardstick: coefficient of variation of the same intervals.
func BenchmarkCV(b *testing.B) {
	d := jittered(maxIntervals, 60, .3, 1)
	var sink float64
	for b.Loop() {
		sink += variation(d)
	}
	_ = sink
}

// Giving up early is an economy: over the whole benchmark it changes hardly an answer that counts, and invents none.
func TestGivingUpEarlyLosesLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the benchmark from five seeds")
	}
	var s Scratch
	least := fitFloors{leastDeviation, 6}
	given, lost, count := 0, 0, 0
	for seed := range uint64(5) {
		for _, w := range eval.Windows {
			for _, k := range eval.Beacons(w, seed) {
				for _, g := range beaconGaps {
					d := coalesced(k.Starts, g)
					full, brief := FitBeacon(d, g, &s), fitBeacon(d, g, least, &s)
					switch {
					case full.LLR >= least.worth:
						count++
						if brief != full {
							lost++
						}
					case brief.LLR >= least.worth:
						t.Errorf("%s: %v, want less than %v", k.Name, brief.LLR, least.worth)
					case brief != full:
						given++
					}
				}
			}
		}
	}
	if t.Logf("%d given up, %d of %d answers changed", given, lost, count); given < 1000 || lost*5000 > count {
		t.Errorf("%d given up, %d of %d answers changed", given, lost, count)
	}
}
