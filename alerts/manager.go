package alerts

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Manager turns findings into incidents. All methods are safe for concurrent use: the engine calls Finding and Tick, the console the rest.
type Manager struct {
	cfg     Config
	journal Journal
	queue   *queue // nil for a Memory journal: it commits at once
	log     *slog.Logger
	wall    func() time.Time
	targets []target

	mu        sync.Mutex // protects all below
	now       int64      // event time
	looked    int64      // minute of event time in which open incidents were looked at
	incidents []*entry   // as opened
	byID      map[string]*entry
	workloads map[string]*workload
	seen      *seen
	rules     []AllowRule
	silences  []Silence
	auditSeq  int
	owed      map[string]*Change // what found no room in the queue, by incident
	holding   bool               // between Hold and Release
	held      []*Change          // by then
	onChange  func(*Incident)    // nil: nobody watches

	told, repeated, duplicate, allowed, quiet, evicted, overflow, unrouted *metrics.Counter
}

// entry is one incident in memory.
type entry struct {
	Incident
	Private
}

// workload is what is known about one key.
type workload struct {
	open *entry            // open or acknowledged
	last *entry            // closed last
	hush map[string]*entry // detector and subject that people judged benign or false-positive: where
}

const wharfwatch = "wharfwatch" // who, in the audit, for what nobody asked for

// NewManager loads what the journal kept and goes on from there.
func NewManager(c Config, journal Journal, set *metrics.Set, log *slog.Logger) (*Manager, error) {
	m := &Manager{
		cfg: c, journal: journal, log: log, wall: time.Now, targets: c.targets(),
		byID: map[string]*entry{}, workloads: map[string]*workload{}, seen: newSeen(maxSeen), owed: map[string]*Change{},

		told:      set.GetOrCreateCounter(`wharfwatch_alerts_findings_total{result="told"}`),
		repeated:  set.GetOrCreateCounter(`wharfwatch_alerts_findings_total{result="repeated"}`),
		duplicate: set.GetOrCreateCounter(`wharfwatch_alerts_findings_total{result="duplicate"}`),
		allowed:   set.GetOrCreateCounter(`wharfwatch_alerts_findings_total{result="allowed"}`),
		quiet:     set.GetOrCreateCounter(`wharfwatch_alerts_findings_total{result="quiet"}`),
		evicted:   set.GetOrCreateCounter("wharfwatch_alerts_incidents_evicted_total"),
		overflow:  set.GetOrCreateCounter("wharfwatch_alerts_journal_overflow_total"),
		unrouted:  set.GetOrCreateCounter("wharfwatch_alerts_incidents_unrouted_total"),
	}
	saved, err := journal.Load(c.MaxIncidents)
	if err != nil {
		return nil, fmt.Errorf("load incidents: %w", err)
	}
	m.load(saved)
	for _, s := range []State{Open, Acknowledged, Closed} {
		set.GetOrCreateGauge(fmt.Sprintf("wharfwatch_alerts_incidents{state=%q}", s), func() float64 { return float64(m.count(s)) })
	}
	if _, ok := journal.(*Memory); !ok {
		m.queue = newQueue(journal, c.MaxQueue, log)
		set.GetOrCreateGauge("wharfwatch_alerts_journal_queue", func() float64 { return float64(m.queue.len()) })
	}
	return m, nil
}

// SetClock replaces the wall clock that audit, outbox and silences use. Call it before anything else.
func (m *Manager) SetClock(now func() time.Time) { m.wall = now }

// Stop keeps what waits and ends. Nothing may be called after it but reading methods.
func (m *Manager) Stop(ctx context.Context) error {
	if m.queue == nil {
		return nil
	}
	m.mu.Lock()
	m.flush()
	m.queue.last()
	m.payOwed(true)
	m.mu.Unlock()
	return m.queue.stop(ctx)
}

// Healthy is nil while changes become durable; otherwise it says what waits, and why.
func (m *Manager) Healthy() error {
	if m.queue == nil {
		return nil
	}
	return m.queue.healthy()
}

func (m *Manager) load(s *Saved) {
	for i := range s.Incidents {
		k := &s.Incidents[i]
		e := &entry{Incident: k.Incident, Private: k.Private}
		m.incidents = append(m.incidents, e)
		m.byID[e.ID] = e
		w := m.workload(e.Workload)
		if e.State == Closed {
			if w.last == nil || w.last.ClosedAt <= e.ClosedAt {
				w.last = e
			}
		} else {
			w.open = e
		}
		m.now = max(m.now, int64(e.LastSeen), int64(e.ClosedAt))
		m.hush(w, e)
	}
	for _, id := range s.Seen {
		m.seen.add(id)
	}
	m.rules, m.silences, m.auditSeq = s.Rules, s.Silences, s.AuditSeq
}

func (m *Manager) workload(key string) *workload {
	w := m.workloads[key]
	if w == nil {
		w = &workload{hush: map[string]*entry{}}
		m.workloads[key] = w
	}
	return w
}

// hush remembers which findings of an incident people judged to be no trouble.
func (m *Manager) hush(w *workload, e *entry) {
	for i := range e.Findings {
		if f := &e.Findings[i]; f.Verdict == Benign || f.Verdict == FalsePositive {
			w.hush[story(f)] = e
		}
	}
}

// story is what a finding is about, within a workload.
func story(f *Finding) string { return f.Detector + "\x00" + f.Subject }

// Tick moves event time; it closes what went quiet and reminds of what is open.
func (m *Manager) Tick(now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = max(m.now, now)
	m.payOwed(false)
	if m.now/int64(time.Minute) == m.looked {
		return // what is open is looked at once a minute of event time
	}
	m.looked = m.now / int64(time.Minute)
	wall := Time(0)
	for _, w := range m.openEntries() {
		if after := m.resolveAfter(w); after > 0 && m.now-int64(w.LastSeen) >= int64(after) {
			c := &Change{At: Wall(m.wall())}
			m.close(c, w, Resolved, wharfwatch, "quiet for "+duration(after), false)
			m.commit(c)
			continue
		}
		if len(w.Told) == 0 || w.State != Open || m.cfg.RepeatInterval == 0 {
			continue
		}
		if wall == 0 {
			wall = Wall(m.wall())
		}
		if wall-w.NotifiedAt >= Time(m.cfg.RepeatInterval) {
			c := &Change{At: wall}
			m.tell(c, w, Update, "still open")
			c.keep(w)
			m.commit(c)
		}
	}
}

func (m *Manager) openEntries() []*entry {
	var out []*entry
	for _, e := range m.incidents {
		if e.State != Closed {
			out = append(out, e)
		}
	}
	return out
}

// resolveAfter is how long an incident must be quiet; 0 never.
func (m *Manager) resolveAfter(e *entry) time.Duration {
	for i := range e.Findings {
		if f := &e.Findings[i]; f.counts(e.Generation) && slices.Contains(settings, f.Detector) {
			return m.cfg.PostureResolveAfter
		}
	}
	return m.cfg.ResolveAfter
}

// close ends a generation. A person's verdict stays with the findings it was given about.
func (m *Manager) close(c *Change, e *entry, v Verdict, who, why string, human bool) {
	e.State, e.Verdict, e.ClosedAt = Closed, v, Time(m.now)
	w := m.workload(e.Workload)
	w.open, w.last = nil, e
	if human {
		for i := range e.Findings {
			if f := &e.Findings[i]; f.counts(e.Generation) {
				f.Verdict, f.VerdictAt = v, e.ClosedAt
			}
		}
		m.hush(w, e)
	}
	m.record(c, who, e.ID, "closed as "+string(v), why)
	reason := "closed as " + string(v)
	if who != wharfwatch {
		reason += " by " + who
	} else {
		reason += ": " + why
	}
	m.tellAs(c, e, Resolve, reason, who != wharfwatch || v != Resolved)
	c.keep(e)
}

// evict makes room for one more incident: the oldest closed one leaves memory, else the one that was quiet longest.
func (m *Manager) evict() {
	if len(m.incidents) < m.cfg.MaxIncidents {
		return
	}
	i := slices.IndexFunc(m.incidents, func(e *entry) bool { return e.State == Closed })
	if i < 0 {
		oldest := slices.MinFunc(m.incidents, func(a, b *entry) int { return cmp.Compare(a.LastSeen, b.LastSeen) })
		c := &Change{At: Wall(m.wall())}
		m.close(c, oldest, Resolved, wharfwatch, "more incidents are open than max_incidents", false)
		m.commit(c)
		i = slices.Index(m.incidents, oldest)
	}
	e := m.incidents[i]
	m.evicted.Inc()
	m.incidents = slices.Delete(m.incidents, i, i+1)
	delete(m.byID, e.ID)
	w := m.workload(e.Workload)
	if w.last == e {
		w.last = nil
	}
	for k, v := range w.hush {
		if v == e {
			delete(w.hush, k)
		}
	}
	if w.open == nil && w.last == nil && len(w.hush) == 0 {
		delete(m.workloads, e.Workload)
	}
}

func (m *Manager) record(c *Change, who, incident, what, why string) {
	m.auditSeq++
	c.Audit = append(c.Audit, Audit{Seq: m.auditSeq, At: c.At, Who: who, Incident: incident, What: what, Why: why})
}

func (m *Manager) count(s State) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.incidents {
		if e.State == s {
			n++
		}
	}
	return n
}

// keep adds the incident as it is now.
func (c *Change) keep(e *entry) {
	c.Incidents = append(c.Incidents, e.kept())
}

// kept copies both halves.
func (e *entry) kept() Kept {
	p := e.Private
	p.Told = slices.Clone(p.Told)
	return Kept{Incident: e.clone(), Private: p}
}

// duration says 24h instead of 24h0m0s.
func duration(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return cmp.Or(s, "0s")
}
