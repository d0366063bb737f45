package enrich

import (
	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	minute        = 60 // seconds between two updates of a connection
	nobodySeconds = 30 // a connection without a container is forgotten after this silence
	maxGone       = 1 << 16
	briefly       = 10 * second // a connection this short is in no slices: its end is all of it

	shardGone  = 255 // item.shard of an evicted conn
	shardNames = 254
)

// item is one thing to say in this Advance.
type item struct {
	time  int64
	id    uint64
	conn  uint32 // in its shard, in gone or in the names
	shard uint8
	kind  FlowKind
}

// Advance says everything that can be said when event time reaches now, a whole second, ordered by (Time, Conn, side): new
// connections that began before now, updates that are due, ends. Names come before flows of the same time.
func (t *Table) Advance(now int64, out Sink) {
	if now <= t.now {
		return
	}
	t.now = now
	t.items = t.items[:0]
	t.answerNames(now)
	for n, s := range t.shards {
		s.advance(uint32(now/second), func(i uint32, c *conn) { t.look(s, uint8(n), i, c) })
	}
	for i := range t.gone {
		g := &t.gone[i]
		kind := Close
		if g.state == connPending {
			kind |= Open
		}
		t.say(g, shardGone, uint32(i), kind)
	}
	t.items = t.sorter.sort(t.items)
	for i := range t.items {
		switch it := &t.items[i]; it.shard {
		case shardNames:
			t.sayName(&t.names.queue[it.conn], out)
		case shardGone:
			t.report(&t.gone[it.conn], it, out)
			t.keep(&t.gone[it.conn], -1)
		default:
			s := t.shards[it.shard]
			c := s.conn(it.conn)
			t.report(c, it, out)
			if it.kind&(Open|Close) == Close {
				t.gave = append(t.gave, leaver{conn: it.conn, shard: it.shard})
			}
		}
	}
	t.dropAll()
	t.gone = t.gone[:0]
	t.forgetNames()
	if now-t.swept >= minute*second {
		t.sweep(now)
	}
	t.count.flush()
	t.count.gauges(t)
}

// say makes an item of a conn.
func (t *Table) say(c *conn, shard uint8, i uint32, kind FlowKind) {
	at := c.start
	if kind&Open == 0 {
		at = min(c.last, t.now)
	}
	t.items = append(t.items, item{at, c.id(), i, shard, kind})
}

// look is what happens to a conn when its timer is due.
func (t *Table) look(s *shard, n uint8, i uint32, c *conn) {
	switch c.state {
	case connPending:
		t.lookPending(s, n, i, c)
	case connOpen:
		t.lookOpen(s, n, i, c)
	case connNobody:
		if t.now-c.last > nobodySeconds*second || c.bits&bitDetached != 0 {
			t.gave = append(t.gave, leaver{conn: i, shard: n})
			return
		}
		if c.checked != t.index.moved {
			if t.attribute(c); c.owned() {
				// Its engine was heard later. What it did until now was not counted and its SYN not looked for.
				c.tcp[0] |= flow.ACK
				c.state = connPending
				s.at(i, s.second+1)
				return
			}
		}
		s.at(i, s.second+nobodySeconds)
	case connClosed:
		t.gave = append(t.gave, leaver{conn: i, shard: n})
	}
}

func (t *Table) lookPending(s *shard, n uint8, i uint32, c *conn) {
	if c.start >= t.now {
		s.at(i, uint32(c.start/second)+1)
		return
	}
	if c.bits&bitMoved != 0 || c.checked != t.index.moved {
		wait := t.attribute(c)
		if wait && t.now < max(c.start, int64(c.reported)*second)+int64(t.c.Connections.Hold) {
			s.at(i, s.second+1)
			return
		}
	}
	t.settle(c)
	if !c.owned() {
		t.nobody(c)
		s.at(i, s.second+nobodySeconds)
		return
	}
	c.reported = s.second
	c.state = connOpen
	switch {
	case c.bits&bitDetached != 0 || c.bits&bitEnded != 0 && c.last-c.start < briefly && c.evidence[0]&c.evidence[1]&sawAny != 0:
		c.state = connClosed
		t.say(c, n, i, Open|Close)
		s.at(i, s.second+t.linger())
	case c.bits&bitEnded != 0:
		c.bits |= bitRipe
		t.say(c, n, i, Open)
		s.at(i, s.second+t.linger())
	default:
		t.say(c, n, i, Open)
		s.at(i, t.next(s, c))
	}
}

func (t *Table) lookOpen(s *shard, n uint8, i uint32, c *conn) {
	idle := t.idle(c)
	switch {
	case c.bits&bitRipe != 0 || t.now-c.last > idle:
		c.state = connClosed
		t.say(c, n, i, Close)
	case c.bits&bitEnded != 0:
		c.bits |= bitRipe
		s.at(i, s.second+t.linger())
	default:
		if c.bits&bitDirty != 0 && s.second-c.reported >= minute {
			c.reported = s.second
			t.say(c, n, i, Update)
		}
		s.at(i, t.next(s, c))
	}
}

// next is the second at which an open conn is looked at again.
func (t *Table) next(s *shard, c *conn) uint32 {
	end := uint32((c.last+t.idle(c))/second) + 1
	return min(s.second+minute, max(end, s.second+t.linger())) // late exports deserve the linger too
}

func (t *Table) linger() uint32 { return uint32(t.c.Connections.Linger / second) }

// settle moves the records that waited for the verdict to its counter.
func (t *Table) settle(c *conn) {
	t.count.class[c.class] += uint64(c.waiting)
	t.held -= uint64(c.waiting)
	c.waiting = 0
}

// nobody is the verdict that costs nothing more.
func (t *Table) nobody(c *conn) { c.state = connNobody }

// drop forgets a conn.
func (t *Table) drop(s *shard, i uint32, c *conn) {
	if c.bits&bitDetached == 0 {
		s.remove(t.seed.tuple(c.ends[0], c.ends[1], c.ports[0], c.ports[1], c.proto), i)
	}
	t.give(c, 0, 0)
	t.give(c, 1, 0)
	s.giveBack(i)
}

// leaver is a conn to drop at the end of an Advance.
type leaver struct {
	hash  uint64
	conn  uint32
	shard uint8
}

// dropAll drops in blocks: first the places of all in the index are touched, so that the cache misses overlap.
func (t *Table) dropAll() {
	for block := t.gave; len(block) > 0; {
		n := min(len(block), strideSize)
		for k := range block[:n] {
			l := &block[k]
			s := t.shards[l.shard]
			c := s.conn(l.conn)
			l.hash = t.seed.tuple(c.ends[0], c.ends[1], c.ports[0], c.ports[1], c.proto)
			t.touched += int64(s.slots[uint32(l.hash)&uint32(len(s.slots)-1)].conn)
		}
		for k := range block[:n] {
			l := &block[k]
			s := t.shards[l.shard]
			c := s.conn(l.conn)
			if c.bits&bitDetached == 0 {
				s.remove(l.hash, l.conn)
			}
			t.give(c, 0, 0)
			t.give(c, 1, 0)
			s.giveBack(l.conn)
		}
		block = block[n:]
	}
	t.gave = t.gave[:0]
}

// evict gives up a connection of one container, or of anybody, but not the one to keep. What it has to say waits for the next Advance.
func (t *Table) evict(s *shard, owner, keep uint32) bool {
	i := s.victim(owner, keep)
	if i == 0 {
		return false
	}
	c := s.conn(i)
	t.count.evicted++
	if c.state == connPending {
		t.settle(c)
	}
	if c.owned() && (c.state == connPending || c.state == connOpen) {
		if len(t.gone) < maxGone {
			t.gone = append(t.gone, *c)
			t.keep(c, 1)
		} else {
			t.count.unreported++
		}
	}
	t.drop(s, i, c)
	return true
}

// keep counts the evicted ones that still name a member.
func (t *Table) keep(c *conn, n int32) {
	for _, o := range c.owner {
		t.roster.members[o].evicted += n
	}
}

// sweep forgets, once a minute, addresses and containers that no flow can come from any more.
func (t *Table) sweep(now int64) {
	t.swept = now
	keep := int64(t.c.Addresses.Retention)
	for i := range t.exporter.list {
		keep = max(keep, 2*t.exporter.list[i].longest+minute*second)
	}
	t.index.prune(now - keep)
	t.roster.bury(now-keep, func(m *member) { t.names.kept -= len(m.names.ring) })
}

// report says an item for each side that has a container.
func (t *Table) report(c *conn, it *item, out Sink) {
	if it.kind&Open != 0 {
		t.orient(c)
	}
	for side := range 2 {
		if c.owner[side] != 0 {
			t.fill(c, side, it)
			out.Flow(&t.flow)
		}
	}
	c.total[0] += c.bytes[0]
	c.total[1] += c.bytes[1]
	c.bytes, c.packets = [2]uint64{}, [2]uint64{}
	c.bits &^= bitDirty
}

// orient settles who opened and learns where containers listen.
func (t *Table) orient(c *conn) {
	opener, strong := c.orient(func(side int) bool {
		return c.owner[side] != 0 && t.roster.members[c.owner[side]].serves(c.ports[side], c.proto)
	})
	c.opener = opener
	if strong {
		if o := c.owner[1-opener]; o != 0 {
			t.roster.members[o].served(c.ports[1-opener], c.proto)
		}
	}
}

// fill makes the Flow of one side.
func (t *Table) fill(c *conn, side int, it *item) {
	m := &t.roster.members[c.owner[side]]
	o := 1 - side
	var peer *Container
	if c.owner[o] != 0 {
		peer = t.roster.members[c.owner[o]].c
	}
	opener := OpenerUnknown
	answered := o
	switch int(c.opener) {
	case side:
		opener = OpenerLocal
	case o:
		opener, answered = OpenerRemote, side
	}
	t.flow = Flow{
		Kind: it.kind, Time: it.time, Start: c.start, Conn: it.id,
		Container: m.c, Local: c.ends[side], LocalPort: c.ports[side],
		Peer: c.ends[o], PeerPort: c.ports[o], Proto: c.proto,
		PeerIs: peer, PeerName: m.names.of(c.ends[o], it.time), Opener: opener,
		Sent: c.bytes[side], Received: c.bytes[o], PacketsSent: c.packets[side], PacketsReceived: c.packets[o],
		TotalSent: c.total[side] + c.bytes[side], TotalReceived: c.total[o] + c.bytes[o],
		Method: c.how[side], Confidence: c.sure[side], Partition: m.partition,
		Midstream: c.midstream(), Sampled: c.bits&bitSampled != 0,
		NoReply: c.evidence[answered]&sawAny == 0, TCPFlags: c.tcp[0] | c.tcp[1],
	}
}
