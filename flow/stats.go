package flow

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// reason says why a datagram or a part of one was not used.
type reason uint8

const (
	fine reason = iota

	// Whole datagrams.
	badShort   // no room for the header
	badVersion // neither 5, 9 nor 10
	badLength  // an IPFIX message length below its own header
	badCount   // v5: the header promises more records than there are

	// Whole datagrams that are well-formed.
	dropNotAllowed // the sender is outside `exporters`
	dropRate       // too many new exporters at once

	// Parts of datagrams.
	partCut         // the datagram ends before the message does
	partSetLength   // a set below 4 bytes or past the end
	partSetID       // a reserved set id
	partPadding     // a rest after the last record that is not padding: the template may be wrong
	partMissing     // data without a template
	partVariable    // a variable length past the end of its set
	partTemplateID  // a template id below 256
	partTemplateEnd // a template that runs past its set
	partFields      // a template with no field or more than 256
	partSize        // records of 0 or more than 1400 bytes
	partField       // an element of a length it cannot have
	partWithdrawal  // template withdrawal, ignored over UDP
	partRate        // template changes faster than an honest exporter makes them
	partSampling    // a sampling rate outside 1 to 1,000,000
	partAddress     // records without any address

	partSampleLength // sFlow: a sample, or something in it, that runs past its end

	reasons
)

var reasonNames = [reasons]string{
	"", "short", "version", "length", "count", "exporter_not_allowed", "exporter_rate",
	"cut", "set_length", "set_id", "padding", "missing_template", "variable_length", "template_id", "template_end",
	"template_fields", "template_size", "field_length", "withdrawal", "template_rate", "sampling_rate", "no_address", "sample_length",
}

func (r reason) String() string { return reasonNames[r] }

// stats are the counters of all NetFlow sources of one set. Every datagram received is decoded, malformed or dropped; what
// the kernel dropped was never received.
type stats struct {
	set                        *metrics.Set
	received, decoded, cut     *metrics.Counter
	by                         [reasons]*metrics.Counter
	records                    [11]*metrics.Counter // by version
	clamped, clockSteps        *metrics.Counter
	templateChanges, refreshes *metrics.Counter
	evictedTemplates           *metrics.Counter
	evictedExporters           *metrics.Counter
	evictedDomains             *metrics.Counter
	evictedConnections         *metrics.Counter
	restoredTemplates          *metrics.Counter
	withdrawnTemplates         *metrics.Counter
	templates, exporters       *metrics.Gauge
	orphansWaiting             *metrics.Gauge
	orphansReplayed            *metrics.Counter
	sflow                      sflowStats
}

func newStats(set *metrics.Set) *stats {
	s := &stats{
		set:                set,
		sflow:              newSFlowStats(set),
		received:           set.GetOrCreateCounter("wharfwatch_flow_datagrams_received_total"),
		decoded:            set.GetOrCreateCounter("wharfwatch_flow_datagrams_decoded_total"),
		cut:                set.GetOrCreateCounter("wharfwatch_flow_datagrams_truncated_total"),
		clamped:            set.GetOrCreateCounter("wharfwatch_flow_records_clamped_total"),
		clockSteps:         set.GetOrCreateCounter("wharfwatch_flow_exporter_clock_steps_total"),
		templateChanges:    set.GetOrCreateCounter("wharfwatch_flow_template_changes_total"),
		refreshes:          set.GetOrCreateCounter("wharfwatch_flow_template_refreshes_total"),
		evictedTemplates:   set.GetOrCreateCounter("wharfwatch_flow_templates_evicted_total"),
		evictedExporters:   set.GetOrCreateCounter("wharfwatch_flow_exporters_evicted_total"),
		evictedDomains:     set.GetOrCreateCounter("wharfwatch_flow_domains_evicted_total"),
		withdrawnTemplates: set.GetOrCreateCounter("wharfwatch_flow_templates_withdrawn_total"),
		restoredTemplates:  set.GetOrCreateCounter("wharfwatch_flow_templates_restored_total"),
		evictedConnections: set.GetOrCreateCounter("wharfwatch_flow_firewall_connections_evicted_total"),
		templates:          set.GetOrCreateGauge("wharfwatch_flow_templates", nil),
		exporters:          set.GetOrCreateGauge("wharfwatch_flow_exporters", nil),
		orphansWaiting:     set.GetOrCreateGauge("wharfwatch_flow_orphan_sets", nil),
		orphansReplayed:    set.GetOrCreateCounter("wharfwatch_flow_orphan_sets_read_total"),
	}
	for r := range reasons {
		name := "parts_refused_total"
		switch {
		case r == fine:
			continue
		case r <= badCount:
			name = "datagrams_malformed_total"
		case r <= dropRate:
			name = "datagrams_dropped_total"
		}
		s.by[r] = set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_%s{reason=%q}", name, r))
	}
	for _, v := range []int{5, 9, 10} {
		s.records[v] = set.GetOrCreateCounter(fmt.Sprintf(`wharfwatch_flow_records_total{version="%d"}`, v))
	}
	return s
}

// count adds n to what was refused for a reason.
func (s *stats) count(r reason, n int) { s.by[r].Add(n) }

// lost is the counter of what an exporter's sequence numbers miss. Past the first 256 exporters all share one label.
func (s *stats) lost(exporter, unit string) *metrics.Counter {
	return s.set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_sequence_lost_total{exporter=%q,unit=%q}", exporter, unit))
}
