package flow

import (
	"net/netip"
	"strconv"
	"time"
)

// Bounds of what strangers can make us remember. Evictions and refusals are counted.
const (
	maxExporters         = 10000
	maxDomains           = 1024                // per exporter
	maxAllDomains        = 65536               // in all
	maxExporterTemplates = 4096                // per exporter
	maxTemplates         = 65536               // in all
	templateLife         = 30 * 24 * time.Hour // without a refresh; a new meaning of an id replaces the old one at once
	maxLabels            = 256                 // exporters with a metric of their own
)

// exporter is one sender, whatever its source port: a restart keeps its templates. With flow.key_port the port tells senders apart.
type exporter struct {
	addr      netip.AddrPort // port 0 unless it counts
	name      string
	key       Addr
	domains   *lru[domainKey, *domain]
	templates int
	changes   allowance // of templates
	label     string    // in metrics

	orphans         []orphan // by arrival
	orphanBytes     int      // with overhead
	orphanDatagrams int
}

type domainKey struct {
	version uint16
	id      uint32
	agent   Addr // sFlow: as the datagram says, not zero; zero for NetFlow
}

// domain is one observation domain (IPFIX), source id (v9) or engine (v5) of an exporter: the scope of templates and sequences.
type domain struct {
	domainKey
	source    string // Batch.Source
	exporter  *exporter
	templates map[uint16]*template
	timing    timing
	sequence  sequence
	sampling  sampling
	agentRun  uint64            // sFlow: names the sources of the agent since its last restart
	override  uint32            // configured sampling rate, 0 none
	ifRates   map[uint32]uint32 // and those of interfaces

	firstSeen, lastSeen   int64 // arrival
	lastRecord, watermark int64
	datagrams, records    uint64
	missed                uint64 // data sets without a template, those read later not
	refused               uint64 // parts of datagrams
}

// ExporterStatus is what is known about one observation domain of one exporter.
type ExporterStatus struct {
	Source          string        `json:"source"` // as in Batch.Source
	Exporter        Addr          `json:"exporter"`
	Version         uint16        `json:"version"` // 5, 9 or 10 (IPFIX); 5 for sFlow too, whose source begins with "sflow:"
	Domain          uint32        `json:"domain"`
	FirstSeen       int64         `json:"first_seen"` // arrival, ns
	LastSeen        int64         `json:"last_seen"`
	LastRecord      int64         `json:"last_record"` // event time of the newest record, ns; 0 none
	Datagrams       uint64        `json:"datagrams"`
	Records         uint64        `json:"records"`
	Templates       int           `json:"templates"`
	StaleTemplates  int           `json:"stale_templates"`  // of them, those not sent since the start, or for a day
	WithoutTemplate uint64        `json:"without_template"` // data sets that could not be read, or not yet: their template is missing
	Refused         uint64        `json:"refused"`          // parts of its datagrams that were of no use: cut, malformed, over a bound
	Sampling        uint32        `json:"sampling"`         // of records that say none themselves; 1 where unknown
	SamplingFrom    string        `json:"sampling_from"`    // config, record, options, header, unknown
	Lost            uint64        `json:"lost"`             // by sequence numbers, in LostUnit
	LostUnit        string        `json:"lost_unit"`        // records, datagrams or samples
	Restarts        uint64        `json:"restarts"`
	Offset          time.Duration `json:"offset"`    // added to the exporter's clock
	Reordered       uint64        `json:"reordered"` // datagrams that came late and took a loss back
}

// exporter returns nil, after counting, for a sender that may not be remembered.
func (d *exportDecoder) exporter(from netip.AddrPort, arrival int64) *exporter {
	if !d.policy.keyPort {
		from = netip.AddrPortFrom(from.Addr(), 0)
	}
	if e, found := d.exporters.get(from); found {
		return e
	}
	if !d.policy.allows(from.Addr()) {
		d.stats.count(dropNotAllowed, 1)
		return nil
	}
	if !d.arrivals.take(arrival) {
		d.stats.count(dropRate, 1)
		return nil
	}
	e := &exporter{
		addr: from, key: AddrOf(from.Addr()),
		domains: newLRU[domainKey, *domain](maxDomains),
		changes: newAllowance(1024, 64), label: "other", name: senderName(from),
	}
	if d.labels < maxLabels {
		d.labels++
		e.label = e.name
	}
	d.exporters.put(from, e, func(_ netip.AddrPort, old *exporter) { d.dropExporter(old) })
	d.stats.exporters.Inc()
	return e
}

func (d *exportDecoder) dropExporter(e *exporter) {
	d.giveUp(e)
	d.holders.drop(e)
	d.domains -= e.domains.len()
	e.domains.each(func(_ domainKey, s *domain) { d.dropTemplates(s) })
	d.stats.evictedExporters.Inc()
	d.stats.exporters.Dec()
}

func (d *exportDecoder) dropTemplates(s *domain) {
	n := len(s.templates)
	clear(s.templates)
	d.forgetTemplates(s.exporter, n)
	d.stats.evictedTemplates.Add(n)
}

// domain finds or makes the domain a datagram speaks for.
func (d *exportDecoder) domain(e *exporter, k domainKey, arrival int64) *domain {
	if s, found := e.domains.get(k); found {
		return s
	}
	s := &domain{
		domainKey: k, exporter: e, firstSeen: arrival, templates: map[uint16]*template{},
		source: domainName(e.name, k.id), sequence: newSequence(k.version),
	}
	s.override, s.ifRates = d.policy.rates(e.addr.Addr(), k.id)
	for d.domains >= maxAllDomains && d.exporters.len() > 1 { // e itself is the newest
		_, other := d.exporters.dropOldest()
		d.dropExporter(other)
	}
	d.domains++
	if !k.agent.IsZero() {
		d.agentRuns++
		s.source, s.agentRun, s.sequence.unit = agentName(k.agent, k.id), d.agentRuns, unitSamples
	}
	e.domains.put(k, s, func(_ domainKey, old *domain) {
		d.giveUp(e)
		d.dropTemplates(old)
		d.domains--
		d.stats.evictedDomains.Inc()
	})
	d.restore(s, arrival)
	return s
}

func (d *exportDecoder) exportersStatus() []ExporterStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []ExporterStatus
	d.exporters.each(func(_ netip.AddrPort, e *exporter) {
		e.domains.each(func(k domainKey, s *domain) {
			rate, from := s.rate()
			stale := 0
			for _, t := range s.templates {
				if t.stale || s.lastSeen-t.seen > int64(24*time.Hour) {
					stale++
				}
			}
			who := e.key
			if !k.agent.IsZero() {
				who = k.agent
			}
			all = append(all, ExporterStatus{
				Source: s.source, Exporter: who, Version: k.version, Domain: k.id,
				FirstSeen: s.firstSeen, LastSeen: s.lastSeen, LastRecord: s.lastRecord,
				Datagrams: s.datagrams, Records: s.records, Templates: len(s.templates), StaleTemplates: stale, WithoutTemplate: s.missed, Refused: s.refused,
				Sampling: rate, SamplingFrom: from.String(),
				Lost: s.sequence.lost, LostUnit: s.sequence.unit.String(), Restarts: s.sequence.restarts,
				Offset: time.Duration(s.timing.offset), Reordered: s.sequence.reordered,
			})
		})
	})
	return all
}

// allowance is a token allowance on the time of arrival, so that a file is read as the live traffic was.
type allowance struct {
	tokens, limit, perSecond float64
	at                       int64
}

func newAllowance(limit, perSecond float64) allowance {
	return allowance{tokens: limit, limit: limit, perSecond: perSecond}
}

func (b *allowance) take(now int64) bool {
	if b.at != 0 && now > b.at {
		b.tokens = min(b.limit, b.tokens+b.perSecond*float64(now-b.at)/1e9)
	}
	b.at = max(b.at, now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// domainName is the name of a source in batches.
func domainName(sender string, id uint32) string {
	return "netflow:" + sender + "/" + strconv.FormatUint(uint64(id), 10)
}

// agentName is the name of an sFlow agent in batches.
func agentName(agent Addr, sub uint32) string {
	return "sflow:" + agent.String() + "/" + strconv.FormatUint(uint64(sub), 10)
}

// senderName is the address, with the port where that counts.
func senderName(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}
