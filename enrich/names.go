package enrich

import (
	"slices"

	"github.com/wharfwatch/wharfwatch/flow"
)

// names holds what was asked until it can be said who asked, and bounds what is remembered.
type names struct {
	c     Names
	queue []asked
	kept  int       // remembered, by all containers
	host  nameCache // what the host itself resolved
}

// asked is one name that waits for the next Advance.
type asked struct {
	name   flow.Name
	since  int64 // event time when it came
	holder uint32
	done   bool
}

const maxAsked = 1 << 16

// Names takes the names of a batch. Each goes to the Sink with the container that asked, or is counted as nobody's.
func (t *Table) Names(ns []flow.Name) {
	for i := range ns {
		t.count.names++
		if len(t.names.queue) == maxAsked {
			t.count.namesDropped++
			continue
		}
		n := ns[i]
		if n.Kind.OfConnection() && !t.said.keep(&n) {
			t.count.namesForgotten++
		}
		n.Addrs = slices.Clone(n.Addrs) // the batch is recycled
		t.names.queue = append(t.names.queue, asked{name: n, since: max(t.now, n.Time)})
	}
	t.count.flush()
}

// answer decides which names can be said now; each becomes an item.
func (t *Table) answerNames(now int64) {
	for i := range t.names.queue {
		a := &t.names.queue[i]
		if a.name.Time >= now {
			continue
		}
		v := t.resolve(query{addr: a.name.Client, first: a.name.Time, last: a.name.Time})
		if v.holder == 0 && v.wait != final && now < a.since+int64(t.c.Connections.Hold) {
			continue
		}
		a.done = true
		if v.holder == 0 {
			if t.hosted(&a.name) {
				t.count.namesHost++
			} else {
				t.count.namesNobody++
			}
			continue
		}
		a.holder = v.holder
		t.items = append(t.items, item{time: a.name.Time, conn: uint32(i), shard: shardNames})
	}
}

// forgetNames drops what was said.
func (t *Table) forgetNames() {
	t.names.queue = slices.DeleteFunc(t.names.queue, func(a asked) bool { return a.done })
}

// sayName remembers a name for its container and hands it on.
func (t *Table) sayName(a *asked, out Sink) {
	m := &t.roster.members[a.holder]
	switch {
	case a.name.Kind.OfConnection():
	case m.c.ID == "":
		t.keepHosted(&a.name) // a process of the host, which may ask for others
	default:
		m.resolves = true
	}
	until := a.name.Time + max(int64(t.names.c.Least), int64(a.name.TTL)*second)
	for _, addr := range a.name.Addrs {
		if !m.names.keep(addr, a.name.Name, until, &t.names) {
			t.count.namesForgotten++
		}
	}
	n := Name{Name: a.name, Container: m.c}
	out.Name(&n)
}

// nameCache is what one container resolved lately: a ring, so that the oldest makes room.
type nameCache struct {
	at   map[flow.Addr]int32 // place in ring
	ring []known
	next int
}

type known struct {
	addr  flow.Addr
	name  string
	until int64
}

// keep reports whether nothing had to be forgotten for it.
func (c *nameCache) keep(addr flow.Addr, name string, until int64, n *names) bool {
	if i, ok := c.at[addr]; ok {
		c.ring[i] = known{addr, name, until}
		return true
	}
	if len(c.ring) < n.c.PerContainer && n.kept < n.c.Total {
		if c.at == nil {
			c.at = map[flow.Addr]int32{}
		}
		c.at[addr] = int32(len(c.ring))
		c.ring = append(c.ring, known{addr, name, until})
		n.kept++
		return true
	}
	if len(c.ring) == 0 {
		return false
	}
	c.next %= len(c.ring)
	old := &c.ring[c.next]
	delete(c.at, old.addr)
	c.at[addr] = int32(c.next)
	fresh := old.until < until-int64(n.c.Least) // it had expired: nothing is lost
	*old = known{addr, name, until}
	c.next++
	return fresh
}

// of is the name that the container last resolved to addr, "" when it did not or too long ago.
func (c *nameCache) of(addr flow.Addr, at int64) string {
	if len(c.ring) == 0 { // nothing is known of most: only packets bring names
		return ""
	}
	if i, ok := c.at[addr]; ok && c.ring[i].until >= at {
		return c.ring[i].name
	}
	return ""
}
