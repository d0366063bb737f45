package baseline

import (
	"math"
	"math/rand/v2"
	"slices"
)

// The benchmark of beacon detectors: keys of known kind, drawn from seeds. Periodic scenarios must be found; aperiodic families must
// not. Times in seconds.

type gridKey struct {
	name     string
	periodic bool
	period   float64
	starts   []float64
}

type gridWindow struct {
	length float64
	reps   int
}

var gridWindows = []gridWindow{{24 * 3600, 16}, {6 * 3600, 12}, {2 * 3600, 12}}

type draw struct {
	*rand.Rand
	w float64
}

func (r draw) U() float64 { return r.Float64() }
func (r draw) N() float64 { return r.NormFloat64() }
func (r draw) E() float64 { return r.ExpFloat64() }

// renew adds gaps from next until the window ends.
func (r draw) renew(from float64, next func() float64) (out []float64) {
	for t := from; t < r.w && len(out) < 20000; t += max(next(), 1e-4) {
		out = append(out, t)
	}
	return out
}

func (r draw) cs(period, jitter, miss float64) []float64 {
	all := r.renew(r.U()*period, func() float64 { return period * (1 - jitter*r.U()) })
	return slices.DeleteFunc(all, func(float64) bool { return miss > 0 && r.U() < miss })
}

func (r draw) poisson(mean float64) []float64 {
	return r.renew(mean*r.E(), func() float64 { return mean * r.E() })
}

// grid draws all keys of one window from one seed.
func grid(w gridWindow, seed uint64) (keys []gridKey) {
	r := draw{rand.New(rand.NewPCG(seed, uint64(w.length))), w.length}
	add := func(name string, periodic bool, period float64, starts []float64) {
		slices.Sort(starts)
		for i, t := range starts {
			starts[i] = math.Floor(t*1000) / 1000
		}
		for len(starts) > 0 && starts[len(starts)-1] >= w.length {
			starts = starts[:len(starts)-1]
		}
		if len(starts) >= 4 {
			keys = append(keys, gridKey{name, periodic, period, starts[:min(len(starts), 20000)]})
		}
	}
	for range w.reps {
		for _, T := range []float64{10, 60, 300, 900, 3600} {
			if 5*T > w.length {
				continue
			}
			r.periodic(T, add)
		}
		for range 3 {
			T := w.length / (6 + 4*r.U())
			add("few_6to10_j0.2", true, T, r.cs(T, .2, 0))
		}
		for range 6 {
			mu := 10 * math.Pow(w.length/12/10, r.U())
			r.aperiodic(mu, add)
		}
	}
	return keys
}

func (r draw) periodic(T float64, add func(string, bool, float64, []float64)) {
	for _, j := range []float64{0, .1, .25, .5} {
		add([]string{"cs_j0", "cs_j0.1", "cs_j0.25", "cs_j0.5"}[slices.Index([]float64{0, .1, .25, .5}, j)], true, T, r.cs(T, j, 0))
	}
	add("sym_j0.5", true, T, r.renew(r.U()*T, func() float64 { return T * (1 + .5*(2*r.U()-1)) }))
	add("cs_j0.25_miss30", true, T, r.cs(T, .25, .3))
	add("cs_j0.5_miss30", true, T, r.cs(T, .5, .3))
	var clock []float64
	for base, k := r.U()*T, 0.; base+k*T < r.w; k++ {
		if r.U() >= .5 {
			clock = append(clock, base+k*T+T*.2*(r.U()-.5))
		}
	}
	add("clock_j0.2_miss50", true, T, clock)
	if T >= 60 {
		var multi []float64
		for _, t := range r.cs(T, .25, 0) {
			for range 1 + r.IntN(4) {
				multi = append(multi, t)
				t += .7 * r.E()
			}
		}
		add("cs_j0.25_multi4", true, T, multi)
	}
	add("cs_j0.25_heavysize", true, T, r.cs(T, .25, 0))
	if T >= 60 {
		op := r.cs(T, .25, 0)
		for range 3 {
			t := r.U() * r.w
			for range 60 {
				op = append(op, t)
				t += .5 + 3*r.U()
			}
		}
		add("cs_j0.25_opburst", true, T, op)
	}
	half := draw{r.Rand, r.w / 2}.cs(T, .2, 0)
	for t := r.w/2 + r.U()*T; t < r.w; t += 6 * T * (1 - .2*r.U()) {
		half = append(half, t)
	}
	add("modeswitch_x6", true, T, half)
	third, from := draw{r.Rand, r.w / 3}.cs(T, .25, 0), r.U()*r.w*2/3
	for i := range third {
		third[i] += from
	}
	add("third_of_window_j0.25", true, T, third)
	add("cs_j0.2_noise30", true, T, append(r.cs(T, .2, 0), r.poisson(T/.3)...))
}

func (r draw) aperiodic(mu float64, add func(string, bool, float64, []float64)) {
	add("N_poisson", false, 0, r.poisson(mu))
	add("N_poisson_const", false, 0, r.poisson(mu))
	phase := 2 * math.Pi * r.U()
	add("N_diurnal", false, 0, slices.DeleteFunc(r.poisson(mu/2), func(t float64) bool {
		return r.U() > .5*(1+.9*math.Sin(2*math.Pi*t/86400+phase))
	}))
	add("N_lognormal1.5", false, 0, r.renew(mu*r.U(), func() float64 { return .33 * mu * math.Exp(1.5*r.N()) }))
	var onoff []float64
	for _, t := range r.poisson(max(5*mu, 120)) {
		for range min(int(3*math.Pow(1-r.U(), -1/1.3)), 200) {
			onoff = append(onoff, t)
			t += 2 * r.E()
		}
	}
	add("N_onoff", false, 0, onoff)
	ttl := []float64{30, 60, 300}[r.IntN(3)]
	add("N_ttl_plus_exp", false, 0, r.renew(ttl*r.U(), func() float64 { return ttl + r.E()*ttl*(.7+3*r.U()) }))
	var back []float64
	for t := mu * r.U(); t < r.w && len(back) < 20000; t += 4 * mu * r.E() {
		for k, tries := 0, 3+int(6*r.U()); k < tries; k++ {
			back = append(back, t)
			t += min(math.Exp2(float64(k)), 64) * (.8 + .4*r.U())
		}
	}
	add("N_backoff", false, 0, back)
	add("N_worker_ln0.6", false, 0, r.renew(mu*r.U(), func() float64 { return mu * math.Exp(.6*r.N()) }))
}

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
