package flow

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// sflowStats are the counters of sFlow. Flow samples = records + ignored.
type sflowStats struct {
	flows, counters, discarded, others *metrics.Counter
	records, agentDrops, evicted       *metrics.Counter
	ignored                            [numVerdict]*metrics.Counter
	parser                             parserMeter
}

func newSFlowStats(set *metrics.Set) sflowStats {
	samples := func(kind string) *metrics.Counter {
		return set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_sflow_samples_total{kind=%q}", kind))
	}
	s := sflowStats{
		flows: samples("flow"), counters: samples("counters"), discarded: samples("discarded"), others: samples("other"),
		records:    set.GetOrCreateCounter(`wharfwatch_flow_records_total{version="sflow"}`),
		agentDrops: set.GetOrCreateCounter("wharfwatch_flow_sflow_agent_drops_total"),
		evicted:    set.GetOrCreateCounter("wharfwatch_flow_sflow_sources_evicted_total"),
		parser:     newParserMeter(set),
	}
	for v := used + 1; v < numVerdict; v++ {
		s.ignored[v] = set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_sflow_samples_ignored_total{reason=%q}", verdictNames[v]))
	}
	return s
}

// parserMeter are the counters of what parsers count themselves.
type parserMeter struct {
	orphans, early, tooDeep *metrics.Counter
	unwrapped, opaque       [envelopes]*metrics.Counter
}

func newParserMeter(set *metrics.Set) parserMeter {
	m := parserMeter{
		orphans: set.GetOrCreateCounter("wharfwatch_flow_fragments_orphaned_total"),
		early:   set.GetOrCreateCounter("wharfwatch_flow_fragments_evicted_total"),
		tooDeep: set.GetOrCreateCounter("wharfwatch_flow_envelopes_too_deep_total"),
	}
	for e, name := range envelopeNames {
		m.unwrapped[e] = set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_envelopes_total{kind=%q}", name))
		m.opaque[e] = set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_envelopes_opaque_total{kind=%q}", name))
	}
	return m
}

// publish takes what the parser counted since the last time.
func (m *parserMeter) publish(p *parser) {
	m.orphans.AddInt64(int64(p.fragments.orphans))
	m.early.AddInt64(int64(p.fragments.evicted))
	m.tooDeep.AddInt64(int64(p.tooDeep))
	for e := range m.opaque {
		m.unwrapped[e].AddInt64(int64(p.unwrapped[e]))
		m.opaque[e].AddInt64(int64(p.opaque[e]))
	}
	p.fragments.orphans, p.fragments.evicted, p.tooDeep = 0, 0, 0
	p.unwrapped, p.opaque = [envelopes]uint64{}, [envelopes]uint64{}
}
