package flow

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// nameCount is what a sniffer counted since the last publish.
type nameCount struct {
	kinds                                         [NameHTTP + 1]uint64
	answers, dnsMalformed                         uint64
	rate, repeated, unfinished, malformed, opaque uint64
}

// nameMeter are the counters of all taps of one metrics.Set.
type nameMeter struct {
	kinds                                         [NameHTTP + 1]*metrics.Counter
	answers, dnsMalformed                         *metrics.Counter
	rate, repeated, unfinished, malformed, opaque *metrics.Counter
}

func newNameMeter(set *metrics.Set) *nameMeter {
	skipped := func(reason string) *metrics.Counter {
		return set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_names_skipped_total{reason=%q}", reason))
	}
	m := &nameMeter{
		answers:      set.GetOrCreateCounter("wharfwatch_flow_dns_answers_total"),
		dnsMalformed: set.GetOrCreateCounter("wharfwatch_flow_dns_malformed_total"),
		rate:         skipped("rate"), repeated: skipped("repeated"), unfinished: skipped("unfinished"), malformed: skipped("malformed"), opaque: skipped("opaque"),
	}
	for k := NameDNS; k <= NameHTTP; k++ {
		m.kinds[k] = set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_names_total{kind=%q}", k))
	}
	return m
}

func (m *nameMeter) publish(c *nameCount) {
	for k := NameDNS; k <= NameHTTP; k++ {
		m.kinds[k].AddInt64(int64(c.kinds[k]))
	}
	m.answers.AddInt64(int64(c.answers))
	m.dnsMalformed.AddInt64(int64(c.dnsMalformed))
	m.rate.AddInt64(int64(c.rate))
	m.repeated.AddInt64(int64(c.repeated))
	m.unfinished.AddInt64(int64(c.unfinished))
	m.malformed.AddInt64(int64(c.malformed))
	m.opaque.AddInt64(int64(c.opaque))
	*c = nameCount{}
}
