package enrich

import (
	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	minute        = 60                                // seconds between two updates of a connection
	quiet         = (wheelSize - 2) / minute * minute // the most seconds between two looks at a connection with nothing to say
	nobodySeconds = 30                                // a connection without a container is forgotten after this silence
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
	t.answerSights(now, out)
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
	t.speech.out = out
	for i := range t.items {
		if i%strideSize == 0 {
			t.touchOwners(t.items[i:min(i+strideSize, len(t.items))])
		}
		switch it := &t.items[i]; it.shard {
		case shardNames:
			t.speech.flush()
			t.sayName(&t.names.queue[it.conn], out)
		case shardGone:
			t.report(&t.gone[it.conn], it)
			t.keep(&t.gone[it.conn], -1)
		default:
			s := t.shards[it.shard]
			c := s.conn(it.conn)
			t.report(c, it)
			if it.kind&Close != 0 && c.bits&bitRipe != 0 {
				t.gave = append(t.gave, leaver{conn: it.conn, shard: it.shard})
			}
		}
	}
	t.speech.flush()
	t.dropAll()
	t.gone = t.gone[:0]
	t.forgetNames()
	if now-t.swept >= minute*second {
		t.sweep(now)
	}
	t.count.flush()
	t.count.gauges(t)
}

// touchOwners loads what is known of the containers that items are about.
func (t *Table) touchOwners(items []item) {
	sum := t.touched
	for i := range items {
		if it := &items[i]; it.shard < shardNames {
			for _, o := range t.shards[it.shard].conn(it.conn).owner {
				m := &t.roster.members[o]
				sum += int64(m.partition) + int64(m.listens[0])
			}
		}
	}
	t.touched = sum
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
	half := c.halfDone()
	if end := c.last + halfDone; half && t.now <= end {
		s.at(i, uint32(end/second)+1)
		return
	}
	c.reported = s.second
	c.state = connOpen
	switch {
	case half:
		c.state = connClosed
		c.bits |= bitRipe
		t.say(c, n, i, Open|Close)
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
		s.at(i, t.next(s, c, false))
	}
}

func (t *Table) lookOpen(s *shard, n uint8, i uint32, c *conn) {
	idle := t.idle(c)
	switch {
	case c.bits&bitRipe != 0 || t.now-c.last > idle:
		c.state = connClosed
		c.bits |= bitRipe
		t.say(c, n, i, Close)
	case c.bits&bitEnded != 0:
		c.bits |= bitRipe
		s.at(i, s.second+t.linger())
	default:
		dirty := c.bits&bitDirty != 0
		if dirty && s.second-c.reported >= minute {
			c.reported, dirty = s.second, false
			t.say(c, n, i, Update)
		}
		s.at(i, t.next(s, c, dirty))
	}
}

// next is the second at which an open conn is looked at again: when it will be over, but at least once a minute. One with nothing to
// say, whose exporter is not expected to speak of it for minutes, is left alone longer.
func (t *Table) next(s *shard, c *conn, dirty bool) uint32 {
	wait := uint32(minute)
	if !dirty && t.exporter.list[c.exporter].longest > 2*minute*second {
		wait = quiet
	}
	end := uint32((c.last+t.idle(c))/second) + 1
	return min(s.second+wait, max(end, s.second+t.linger())) // late exports deserve the linger too
}

// wake brings the next look at an open conn forward, now that it has something to say: to the next second, while its memory is warm,
// but not within a minute of the last report.
func (t *Table) wake(s *shard, i uint32, c *conn) {
	if at := max(c.reported+minute, s.second+1); at < c.due {
		s.at(i, at)
	}
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

// sweep forgets, once a minute, addresses and containers that no flow can come from any more.
func (t *Table) sweep(now int64) {
	t.swept = now
	keep := int64(t.c.Addresses.Retention)
	for i := range t.exporter.list {
		keep = max(keep, 2*t.exporter.list[i].longest+minute*second)
	}
	t.index.prune(now - keep)
	t.tracks.prune(now - keep)
	t.ports.prune(now - keep)
	t.macs.prune(now - keep)
	t.sights.prune(now)
	t.leave()
	t.roster.bury(now-keep, func(m *member) { t.names.kept -= len(m.names.ring) })
}
