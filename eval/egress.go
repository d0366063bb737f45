package eval

import (
	"math"
	"math/rand/v2"
)

// BinsPerHour and BinsPerDay count the five-minute bins of an egress trace.
const (
	BinsPerHour = 12
	BinsPerDay  = 24 * BinsPerHour
)

// Egress makes one container's 21 days of five-minute sums: a level, a weekend, a day's wave, correlated noise, for half of them
// a nightly backup, and rare bursts. The draws do not depend on the attack, so that every trace has a twin without one.
func Egress(r *rand.Rand) (bins []float64, base float64) {
	base = math.Exp(12 + 2*r.Float64())
	a, phase, sigma := .3+.6*r.Float64(), 2*math.Pi*r.Float64(), .25+.35*r.Float64()
	backup, night := r.Float64() < .5, r.IntN(24)
	times := 20 + 60*r.Float64()
	noise := 0.
	for i := range 21 * BinsPerDay {
		day, hour := i/BinsPerDay, float64(i%BinsPerDay)/BinsPerDay
		v := base * (1 + a*math.Sin(2*math.Pi*hour+phase))
		if day%7 >= 5 {
			v /= 2
		}
		noise = .8*noise + .6*r.NormFloat64()*sigma
		v *= math.Exp(noise)
		size := .8 + .4*r.Float64()
		if backup && i%BinsPerDay/BinsPerHour == night && i%BinsPerHour < 4 {
			v += base * times * size
		}
		if r.Float64() < .0005 {
			v *= 4
		}
		bins = append(bins, v)
	}
	return bins, base
}
