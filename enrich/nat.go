package enrich

import (
	"math"

	"github.com/wharfwatch/wharfwatch/flow"
)

// trackTable is what kernels told of connections: their translations and the owners of the host's own sockets, over time. A connection
// is found by either of the two tuples under which it is seen: before and behind the host's translation. It is bounded; what it had to
// forget is counted in evicted. One goroutine uses it.
type trackTable struct {
	seed    *seed
	most    int
	entries []track
	free    []uint32
	slots   []trackSlot // open addressing, at most half full; equal keys stand in one run, as tuples are used again
	used    int
	live    int
	hand    uint32 // of the eviction clock
	owners  owners
	listens map[listenKey][]listener
	ears    int // listeners in listens
	kernels []kernelState

	begun, ended, evicted, refused uint64
}

// track is one connection of a kernel.
type track struct {
	orig, reply Tuple
	from, to    int64     // to is forever while it lasts
	sure        int64     // a flow that began earlier may be of somebody else: the dump that found it
	owner       [2]uint32 // slots in owners, 0 nobody
	proto       uint8
	engine      uint8
	flags       uint8  // of the Track
	dump        uint8  // the newest one that showed it
	more        uint16 // conversations of ICMP besides the first
	taken       bool
}

// trackSlot names a track and one of its views.
type trackSlot struct{ tag, ref uint32 } // ref is track<<1 | view; 0 is an empty slot, because track 0 is never used

// kernelState is how far one kernel was heard.
type kernelState struct {
	live, heard bool
	progress    int64
	dump        uint8
	began       int64 // of the dump
	gaps        []gap // newest last
	host        []flow.Addr
}

type gap struct{ from, to int64 }

const (
	maxGaps    = 64
	maxListens = 1 << 16
	maxRun     = 64 // tracks of one tuple that a lookup considers, newest anywhere
)

func newTrackTable(most int, s *seed) trackTable {
	return trackTable{seed: s, most: most, entries: make([]track, 1), owners: newOwners(), listens: map[listenKey][]listener{}}
}

// view is how the connection looks on one side of the translation: 0 where it was opened, 1 behind it.
func (e *track) view(n uint32) Tuple {
	if n == 0 {
		return e.orig
	}
	return e.reply.reverse()
}

func (x *trackTable) hash(v Tuple, proto uint8) uint32 {
	return uint32(x.seed.tuple(v.Src, v.Dst, v.SrcPort, v.DstPort, proto))
}

// begin takes a connection in. One that was thought to last with the same tuple has ended unheard.
func (x *trackTable) begin(engine uint8, k *Track) {
	x.begun++
	t := track{orig: k.Orig, reply: k.Reply, from: k.Time, sure: k.Time, to: forever, proto: k.Proto, engine: engine, flags: k.Flags, dump: x.kernels[engine].dump}
	if k.Kind == TrackFound && k.Flags&TrackSince == 0 {
		t.from = 0
	}
	if i := x.lasting(engine, k.Proto, k.Orig); i != 0 {
		e := &x.entries[i]
		if e.reply == k.Reply && (k.Kind == TrackFound || icmp(k.Proto)) {
			if e.dump = t.dump; k.Kind == TrackBegin && e.more < math.MaxUint16 {
				e.more++
			}
			return
		}
		e.to = max(k.Time, e.from)
		x.live--
	}
	i := x.alloc()
	if i == 0 {
		x.refused++
		return
	}
	for side := range k.Owner {
		t.owner[side] = x.owners.take(engine, k.Owner[side])
	}
	t.taken = true
	x.entries[i] = t
	x.live++
	x.insert(i, 0)
	if t.orig != t.reply.reverse() {
		x.insert(i, 1)
	}
}

// end closes a connection; its tuple may be used again from then on.
func (x *trackTable) end(engine uint8, k *Track) {
	i := x.lasting(engine, k.Proto, k.Orig)
	if i == 0 {
		return
	}
	x.ended++
	e := &x.entries[i]
	if e.more > 0 {
		e.more--
		return
	}
	e.to = max(k.Time, e.from)
	x.live--
}

// lasting finds a connection that has not ended by what opened it.
func (x *trackTable) lasting(engine uint8, proto uint8, orig Tuple) uint32 {
	if x.used == 0 {
		return 0
	}
	mask := uint32(len(x.slots) - 1)
	h := x.hash(orig, proto)
	for at := h & mask; x.slots[at].ref != 0; at = (at + 1) & mask {
		if s := x.slots[at]; s.tag == h && s.ref&1 == 0 {
			if e := &x.entries[s.ref>>1]; e.to == forever && e.engine == engine && e.proto == proto && e.orig == orig {
				return s.ref >> 1
			}
		}
	}
	return 0
}

// icmp has no ports: one track stands for all conversations of a pair of hosts.
func icmp(proto uint8) bool { return proto == flow.ICMP || proto == flow.ICMPv6 }

// insert makes a view findable.
func (x *trackTable) insert(i, view uint32) {
	if 2*x.used >= len(x.slots) {
		old := x.slots
		x.slots = make([]trackSlot, max(1024, 2*len(old)))
		for _, s := range old {
			if s.ref != 0 {
				x.put(s)
			}
		}
	}
	e := &x.entries[i]
	x.put(trackSlot{x.hash(e.view(view), e.proto), i<<1 | view})
	x.used++
}

func (x *trackTable) put(s trackSlot) {
	mask := uint32(len(x.slots) - 1)
	at := s.tag & mask
	for x.slots[at].ref != 0 {
		at = (at + 1) & mask
	}
	x.slots[at] = s
}

// remove takes a view out and closes the hole.
func (x *trackTable) remove(i, view uint32) {
	e := &x.entries[i]
	mask := uint32(len(x.slots) - 1)
	at := x.hash(e.view(view), e.proto) & mask
	for x.slots[at].ref != i<<1|view {
		if x.slots[at].ref == 0 {
			return
		}
		at = (at + 1) & mask
	}
	x.used--
	for j := (at + 1) & mask; x.slots[j].ref != 0; j = (j + 1) & mask {
		if (j-x.slots[j].tag)&mask >= (j-at)&mask {
			x.slots[at] = x.slots[j]
			at = j
		}
	}
	x.slots[at] = trackSlot{}
}

// alloc hands out a place, if need be somebody else's: of some that the hand passes, that which ended first, else the oldest.
func (x *trackTable) alloc() uint32 {
	if n := len(x.free); n > 0 {
		i := x.free[n-1]
		x.free = x.free[:n-1]
		return i
	}
	if len(x.entries) <= x.most {
		x.entries = append(x.entries, track{})
		return uint32(len(x.entries) - 1)
	}
	const sample = 16
	best := uint32(0)
	for range min(sample, len(x.entries)-1) {
		if x.hand++; int(x.hand) >= len(x.entries) {
			x.hand = 1
		}
		e := &x.entries[x.hand]
		if b := &x.entries[best]; best == 0 || e.to < b.to || e.to == b.to && e.from < b.from {
			best = x.hand
		}
	}
	x.evicted++
	x.drop(best)
	n := len(x.free) - 1
	x.free = x.free[:n]
	return best
}

// drop forgets a connection.
func (x *trackTable) drop(i uint32) {
	e := &x.entries[i]
	x.remove(i, 0)
	if e.orig != e.reply.reverse() {
		x.remove(i, 1)
	}
	if e.to == forever {
		x.live--
	}
	x.owners.give(e.owner[0])
	x.owners.give(e.owner[1])
	*e = track{}
	x.free = append(x.free, i)
}

// prune forgets what ended before t.
func (x *trackTable) prune(t int64) {
	for i := 1; i < len(x.entries); i++ {
		if e := &x.entries[i]; e.taken && e.to < t {
			x.drop(uint32(i))
		}
	}
	for k, ls := range x.listens {
		kept := ls[:0]
		for _, l := range ls {
			if l.to >= t {
				kept = append(kept, l)
				continue
			}
			x.owners.give(l.owner)
			x.ears--
		}
		if x.listens[k] = kept; len(kept) == 0 {
			delete(x.listens, k)
		}
	}
}

// dumped ends what a complete dump did not show and what had begun before it.
func (x *trackTable) dumped(engine uint8, at int64) {
	k := &x.kernels[engine]
	for i := range x.entries {
		e := &x.entries[i]
		if e.taken && e.engine == engine && e.to == forever && e.dump != k.dump && e.from < k.began {
			e.to = max(at, e.from)
			x.live--
		}
	}
}
