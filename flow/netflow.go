package flow

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

const (
	slack      = 8   // readable bytes behind every datagram: the plan reads 8 bytes wherever a field starts
	batchLimit = 512 // records; a fuller batch is handed over before the next set
)

// exportDecoder turns datagrams of NetFlow v5, v9 and IPFIX into batches. Framing is its own, because every length in it is hostile;
// template sets are read by goflow2; data sets are read by the plan of their template. One goroutine decodes.
type exportDecoder struct {
	policy *policy
	pool   Pool
	emit   func(*Batch)
	stats  *stats

	mu        sync.Mutex // protects what follows; held while decoding, not while emitting
	exporters *lru[netip.AddrPort, *exporter]
	arrivals  allowance // of new exporters
	templates int       // in all
	domains   int       // in all
	labels    int
	batch     *Batch // nil between rounds
	owner     *domain
	opened    int64 // arrival of the first datagram in the batch
	gap       Gap   // of the kernel, for the next batch
	sink      templateSink
	scratch   []byte
	header    header  // of the datagram being read
	serial    uint64  // its number
	spare     plan    // of the variable-length record being read
	reading   reading // of the datagram being read
	lost      map[string]*metrics.Counter

	keeper      *keeper                    // nil: nothing outlives this decoder
	connections *lru[connection, *counted] // of firewalls
	holders     *lru[*exporter, struct{}]  // of orphans
	orphanBytes int
	orphanLimit int
	swept       int64  // arrival, when orphans were last looked at
	parser      parser // of sFlow's sampled headers
	sources     *lru[sflowKey, *sflowSource]
	agentRuns   uint64
}

func newExportDecoder(p *policy, pool Pool, s *stats) *exportDecoder {
	return &exportDecoder{
		policy: p, pool: pool, stats: s, exporters: newLRU[netip.AddrPort, *exporter](maxExporters),
		arrivals: newAllowance(2000, 200), lost: map[string]*metrics.Counter{},
		connections: newLRU[connection, *counted](maxConnections),
		holders:     newLRU[*exporter, struct{}](maxExporters), orphanLimit: maxAllOrphanBytes,
		sources: newLRU[sflowKey, *sflowSource](sflowSources),
	}
}

// datagram decodes buf[:n]. buf must be readable for slack bytes more. cut says that the receiver did not get all of it.
func (d *exportDecoder) datagram(buf []byte, n int, cut bool, from netip.AddrPort, arrival int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.received.Inc()
	if cut {
		d.stats.cut.Inc()
	}
	var (
		sample sflowDatagram
		why    reason
	)
	h := &d.header
	sampled := isSFlow(buf[:n])
	if sampled {
		sample, why = parseSFlow(buf[:n])
	} else {
		*h, why = parseHeader(buf[:n], cut)
	}
	if why != fine {
		d.stats.count(why, 1)
		return
	}
	e := d.exporter(from, arrival)
	if e == nil {
		return
	}
	if sampled {
		d.sflow(&sample, cut, e, arrival)
		return
	}
	s := d.domain(e, domainKey{version: h.version, id: h.domain}, arrival)
	d.stats.decoded.Inc()
	d.serial++
	d.expireOrphans(arrival)
	r := d.begin(s, h, arrival)
	before := s.watermark
	d.open(s, arrival, r.export)

	records, known := 0, true
	if h.version == 5 {
		records = d.v5(buf[:n], h, r)
		r.emitted = records
	} else {
		records, known = d.sets(buf[:n+slack], h, s, r)
	}
	if h.cut {
		d.refuse(s, partCut, 1)
		known = false
	}
	lost, restarted := s.sequence.take(h, records, known)
	if lost != 0 {
		d.account(s, lost, before, r.export)
	}
	if restarted {
		d.batch.Gaps = append(d.batch.Gaps, Gap{Source: s.source, From: before, To: max(before, min(r.export, arrival)), Reason: "restart"})
	}
	d.read(s, h, r)
	s.datagrams++
	s.lastSeen = max(s.lastSeen, arrival)
	s.watermark = max(s.watermark, min(r.export, arrival))
}

// read accounts for the records that were read.
func (d *exportDecoder) read(s *domain, h *header, r *reading) {
	d.stats.records[h.version].Add(r.emitted)
	d.stats.clamped.Add(r.clamped)
	d.refuse(s, partSampling, r.badRates)
	s.records += uint64(r.emitted)
	s.lastRecord = max(s.lastRecord, r.newest)
}

// refuse counts n parts of datagrams of s that were not used.
func (d *exportDecoder) refuse(s *domain, why reason, n int) {
	d.stats.count(why, n)
	s.refused += uint64(n)
}

// begin prepares what all records of a datagram share.
func (d *exportDecoder) begin(s *domain, h *header, arrival int64) *reading {
	export, stepped := s.timing.begin(h, arrival)
	if stepped {
		d.stats.clockSteps.Inc()
	}
	if h.version == 5 {
		s.sampling.header = h.sampling
	}
	d.reading = s.reading(h, export, arrival)
	return &d.reading
}

// reading is what the records of a datagram of s share.
func (s *domain) reading(h *header, export, arrival int64) reading {
	r := reading{
		export: export, offset: s.timing.offset, uptime: h.uptime, hasUptime: h.hasUptime,
		oldest: arrival - maxBehind, latest: arrival + maxAhead, arrival: arrival,
		exporter: s.exporter.key, domain: s.id, from: s,
	}
	r.heed(s)
	return r
}

// heed takes over what options data has said, at once: the records that it is about may stand in the same datagram.
func (c *reading) heed(s *domain) {
	rate, origin := s.sampling.rate()
	if s.override != 0 {
		rate, origin = s.override, rateConfig
	}
	c.rate, c.fixedRate, c.flags, c.rated = rate, origin == rateConfig, 0, nil
	if origin == rateUnknown {
		c.flags = FlagSamplingUnknown
	}
	if origin != rateConfig {
		c.rated = s.sampling.rated
	}
	if s.version == 10 && s.timing.init != 0 {
		c.hasUptime = true
		c.uptime = uint32((c.export - s.timing.offset - s.timing.init) / milli)
	}
}

// sets walks the sets of a v9 or IPFIX message. b carries slack. It returns the number of data records, options included, and
// whether that is all of them. The header count of v9 is not trusted: exporters get it wrong.
func (d *exportDecoder) sets(b []byte, h *header, s *domain, r *reading) (records int, known bool) {
	known = true
	off, end := h.size, h.length
	for end-off >= 4 {
		id, size := binary.BigEndian.Uint16(b[off:]), int(binary.BigEndian.Uint16(b[off+2:]))
		if size < 4 || off+size > end {
			if !zero(b[off:end]) { // some exporters fill the datagram up
				d.refuse(s, partSetLength, 1)
				known = false
			}
			return records, known
		}
		set := b[off : off+size : off+size+slack]
		switch {
		case id >= 256:
			n, good := d.data(set, id, s, r)
			records += n
			known = known && good
			if t := s.templates[id]; t != nil && t.options != nil {
				h.options += n
			}
		case h.version == 9 && id <= 1, h.version == 10 && (id == 2 || id == 3):
			d.templateSet(set, h.version, id&1 == 1, s, r.arrival)
		default:
			d.refuse(s, partSetID, 1)
		}
		off += size
	}
	return records, known
}

// data reads a data set with its 4-byte header. good is false where its records could not be counted.
func (d *exportDecoder) data(set []byte, id uint16, s *domain, r *reading) (records int, good bool) {
	t := s.templates[id]
	if t == nil || r.arrival-t.seen > int64(templateLife) || t.stale && !t.fits(len(set)-4) {
		d.hold(set, id, s, r)
		return 0, false
	}
	switch p := t.plan; {
	case t.options != nil:
		records, good = d.optionsData(t.options, set[4:], s)
		r.heed(s)
		return records, good
	case p.variable:
		return d.variable(p, set[4:], r)
	default:
		body := len(set) - 4
		n := body / p.size
		if rest := body - n*p.size; rest > 0 && (rest > 3 || !zero(set[len(set)-rest:])) {
			d.refuse(s, partPadding, 1)
		}
		d.fixed(p, set[4:len(set)+slack], n, r)
		return n, true
	}
}

// fixed reads n records of equal size.
func (d *exportDecoder) fixed(p *plan, x []byte, n int, r *reading) {
	if !p.addressed {
		d.refuse(r.from, partAddress, n)
		return
	}
	for n > 0 && !p.biflow && !p.event {
		recs := d.room(n)
		for i := range recs {
			p.read(x, &recs[i], r)
			x = x[p.size:]
		}
		r.from.byInterface(recs)
		n -= len(recs)
		r.emitted += len(recs)
	}
	for ; n > 0; n-- { // biflows: one record of the wire gives two
		var one [1]Record
		p.read(x, &one[0], r)
		r.from.byInterface(one[:])
		back := p.reverse(x, &one[0])
		if p.event {
			d.once(p, x, &one[0], &back, r.from)
		}
		d.room(1)[0] = one[0]
		r.emitted++
		if back.Bytes != 0 || back.Packets != 0 {
			d.room(1)[0] = back
			r.emitted++
		}
		x = x[p.size:]
	}
}

// variable reads records whose fields state their lengths, by resolving each into a plan of its own.
func (d *exportDecoder) variable(p *plan, x []byte, r *reading) (records int, good bool) {
	for len(x) >= p.size {
		n, fits := p.resolve(x, &d.spare)
		if !fits {
			d.refuse(r.from, partVariable, 1)
			return records, false
		}
		d.fixed(&d.spare, x[:n+slack], 1, r)
		x = x[n:]
		records++
	}
	if len(x) > 3 || !zero(x) {
		d.refuse(r.from, partPadding, 1)
	}
	return records, true
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
