package baseline

import "math"

// Fits spend their time in exponentials and logarithms. Both are bought in bulk here.

const (
	decayStep = 1. / 32
	decayEnd  = farthest / 2
)

var decays = func() (table [decayEnd/decayStep + 2]float64) {
	for i := range table {
		table[i] = math.Exp(-decayStep * float64(i))
	}
	return table
}()

// decaySoon is e^-x for x of 0 to decayEnd, to 14 digits: the nearest entry of a table, and the rest as a polynomial.
func decaySoon(x float64) float64 {
	i := int(x/decayStep + .5)
	r := decayStep*float64(i) - x
	return decays[i] * (1 + r*(1+r*(1./2+r*(1./6+r*(1./24+r/120)))))
}

// decay is e^-x for any x from 0 on.
func decay(x float64) float64 {
	if x < decayEnd {
		return decaySoon(x)
	}
	return math.Exp(-x)
}

// product is the logarithm of a product, with one logarithm for many factors. The zero value is 1.
type product struct{ logs, rest float64 }

// times multiplies with v to the power of n; a factor below faint counts as that.
func (p *product) times(v, n float64) {
	v = max(v, faint)
	if n != 1 {
		p.logs += n * math.Log(v)
		return
	}
	if p.rest == 0 {
		p.rest = 1
	}
	if p.rest *= v; p.rest < faint || p.rest > 1/faint {
		p.logs += math.Log(p.rest)
		p.rest = 1
	}
}

func (p *product) log() float64 {
	if p.rest == 0 {
		return p.logs
	}
	return p.logs + math.Log(p.rest)
}
