package eval

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Results is the content of results.json: every published figure by part and name.
type Results struct {
	Figures map[string]Figure `json:"figures"`
}

// Collect takes the figures out of the parts.
func Collect(parts []Part) Results {
	r := Results{Figures: map[string]Figure{}}
	for _, p := range parts {
		maps.Copy(r.Figures, p.Figures)
	}
	return r
}

// JSON is the file, with keys in order.
func (r Results) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", " ")
	return append(text, '\n'), err
}

// Worse lists the figures that are worse than before beyond noise, and those that are missing. For a figure of fixed input any loss
// counts; for one of drawn input a loss of more than the half widths of both 95 % intervals together, added as variances.
func (r Results) Worse(before Results) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(before.Figures)) {
		was := before.Figures[name]
		is, ok := r.Figures[name]
		if !ok {
			out = append(out, name+" is missing")
			continue
		}
		noise := 1e-9
		if !was.Exact {
			noise += math.Hypot(was.High-was.Low, is.High-is.Low) / 2
		}
		loss := was.Value - is.Value
		if was.Lower {
			loss = -loss
		}
		if loss > noise && !was.Free {
			out = append(out, fmt.Sprintf("%s is %.4g, was %.4g, noise %.2g", name, is.Value, was.Value, noise))
		}
	}
	return out
}

// Page is docs/evaluation.md.
func Page(parts []Part) string {
	var b strings.Builder
	b.WriteString("# What the detectors find, and what they invent\n\n" +
		"Every figure on this page comes from `make eval`, which anyone can run; nothing is copied by hand. The same figures stand in\n" +
		"[evaluation/results.json](evaluation/results.json), and a later run that is worse beyond noise fails. Drawn benchmarks use seeds 1 to 10\n" +
		"while something is being developed; what is printed here comes from seeds 1001 to 1010, on which nothing was tuned. Intervals are of 95 %.\n\n")
	floors(&b, parts)
	for _, p := range parts {
		fmt.Fprintf(&b, "## %s\n\n", p.Title)
		for _, text := range p.Text {
			b.WriteString(text + "\n\n")
		}
		for _, t := range p.Tables {
			t.write(&b)
		}
		for _, plot := range p.Plots {
			fmt.Fprintf(&b, "![%s](evaluation/%s.svg)\n\n", plot.Title, plot.File)
		}
		if len(p.Bounds) > 0 {
			b.WriteString("What bounds these figures:\n\n")
			for _, bound := range p.Bounds {
				b.WriteString("- " + bound + "\n")
			}
			b.WriteString("\n")
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// floors is the table of what was promised.
func floors(b *strings.Builder, parts []Part) {
	t := Table{Title: "Floors and goals", Columns: []string{"figure", "measured", "floor", "goal", ""}}
	for _, p := range parts {
		for _, name := range slices.Sorted(maps.Keys(p.Figures)) {
			f := p.Figures[name]
			if f.Floor == 0 && f.Goal == 0 || f.Minor && f.Held() {
				continue
			}
			verdict := "held"
			if !f.Held() {
				verdict = "**missed**"
			}
			g := Figure{Value: f.Value, Lower: f.Lower, Floor: f.Goal}
			if f.Goal != 0 && f.Held() && g.Held() {
				verdict = "goal reached"
			}
			t.Rows = append(t.Rows, []string{"`" + name + "`", fmt.Sprintf("%.4g", f.Value), bound(f.Floor), bound(f.Goal), verdict})
		}
	}
	t.write(b)
}

func bound(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.4g", v)
}

func (t *Table) write(b *strings.Builder) {
	if len(t.Rows) == 0 {
		return
	}
	if t.Title != "" {
		fmt.Fprintf(b, "**%s**\n\n", t.Title)
	}
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(t.Columns, " | "), strings.Repeat("---|", len(t.Columns)))
	for _, r := range t.Rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(r, " | "))
	}
	b.WriteString("\n")
}
