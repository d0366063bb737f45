package alerts

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

var severitySign = map[baseline.Severity]string{
	baseline.Critical: "‼️", baseline.High: "🔴", baseline.Medium: "🟠", baseline.Low: "🟡", baseline.Info: "ℹ️",
}

// headline is the first line that people read. It is neither cleaned nor escaped.
func headline(m *Message) string {
	in := &m.Incident
	name := in.Container.Name
	if name == "" {
		name = in.Workload
	}
	head := fmt.Sprintf("%s %s: %s", severitySign[in.Severity], in.Severity, name)
	switch m.Transition {
	case Update:
		head += " (update)"
	case Resolve:
		head = fmt.Sprintf("✅ closed: %s", name)
	}
	if m.Repeat {
		head = "(repeat) " + head
	}
	return head
}

// about lists what is known of an incident beside its findings, as name and value; neither cleaned nor escaped.
func about(in *Incident) [][2]string {
	return slices.DeleteFunc([][2]string{
		{"Workload", in.Workload},
		{"Container", in.Container.Name},
		{"Image", in.Container.Image},
		{"Attribution", in.Attribution.String()},
		{"Confidence", fmt.Sprintf("%.0f %%", in.Confidence*100)},
		{"ATT&CK", strings.Join(in.Attack, ", ")},
		{"First seen", in.FirstSeen.Std().Format(time.DateTime + " UTC")},
		{"Last seen", in.LastSeen.Std().Format(time.DateTime + " UTC")},
	}, func(f [2]string) bool { return f[1] == "" })
}

// counting gives the findings that count, at most n, and how many more there are.
func counting(in *Incident, n int) (shown []*Finding, left int) {
	for i := range in.Findings {
		switch f := &in.Findings[i]; {
		case !f.counts(in.Generation):
		case len(shown) == n:
			left++
		default:
			shown = append(shown, f)
		}
	}
	return shown, left
}

// footer says where to look further.
func footer(in *Incident) string {
	return fmt.Sprintf("incident %s · wharfwatch incidents show %.8s", in.ID, in.ID)
}

// escaped cleans, escapes and cuts to n runes: the cut comes first, in a way that leaves room for what escaping adds, so that nothing
// escaped is cut in two.
func escaped(s string, n int, escape *strings.Replacer) string {
	s = clean(s)
	for room := n; ; room = room * 3 / 4 {
		if out := escape.Replace(cut(s, room)); len([]rune(out)) <= n {
			return out
		}
	}
}
