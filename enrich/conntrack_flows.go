package enrich

import (
	"net/netip"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/flow"
)

// counting turns the counters of a kernel's connections into flow records: what was added since the last look, per direction. The kernel
// counts without a packet being copied, and knows who opened and what was translated. It is bounded; past that, connections are counted
// at their end only. One goroutine uses it.
type counting struct {
	source   string // of the batches
	pool     flow.Pool
	emit     func(*flow.Batch)
	seen     map[countKey]counted
	sweep    uint8          // number of the present dump
	going    bool           // the first dump is over: what is new now has begun now
	patterns []string       // interfaces that are captured
	skip     []netip.Prefix // and their networks: what goes on there is counted there
	batch    *flow.Batch

	untold *metrics.Counter // connections beyond the bound
}

type countKey struct {
	orig  Tuple
	id    uint32
	proto uint8
}

type counted struct {
	bytes, packets [2]uint64
	last           int64 // when they had last changed
	sweep          uint8
	told, began    bool // a record was made; it began before our eyes
}

const (
	maxCounted   = 1 << 18
	countedBatch = 256 // records
)

// begin notes a connection that the kernel tells as new.
func (x *counting) begin(c *conntrack, now int64) {
	if x.elsewhere(c) {
		return
	}
	if len(x.seen) >= maxCounted {
		x.untold.Inc()
		return
	}
	x.seen[countKey{c.orig, c.id, c.proto}] = counted{last: now, sweep: x.sweep, began: true}
}

// elsewhere says that a connection is counted by others or is of no interest.
func (x *counting) elsewhere(c *conntrack) bool {
	return loopback(c.orig.Src) || loopback(c.reply.Src) || x.captured(c.orig.Src) || x.captured(c.reply.Src)
}

// take looks at a connection's counters; ended says that they are its last.
func (x *counting) take(c *conntrack, now int64, ended bool) {
	if !c.counted || x.elsewhere(c) {
		return
	}
	k := countKey{c.orig, c.id, c.proto}
	was, known := x.seen[k]
	if !known {
		if was = (counted{last: now, began: x.going}); c.start != 0 {
			was.last = c.start
		}
		if len(x.seen) >= maxCounted && !ended {
			x.untold.Inc()
			return
		}
	}
	is := counted{c.bytes, c.packets, was.last, x.sweep, was.told, was.began}
	for d := range 2 {
		if c.packets[d] < was.packets[d] || c.bytes[d] < was.bytes[d] { // another connection's, with the same id
			was.packets[d], was.bytes[d] = 0, 0
		}
		if c.packets[d] > was.packets[d] {
			is.last = now
		}
	}
	for d := range 2 {
		if c.packets[d] > was.packets[d] || ended && was.told {
			x.add(c, d, was.last, is.last, c.bytes[d]-was.bytes[d], c.packets[d]-was.packets[d], was.began && !was.told, ended)
			is.told = true
		}
	}
	if x.seen[k] = is; ended {
		delete(x.seen, k)
	}
}

// add makes a record, as the two ends see themselves: before the translation of the source, behind that of the destination.
func (x *counting) add(c *conntrack, d int, first, last int64, bytes, packets uint64, fresh, ended bool) {
	if x.batch == nil {
		x.batch = x.pool.Get()
		x.batch.Source = x.source
	}
	r := flow.Record{
		First: first, Last: last, Src: c.orig.Src, SrcPort: c.orig.SrcPort, Dst: c.reply.Src, DstPort: c.reply.SrcPort,
		Bytes: bytes, Packets: packets, Sampling: 1, Proto: c.proto,
	}
	if c.reply.Dst != c.orig.Src || c.reply.DstPort != c.orig.SrcPort {
		r.NATSrc, r.NATSrcPort = c.reply.Dst, c.reply.DstPort
	}
	if c.proto == flow.TCP {
		r.TCPFlags = flow.ACK
		if fresh && d == 0 {
			r.TCPFlags = flow.SYN
		}
		if ended {
			r.TCPFlags |= flow.FIN
		}
	}
	if d == 1 {
		r.Src, r.Dst, r.SrcPort, r.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
		r.NATSrc, r.NATDst, r.NATSrcPort, r.NATDstPort = r.NATDst, r.NATSrc, r.NATDstPort, r.NATSrcPort
		r.Flags = flow.FlagReply
	}
	if ended {
		r.Flags |= flow.FlagEnd
	}
	x.batch.Records = append(x.batch.Records, r)
	if len(x.batch.Records) >= countedBatch {
		x.send(last)
	}
}

// send hands over what there is; an empty batch says how far this source has come.
func (x *counting) send(now int64) {
	if x.batch == nil {
		x.batch = x.pool.Get()
		x.batch.Source = x.source
	}
	x.batch.Arrival, x.batch.Watermark = now, now
	b := x.batch
	x.batch = nil
	x.emit(b)
}

// swept ends a complete dump: connections that it did not show are forgotten, because their end was lost.
func (x *counting) swept() {
	x.going = true
	for k, c := range x.seen {
		if c.sweep != x.sweep {
			delete(x.seen, k)
		}
	}
}

func (x *counting) captured(a flow.Addr) bool {
	for _, p := range x.skip {
		if p.Contains(a.Netip()) {
			return true
		}
	}
	return false
}
