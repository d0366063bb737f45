package eval

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Key is one series of the benchmark of beacon detectors: the calls of one container to one destination.
type Key struct {
	Name     string // of its scenario or family
	Periodic bool   // to be found; not to be found otherwise
	Period   float64
	Starts   []float64 // s, ascending, whole milliseconds
	Sizes    []float64 // bytes sent by each
}

// Window is how long the keys are watched, in seconds, and how often each scenario is drawn.
type Window struct {
	Length float64
	Reps   int
}

// Windows are those of the published benchmark.
var Windows = []Window{{24 * 3600, 16}, {6 * 3600, 12}, {2 * 3600, 12}}

// Label is the window's length for people: 24 h.
func (w Window) Label() string { return fmt.Sprintf("%.0f h", w.Length/3600) }

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

// Beacons draws all keys of one window from one seed: periodic scenarios, and aperiodic families in which a rhythm is chance.
// Seeds 1 to 10 are for development, 1001 to 1010 for what is published: nothing may be tuned on those.
func Beacons(w Window, seed uint64) (keys []Key) {
	r := draw{rand.New(rand.NewPCG(seed, uint64(w.Length))), w.Length}
	bytes := rand.New(rand.NewPCG(seed, uint64(w.Length)+1)) // apart, so that sizes do not move the starts
	add := func(name string, period float64, starts []float64, heavy ...float64) {
		if k := newKey(name, period, w.Length, starts, heavy, bytes); len(k.Starts) >= 4 {
			keys = append(keys, k)
		}
	}
	for range w.Reps {
		for _, T := range []float64{10, 60, 300, 900, 3600} {
			if 5*T > w.Length {
				continue
			}
			r.periodic(T, add)
		}
		for range 3 {
			T := w.Length / (6 + 4*r.U())
			add("few_6to10_j0.2", T, r.cs(T, .2, 0))
		}
		for range 6 {
			mu := 10 * math.Pow(w.Length/12/10, r.U())
			r.aperiodic(mu, add)
		}
	}
	return keys
}

// newKey orders and cuts the starts and gives each a size: about the same for all, or of wide spread for those in heavy and for the
// scenarios of heavy sizes; a benign family has any.
func newKey(name string, period, length float64, starts, heavy []float64, r *rand.Rand) Key {
	k := Key{Name: name, Periodic: period > 0, Period: period}
	typical := 200 + 800*r.Float64()
	small := func() float64 { return typical * (1 + .05*r.NormFloat64()) }
	wide := func() float64 { return 200 * math.Exp(1.2*r.NormFloat64()) }
	size := small
	switch {
	case name == "N_poisson_const":
		size = func() float64 { return typical }
	case name == "cs_j0.25_heavysize" || name == "cs_j0.25_multi4":
		size = wide
	case !k.Periodic && name != "N_ttl_plus_exp" && name != "N_backoff":
		size = []func() float64{small, wide, func() float64 { return typical }}[r.IntN(3)]
	}
	type event struct{ at, bytes float64 }
	var all []event
	put := func(starts []float64, size func() float64) {
		for _, t := range starts {
			if t = math.Floor(t*1000) / 1000; t < length {
				all = append(all, event{t, max(1, math.Round(size()))})
			}
		}
	}
	put(starts, size)
	put(heavy, wide)
	slices.SortStableFunc(all, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	for _, e := range all[:min(len(all), 20000)] {
		k.Starts, k.Sizes = append(k.Starts, e.at), append(k.Sizes, e.bytes)
	}
	return k
}

func (r draw) periodic(T float64, add func(string, float64, []float64, ...float64)) {
	for _, j := range []float64{0, .1, .25, .5} {
		add([]string{"cs_j0", "cs_j0.1", "cs_j0.25", "cs_j0.5"}[slices.Index([]float64{0, .1, .25, .5}, j)], T, r.cs(T, j, 0))
	}
	add("sym_j0.5", T, r.renew(r.U()*T, func() float64 { return T * (1 + .5*(2*r.U()-1)) }))
	add("cs_j0.25_miss30", T, r.cs(T, .25, .3))
	add("cs_j0.5_miss30", T, r.cs(T, .5, .3))
	var clock []float64
	for base, k := r.U()*T, 0.; base+k*T < r.w; k++ {
		if r.U() >= .5 {
			clock = append(clock, base+k*T+T*.2*(r.U()-.5))
		}
	}
	add("clock_j0.2_miss50", T, clock)
	if T >= 60 {
		var multi []float64
		for _, t := range r.cs(T, .25, 0) {
			for range 1 + r.IntN(4) {
				multi = append(multi, t)
				t += .7 * r.E()
			}
		}
		add("cs_j0.25_multi4", T, multi)
	}
	add("cs_j0.25_heavysize", T, r.cs(T, .25, 0))
	if T >= 60 {
		var op []float64
		beats := r.cs(T, .25, 0)
		for range 3 {
			t := r.U() * r.w
			for range 60 {
				op = append(op, t)
				t += .5 + 3*r.U()
			}
		}
		add("cs_j0.25_opburst", T, beats, op...)
	}
	half := draw{r.Rand, r.w / 2}.cs(T, .2, 0)
	for t := r.w/2 + r.U()*T; t < r.w; t += 6 * T * (1 - .2*r.U()) {
		half = append(half, t)
	}
	add("modeswitch_x6", T, half)
	third, from := draw{r.Rand, r.w / 3}.cs(T, .25, 0), r.U()*r.w*2/3
	for i := range third {
		third[i] += from
	}
	add("third_of_window_j0.25", T, third)
	add("cs_j0.2_noise30", T, r.cs(T, .2, 0), r.poisson(T/.3)...)
}

func (r draw) aperiodic(mu float64, add func(string, float64, []float64, ...float64)) {
	add("N_poisson", 0, r.poisson(mu))
	add("N_poisson_const", 0, r.poisson(mu))
	phase := 2 * math.Pi * r.U()
	add("N_diurnal", 0, slices.DeleteFunc(r.poisson(mu/2), func(t float64) bool {
		return r.U() > .5*(1+.9*math.Sin(2*math.Pi*t/86400+phase))
	}))
	add("N_lognormal1.5", 0, r.renew(mu*r.U(), func() float64 { return .33 * mu * math.Exp(1.5*r.N()) }))
	var onoff []float64
	for _, t := range r.poisson(max(5*mu, 120)) {
		for range min(int(3*math.Pow(1-r.U(), -1/1.3)), 200) {
			onoff = append(onoff, t)
			t += 2 * r.E()
		}
	}
	add("N_onoff", 0, onoff)
	ttl := []float64{30, 60, 300}[r.IntN(3)]
	add("N_ttl_plus_exp", 0, r.renew(ttl*r.U(), func() float64 { return ttl + r.E()*ttl*(.7+3*r.U()) }))
	var back []float64
	for t := mu * r.U(); t < r.w && len(back) < 20000; t += 4 * mu * r.E() {
		for k, tries := 0, 3+int(6*r.U()); k < tries; k++ {
			back = append(back, t)
			t += min(math.Exp2(float64(k)), 64) * (.8 + .4*r.U())
		}
	}
	add("N_backoff", 0, back)
	add("N_worker_ln0.6", 0, r.renew(mu*r.U(), func() float64 { return mu * math.Exp(.6*r.N()) }))
}
