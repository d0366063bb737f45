package enrich

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// A record is counted in exactly one class, as a duplicate, or waits: records = attributed + unattributed + duplicates + held.
const (
	classMethod  = 0  // + Method
	classReason  = 16 // + Reason
	classTwin    = 30 // already counted on the other side of a translation
	classRefused = 31 // the table was full and had nothing to give up
	classes      = 32
)

// classOf is the counter of a conn's records: the better side's method, or why nobody.
func (c *conn) classOf() uint8 {
	if c.owned() {
		side := 0
		if c.sure[1] > c.sure[0] {
			side = 1
		}
		return classMethod + uint8(c.how[side])
	}
	return classReason + uint8(max(rank[c.why[0]], rank[c.why[1]]).reason())
}

// rank orders reasons: the one that is told when the sides differ comes last.
var rank = [...]ranked{ReasonNone: 0, ReasonExternal: 1, ReasonHost: 2, ReasonGateway: 3, ReasonNoNATEntry: 4, ReasonShortSocket: 5, ReasonGap: 6, ReasonNotReady: 7, ReasonNoEngine: 8}

type ranked uint8

func (r ranked) reason() Reason {
	for i, have := range rank {
		if have == r {
			return Reason(i)
		}
	}
	return ReasonNone
}

// counters are plain numbers on the hot path; flush adds what is new to the metrics.
type counters struct {
	records, duplicates, late, takeovers, connections, evicted, unreported uint64
	tracks                                                                 uint64
	events, names, namesNobody, namesHost, namesDropped, namesForgotten    uint64
	class                                                                  [classes]uint64

	pairs                  []pair
	open, held, containers *metrics.Gauge
}

type pair struct {
	from   *uint64
	told   uint64
	metric *metrics.Counter
}

func (c *counters) flush() {
	for i := range c.pairs {
		p := &c.pairs[i]
		if *p.from != p.told {
			p.metric.Add(int(*p.from - p.told))
			p.told = *p.from
		}
	}
}

// gauges shows how much there is.
func (c *counters) gauges(t *Table) {
	live := 0
	for _, s := range t.shards {
		live += s.live
	}
	c.open.Set(float64(live))
	c.held.Set(float64(t.held))
	c.containers.Set(float64(len(t.roster.slots)))
}

func (c *counters) register(set *metrics.Set, t *Table) {
	add := func(from *uint64, name string) {
		c.pairs = append(c.pairs, pair{from: from, metric: set.GetOrCreateCounter(name)})
	}
	add(&c.records, "wharfwatch_flows_records_total")
	add(&c.duplicates, "wharfwatch_flows_duplicates_total")
	add(&c.late, "wharfwatch_flows_late_total")
	add(&c.takeovers, "wharfwatch_flows_observer_changes_total")
	add(&c.connections, "wharfwatch_connections_total")
	add(&c.evicted, "wharfwatch_connections_evicted_total")
	add(&c.unreported, "wharfwatch_connections_evicted_unreported_total")
	add(&c.events, "wharfwatch_enrich_events_total")
	add(&c.tracks, "wharfwatch_tracks_total")
	add(&t.tracks.evicted, "wharfwatch_tracks_evicted_total")
	add(&t.tracks.refused, "wharfwatch_tracks_refused_total")
	add(&t.ports.evicted, "wharfwatch_ports_refused_total")
	add(&c.names, "wharfwatch_names_total")
	add(&c.namesNobody, "wharfwatch_names_unattributed_total")
	add(&c.namesHost, "wharfwatch_names_of_host_total")
	add(&c.namesDropped, "wharfwatch_names_dropped_total")
	add(&c.namesForgotten, "wharfwatch_names_forgotten_total")
	add(&t.sights.taken, "wharfwatch_sights_total")
	add(&t.sights.dropped, "wharfwatch_sights_dropped_total")
	for v := range t.sights.judged {
		add(&t.sights.judged[v], fmt.Sprintf("wharfwatch_sights_judged_total{verdict=%q}", sightText[v]))
	}
	add(&t.sights.claims, "wharfwatch_claims_total")
	add(&t.sights.refused, "wharfwatch_claims_refused_total")
	add(&t.sights.strangers.evicted, "wharfwatch_strangers_evicted_total")
	add(&t.macs.evicted, "wharfwatch_macs_evicted_total")
	c.open = set.GetOrCreateGauge("wharfwatch_connections", nil)
	c.held = set.GetOrCreateGauge("wharfwatch_flows_held", nil)
	c.containers = set.GetOrCreateGauge("wharfwatch_containers", nil)
	add(&t.index.evicted, "wharfwatch_bindings_evicted_total")
	add(&t.roster.refused, "wharfwatch_containers_refused_total")
	for m := range methodText {
		if m != int(MethodNone) {
			add(&c.class[classMethod+m], fmt.Sprintf("wharfwatch_flows_attributed_total{method=%q}", Method(m)))
		}
	}
	for r := range reasonText {
		if r != int(ReasonNone) {
			add(&c.class[classReason+r], fmt.Sprintf("wharfwatch_flows_unattributed_total{reason=%q}", Reason(r)))
		}
	}
	add(&c.class[classTwin], "wharfwatch_flows_duplicates_total")
	add(&c.class[classRefused], `wharfwatch_flows_unattributed_total{reason="table-full"}`)
}
