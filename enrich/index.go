package enrich

import (
	"math"
	"slices"

	"github.com/wharfwatch/wharfwatch/flow"
)

// forever is the end of a binding that still holds.
const forever = math.MaxInt64

// Key is one address on one network of one engine: 172.17.0.2 exists on every host.
type Key struct {
	Engine  string    `json:"engine"`
	Network string    `json:"network"` // network id
	Addr    flow.Addr `json:"addr"`
}

// span says that a member held the address in [from, to).
type span struct {
	from, to int64
	holder   uint32 // slot in the roster
	soft     bool   // ended by the death of the container plus a grace; the disconnect says better
}

// lane is the history of one Key: sorted by from, never overlapping.
type lane struct {
	engine, network string
	spans           []span
}

// IPIndex knows who held an address when. It is bounded per key and in total; what it had to forget is counted in evicted.
// Flows are looked up by address alone: an exporter does not know networks.
type IPIndex struct {
	at     addrMap  // address → place in lanes
	lanes  [][]lane // per address; more than one where networks or engines repeat addresses
	sole   []sole   // per address
	addrs  []flow.Addr
	free   []uint32
	spans  int    // all of them
	moved  uint32 // changes with every change: a verdict older than it may be stale
	cursor int    // where the search for something to forget goes on

	perKey, total int
	dropped       func(holder uint32) // one span of this holder is gone
	evicted       uint64
}

func newIPIndex(perKey, total int, dropped func(uint32)) *IPIndex {
	return &IPIndex{perKey: perKey, total: total, dropped: dropped}
}

// open binds key to holder from t on. It reports whether a new span was made. A later holder of the same key ends an earlier one.
func (x *IPIndex) open(k Key, holder uint32, t int64) bool {
	ln := x.lane(k)
	i := ln.after(t)
	if i > 0 {
		if p := &ln.spans[i-1]; p.holder == holder && p.to >= t {
			if p.soft { // restarted before its disconnect came
				p.to, p.soft = ln.begins(i), false
				x.moved++
			}
			return false
		}
	}
	if i < len(ln.spans) && ln.spans[i].holder == holder { // known, but from a later time on
		ln.spans[i].from = t
		ln.end(i-1, t)
		x.moved++
		return false
	}
	if x.spans >= x.total && !x.forget() {
		x.evicted++
		return false
	}
	i = ln.after(t)
	ln.end(i-1, t)
	ln.spans = slices.Insert(ln.spans, i, span{from: t, to: ln.begins(i), holder: holder})
	x.spans++
	x.moved++
	if len(ln.spans) > x.perKey {
		x.cut(ln, 1)
		x.evicted++
	}
	return true
}

// close ends holder's binding of key at t. A soft end is a guess that the next close of the same binding corrects.
func (x *IPIndex) close(k Key, holder uint32, t int64, soft bool) {
	i, ok := x.at.get(k.Addr)
	if !ok {
		return
	}
	for j := range x.lanes[i] {
		ln := &x.lanes[i][j]
		if ln.engine != k.Engine || ln.network != k.Network {
			continue
		}
		for s := ln.after(t) - 1; s >= 0; s-- {
			p := &ln.spans[s]
			if p.holder != holder {
				continue
			}
			if p.to == forever || (p.soft && !soft) || (!p.soft && p.to > t && s == len(ln.spans)-1) {
				p.to, p.soft = min(max(t, p.from), ln.begins(s+1)), soft
				x.moved++
			}
			return
		}
	}
}

// sole is the newest span of an address that belongs to one network: nearly every question is about it, and within [from, to) no other
// holder comes into question. It is empty where networks share the address.
type sole struct {
	from, to int64
	holder   uint32
	moved    uint32 // state of the index when it was looked up
}

// newest returns the sole span of an address, nil when nobody ever held the address.
func (x *IPIndex) newest(addr flow.Addr) *sole {
	i, ok := x.at.get(addr)
	if !ok {
		return nil
	}
	s := &x.sole[i]
	if s.moved != x.moved {
		*s = sole{moved: x.moved}
		if ls := x.lanes[i]; len(ls) == 1 && len(ls[0].spans) > 0 {
			p := &ls[0].spans[len(ls[0].spans)-1]
			s.from, s.to, s.holder = p.from, p.to, p.holder
		}
	}
	return s
}

// hit is one holder of an address whose time there touches an interval.
type hit struct {
	from, to int64
	holder   uint32
}

// find appends the holders of addr whose spans overlap [first, last], both widened by slack. It does not allocate while hits has room.
func (x *IPIndex) find(addr flow.Addr, first, last, slack int64, hits []hit) []hit {
	i, ok := x.at.get(addr)
	if !ok {
		return hits
	}
	for j := range x.lanes[i] {
		spans := x.lanes[i][j].spans
		for s := x.lanes[i][j].after(last+slack) - 1; s >= 0; s-- {
			p := &spans[s]
			if p.to <= first-slack {
				break
			}
			if len(hits) == cap(hits) {
				return hits
			}
			hits = append(hits, hit{p.from, p.to, p.holder})
		}
	}
	return hits
}

// prune forgets what ended before t.
func (x *IPIndex) prune(t int64) {
	for i := range x.lanes {
		for j := len(x.lanes[i]) - 1; j >= 0; j-- {
			ln := &x.lanes[i][j]
			n := 0
			for n < len(ln.spans) && ln.spans[n].to < t {
				n++
			}
			x.cut(ln, n)
			if len(ln.spans) == 0 {
				x.lanes[i] = slices.Delete(x.lanes[i], j, j+1)
			}
		}
		x.release(uint32(i))
	}
}

// forget makes room for one span: the oldest ended one of the next address that has one.
func (x *IPIndex) forget() bool {
	for range x.lanes {
		x.cursor = (x.cursor + 1) % len(x.lanes)
		for j := range x.lanes[x.cursor] {
			ln := &x.lanes[x.cursor][j]
			if len(ln.spans) > 0 && ln.spans[0].to != forever {
				x.cut(ln, 1)
				x.evicted++
				return true
			}
		}
	}
	return false
}

// cut removes the n oldest spans of a lane.
func (x *IPIndex) cut(ln *lane, n int) {
	if n == 0 {
		return
	}
	for _, s := range ln.spans[:n] {
		if x.dropped != nil {
			x.dropped(s.holder)
		}
	}
	ln.spans = slices.Delete(ln.spans, 0, n)
	x.spans -= n
	x.moved++
}

// release gives the place of an address back when its last lane is gone.
func (x *IPIndex) release(i uint32) {
	if len(x.lanes[i]) > 0 || x.addrs[i].IsZero() {
		return
	}
	x.at.del(x.addrs[i])
	x.addrs[i] = flow.Addr{}
	x.free = append(x.free, i)
}

// lane finds or makes the lane of a key.
func (x *IPIndex) lane(k Key) *lane {
	i, ok := x.at.get(k.Addr)
	if !ok {
		if n := len(x.free); n > 0 {
			i, x.free = x.free[n-1], x.free[:n-1]
			x.addrs[i] = k.Addr
		} else {
			i = uint32(len(x.lanes))
			x.lanes = append(x.lanes, nil)
			x.sole = append(x.sole, sole{})
			x.addrs = append(x.addrs, k.Addr)
		}
		x.at.put(k.Addr, i)
	}
	for j := range x.lanes[i] {
		if x.lanes[i][j].engine == k.Engine && x.lanes[i][j].network == k.Network {
			return &x.lanes[i][j]
		}
	}
	x.lanes[i] = append(x.lanes[i], lane{engine: k.Engine, network: k.Network})
	return &x.lanes[i][len(x.lanes[i])-1]
}

// begins is when the i-th span begins, forever behind the last.
func (l *lane) begins(i int) int64 {
	if i < len(l.spans) {
		return l.spans[i].from
	}
	return forever
}

// end ends the i-th span at t if it is there and lasts longer.
func (l *lane) end(i int, t int64) {
	if i >= 0 && l.spans[i].to > t {
		l.spans[i].to, l.spans[i].soft = t, false
	}
}

// after is the number of spans that begin at or before t.
func (l *lane) after(t int64) int {
	n := len(l.spans)
	if n == 0 || l.spans[n-1].from <= t { // the usual question is about now
		return n
	}
	lo, hi := 0, n
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		if l.spans[m].from <= t {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}
