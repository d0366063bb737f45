package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Share is hits of n with the Wilson interval of 95 %. https://doi.org/10.1080/01621459.1927.10502953
func Share(hits, n int) Figure {
	if n == 0 {
		return Figure{Low: 0, High: 1}
	}
	const z = 1.959964
	p, m := float64(hits)/float64(n), float64(n)
	mid := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return Figure{Value: p, Low: max(0, mid-half), High: min(1, mid+half), N: n}
}

// student is the .975 quantile of Student's t by degrees of freedom, from 1.
var student = []float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228}

// Mean is the mean of one value per seed with the interval of Student's t.
func Mean(values []float64) Figure {
	n, sum, squares := float64(len(values)), 0., 0.
	for _, v := range values {
		sum += v
	}
	f := Figure{Value: sum / n, N: len(values)}
	for _, v := range values {
		squares += (v - f.Value) * (v - f.Value)
	}
	half := math.Inf(1)
	if len(values) > 1 {
		half = student[min(len(values)-1, len(student))-1] * math.Sqrt(squares/(n-1)/n)
	}
	f.Low, f.High = f.Value-half, f.Value+half
	return f
}

// Rate is events per unit with the exact Poisson interval of 95 % (Garwood 1936), the chi-squared quantiles after Wilson and
// Hilferty (1931) but for no event, where the upper bound is 3.689 events.
func Rate(events int, units float64) Figure {
	quantile := func(degrees, z float64) float64 {
		c := 2 / (9 * degrees)
		return degrees * math.Pow(1-c+z*math.Sqrt(c), 3)
	}
	f := Figure{Value: float64(events) / units, High: 3.689 / units, N: events, Lower: true}
	if events > 0 {
		f.Low = quantile(2*float64(events), -1.959964) / 2 / units
		f.High = quantile(2*float64(events)+2, 1.959964) / 2 / units
	}
	return f
}

// AUC is the share of pairs of a positive and a negative in which the positive scores higher, ties half.
func AUC(positives, negatives []float64) float64 {
	type scored struct {
		score    float64
		positive bool
	}
	var all []scored
	for _, v := range positives {
		all = append(all, scored{v, true})
	}
	for _, v := range negatives {
		all = append(all, scored{v, false})
	}
	slices.SortFunc(all, func(a, b scored) int { return cmp.Compare(a.score, b.score) })
	wins, below := 0., 0.
	for i := 0; i < len(all); {
		j, p, n := i, 0., 0.
		for ; j < len(all) && all[j].score == all[i].score; j++ {
			if all[j].positive {
				p++
			} else {
				n++
			}
		}
		wins += p * (below + n/2)
		below += n
		i = j
	}
	return wins / float64(len(positives)) / float64(len(negatives))
}

// Above is the least threshold that at most the given share of the negatives exceed; what exceeds it counts as found.
func Above(negatives []float64, share float64) float64 {
	sorted := slices.Clone(negatives)
	slices.Sort(sorted)
	return sorted[max(0, len(sorted)-1-int(share*float64(len(sorted))))]
}

// Exceeding counts the scores above a threshold.
func Exceeding(scores []float64, threshold float64) (n int) {
	for _, v := range scores {
		if v > threshold {
			n++
		}
	}
	return n
}

// Digits writes a figure with its interval: .946 (.940 to .951).
func (f Figure) Digits(n int) string {
	return fmt.Sprintf("%.*f (%.*f to %.*f)", n, f.Value, n, f.Low, n, f.High)
}
