package console

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

// SourceStatus is one input of the monitor as doctor shows it: a UDP socket, an exporter, a captured interface, a container engine.
// Fields that say nothing about its kind stay zero.
type SourceStatus struct {
	Name   string `json:"name"`             // "netflow:192.0.2.1/0", "capture:docker0", "docker:local"
	Kind   string `json:"kind"`             // netflow, sflow, capture, log, docker, inventory
	State  string `json:"state"`            // ok, warn, fail, off
	Reason string `json:"reason,omitempty"` // what is seen
	Fix    string `json:"fix,omitempty"`    // what to do about it

	LastSeen           int64   `json:"last_seen,omitempty"` // arrival clock, ns; 0 never
	Records            uint64  `json:"records,omitempty"`
	Dropped            uint64  `json:"dropped,omitempty"`              // by the kernel or a full queue
	MissingTemplates   uint64  `json:"missing_templates,omitempty"`    // data sets waiting for their template
	Sampling           uint32  `json:"sampling,omitempty"`             // 1:N; 0 nobody said
	ClockOffsetSeconds float64 `json:"clock_offset_seconds,omitempty"` // the exporter's clock less ours
}

// Check is one line of doctor.
type Check struct {
	State  string `json:"state"` // ok, warn, fail, off
	What   string `json:"what"`
	Reason string `json:"reason"`
	Fix    string `json:"fix,omitempty"`
}

// Coverage says whether one detector can see one workload.
type Coverage struct {
	Workload string `json:"workload"`
	Detector string `json:"detector"`
	State    string `json:"state"` // yes, learning, no
	Reason   string `json:"reason"`
	Fix      string `json:"fix,omitempty"`
}

// needs says what each detector lives on.
var needs = []struct {
	detector string
	flows    bool // a capture or an exporter that is heard
	engine   bool // a container engine
	baseline bool // a workload that is no longer learning
}{
	{detector: "beacon", flows: true},
	{detector: "egress-spike", flows: true, baseline: true},
	{detector: "host-network", engine: true},
	{detector: "posture", engine: true},
}

// coverage holds every workload against every detector, by what the sources say of themselves.
func coverage(workloads []baseline.WorkloadState, sources []SourceStatus) []Coverage {
	var flows, engine bool
	for _, s := range sources {
		working := s.State == "ok" || s.State == "warn"
		switch s.Kind {
		case "netflow", "sflow", "capture", "log":
			flows = flows || working && s.Records > 0
		case "docker":
			engine = engine || working
		}
	}
	var out []Coverage
	for _, w := range workloads {
		for _, n := range needs {
			c := Coverage{Workload: w.Workload, Detector: n.detector, State: "yes", Reason: "seen"}
			switch {
			case n.engine && !engine:
				c.State, c.Reason, c.Fix = "no", "no container engine answers", "give the monitor access to the engine's socket (enrich.docker)"
			case n.flows && !flows:
				c.State, c.Reason, c.Fix = "no", "no capture and no exporter has been heard", "capture on the containers' network (flow.interfaces) or point an exporter at flow.netflow"
			case n.flows && w.LastSeen == 0:
				c.State, c.Reason, c.Fix = "no", "no flow of it has been seen", "if it talks, its network is not watched: see doctor"
			case n.baseline && w.Learning:
				c.State, c.Reason = "learning", "its baseline is still being learned"
			}
			out = append(out, c)
		}
	}
	return out
}

// namesCoverage tells of workloads whose DNS is not seen.
func namesCoverage(list []enrich.Unnamed) (out []Coverage) {
	for _, u := range list {
		c := Coverage{
			Workload: u.Workload, Detector: "names", State: "no",
			Reason: fmt.Sprintf("%d connections to the outside and no DNS: the resolver of network %s (127.0.0.11) asks from the host", u.Connections, u.Network),
			Fix:    "capture where the host's DNS passes too (flow.interfaces), and name its address in enrich.addresses.host",
		}
		if u.HostAnswers > 0 {
			c.State, c.Fix = "yes", ""
			c.Reason = fmt.Sprintf("by what the host was told: the resolver of network %s (127.0.0.11) asks from there, so whose question it was is not seen", u.Network)
		}
		out = append(out, c)
	}
	return out
}

// said is the reason with the figures that matter; the counts only where the reason is silent.
func (s *SourceStatus) said() string {
	parts := []string{}
	add := func(when bool, format string, args ...any) {
		if when {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(s.Reason != "", "%s", s.Reason)
	add(s.LastSeen != 0, "last heard %s", time.Unix(0, s.LastSeen).UTC().Format(time.RFC3339))
	if s.Reason == "" {
		add(s.Records > 0, "%d records", s.Records)
		add(s.Dropped > 0, "%d dropped", s.Dropped)
		add(s.MissingTemplates > 0, "%d data sets wait for a template", s.MissingTemplates)
	}
	add(s.Sampling > 1, "sampling 1:%d", s.Sampling)
	add(math.Abs(s.ClockOffsetSeconds) >= 1, "its clock is off by %.0f s", s.ClockOffsetSeconds)
	return strings.Join(parts, ", ")
}
