package enrich

import (
	"math/rand/v2"

	"github.com/wharfwatch/wharfwatch/flow"
)

// strideSize is how many records one pass hashes and touches before the next pass updates: the cache misses overlap.
const strideSize = 32

// look is what the first pass found out about a record.
type look struct {
	hash   uint64
	sp, dp uint16
	shard  uint8
}

func randomSeed() (s seed) {
	for i := range s {
		s[i] = rand.Uint64() | 1
	}
	return s
}

// Records takes records in the order they came. Nothing is said before Advance.
func (t *Table) Records(rs []flow.Record) {
	t.count.records += uint64(len(rs))
	for len(rs) > 0 {
		n := min(len(rs), strideSize)
		t.records(rs[:n])
		rs = rs[n:]
	}
	t.count.flush()
}

func (t *Table) records(rs []flow.Record) {
	var sum int64
	var hint [strideSize]uint32
	var holders [2 * strideSize]uint32
	for i := range rs {
		r, l := &rs[i], &t.stride[i]
		l.sp, l.dp = tuplePorts(r)
		l.hash = t.seed.tuple(r.Src, r.Dst, l.sp, l.dp, r.Proto)
		if len(t.shards) > 1 {
			l.shard = uint8(shardOf(plain.tuple(r.Src, r.Dst, l.sp, l.dp, r.Proto), len(t.shards)))
		}
		s := t.shards[l.shard]
		hint[i] = s.slots[uint32(l.hash)&uint32(len(s.slots)-1)].conn
	}
	fresh := 0
	for i := range rs {
		s := t.shards[t.stride[i].shard]
		at := hint[i]
		if at == 0 { // a new one: touch what it will get, and who holds its addresses
			if fresh < len(s.free) {
				fresh++
				at = s.free[len(s.free)-fresh]
			}
			holders[2*i], holders[2*i+1] = t.index.at.home(rs[i].Src).v, t.index.at.home(rs[i].Dst).v
		}
		c := s.conn(at)
		sum += c.last + int64(c.checked)
		if hint[i] == 0 {
			sum += c.start
		}
	}
	for _, v := range holders[:2*len(rs)] {
		if int(v) < len(t.index.sole) {
			sum += t.index.sole[v].from
		}
	}
	t.touched = sum
	for i := range rs {
		l := &t.stride[i]
		t.record(t.shards[l.shard], &rs[i], l)
	}
}

// record joins one record to its connection.
func (t *Table) record(s *shard, r *flow.Record, l *look) {
	i, d := s.find(l.hash, r.Src, r.Dst, l.sp, l.dp, r.Proto)
	var c *conn
	if i != 0 {
		c = s.conn(i)
		gap := r.First - c.last
		switch {
		case gap > 0 && (gap > second || r.TCPFlags&flow.SYN != 0) && t.another(c, r, d, gap):
			t.detach(s, i, c, l.hash)
			i = 0
		case r.Last < c.last-second && r.Last < c.start-second && c.state >= connOpen && c.start-r.Last > t.idle(c):
			// Older than this connection by more than a silence: one of its own that nobody will ask for again.
			if i, d = t.begin(s, r, l, false); i == 0 {
				return
			}
			c = s.conn(i)
		}
	}
	if i == 0 {
		if i, d = t.begin(s, r, l, true); i == 0 {
			return
		}
		c = s.conn(i)
	}
	if c.state == connNobody {
		c.last = max(c.last, r.Last)
		t.count.class[c.class]++
		return
	}

	from := observer(r)
	mark := fingerprint(r)
	at := uint32(max(r.Last, 0) / second)
	c.tcp[d] |= r.TCPFlags
	if c.observer[d] != from {
		if c.observer[d] != 0 {
			if int64(uint32(max(r.First, 0)/second))-int64(c.heard[d]) <= t.takeover(c) {
				t.count.duplicates++
				c.last = max(c.last, r.Last)
				return
			}
			t.count.takeovers++
		}
		c.observer[d] = from
	} else if c.mark[d] == mark {
		t.count.duplicates++
		return
	}
	c.mark[d] = mark
	c.heard[d] = max(c.heard[d], at)

	if c.state == connClosed {
		t.count.late++
		t.count.class[c.class]++
		return
	}
	bytes, packets := r.Scaled()
	c.bytes[d] += bytes
	c.packets[d] += packets
	if c.state == connPending {
		t.early(c, r, d)
		c.waiting++
		t.held++
	} else {
		t.count.class[c.class]++
		if c.bits&(bitDirty|bitEnded) == 0 {
			t.wake(s, i, c)
		}
	}
	c.bits |= bitDirty
	c.last = max(c.last, r.Last)
	c.evidence[d] |= sawAny
	if r.Flags&flow.FlagPackets == 0 { // the assembler hands over what it has every few seconds: that cuts nothing
		t.cut(c, r)
	}
	if (r.TCPFlags&(flow.FIN|flow.RST) != 0 || r.Flags&flow.FlagEnd != 0) && c.bits&bitEnded == 0 {
		t.finish(s, i, c, r, d)
	}
	if c.due == 0 {
		t.await(s, i, c)
	}
}

// await sets the first look at a new connection: when the second of its start is over, or when the rest of it has had its time.
func (t *Table) await(s *shard, i uint32, c *conn) {
	at := max(c.start, 0)
	if c.bits&bitMoved == 0 && c.halfDone() {
		at = max(c.last, 0) + halfDone
	}
	s.at(i, uint32(at/second)+1)
}

// early takes from a record what matters until the open is reported.
func (t *Table) early(c *conn, r *flow.Record, d int) {
	if r.First < c.start {
		c.start = r.First
		c.bits |= bitMoved
	}
	if r.Last > c.last && !c.firm {
		c.bits |= bitMoved
	}
	if c.first[d] == 0 || r.First < c.first[d] {
		c.first[d] = r.First
	}
	if r.Sampling > 1 {
		c.bits |= bitSampled
	}
	switch r.Proto {
	case flow.TCP:
		switch {
		case r.TCPFlags&(flow.SYN|flow.ACK) == flow.SYN:
			c.evidence[d] |= sawSYN
		case r.TCPFlags&(flow.SYN|flow.ACK) == flow.SYN|flow.ACK && r.Packets == 1:
			c.evidence[d] |= sawSYNACK // one packet: no client's SYN and ACK together
		}
	case flow.ICMP:
		if r.DstPort == 8<<8 {
			c.evidence[d] |= sawRequest
		}
	case flow.ICMPv6:
		if r.DstPort == 128<<8 {
			c.evidence[d] |= sawRequest
		}
	}
	if r.Flags&flow.FlagReply != 0 {
		c.evidence[d] |= sawReply
	}
	if r.Flags&flow.FlagPackets != 0 {
		c.bits |= bitPackets
		if r.Flags&flow.FlagReply == 0 && r.TCPFlags&flow.SYN != 0 && r.Proto == flow.TCP {
			c.evidence[d] |= sawFirst
		}
	}
}

// begin makes a conn for a record; found says whether its tuple leads to it from now on.
func (t *Table) begin(s *shard, r *flow.Record, l *look, found bool) (uint32, int) {
	i := s.alloc()
	for i == 0 {
		if !t.evict(s, 0, 0) {
			t.count.class[classRefused]++
			return 0, 0
		}
		i = s.alloc()
	}
	c := s.conn(i)
	gen := c.gen
	*c = conn{} // in place: with fields in it this were made elsewhere and copied
	c.gen, c.start, c.last, c.state, c.opener, c.reported = gen, r.First, r.Last, connPending, -1, s.second
	d := c.place(r.Src, r.Dst, l.sp, l.dp, r.Proto)
	c.exporter = t.exporterOf(r)
	if !found {
		c.bits |= bitDetached
	} else {
		s.insert(l.hash, i)
	}
	t.count.connections++
	wait := t.attribute(c)
	if c.why[d] == ReasonNotReady && t.bridged(r.Src) {
		t.stranger(&flow.Sight{Time: r.First, Addr: r.Src, Peer: r.Dst, Port: r.DstPort, Proto: r.Proto})
	}
	if !wait && !c.owned() {
		t.nobody(c)
		s.at(i, s.second+nobodySeconds)
		return i, d
	}
	for side := range c.owner {
		o := c.owner[side]
		if o != 0 && t.roster.members[o].conns > t.quota && !t.evict(s, o, i) {
			t.drop(s, i, c)
			t.count.class[classRefused]++
			return 0, 0
		}
	}
	return i, d
}

// observer names an observation point: exporter and domain or the packets of this host, with interface and segment.
func observer(r *flow.Record) uint32 {
	h := mix(r.Exporter.Lo^plain[0]^uint64(r.Domain)<<32, r.Exporter.Hi^plain[1]^uint64(r.InIf)<<32^uint64(r.VNI)^uint64(r.VLAN)<<24)
	if r.Flags&flow.FlagPackets != 0 {
		h ^= plain[2]
	}
	return uint32(h>>32) | 1
}

// fingerprint tells a record that came twice from the next slice: a datagram repeated, or an interface metered on the way in and out.
func fingerprint(r *flow.Record) uint32 {
	h := mix(uint64(r.First)^plain[0], uint64(r.Last)^plain[1])
	return uint32((h^r.Bytes)*plain[2]>>32 ^ r.Packets*plain[3]>>32)
}
