package baseline

import (
	"math"
	"slices"
	"sort"
)

// maxIntervals is how many of the newest intervals a fit looks at.
const maxIntervals = 127

// BeaconFit says how well "every Period, give or take RelSD, some missed, some unrelated" explains a series better than chance does.
type BeaconFit struct {
	LLR       float64 // log likelihood ratio against an aperiodic source, nats, after penalties; 0 where nothing could be said
	Period    float64 // s
	RelSD     float64 // standard deviation of one sleep over Period
	Miss      float64 // share of beats that did not come
	NullShare float64 // share of intervals that belong to unrelated connections
	TimeShare float64 // share of the elapsed time that the periodic part explains
	Gap       float64 // s: connections closer than this were one beat
	Beats     int
}

// Scratch is the working memory of FitBeacon. One goroutine at a time.
type Scratch struct {
	sorted  [maxIntervals]float64
	at      [maxIntervals]float64 // the different intervals, ascending: a good timer has few
	times   [maxIntervals]float64 // how often each came
	null    [maxIntervals]float64 // density of each under h0
	total   [maxIntervals]float64 // density of each under the mixture, then what it is divided by
	flat    [maxIntervals]float64 // density of each with a flat-topped component
	density [maxMissed][maxIntervals]float64
}

// fitFloors bounds the model and the work.
type fitFloors struct {
	sd    float64 // s, least standard deviation: the absolute time in the model, a field so that a test can scale time
	worth float64 // a likelihood ratio below this is of no use to the caller: what will not reach it is given up early
}

const (
	leastDeviation = .02 // s, of a sleep: timers and networks are not better

	fitRounds = 12
	minRounds = 3
	fitStarts = 3
	maxMissed = 4      // multiples of the period in the model, for short series: up to three beats missed in a row
	longFit   = 64     // intervals from which on three multiples do: a fourth lets cache-expiry traffic pass for missed beats
	minFit    = 5      // intervals
	alike     = .02    // share by which two starts may differ and be tried once
	same      = .0001  // share by which the parameters of two starts that meet may differ
	settled   = .01    // gain of a round, in nats, below which the next one is the last; on the grid this changes nothing
	faint     = 1e-150 // densities below count as this
	farthest  = 6.0    // standard deviations beyond which a component adds nothing (e^-18)
)

// FitBeacon compares two explanations of intervals (seconds, more than gap each, at most 127 are read): a sleep of one length with
// jitter, of which some are missed and some intervals are foreign, and the better of an exponential and a lognormal source. It is
// pure and allocates nothing.
//
//	H0  h0(d) = exponential or lognormal (σ >= .7), whichever is likelier over all intervals
//	H1  f(d)  = (1-ε) Σ k=1..4 (1-m) m^(k-1) N(d; kT, k s²)  +  ε h0(d)
//
// Uniformly jittered sleeps are flatter than a bell: after the last round, the likelihood with a flat-topped k=1 component
// (generalised normal of shape 4, same variance) is taken where it is greater. ε >= .01 keeps both honest.
//
// Implant sleeps are renewal processes: their phase wanders, so spectra see little. The likelihood of the intervals does not care.
// Time support keeps bursts out: the periodic part must explain the elapsed time, not merely most of the intervals.
func FitBeacon(intervals []float64, gap float64, s *Scratch) BeaconFit {
	return fitBeacon(intervals, gap, fitFloors{sd: leastDeviation, worth: math.Inf(-1)}, s)
}

func fitBeacon(d []float64, gap float64, floors fitFloors, s *Scratch) BeaconFit {
	if len(d) > maxIntervals {
		d = d[len(d)-maxIntervals:]
	}
	fit := BeaconFit{Gap: gap, Beats: len(d) + 1}
	if len(d) < minFit {
		return fit
	}
	n := float64(len(d))
	sum := 0.
	for _, v := range d {
		sum += v
	}
	sorted := s.sorted[:len(d)]
	copy(sorted, d)
	slices.Sort(sorted)
	m := 0
	for i, v := range sorted {
		if i > 0 && v == sorted[i-1] {
			s.times[m-1]++
			continue
		}
		s.at[m], s.times[m] = v, 1
		m++
	}
	ll0 := nullLogLikelihood(s.at[:m], s.times[:m], s.null[:m], n, sum/n)

	penalty := 2*math.Log(n) + truncation(n, sum, gap)
	best := math.Inf(-1)
	starts := [fitStarts]float64{denseMedian(sorted), sorted[len(sorted)/2], sorted[len(sorted)/4]}
	for i, start := range starts {
		if start <= 0 || slices.ContainsFunc(starts[:i], func(o float64) bool { return math.Abs(o-start) <= alike*start }) {
			continue
		}
		f, ll, ok := s.em(m, n, sum, start, floors.sd, ll0+max(best, floors.worth+penalty), &fit)
		if !ok {
			continue
		}
		v := ll - ll0
		if v > 0 {
			v *= timeGate(f.TimeShare)
		}
		if v > best {
			best = v
			f.Gap, f.Beats = fit.Gap, fit.Beats
			fit = f
		}
	}
	fit.LLR = best - penalty
	return fit
}

// timeGate is 0 where the periodic part explains at most .35 of the elapsed time and 1 from .6 on.
func timeGate(share float64) float64 { return min(1, max(0, (share-.35)/.25)) }

// truncation is what the null loses for not knowing that coalescing removed all intervals below gap: against a shifted exponential,
// which knows, the ratio would be lower.
func truncation(n, sum, gap float64) float64 {
	rest := sum/n - gap
	if rest <= 0 {
		return 0
	}
	return max(0, n*math.Log(sum/n)-n*math.Log(rest))
}

// nullLogLikelihood writes h0 of every different interval to density and returns the sum of the logarithms over all n.
func nullLogLikelihood(at, times, density []float64, n, mean float64) float64 {
	logs, squares := 0., 0.
	for i, v := range at {
		l := math.Log(v)
		density[i] = l // for now
		logs += times[i] * l
	}
	mu := logs / n
	for i, l := range density {
		squares += times[i] * (l - mu) * (l - mu)
	}
	sd := max(.7, math.Sqrt(squares/n))
	lognormal := -logs - n*math.Log(sd*math.Sqrt(2*math.Pi)) - squares/(2*sd*sd)
	exponential := -n*math.Log(mean) - n
	if exponential >= lognormal {
		for i, v := range at {
			density[i] = decay(v/mean) / mean
		}
		return exponential
	}
	for i, v := range at {
		z := (density[i] - mu) / sd
		density[i] = decay(z*z/2) / (v * sd * math.Sqrt(2*math.Pi))
	}
	return lognormal
}

// denseMedian is the median of the fullest window [x, 1.9x] over sorted intervals, the first of several.
func denseMedian(sorted []float64) float64 {
	from, count, j := 0, 0, 0
	for i, x := range sorted {
		for j < len(sorted) && sorted[j] <= 1.9*x {
			j++
		}
		if j-i > count {
			from, count = i, j-i
		}
	}
	return sorted[from+count/2]
}

var (
	rootOf    = [maxMissed + 1]float64{1: 1, 2: math.Sqrt2, 3: math.Sqrt(3), 4: 2}
	normalise = 1 / math.Sqrt(2*math.Pi)
)

// The generalised normal of shape 4 with standard deviation 1: flatTop exp(-z⁴/flatWide), where flatWide = (Γ(1/4)/Γ(3/4))²
// and flatTop = 2/(√(Γ(1/4)/Γ(3/4)) Γ(1/4)).
const (
	flatGain = .1765 // nats: ln √(2πe) - ln √12, a uniform density against a bell of the same variance
	flatTop  = .320701
	flatWide = 8.753758
)

// component is one multiple of the period in the mixture.
type component struct {
	mean, inverse, height float64 // inverse of the standard deviation; density at the mean
	from, to              int     // the different intervals that it reaches
}

// em fits the mixture to the m different intervals from one start by expectation maximisation. The likelihood and the time share it
// returns are those of the last round's parameters. It gives up when it comes to where found has been, and when the likelihood will
// not reach need even if the rounds to come gain twice what this one did and a flat top all it can.
func (s *Scratch) em(m int, n, sum, start, leastSD, need float64, found *BeaconFit) (fit BeaconFit, ll float64, ok bool) {
	period, sd, eps, miss := start, .2*start, .15, .1
	var room [maxMissed]component
	multiples := room[:]
	if n >= longFit {
		multiples = room[:maxMissed-1]
	}
	before, last := math.Inf(-1), false
	for round := 1; ; round++ {
		if met(found.Period, period) && met(found.RelSD*found.Period, sd) && met(found.Miss, miss) && met(found.NullShare, eps) {
			return fit, ll, false
		}
		last = last || round == fitRounds
		for i, v := range s.null[:m] {
			s.total[i] = eps * v
		}
		share := (1 - eps) * (1 - miss)
		flat := share * flatTop / sd
		for k := range multiples {
			inverse := 1 / (sd * rootOf[k+1])
			multiples[k] = component{mean: float64(k+1) * period, inverse: inverse, height: share * normalise * inverse}
			s.expect(&multiples[k], s.density[k][:m])
			share *= miss
		}
		ll = logProduct(s.total[:m], s.times[:m])
		gain := ll - before
		before = ll
		if round > 2 && ll+2*gain*float64(fitRounds-round)+flatGain*n < need {
			return fit, ll, false
		}
		if last {
			ll = max(ll, s.flatTopped(m, &multiples[0], flat))
		}
		for i, v := range s.times[:m] {
			s.total[i] = v / s.total[i]
		}
		var weight, weighted, spread, steps, support float64
		for i := range multiples {
			w, sum, squares := s.maximise(&multiples[i], s.density[i][:m])
			k := float64(i + 1)
			weight += w
			weighted += sum / k
			spread += squares / k
			steps += w * k
			support += sum
		}
		fit = BeaconFit{Period: period, RelSD: sd / period, Miss: miss, NullShare: eps, TimeShare: support / sum}
		if weight < 1 || last {
			return fit, ll, true
		}
		period = weighted / weight
		sd = min(max(math.Sqrt(spread/weight), max(leastSD, .003*period)), max(.35*period, leastSD))
		eps = min(max(1-weight/n, .01), .6)
		miss = min(max(1-weight/steps, .005), .6)
		last = round > minRounds && gain < settled
	}
}

func met(a, b float64) bool { return math.Abs(a-b) <= same*b }

// expect adds the density of a component to the total of every interval in its reach.
func (s *Scratch) expect(c *component, density []float64) {
	all := s.at[:len(density)]
	reach := farthest / c.inverse
	c.from = sort.SearchFloat64s(all, c.mean-reach)
	c.to = c.from + sort.SearchFloat64s(all[c.from:], c.mean+reach)
	at, density, total := all[c.from:c.to], density[c.from:c.to], s.total[c.from:c.to]
	for i, v := range at {
		z := (v - c.mean) * c.inverse
		p := c.height * decaySoon(z*z/2)
		density[i] = p
		total[i] += p
	}
}

// maximise returns the component's share in all intervals: how many, their sum, and their squared distances from its mean.
func (s *Scratch) maximise(c *component, density []float64) (weight, sum, squares float64) {
	at, density, share := s.at[c.from:c.to], density[c.from:c.to], s.total[c.from:c.to]
	off := 0.
	for i, v := range at {
		p, d := density[i]*share[i], v-c.mean
		weight += p
		off += p * d
		squares += p * d * d
	}
	return weight, weight*c.mean + off, squares
}

// flatTopped is the log likelihood with a flat-topped component c in place of the bell.
func (s *Scratch) flatTopped(m int, c *component, top float64) float64 {
	flat := s.flat[:m]
	copy(flat, s.total[:m])
	for i := c.from; i < c.to; i++ {
		flat[i] -= s.density[0][i]
	}
	for i, v := range s.at[:m] {
		z := (v - c.mean) * c.inverse
		flat[i] = max(faint, flat[i]+top*decay(z*z*z*z/flatWide))
	}
	return logProduct(flat, s.times[:m])
}
