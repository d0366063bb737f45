package alerts

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

// Filter selects incidents; zero fields select everything.
type Filter struct {
	States      []State
	Workload    string // exact, or with a final `*`
	Detector    string
	MinSeverity baseline.Severity
	Since       Time // last seen at or after, event time
	Limit       int
}

// List gives incidents, the most severe first, then the one seen last.
func (m *Manager) List(f Filter) []Incident {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []Incident{}
	for _, e := range m.incidents {
		if (len(f.States) == 0 || slices.Contains(f.States, e.State)) && glob(f.Workload, e.Workload) && e.Severity >= f.MinSeverity &&
			e.LastSeen >= f.Since && (f.Detector == "" || slices.Contains(e.Detectors(), f.Detector)) {
			out = append(out, e.clone())
		}
	}
	slices.SortStableFunc(out, func(a, b Incident) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.LastSeen, a.LastSeen), strings.Compare(a.ID, b.ID))
	})
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out
}

// Incidents gives all incidents in the order in which they opened.
func (m *Manager) Incidents() []Incident {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []Incident{}
	for _, e := range m.incidents {
		out = append(out, e.clone())
	}
	return out
}

// Get finds an incident by its id or an unambiguous prefix of it; errors are ErrNotFound and ErrAmbiguous.
func (m *Manager) Get(id string) (Incident, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, err := m.find(id)
	if err != nil {
		return Incident{}, err
	}
	return e.clone(), nil
}

func (m *Manager) find(id string) (*entry, error) {
	if e := m.byID[id]; e != nil {
		return e, nil
	}
	var found *entry
	for _, e := range m.incidents {
		if id == "" || !strings.HasPrefix(e.ID, id) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("incident %q: %w: it could be %s or %s", id, ErrAmbiguous, found.ID, e.ID)
		}
		found = e
	}
	if found == nil {
		return nil, fmt.Errorf("incident %q: %w", id, ErrNotFound)
	}
	return found, nil
}

// Ack says that a person has seen the incident. It stays acknowledged while more is found; reminders stop.
func (m *Manager) Ack(id, who, why string) (Incident, error) {
	return m.triage(id, func(c *Change, e *entry) error {
		if e.State != Open {
			return fmt.Errorf("incident %s is %s: only an open one can be acknowledged", e.ID, e.State)
		}
		e.State = Acknowledged
		m.record(c, who, e.ID, "acknowledged", why)
		m.tellAs(c, e, Acknowledge, "acknowledged by "+who, true)
		return nil
	})
}

// Close ends the incident with a verdict. The same story stays quiet for Config.ReopenWindow after benign and false-positive.
func (m *Manager) Close(id string, v Verdict, who, why string) (Incident, error) {
	if _, err := ParseVerdict(string(v)); err != nil {
		return Incident{}, err
	}
	return m.triage(id, func(c *Change, e *entry) error {
		if e.State == Closed {
			return fmt.Errorf("incident %s is closed as %s already", e.ID, e.Verdict)
		}
		m.close(c, e, v, who, why, true)
		c.Incidents = nil // triage keeps it
		return nil
	})
}

// Reopen undoes a close: the same findings, the next generation.
func (m *Manager) Reopen(id, who, why string) (Incident, error) {
	return m.triage(id, func(c *Change, e *entry) error {
		if e.State != Closed {
			return fmt.Errorf("incident %s is %s: only a closed one can be reopened", e.ID, e.State)
		}
		w := m.workload(e.Workload)
		if w.open != nil {
			return fmt.Errorf("incident %s of the same workload is open: new findings go there", w.open.ID)
		}
		last := e.Generation
		m.reopen(w, e)
		for i := range e.Findings {
			f := &e.Findings[i]
			if f.Generation != last {
				continue
			}
			f.Generation, f.Verdict, f.VerdictAt, f.Allowed = e.Generation, "", 0, 0
			if w.hush[story(f)] == e {
				delete(w.hush, story(f))
			}
		}
		e.LastSeen = max(e.LastSeen, Time(m.now)) // quiet is counted from now
		e.recompute()
		m.record(c, who, e.ID, fmt.Sprintf("reopened, generation %d", e.Generation), why)
		m.tell(c, e, Trigger, "reopened by "+who)
		return nil
	})
}

func (m *Manager) triage(id string, do func(*Change, *entry) error) (out Incident, err error) {
	err = m.change(func(c *Change) error {
		e, err := m.find(id)
		if err != nil {
			return err
		}
		if err := do(c, e); err != nil {
			return err
		}
		c.keep(e)
		out = e.clone()
		return nil
	})
	return out, err
}

// Audit lists what was done to an incident; "" is everything, the newest thousand.
func (m *Manager) Audit(incident string) ([]Audit, error) {
	if incident != "" {
		in, err := m.Get(incident)
		if err != nil {
			return nil, err
		}
		incident = in.ID
	}
	return m.journal.Audit(incident)
}

// Deliveries lists what was handed over for an incident, by its id or an unambiguous prefix.
func (m *Manager) Deliveries(id string) ([]DeliveryRow, error) {
	in, err := m.Get(id)
	if err != nil {
		return nil, err
	}
	return m.journal.Deliveries(in.ID)
}

// Labels are those of the instance that an incident names; nil for one that is not known here.
func (m *Manager) Labels(in *Incident) []enrich.Label {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byID[in.ID]; e != nil {
		return e.Labels
	}
	return nil
}
