package alerts

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean takes out what must not reach a person's screen from a name somebody else chose: control characters, the marks that turn the
// direction of text around, and invalid UTF-8. Line ends become spaces.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case r == utf8.RuneError:
			return '?'
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point):
			return -1
		}
		return r
	}, s)
}

// cut keeps at most n runes; what is longer ends in "… (N more)", N runes not shown.
func cut(s string, n int) string {
	have := utf8.RuneCountInString(s)
	if have <= n {
		return s
	}
	runes := []rune(s)
	keep := n
	for {
		tail := fmt.Sprintf("… (%d more)", have-keep)
		if room := n - utf8.RuneCountInString(tail); room < keep {
			if room < 1 {
				return string(runes[:n])
			}
			keep = room
			continue
		}
		return string(runes[:keep]) + tail
	}
}

var bars = []rune("▁▂▃▄▅▆▇█")

// sparkline draws values as a row of bars from the least to the greatest.
func sparkline(values []float64) string {
	if len(values) == 0 {
		return ""
	}
	lo, hi := slices.Min(values), slices.Max(values)
	var b strings.Builder
	for _, v := range values {
		i := 0
		if hi > lo {
			i = int((v - lo) / (hi - lo) * float64(len(bars)-1))
		}
		b.WriteRune(bars[i])
	}
	return b.String()
}

// intervals finds the beats of a beacon in its evidence, the newest at most n.
func intervals(f *Finding, n int) []float64 {
	var e struct {
		Intervals []float64 `json:"intervals"` // seconds
	}
	if json.Unmarshal(f.Evidence, &e) != nil {
		return nil
	}
	v := slices.DeleteFunc(e.Intervals, func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
	return v[max(0, len(v)-n):]
}

// facts lists the plain numbers, words and flags of the evidence as "key value", sorted by key, at most n.
func facts(f *Finding, n int) []string {
	var e map[string]any
	if json.Unmarshal(f.Evidence, &e) != nil {
		return nil
	}
	var out []string
	for k, v := range e {
		switch v := v.(type) {
		case float64:
			out = append(out, fmt.Sprintf("%s %.6g", clean(k), v))
		case string:
			if v == "" {
				continue
			}
			out = append(out, clean(k)+" "+cut(clean(v), 100))
		case bool:
			out = append(out, fmt.Sprintf("%s %t", clean(k), v))
		}
	}
	slices.Sort(out)
	if len(out) > n {
		out = append(out[:n], fmt.Sprintf("… (%d more)", len(out)-n))
	}
	return out
}

// histogram sorts values into at most n bins of equal width; label is the middle of each bin. Labels are unique.
func histogram(values []float64, n int) (labels []string, counts []int) {
	if len(values) == 0 {
		return nil, nil
	}
	lo, hi := slices.Min(values), slices.Max(values)
	if hi == lo {
		return []string{fmt.Sprintf("%.4g", lo)}, []int{len(values)}
	}
	counts = make([]int, n)
	width := (hi - lo) / float64(n)
	for _, v := range values {
		counts[min(n-1, int((v-lo)/width))]++
	}
	for i := range counts {
		label := fmt.Sprintf("%.4g", lo+(float64(i)+.5)*width)
		if slices.Contains(labels, label) {
			label = fmt.Sprintf("%s #%d", label, i+1)
		}
		labels = append(labels, label)
	}
	return labels, counts
}
