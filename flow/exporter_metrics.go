package flow

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/VictoriaMetrics/metrics"
)

// maxListed bounds the exporters in /metrics: eleven series each. Those heard first are listed, so that a flood of forged senders adds none.
const maxListed = 256

// exportersIn makes /metrics list who exports to the collectors among the sources.
func exportersIn(set *metrics.Set, sources []Source) {
	var collectors []*Collector
	for _, s := range sources {
		if c, is := s.(*Collector); is {
			collectors = append(collectors, c)
		}
	}
	if len(collectors) == 0 {
		return
	}
	set.RegisterMetricsWriter(func(w io.Writer) {
		var all []ExporterStatus
		for _, c := range collectors {
			all = append(all, c.Exporters()...)
		}
		writeExporters(w, all)
	})
}

func writeExporters(w io.Writer, all []ExporterStatus) {
	slices.SortStableFunc(all, func(a, b ExporterStatus) int {
		return cmp.Or(cmp.Compare(a.FirstSeen, b.FirstSeen), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Version, b.Version))
	})
	metrics.WriteGaugeUint64(w, "wharfwatch_flow_exporters_unlisted", uint64(max(0, len(all)-maxListed)))
	for i := range all[:min(len(all), maxListed)] {
		e := &all[i]
		labels := fmt.Sprintf("{source=%q,version=\"%d\"}", e.Source, e.Version)
		seconds := func(name string, ns int64) { metrics.WriteGaugeFloat64(w, name+labels, float64(ns)/1e9) }
		count := func(name string, n uint64) { metrics.WriteCounterUint64(w, name+labels, n) }
		gauge := func(name string, n int) { metrics.WriteGaugeUint64(w, name+labels, uint64(n)) }
		seconds("wharfwatch_flow_exporter_seen_seconds", e.LastSeen)
		seconds("wharfwatch_flow_exporter_record_seconds", e.LastRecord)
		seconds("wharfwatch_flow_exporter_clock_offset_seconds", int64(e.Offset))
		count("wharfwatch_flow_exporter_datagrams_total", e.Datagrams)
		count("wharfwatch_flow_exporter_records_total", e.Records)
		count("wharfwatch_flow_exporter_refused_total", e.Refused)
		count("wharfwatch_flow_exporter_restarts_total", e.Restarts)
		gauge("wharfwatch_flow_exporter_lost", int(e.Lost)) // a late datagram gives back
		gauge("wharfwatch_flow_exporter_templates", e.Templates)
		gauge("wharfwatch_flow_exporter_stale_templates", e.StaleTemplates)
		rate := 0
		if e.SamplingFrom != "unknown" {
			rate = int(e.Sampling)
		}
		gauge("wharfwatch_flow_exporter_sampling", rate)
	}
}
