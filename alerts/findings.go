package alerts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Finding takes one finding. It returns when the finding is durable, or after Config.CommitWait, or at once while the journal is known
// to be in trouble: then the change waits in memory and Healthy says so. Between Hold and Release it returns at once.
func (m *Manager) Finding(f baseline.Finding) {
	m.mu.Lock()
	c := m.finding(&f)
	if m.holding && c != nil && m.queue != nil {
		m.hold(c)
		m.mu.Unlock()
		return
	}
	w, _ := m.commit(c)
	m.mu.Unlock()
	m.wait(w, m.cfg.CommitWait)
}

func (m *Manager) finding(raw *baseline.Finding) *Change {
	m.now = max(m.now, raw.Time)
	if !m.seen.add(raw.ID) {
		m.duplicate.Inc()
		return nil
	}
	f := newFinding(raw)
	c := &Change{At: Wall(m.wall())}
	if r := m.covering(raw.Workload, &f, c.At); r != nil {
		m.allowed.Inc()
		r.Hits, r.LastHit = r.Hits+1, c.At
		c.Findings = []Recorded{{Finding: f, Workload: raw.Workload, Rule: r.ID}}
		c.Rules = []AllowRule{*r}
		return c
	}
	w := m.workload(raw.Workload)
	if e := m.hushed(w, &f); e != nil {
		m.quiet.Inc()
		e.Quiet++
		c.Findings = []Recorded{{Finding: f, Workload: raw.Workload, Incident: e.ID}}
		c.keep(e)
		return c
	}
	m.told.Inc()
	e, opened := w.open, false
	switch {
	case e != nil:
	case w.last != nil && m.now-int64(w.last.ClosedAt) <= int64(m.cfg.ReopenWindow):
		e, opened = w.last, true
		m.reopen(w, e)
		m.record(c, wharfwatch, e.ID, fmt.Sprintf("reopened, generation %d", e.Generation), "new finding of "+f.Detector)
	default:
		e, opened = m.open(raw.Workload, &f), true
		m.record(c, wharfwatch, e.ID, "opened", "finding of "+f.Detector)
	}
	before := e.Severity
	joined := m.attach(e, &f, raw)
	c.Findings = []Recorded{{Finding: f, Workload: raw.Workload, Incident: e.ID}}
	switch {
	case opened:
		m.tell(c, e, Trigger, "finding of "+f.Detector)
	case e.Severity > before:
		m.tell(c, e, Update, fmt.Sprintf("severity rose from %s to %s", before, e.Severity))
	case joined:
		m.tell(c, e, Update, "new finding of "+f.Detector)
	default:
		m.repeated.Inc()
		m.refresh(c, e)
	}
	c.keep(e)
	return c
}

// covering finds the allow rule that expects a finding.
func (m *Manager) covering(workload string, f *Finding, now Time) *AllowRule {
	for i := range m.rules {
		if r := &m.rules[i]; !r.expired(now) && r.covers(workload, f) {
			return r
		}
	}
	return nil
}

// hushed finds the incident in which people judged the same story, not long ago and at no lower severity.
func (m *Manager) hushed(w *workload, f *Finding) *entry {
	e := w.hush[story(f)]
	if e == nil {
		return nil
	}
	i := slices.IndexFunc(e.Findings, func(g Finding) bool { return story(&g) == story(f) })
	if i < 0 || e.Findings[i].Verdict == "" || m.now-int64(e.Findings[i].VerdictAt) > int64(m.cfg.ReopenWindow) {
		delete(w.hush, story(f))
		return nil
	}
	if f.Severity > e.Findings[i].Severity {
		return nil
	}
	return e
}

func (m *Manager) open(key string, f *Finding) *entry {
	sum := sha256.Sum256([]byte(key + "\x00" + f.ID))
	e := &entry{Incident: Incident{
		ID: hex.EncodeToString(sum[:8]), State: Open, Workload: key, FirstSeen: f.Time, LastSeen: f.Time, Generation: 1,
	}}
	m.evict()
	m.incidents = append(m.incidents, e)
	m.byID[e.ID] = e
	m.workload(key).open = e
	return e
}

// reopen begins the next generation. What was found before stays listed, and counts no more.
func (m *Manager) reopen(w *workload, e *entry) {
	e.State, e.Verdict, e.ClosedAt = Open, "", 0
	e.Generation++
	e.Severity = baseline.Info
	e.Told = nil
	w.open = e
	if w.last == e {
		w.last = nil
	}
}

// attach adds a finding to an incident and says whether its detector is new to this generation.
func (m *Manager) attach(e *entry, f *Finding, raw *baseline.Finding) (joined bool) {
	joined = !slices.ContainsFunc(e.Findings, func(g Finding) bool { return g.Detector == f.Detector && g.counts(e.Generation) })
	e.Count++
	e.FirstSeen, e.LastSeen = min(e.FirstSeen, f.Time), max(e.LastSeen, f.Time)
	if i := slices.IndexFunc(e.Findings, func(g Finding) bool { return story(&g) == story(f) }); i >= 0 {
		e.Findings[i].again(f, e.Generation)
	} else {
		f.Generation, f.Count, f.LastSeen = e.Generation, 1, f.Time
		if len(e.Findings) >= m.cfg.MaxFindings {
			e.drop()
		}
		e.Findings = append(e.Findings, *f)
	}
	if raw.Instance != nil {
		e.Container, e.Labels = container(raw.Instance), raw.Instance.Labels
	}
	if e.recompute() == story(f) || len(e.Findings) == 1 {
		e.Attribution = Attribution{Method: raw.Method, Confidence: raw.Confidence}
	}
	return joined
}
