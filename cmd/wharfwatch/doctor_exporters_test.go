package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/flow"
)

// Doctor says of an exporter what is known, tells the losses apart, and what to do about the worst.
func TestExporterStatus(t *testing.T) {
	now := int64(1_700_000_000) * int64(time.Second)
	well := flow.ExporterStatus{
		Source: "netflow:192.0.2.1/0", Version: 9, LastSeen: now, LastRecord: now - int64(time.Second), Datagrams: 1000, Records: 30_000, Templates: 3,
		Sampling: 100, SamplingFrom: "options", LostUnit: "datagrams", Offset: 3 * time.Second,
	}
	for _, c := range []struct {
		name   string
		change func(*flow.ExporterStatus)
		state  string
		said   string
		fix    string
	}{
		{"well", func(*flow.ExporterStatus) {}, "ok", "NetFlow v9, 30000 records, last record 2023-11-14T22:13:19Z, 3 templates, sampling by options, lost in the network: 0 datagrams, of no use here: 0 parts", ""},
		{"a little loss", func(e *flow.ExporterStatus) { e.Lost = 1 }, "ok", "lost in the network: 1 datagrams", ""},
		{"loss", func(e *flow.ExporterStatus) { e.Lost = 2 }, "warn", "lost in the network: 2 datagrams", "1 in 1,000"},
		{"loss of records", func(e *flow.ExporterStatus) { e.Lost, e.LostUnit = 20, "records" }, "ok", "20 records", ""},
		{"refused", func(e *flow.ExporterStatus) { e.Refused = 400 }, "warn", "of no use here: 400 parts", "parts_refused_total"},
		{"no template", func(e *flow.ExporterStatus) { e.Records, e.WithoutTemplate, e.Templates = 0, 5, 0 }, "warn", "5 data sets without a template", "template refresh"},
		{"restored", func(e *flow.ExporterStatus) { e.StaleTemplates = 2 }, "ok", "2 of them not sent since the start", ""},
		{"several behind one address", func(e *flow.ExporterStatus) { e.Restarts = 700 }, "warn", "700 restarts", "flow.key_port"},
		{"silent", func(e *flow.ExporterStatus) { e.LastSeen -= 2 * silentAfter }, "warn", "NetFlow v9", "still exporting"},
		{"rate not said", func(e *flow.ExporterStatus) { e.Sampling, e.SamplingFrom = 1, "unknown" }, "ok", "sampling not said: 1:1 assumed", ""},
		{"ipfix", func(e *flow.ExporterStatus) { e.Version = 10 }, "ok", "IPFIX, 30000", ""},
		{"sflow", func(e *flow.ExporterStatus) { e.Source, e.Version, e.LostUnit = "sflow:192.0.2.1/0", 5, "samples" }, "ok", "sFlow, 30000", ""},
	} {
		e := well
		c.change(&e)
		s := exporterStatus(&e, now)
		if s.State != c.state || !strings.Contains(s.Reason, c.said) || !strings.Contains(s.Fix, c.fix) || (c.fix == "") != (s.Fix == "") {
			t.Errorf("%s: %s, %q, %q", c.name, s.State, s.Reason, s.Fix)
		}
		if rate := s.Sampling; (e.SamplingFrom == "unknown") != (rate == 0) {
			t.Errorf("%s: rate %d", c.name, rate)
		}
	}
}

// However many exporters there are, doctor names 64, those with trouble first.
func TestExporterStatusesAreBounded(t *testing.T) {
	var all []flow.ExporterStatus
	for i := range 500 {
		e := flow.ExporterStatus{Source: fmt.Sprintf("netflow:198.51.100.%d/0", i), Version: 5, Records: uint64(i), Datagrams: 1, SamplingFrom: "header"}
		if i%100 == 7 {
			e.Refused = 1000
		}
		all = append(all, e)
	}
	got := exporterStatuses(all, 0)
	if len(got) != toldExporters+1 || !strings.Contains(got[toldExporters].Reason, "436 exporters more") {
		t.Fatalf("%d lines, the last %q", len(got), got[len(got)-1].Reason)
	}
	for i, s := range got[:6] {
		if (s.State == "warn") != (i < 5) {
			t.Errorf("line %d: %s, %d records", i, s.State, s.Records)
		}
	}
	if got[5].Records != 499 || got[0].Records != 407 {
		t.Errorf("the busiest come first: %d, %d", got[5].Records, got[0].Records)
	}
}
