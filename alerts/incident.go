package alerts

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// counts says whether a finding makes up the incident's severity and summary now.
func (f *Finding) counts(generation int) bool { return f.Generation == generation && f.Allowed == 0 }

// again takes in what the same detector says about the same subject once more.
func (f *Finding) again(n *Finding, generation int) {
	if stronger(n, f) >= 0 || f.Generation != generation {
		f.Score, f.Severity, f.Summary, f.Attack, f.Evidence, f.Learning = n.Score, n.Severity, n.Summary, n.Attack, n.Evidence, n.Learning
	}
	if f.Generation != generation {
		f.Verdict, f.VerdictAt = "", 0 // what people said about it was about an earlier time
	}
	f.Count++
	f.LastSeen = max(f.LastSeen, n.Time)
	f.Generation, f.Allowed = generation, 0
}

// stronger compares by severity, then score.
func stronger(a, b *Finding) int {
	return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Score, b.Score))
}

// recompute derives what the incident says from the findings that count. It returns the story of the strongest; "" when none counts,
// and then leaves everything as it was.
func (i *Incident) recompute() string {
	var strongest *Finding
	var joined, attack []string
	best := map[string]float64{} // by detector
	for k := range i.Findings {
		f := &i.Findings[k]
		if !f.counts(i.Generation) {
			continue
		}
		if strongest == nil || stronger(f, strongest) > 0 {
			strongest = f
		}
		if _, ok := best[f.Detector]; !ok {
			joined = append(joined, f.Detector)
		}
		best[f.Detector] = max(best[f.Detector], f.Score)
		attack = append(attack, f.Attack...)
	}
	if strongest == nil {
		return ""
	}
	slices.Sort(attack)
	i.Attack = append([]string{}, slices.Compact(attack)...)
	i.Severity = strongest.Severity
	i.Confidence = combined(joined, best)
	i.Summary = strongest.Summary
	joined = slices.DeleteFunc(joined, func(d string) bool { return d == strongest.Detector })
	if len(joined) > 0 {
		i.Summary += "; also " + strings.Join(joined, ", ")
	}
	return story(strongest)
}

// combined is the probability that at least one of the detectors is right if they err independently, to four digits; one detector
// keeps its score.
func combined(detectors []string, best map[string]float64) float64 {
	if len(detectors) == 1 {
		return best[detectors[0]]
	}
	wrong := 1.0
	for _, d := range detectors {
		wrong *= 1 - best[d]
	}
	return math.Round((1-wrong)*1e4) / 1e4
}

// drop makes room in the list: of the weakest findings the oldest goes, those that do not count first.
func (i *Incident) drop() {
	weight := func(f *Finding) int {
		if !f.counts(i.Generation) {
			return -1
		}
		return int(f.Severity)
	}
	victim := 0
	for k := range i.Findings {
		if weight(&i.Findings[k]) < weight(&i.Findings[victim]) {
			victim = k
		}
	}
	i.Findings = slices.Delete(i.Findings, victim, victim+1)
	i.Omitted++
}

// clone copies what the Manager may still change. Strings, evidence and attack lists are never changed in place.
func (i *Incident) clone() Incident {
	c := *i
	c.Findings = slices.Clone(i.Findings)
	return c
}

// Strongest is the finding that the summary speaks of; nil when none counts.
func (i *Incident) Strongest() *Finding {
	var best *Finding
	for k := range i.Findings {
		if f := &i.Findings[k]; f.counts(i.Generation) && (best == nil || stronger(f, best) > 0) {
			best = f
		}
	}
	return best
}

// Detectors lists the detectors of the findings that count, in the order in which they joined.
func (i *Incident) Detectors() []string {
	var out []string
	for k := range i.Findings {
		if f := &i.Findings[k]; f.counts(i.Generation) && !slices.Contains(out, f.Detector) {
			out = append(out, f.Detector)
		}
	}
	return out
}

const maxSeen = 100_000

// seen remembers the newest n finding ids.
type seen struct {
	set  map[string]struct{}
	ring []string
	next int
}

func newSeen(n int) *seen { return &seen{set: map[string]struct{}{}, ring: make([]string, 0, n)} }

// add is false for an id that is known.
func (s *seen) add(id string) bool {
	if _, ok := s.set[id]; ok {
		return false
	}
	if len(s.ring) < cap(s.ring) {
		s.ring = append(s.ring, id)
	} else {
		delete(s.set, s.ring[s.next]) // the oldest leaves
		s.ring[s.next] = id
		s.next = (s.next + 1) % len(s.ring)
	}
	s.set[id] = struct{}{}
	return true
}
