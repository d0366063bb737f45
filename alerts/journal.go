package alerts

import (
	"context"
	"slices"
	"sync"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

// Journal keeps what the Manager decides.
type Journal interface {
	// Load gives back what was kept: open incidents, and of the closed ones the newest that fit into limit.
	Load(limit int) (*Saved, error)
	// Commit makes a change durable as one transaction. The Manager repeats a change that failed: a change that was taken in spite of
	// the error must not count twice.
	Commit(ctx context.Context, c *Change) error
	// Audit lists what was done to an incident, oldest first; "" lists everything, the newest 1000.
	Audit(incident string) ([]Audit, error)
	// Deliveries lists what was handed over for an incident, oldest first.
	Deliveries(incident string) ([]DeliveryRow, error)
}

// Change is one step of the Manager: everything in it is kept or nothing.
type Change struct {
	At        Time // wall clock
	Findings  []Recorded
	Incidents []Kept
	Outbox    []Row
	Audit     []Audit
	Rules     []AllowRule
	Unruled   []int // allow rules removed
	Silences  []Silence
}

// Recorded is a finding in the journal.
type Recorded struct {
	Finding
	Workload string
	Incident string // "" for one that an allow rule covered
	Rule     int    // the allow rule
}

// Kept is an incident with what is nobody's business outside.
type Kept struct {
	Incident
	Private Private
}

// Private is what the Manager has to remember about an incident beside what it says.
type Private struct {
	Seq        int      `json:"seq"`                   // of the last transition, over all generations
	Told       []string `json:"told,omitempty"`        // receivers that got this generation's trigger
	NotifiedAt Time     `json:"notified_at,omitempty"` // wall clock of the last transition that tells

	Labels []enrich.Label `json:"labels,omitempty"` // of the instance seen last, for routes
}

// Audit is one thing done to incidents, rules or silences.
type Audit struct {
	Seq      int    `json:"seq"`
	At       Time   `json:"at"` // wall clock
	Who      string `json:"who"`
	Incident string `json:"incident,omitempty"`
	What     string `json:"what"`
	Why      string `json:"why,omitempty"`
}

// Saved is what Load gives back. It goes through JSON where a recorded stream carries it.
type Saved struct {
	Incidents []Kept      `json:"incidents,omitempty"` // as opened
	Seen      []string    `json:"seen,omitempty"`
	Rules     []AllowRule `json:"rules,omitempty"`
	Silences  []Silence   `json:"silences,omitempty"`
	AuditSeq  int         `json:"audit_seq,omitempty"`
}

// Transition is what happened to an incident, as receivers hear it.
type Transition string

// The transitions. Every generation has one trigger and at most one resolve, in this order, whatever lies between.
const (
	Trigger     Transition = "trigger"
	Update      Transition = "update"
	Acknowledge Transition = "acknowledge"
	Resolve     Transition = "resolve"
)

// Row is one transition for one receiver on its way into the outbox.
type Row struct {
	ID        string // "msg_…": hash of receiver, key and seq; the webhook-id
	Receiver  string
	Key       string
	Seq       int
	Immediate bool // this receiver knows no grouping
	Urgent    bool // do not wait for the group
	Human     bool // a person did it: what was not told yet need not be told
	Refresh   bool // only bring a message up to date that nobody has tried to send yet
	Message   Message
}

// Message is what a receiver renders.
type Message struct {
	ID         string     `json:"id"`
	Transition Transition `json:"transition"`
	Key        string     `json:"key"`    // Incident.Key: equal from trigger to resolve
	Reason     string     `json:"reason"` // why now, one clause
	At         Time       `json:"at"`     // wall clock of the transition
	Incident   Incident   `json:"incident"`

	Attempt Time `json:"-"` // wall clock of this attempt
	Repeat  bool `json:"-"` // an earlier attempt may have arrived
	Plain   bool `json:"-"` // leave out what the vendor refused
}

// DeliveryRow is one line of the delivery log.
type DeliveryRow struct {
	ID         string     `json:"id"`
	Receiver   string     `json:"receiver"`
	Incident   string     `json:"incident"`
	Generation int        `json:"generation"`
	Transition Transition `json:"transition"`
	State      string     `json:"state"` // queued, delivered, dead, withdrawn
	Attempts   int        `json:"attempts"`
	Status     int        `json:"status,omitempty"` // HTTP status of the last attempt
	Reason     string     `json:"reason,omitempty"` // the vendor's words about the last attempt
	Created    Time       `json:"created"`
	Last       Time       `json:"last,omitzero"` // last attempt
	Next       Time       `json:"next,omitzero"` // next attempt of a queued one
}

// target is what the Manager knows of a receiver.
type target struct {
	name      string
	least     baseline.Severity
	immediate bool // a file: no grouping, no reminders
	acks      bool // wants to hear of acknowledgements
	route     route
}

// Memory is a Journal that forgets with the process; replay and demo use it. Nothing in it is ever sent.
type Memory struct {
	Start *Saved // what Load gives back; nil nothing

	mu    sync.Mutex
	audit []Audit
}

// Load gives back what was put in at the start.
func (m *Memory) Load(int) (*Saved, error) {
	if m.Start == nil {
		return &Saved{}, nil
	}
	return m.Start, nil
}

// Commit keeps the audit.
func (m *Memory) Commit(_ context.Context, c *Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.audit = append(m.audit, c.Audit...)
	if len(m.audit) > maxAudit {
		m.audit = slices.Clone(m.audit[len(m.audit)-maxAudit:])
	}
	return nil
}

const maxAudit = 1000

// Audit lists what was done.
func (m *Memory) Audit(incident string) ([]Audit, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Audit
	for _, a := range m.audit {
		if incident == "" || a.Incident == incident {
			out = append(out, a)
		}
	}
	return out, nil
}

// Deliveries is always empty.
func (*Memory) Deliveries(string) ([]DeliveryRow, error) { return nil, nil }
