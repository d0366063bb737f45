// Package alerts tells: findings become incidents, and incidents become deliveries.
//
// The Manager is a state machine over event time: the same findings and ticks give the same incidents, whatever the wall clock says.
// Every change of it goes through a Journal in one transaction before anything is sent. Delivery reads what is due from the outbox in
// the state file and hands it to receivers; a receiver only renders a payload and judges a response.
package alerts

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

// Time is a point in time, ns since 1970 UTC. In JSON it is RFC 3339 with up to nine digits of the second, and exact.
type Time int64

// Wall makes a Time of the wall clock's.
func Wall(t time.Time) Time { return Time(t.UnixNano()) }

// Std converts.
func (t Time) Std() time.Time { return time.Unix(0, int64(t)).UTC() }

// String is the JSON form.
func (t Time) String() string { return t.Std().Format(time.RFC3339Nano) }

// MarshalText makes the JSON form.
func (t Time) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the JSON form.
func (t *Time) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339Nano, string(b))
	*t = Time(v.UnixNano())
	return err
}

// State of an incident.
type State string

// The states. A closed incident carries a Verdict.
const (
	Open         State = "open"
	Acknowledged State = "acknowledged"
	Closed       State = "closed"
)

// Verdict says why an incident was closed.
type Verdict string

// The verdicts. Resolved is given by the Manager alone: it went quiet.
const (
	TruePositive  Verdict = "true-positive"
	Benign        Verdict = "benign"
	FalsePositive Verdict = "false-positive"
	Duplicate     Verdict = "duplicate"
	Resolved      Verdict = "resolved"
)

// ParseVerdict reads a verdict that a person may give.
func ParseVerdict(s string) (Verdict, error) {
	switch v := Verdict(s); v {
	case TruePositive, Benign, FalsePositive, Duplicate, Resolved:
		return v, nil
	}
	return "", fmt.Errorf("unknown verdict %q, known are %s, %s, %s, %s, %s", s, TruePositive, Benign, FalsePositive, Duplicate, Resolved)
}

// Incident is what people triage: the findings of one workload, one story. Field names are a contract: add, never rename. The fields of
// triage (state, verdict) follow people; all others follow event time and findings alone.
type Incident struct {
	ID          string            `json:"id"` // hash of workload and first finding id; an unambiguous prefix will do in commands
	State       State             `json:"state"`
	Verdict     Verdict           `json:"verdict,omitempty"`
	Severity    baseline.Severity `json:"severity"`   // the highest of the findings that count
	Confidence  float64           `json:"confidence"` // that at least one detector is right: 1 - product of (1 - score)
	FirstSeen   Time              `json:"first_seen"`
	LastSeen    Time              `json:"last_seen"`
	Workload    string            `json:"workload"`
	Container   Container         `json:"container"` // the instance seen last
	Summary     string            `json:"summary"`   // of the strongest finding, and which other detectors joined
	Attack      []string          `json:"attack"`    // ATT&CK technique ids of all findings, sorted
	Attribution Attribution       `json:"attribution"`
	Findings    []Finding         `json:"findings"` // oldest first, at most Config.MaxFindings
	Generation  int               `json:"generation"`
	Count       int               `json:"count"`             // findings told, repeats included
	Quiet       int               `json:"quiet,omitempty"`   // findings kept quiet because people had judged them
	Omitted     int               `json:"omitted,omitempty"` // findings counted but not listed
	ClosedAt    Time              `json:"closed_at,omitzero"`
}

// Key names one opening of the incident at receivers that deduplicate (PagerDuty's dedup_key).
func (i *Incident) Key() string { return fmt.Sprintf("%s.%d", i.ID, i.Generation) }

// Container is the instance that a person would look for first.
type Container struct {
	ID    string `json:"id"` // 64 hex digits; "" where the finding is about no container
	Name  string `json:"name"`
	Image string `json:"image"`
}

// Attribution says how the container was found, and how surely.
type Attribution struct {
	Method     enrich.Method     `json:"method"`
	Confidence enrich.Confidence `json:"confidence"`
}

// String is for people. Where no flow had to be attributed, the engine itself named the container.
func (a Attribution) String() string {
	how := a.Method.String()
	if a.Method == enrich.MethodNone {
		how = "the engine"
	}
	return "by " + how + ", confidence " + a.Confidence.String()
}

// Finding is one finding as incidents list it and `replay --findings` prints it (NewFinding then adds the last three fields).
type Finding struct {
	ID       string            `json:"id"`
	Detector string            `json:"detector"`
	Time     Time              `json:"time"`
	Subject  string            `json:"subject"`
	Score    float64           `json:"score"`
	Severity baseline.Severity `json:"severity"`
	Learning bool              `json:"learning"`
	Summary  string            `json:"summary"`
	Attack   []string          `json:"attack"`
	Evidence json.RawMessage   `json:"evidence"` // an object; keys sorted

	// The same detector may speak again about the same subject. Id and time stay those of the first time, the rest is the strongest.
	LastSeen   Time    `json:"last_seen,omitzero"`
	Count      int     `json:"count,omitempty"`
	Generation int     `json:"generation,omitempty"` // of the incident, when last told
	Allowed    int     `json:"allowed,omitempty"`    // id of the allow rule that covers it
	Verdict    Verdict `json:"verdict,omitempty"`    // what people last closed it as
	VerdictAt  Time    `json:"verdict_at,omitzero"`  // event time

	Workload    string       `json:"workload,omitempty"`
	Container   *Container   `json:"container,omitempty"`
	Attribution *Attribution `json:"attribution,omitempty"`
}

const maxEvidence = 16 << 10 // bytes of JSON

// NewFinding is the JSON form of a finding that stands alone.
func NewFinding(f *baseline.Finding) Finding {
	out := newFinding(f)
	c := container(f.Instance)
	out.Workload, out.Container = f.Workload, &c
	out.Attribution = &Attribution{Method: f.Method, Confidence: f.Confidence}
	return out
}

func newFinding(f *baseline.Finding) Finding {
	return Finding{
		ID: f.ID, Detector: f.Detector, Time: Time(f.Time), Subject: f.Subject, Score: finite(f.Score), Severity: f.Severity,
		Learning: f.Learning, Summary: f.Summary, Attack: append([]string{}, f.Attack...), Evidence: evidence(f.Evidence),
	}
}

func container(c *enrich.Container) Container {
	if c == nil {
		return Container{}
	}
	return Container{ID: c.ID, Name: c.Name, Image: c.Image}
}

// evidence never fails: what JSON cannot carry is said instead.
func evidence(m map[string]any) json.RawMessage {
	if m == nil {
		return json.RawMessage("{}")
	}
	b, err := json.Marshal(m)
	if err != nil {
		clean := make(map[string]any, len(m))
		for k, v := range m {
			if _, err := json.Marshal(v); err != nil {
				v = fmt.Sprint(v) // NaN, Inf
			}
			clean[k] = v
		}
		b, err = json.Marshal(clean)
	}
	if err == nil && len(b) > maxEvidence {
		b, err = json.Marshal(map[string]int{"omitted_bytes": len(b)})
	}
	if err != nil {
		return json.RawMessage("{}")
	}
	return b
}

// finite keeps scores inside 0 and 1: anything else would not survive JSON.
func finite(v float64) float64 {
	if v >= 0 && v <= 1 {
		return v
	}
	if v > 1 {
		return 1
	}
	return 0
}

// Errors of look-ups.
var (
	ErrNotFound  = errors.New("not found")
	ErrAmbiguous = errors.New("ambiguous")
)
