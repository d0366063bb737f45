// Package baseline says what is normal: statistics and detectors over attributed connections, names and container events.
//
// It has no clock, does no I/O and starts no goroutine. Time is the event time of its input. One goroutine calls an Engine, so no
// detector needs a lock, and the same calls give the same findings.
package baseline

import (
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Severity of a finding or incident, least first. High and Critical page people.
type Severity uint8

// The severities.
const (
	Info Severity = iota
	Low
	Medium
	High
	Critical
)

// Finding is what one detector says once.
type Finding struct {
	ID       string            `json:"id"` // hash of detector, workload, subject and Window: the same input gives the same id
	Detector string            `json:"detector"`
	Time     int64             `json:"-"` // event time at which it could be said, ns
	Window   int64             `json:"-"` // event time at which its evidence begins, ns
	Workload string            `json:"-"`
	Instance *enrich.Container `json:"-"` // the instance that did it last; nil for a finding about an engine
	Subject  string            `json:"subject"`
	Score    float64           `json:"score"` // 0 to 1: how sure
	Severity Severity          `json:"severity"`
	Learning bool              `json:"learning"` // told while the workload was still learning
	Summary  string            `json:"summary"`  // one sentence, no final full stop, untrusted parts already quoted
	Attack   []string          `json:"attack"`   // ATT&CK technique ids
	Evidence map[string]any    `json:"evidence"` // numbers with their unit in the key; the baseline beside the value

	Method     enrich.Method     `json:"-"`
	Confidence enrich.Confidence `json:"-"`
}

// Detector is one way of looking. Embed Nop and write the methods that matter. One goroutine calls all methods, in event-time order
// but for late records, which carry a Start before the last Tick and are inserted where they belong. Pointers are valid during the
// call only, but for *enrich.Container, which may be kept.
type Detector interface {
	Flow(*enrich.Flow)
	Name(*enrich.Name)
	Event(*enrich.Event)
	Gap(flow.Gap)
	Tick(now int64) // event time in ns, whole seconds, strictly increasing
}

// Nop does nothing; detectors embed it.
type Nop struct{}

// Flow does nothing.
func (Nop) Flow(*enrich.Flow) {}

// Name does nothing.
func (Nop) Name(*enrich.Name) {}

// Event does nothing.
func (Nop) Event(*enrich.Event) {}

// Gap does nothing.
func (Nop) Gap(flow.Gap) {}

// Tick does nothing.
func (Nop) Tick(int64) {}

// Stateful is a Detector whose knowledge outlives the process. Keys are workloads (or "" for global facts).
type Stateful interface {
	// Dirty calls yield for keys whose state changed since they were last yielded, oldest change first, until yield returns false.
	// blob is valid during the call; an empty blob means that the key is gone.
	Dirty(yield func(key string, blob []byte) bool)
	// Restore takes a blob back. An error (unknown version, torn) means: relearn this key.
	Restore(key string, blob []byte) error
}
