package baseline

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const shownIntervals = 20

// destination is the series' place as people say it: 203.0.113.9:443/tcp, or the name in the address's stead.
func (s *series) destination() string {
	host := s.name
	switch {
	case host == "" && !s.key.addr.Is4():
		host = "[" + s.key.addr.String() + "]"
	case host == "":
		host = s.key.addr.String()
	case !plainName(host):
		host = strconv.Quote(host)
	}
	return host + ":" + strconv.Itoa(int(s.key.port)) + "/" + protoName(s.key.proto)
}

// plainName reports whether a name needs no quotes: a host name's own characters.
func plainName(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == "" && name != ""
}

func (b *beacon) finding(s *series, r *rhythm, v *verdict, now int64) Finding {
	f := Finding{
		Time: now, Workload: s.set.w.name, Instance: s.instance, Subject: s.past().subject,
		Window: b.window(s, v, now),
		Score:  math.Round(v.score*1000) / 1000, Severity: v.severity,
		Method: s.method, Confidence: s.sure,
		Attack:   []string{"T1071.001"},
		Evidence: b.evidence(s, r, v),
	}
	if tlsPort(s.key.port) {
		f.Attack = append(f.Attack, "T1573")
	}
	if v.oddPort {
		f.Attack = append(f.Attack, "T1571")
	}
	f.Summary = b.summary(s, r, v)
	return f
}

// window tells this finding from the others about the same series: the second in which the series began (two taps of one wire differ by
// microseconds and should say the same), and in its nanoseconds which segment, how sure and which repetition, so that a stronger or later
// word is not taken for the first one again. It does not depend on when within a repetition it was noticed.
func (b *beacon) window(s *series, v *verdict, now int64) int64 {
	repetition := (now - s.first) / (int64(b.c.RepeatHours) * hour)
	return s.first - s.first%1e9 + int64(s.past().segment%4096)<<16 + min(max(repetition, 0), 8191)<<3 + int64(v.severity)
}

func (b *beacon) summary(s *series, r *rhythm, v *verdict) string {
	who := s.set.w.name
	if s.instance != nil && s.instance.Name != "" {
		who = s.instance.Name
	}
	var out strings.Builder
	span := time.Duration(r.last - r.first)
	fmt.Fprintf(&out, "%q calls %s", who, s.destination())
	if name := s.peerName(); name != "" {
		fmt.Fprintf(&out, " (%q)", name)
	}
	fmt.Fprintf(&out, " every %s ± %s, %d times in %s", seconds(r.Period), seconds(r.RelSD*r.Period), r.Beats, spoken(span))
	switch p := s.past(); {
	case p.segment == 0:
	case math.Abs(p.previous-p.period) > sameWithin*p.previous:
		fmt.Fprintf(&out, ", before every %s", seconds(p.previous))
	default:
		fmt.Fprintf(&out, ", with %.0f bytes instead of %.0f", dequantise(p.size), dequantise(p.previousSize))
	}
	switch {
	case s.class == stranger || s.class == neighbour:
	case v.active < 2:
	case v.alone:
		out.WriteString("; no other workload does")
	default:
		fmt.Fprintf(&out, "; %d of %d workloads do", v.callers, v.active)
	}
	return out.String()
}

// seconds writes a duration with about two digits.
func seconds(s float64) string {
	switch {
	case s < .995:
		return strconv.FormatFloat(s, 'g', 2, 64) + " s"
	case s < 9.95:
		return strconv.FormatFloat(math.Round(s*10)/10, 'f', -1, 64) + " s"
	case s < 600:
		return strconv.FormatFloat(math.Round(s), 'f', -1, 64) + " s"
	case s < 36000:
		return strconv.FormatFloat(math.Round(s/6)/10, 'f', -1, 64) + " min"
	}
	return strconv.FormatFloat(math.Round(s/360)/10, 'f', -1, 64) + " h"
}

// spoken writes a span of time in its largest fitting unit.
func spoken(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()+.5))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()+.5))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()+.5))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24+.5))
}

// evidence is the numbers behind the sentence, rounded to what they are worth.
func (b *beacon) evidence(s *series, r *rhythm, v *verdict) map[string]any {
	span := float64(r.last-r.first) / 1e9
	recent := r.intervals[max(0, len(r.intervals)-shownIntervals):]
	intervals := make([]float64, len(recent))
	for i, d := range recent {
		intervals[i] = rounded(d, 3)
	}
	e := map[string]any{
		"container_address":       s.local().String(),
		"period_seconds":          rounded(r.Period, 3),
		"jitter_percent":          rounded(100*r.RelSD, 1),
		"missed_percent":          rounded(100*r.Miss, 1),
		"beats":                   r.Beats,
		"span_seconds":            rounded(span, 3),
		"llr":                     rounded(r.LLR, 1),
		"threshold_llr":           rounded(b.threshold(s, r.last-r.first), 1),
		"gap_seconds":             r.Gap,
		"destinations_prevalence": []int{v.callers, v.active},
		"new_destination":         v.fresh,
		"first_beat":              time.Unix(0, r.first).UTC().Format(time.RFC3339Nano),
		"last_beat":               time.Unix(0, r.last).UTC().Format(time.RFC3339Nano),
		"intervals":               intervals,
		"no_reply":                s.closed > 0 && 2*s.unheard > s.closed,
		"peer_name":               s.name,
	}
	p := s.past()
	if p.asked != "" {
		e["asked_name"] = p.asked
	}
	if v.sizes > 0 {
		e["bytes_median"] = math.Round(dequantise(v.size))
	}
	if p.segment > 0 {
		e["previous_period_seconds"] = rounded(p.previous, 3)
		e["previous_bytes_median"] = math.Round(dequantise(p.previousSize))
	}
	return e
}

func rounded(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}
