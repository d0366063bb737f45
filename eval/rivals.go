package eval

import (
	"math"
	"slices"
)

// Rival is the score of another tool for one key watched for a window, from its published formula; higher is more suspicious.
// math.Inf(-1) where the tool would not score the key at all.
type Rival struct {
	Name  string
	Score func(k *Key, window float64) float64
}

// Rivals are the scores that stand beside ours.
var Rivals = []Rival{
	{"RITA v5", RITA},
	{"RITA v5, timing part", ritaTiming},
	{"Elastic beaconing", Elastic},
	{"same delta share", SameDelta},
	{"coefficient of variation", Variation},
}

// Variation is minus the coefficient of variation of the intervals.
func Variation(k *Key, _ float64) float64 {
	n, sum, squares := float64(len(k.Starts)-1), 0., 0.
	for i := range k.Starts[1:] {
		sum += k.Starts[i+1] - k.Starts[i]
	}
	mean := sum / n
	for i := range k.Starts[1:] {
		d := k.Starts[i+1] - k.Starts[i] - mean
		squares += d * d
	}
	return -math.Sqrt(squares/n) / mean
}

// SameDelta is the share of the commonest interval in whole seconds, of those above 10 s; it asks for more than 15 of them. Published as
// a rule of Microsoft Sentinel ("potential beaconing activity") with a threshold of .8.
func SameDelta(k *Key, _ float64) float64 {
	count, n, most := map[int]int{}, 0, 0
	for i := range k.Starts[1:] {
		if d := int(k.Starts[i+1]) - int(k.Starts[i]); d > 10 {
			n++
			count[d]++
			most = max(most, count[d])
		}
	}
	if n <= 15 {
		return math.Inf(-1)
	}
	return float64(most) / float64(n)
}

// RITA is the beacon score of RITA v5 with its default weights: a quarter each for timing, sizes, histogram and duration, over the last 24
// hours in 24 bins (https://github.com/activecm/rita/blob/main/analysis/beacons.go). Written from the published description.
func RITA(k *Key, window float64) float64 {
	timing := ritaTiming(k, window)
	if math.IsInf(timing, -1) {
		return timing
	}
	histogram, duration := ritaHistogram(k, window)
	return thousandths((timing + ritaSpread(slices.Clone(k.Sizes), 0) + histogram + duration) / 4)
}

func ritaTiming(k *Key, _ float64) float64 {
	var deltas []float64
	for i := range k.Starts[1:] {
		if d := math.Floor(k.Starts[i+1]) - math.Floor(k.Starts[i]); d > 0 {
			deltas = append(deltas, d)
		}
	}
	if len(deltas) < 3 {
		return math.Inf(-1)
	}
	return ritaSpread(deltas, 1)
}

// ritaSpread is the mean of a skewness and a dispersion score of values, which it sorts.
func ritaSpread(values []float64, small float64) float64 {
	slices.Sort(values)
	n := len(values)
	q1, q2, q3 := middle(values[:n/2]), middle(values), middle(values[(n+1)/2:])
	skew := 1.
	if q3-q1 >= 10 && q2 != q1 && q2 != q3 {
		skew = 1 - math.Abs((q1+q3-2*q2)/(q3-q1))
	}
	off := make([]float64, n)
	for i, v := range values {
		off[i] = math.Abs(v - q2)
	}
	slices.Sort(off)
	mad := small
	if q2 >= 1 {
		mad = max(0, (q2-middle(off))/q2)
	}
	return thousandths((skew + mad) / 2)
}

func ritaHistogram(k *Key, window float64) (histogram, duration float64) {
	const bins, enough, fewest, ideal = 24, 11, 6, 12
	var counts [bins]float64
	for _, t := range k.Starts {
		counts[min(bins-1, int(t/window*bins))]++
	}
	sum, squares, largest, used := 0., 0., 0., 0
	for _, c := range counts {
		sum += c
		largest = max(largest, c)
		if c > 0 {
			used++
		}
	}
	for _, c := range counts {
		squares += (c - sum/bins) * (c - sum/bins)
	}
	if cv := math.Sqrt(squares/bins) / (sum / bins); cv <= 1 {
		histogram = 1 - cv
	}
	if used >= enough {
		groups, width := map[float64]int{}, math.Ceil(.05*largest)
		for _, c := range counts {
			if c > 0 {
				groups[math.Floor(c/width)*width]++
			}
		}
		first, second := 0, 0
		for _, n := range groups {
			if n > first {
				first, second = n, first
			} else {
				second = max(second, n)
			}
		}
		histogram = max(histogram, min(1, float64(first+second)/float64(used-1)))
	}
	if used >= fewest {
		longest, run := 0, 0
		for i := range 2 * bins {
			if counts[i%bins] == 0 {
				run = 0
				continue
			}
			run++
			longest = max(longest, min(run, bins))
		}
		cover := (k.Starts[len(k.Starts)-1] - k.Starts[0]) / window
		duration = min(1, math.Ceil(1000*max(cover, float64(longest)/ideal))/1000)
	}
	return histogram, duration
}

// Elastic ranks by the beaconing score of Elastic's network beaconing package 1.2 (https://github.com/elastic/integrations, packages/beaconing):
// 60 s buckets of the last six hours; one point for an even count or a period of 2 to 60 minutes, one for even bytes; the
// autocovariance breaks ties. Bytes received are not in the benchmark, so that the score ends at 2.
func Elastic(k *Key, window float64) float64 {
	const width, most = 60., 360
	n := min(most, int(window/width))
	counts, bytes := make([]float64, n), make([]float64, n)
	for i, t := range k.Starts {
		if b := n - 1 - int((window-t)/width); b >= 0 && b < n {
			counts[b]++
			bytes[b] += k.Sizes[i]
		}
	}
	from, to := 0, n
	for from < to && counts[from] == 0 {
		from++
	}
	for to > from && counts[to-1] == 0 {
		to--
	}
	counts, bytes = counts[from:to], bytes[from:to]
	var used, sizes []float64
	for i, c := range counts {
		if c > 0 {
			used, sizes = append(used, c), append(sizes, bytes[i]/c)
		}
	}
	if len(counts) < 12 || len(used) < 7 {
		return math.Inf(-1)
	}
	best := autocovariance(counts)
	score := 0.
	if 2*len(used) > len(counts) && evenness(used) <= .1 || best >= .7 {
		score++
	}
	if evenness(sizes) <= .05 {
		score++
	}
	return score + best/10
}

// evenness is the relative standard deviation of the values between their 10 % and 80 % quantiles. It sorts them.
func evenness(values []float64) float64 {
	slices.Sort(values)
	kept := values[len(values)/10 : max(len(values)/10+1, len(values)*8/10)]
	sum, squares := 0., 0.
	for _, v := range kept {
		sum += v
	}
	mean := sum / float64(len(kept))
	for _, v := range kept {
		squares += (v - mean) * (v - mean)
	}
	return math.Sqrt(squares/float64(len(kept))) / mean
}

// autocovariance is the largest normalised autocovariance between neighbouring blocks of one length, from 2 to a sixth of the whole.
func autocovariance(counts []float64) (best float64) {
	mean := 0.
	for _, c := range counts {
		mean += c / float64(len(counts))
	}
	for p := 2; p <= len(counts)/6; p++ {
		sum, blocks := 0., 0.
		for at := 0; at+2*p <= len(counts); at += p {
			ab, aa, bb := 0., 0., 0.
			for i := range p {
				a, b := counts[at+i]-mean, counts[at+p+i]-mean
				ab, aa, bb = ab+a*b, aa+a*a, bb+b*b
			}
			blocks++
			if aa == 0 || bb == 0 {
				sum++
			} else {
				sum += ab / math.Sqrt(aa*bb)
			}
		}
		best = max(best, sum/blocks)
	}
	return best
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func thousandths(v float64) float64 { return math.Round(v*1000) / 1000 }
