package eval

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func TestStatistics(t *testing.T) {
	f := func(name string, got, want, within float64) {
		t.Helper()
		if !(math.Abs(got-want) <= within) {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	f("AUC", AUC([]float64{3, 2, 1}, []float64{2, 0}), 4.5/6, 1e-9)
	f("AUC of nothing scored", AUC([]float64{math.Inf(-1), 1}, []float64{math.Inf(-1), 0}), 2.5/4, 1e-9)
	share := Share(8, 10) // Wilson's interval of 8 of 10: .4902 to .9433
	f("low", share.Low, .4902, 1e-4)
	f("high", share.High, .9433, 1e-4)
	rate := Rate(3, 10) // Garwood's interval of 3 events: .6187 to 8.767
	f("rate low", rate.Low, .06187, 2e-3)
	f("rate high", rate.High, .8767, 5e-4)
	f("rate of none", Rate(0, 10).High, .3689, 1e-9)
	mean := Mean([]float64{1, 2, 3})
	f("mean low", mean.Low, 2-4.303/math.Sqrt(3), 1e-9)
	negatives := make([]float64, 1000)
	for i := range negatives {
		negatives[i] = float64(i)
	}
	f("above 1 %", float64(Exceeding(negatives, Above(negatives, .01))), 10, 0)
}

// The scores of other tools on the keys that their authors had in mind, and on those that they overlook.
func TestRivals(t *testing.T) {
	key := func(name string) *Key {
		for _, k := range Beacons(Window{24 * 3600, 1}, 3) {
			if k.Name == name && (k.Period == 300 || k.Period == 0) {
				return &k
			}
		}
		t.Fatal(name)
		return nil
	}
	clean, burst, chance := key("cs_j0"), key("cs_j0.25_opburst"), key("N_poisson")
	for _, r := range Rivals {
		if a, b := r.Score(clean, 86400), r.Score(chance, 86400); !(a > b) {
			t.Errorf("%s: %.3f for a clean beacon, %.3f for chance", r.Name, a, b)
		}
	}
	if a, b := RITA(clean, 86400), RITA(burst, 86400); a < .95 || b > .8 {
		t.Errorf("RITA: %.3f for a clean beacon, %.3f with an operator's bursts", a, b)
	}
}

func TestWorse(t *testing.T) {
	before := Results{map[string]Figure{
		"a": {Value: .9, Low: .88, High: .92},
		"b": {Value: .9, Exact: true},
		"c": {Value: .02, Lower: true, Exact: true},
		"d": {Value: 5, Free: true},
		"e": {Value: 1},
	}}
	now := Results{map[string]Figure{
		"a": {Value: .89, Low: .87, High: .91},
		"b": {Value: .89, Exact: true},
		"c": {Value: .03, Lower: true, Exact: true},
		"d": {Value: 1, Free: true},
	}}
	got := strings.Join(now.Worse(before), "; ")
	if want := "b is 0.89, was 0.9, noise 1e-09; c is 0.03, was 0.02, noise 1e-09; e is missing"; got != want {
		t.Errorf("worse: %s", got)
	}
	now.Figures["a"] = Figure{Value: .8, Low: .78, High: .82}
	if got := strings.Join(now.Worse(before), "; "); !strings.HasPrefix(got, "a is 0.8") {
		t.Errorf("worse: %s", got)
	}
}

func TestPlotsAreXML(t *testing.T) {
	for _, p := range []Plot{
		{Title: "a < b", Groups: []string{"x", "y&z"}, Series: []Series{{Name: "s", Y: []float64{.5, -1}}}},
		{Title: "lines", Series: []Series{{Name: "s", X: []float64{.001, .1, 1}, Y: []float64{0, .5, 1}}}},
	} {
		svg := p.SVG()
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, svg)
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("no number in %s", svg)
		}
	}
}
