package baseline

import (
	"fmt"
	"math"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// level is how many powers of ten a number is above a threshold, from 1; 0 below it.
func level(n float64, threshold int) int64 {
	if n < float64(threshold)-.5 {
		return 0
	}
	return min(1+int64(math.Log10((n+.5)/float64(threshold))), maxScanLevel)
}

// hostsOf is from how many hosts on it is a scan.
func (d *scan) hostsOf(s *scanner) int {
	if !s.heard {
		return scanUnheard * d.c.Hosts
	}
	return d.c.Hosts
}

func (d *scan) judgeHosts(kept *remembered[scanner], f *enrich.Flow) {
	s := &kept.v
	v := s.sweep
	threshold := d.hostsOf(s)
	n := math.Round(union(&v.hosts[0], &v.hosts[1]))
	l := level(n, threshold)
	if l == 0 {
		return
	}
	if s.walk < walkDecide || n <= s.lately(f.Time) {
		d.silenced.Inc()
		return
	}
	if f.Time-s.sweepAt > int64(d.c.EpisodeHours)*hour {
		s.sweepLevel = 0
	}
	if s.sweepAt = f.Time; l <= s.sweepLevel {
		return
	}
	s.sweepLevel = l
	var shown []string
	for _, a := range v.shown {
		shown = append(shown, a.String())
	}
	what := fmt.Sprintf("port %d/%s of", v.port, protoName(v.proto))
	subject := fmt.Sprintf("many hosts:%d/%s", v.port, protoName(v.proto))
	if v.mixed {
		what, subject = "several ports of", "many hosts"
	}
	out := d.finding(kept, f, l)
	out.Subject = subject
	out.Attack = []string{"T1046", "T1018"}
	out.Summary = fmt.Sprintf("%q tried %s %.0f hosts within 5 minutes that did not answer%s", f.Container.Name, what, n, out.Summary)
	out.Evidence = map[string]any{
		"failed_hosts": n, "threshold_hosts": threshold, "window_seconds": 300, "examples": shown,
		"likelihood_ratio": round(math.Exp2(s.walk)), "threshold_ratio": 99, "episodes_before": s.episodes, "answers_seen": s.heard,
	}
	d.tell(kept, out)
}

func (d *scan) judgePorts(kept *remembered[scanner], t *target, f *enrich.Flow) {
	s := &kept.v
	n := math.Round(t.count())
	l := level(n, d.c.Ports)
	if l == 0 || !s.heard && n < float64(scanUnheard*d.c.Ports) {
		return
	}
	if f.Time-s.portsAt > int64(d.c.EpisodeHours)*hour {
		s.portsLevel = 0
	}
	if s.portsAt = f.Time; l <= s.portsLevel {
		return
	}
	s.portsLevel = l
	out := d.finding(kept, f, l)
	out.Subject = t.addr.String()
	out.Attack = []string{"T1046"}
	who := out.Subject
	if f.PeerIs != nil {
		who = fmt.Sprintf("%q (%s)", f.PeerIs.Name, who)
	}
	out.Summary = fmt.Sprintf("%q tried %.0f ports of %s within 5 minutes that did not answer%s", f.Container.Name, n, who, out.Summary)
	out.Evidence = map[string]any{
		"failed_ports": n, "threshold_ports": d.c.Ports, "window_seconds": 300, "peer_name": f.PeerName, "episodes_before": s.episodes,
	}
	d.tell(kept, out)
}

// finding is what both kinds have in common. Its summary is what is to be added to one.
func (d *scan) finding(kept *remembered[scanner], f *enrich.Flow, l int64) Finding {
	s := &kept.v
	out := Finding{
		Time: max(f.Time, d.env.now), Workload: kept.w.name, Instance: f.Container, Window: f.Time/scanWindow*scanWindow + l,
		Severity: Medium, Score: .75, Method: f.Method, Confidence: f.Confidence,
	}
	switch {
	case s.episodes >= scanHabit:
		out.Severity, out.Score, out.Summary = Info, .2, ", as it did before"
	case !s.heard:
		out.Severity, out.Score, out.Summary = Low, .4, "; no answer to it was ever seen, perhaps only one direction is"
	case l > 1:
		out.Severity, out.Score = High, .92
	}
	return out
}

// tell reports, and counts the days with a scan.
func (d *scan) tell(kept *remembered[scanner], f Finding) {
	s := &kept.v
	if f.Time-s.last > int64(d.c.EpisodeHours)*hour/2 {
		s.episodes++
		s.last = f.Time
	}
	d.touch(kept)
	d.env.report(f)
}
