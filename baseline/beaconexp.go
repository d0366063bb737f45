package baseline

import "math"

// Fits spend their time in exponentials and logarithms. Both are bought in bulk here.

const (
	decayStep = 1. / 32
	decayEnd  = farthest * farthest / 2
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

// logProduct is Σ times·ln(v), with one logarithm for many of the values that came once. They lie between faint and 1/faint.
func logProduct(values, times []float64) (logs float64) {
	times = times[:len(values)]
	product := 1.
	for i, v := range values {
		if times[i] != 1 {
			logs += times[i] * math.Log(v)
			continue
		}
		if product *= v; product < faint || product > 1/faint {
			logs += math.Log(product)
			product = 1
		}
	}
	return logs + math.Log(product)
}
