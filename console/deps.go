package console

import (
	"context"
	"errors"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Deps is what the console translates to. All of it must be safe for concurrent use; what is nil is answered with 501.
type Deps struct {
	DataDir string // where the control socket goes; "" for none
	Version string // for wharfwatch_build_info

	Health func() error // nil error: everything works

	Alerts *alerts.Manager
	Notify Notify
	Access *Access // who may log in; nil: nobody, so nothing is served beyond loopback

	Containers func(ctx context.Context) ([]*enrich.Container, error)
	Explain    func(ctx context.Context, addr flow.Addr, port uint16, at int64) (enrich.Explanation, error)
	Workloads  func(ctx context.Context) ([]baseline.WorkloadState, error)
	Sources    func(ctx context.Context) ([]SourceStatus, error)
	Unnamed    func(ctx context.Context) ([]enrich.Unnamed, error) // nil: not asked
	Checks     func(ctx context.Context) ([]Check, error)          // what doctor shows beside the sources
	Detections func() ([]Detection, error)
}

// Notify is what can be done with receivers.
type Notify struct {
	Receivers func() []Receiver
	Test      func(ctx context.Context, receiver string) (TestResult, error)    // sends now; ErrNoReceiver
	Preview   func(receiver string, incident *alerts.Incident) (Preview, error) // sends nothing; a nil incident is an example
	Failed    func(ctx context.Context) ([]alerts.DeliveryRow, error)           // given up
	Retry     func(ctx context.Context, ids []string) (int, error)              // no ids: all that were given up
}

// Detection is the page about one detector.
type Detection struct {
	ID    string `json:"id"` // the detector's
	Title string `json:"title"`
	Text  string `json:"text"` // Markdown
}

// Receiver is one receiver without its secrets.
type Receiver struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"` // slack, pagerduty, webhook, teams, discord, alertmanager, email, syslog, jsonl
	MinSeverity string `json:"min_severity"`

	Workloads  []string `json:"workloads,omitempty"` // patterns; none: all
	Labels     []string `json:"labels,omitempty"`
	Mute       []string `json:"mute,omitempty"` // names of mute times
	Active     []string `json:"active,omitempty"`
	MutedUntil string   `json:"muted_until,omitempty"` // RFC 3339, of what is below critical; absent: told now
	Disabled   string   `json:"disabled,omitempty"`    // why the monitor gave it up
}

// TestResult is what a receiver said to a test message.
type TestResult struct {
	OK     bool   `json:"ok"`
	Status int    `json:"status,omitempty"` // of HTTP
	Reason string `json:"reason,omitempty"`
}

// Preview is a rendered message.
type Preview struct {
	ContentType string `json:"content_type"`
	Body        string `json:"body"`
	Untold      string `json:"untold,omitempty"` // why the receiver would not hear of it, or not now
}

// ErrNoReceiver says that no receiver has that name.
var ErrNoReceiver = errors.New("no such receiver")
