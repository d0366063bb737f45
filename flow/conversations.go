package flow

// The table and the timing wheel of the assembler.

// slot of the index: 8 bytes, so that a probe touches one cache line. entry 0 is empty.
type slot struct{ hash, entry uint32 }

const (
	tickShift  = 27 // a tick is 2^27 ns, 134 ms
	wheelSlots = 1024
)

// bucket is the list of entries due at one tick, in the order they were put there.
type bucket struct{ head, tail uint32 }

// find returns the entry and which direction of it the packet goes, or 0.
func (a *assembler) find(hash uint32, k *packet, sport, dport uint16) (n uint32, way int) {
	mask := uint32(len(a.index) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := a.index[i]
		if s.entry == 0 {
			return 0, 0
		}
		if s.hash != hash {
			continue
		}
		e := &a.entries[s.entry]
		if e.proto != k.proto {
			continue
		}
		if e.sport == sport && e.dport == dport && e.src == k.src && e.dst == k.dst {
			return s.entry, 0
		}
		if e.sport == dport && e.dport == sport && e.src == k.dst && e.dst == k.src {
			return s.entry, 1
		}
	}
}

// insert makes an entry; a full table gives up the one that was idle for a turn of the clock. A SYN-ACK is an answer, also when
// the question was not seen.
func (a *assembler) insert(hash uint32, k *packet, sport, dport uint16) (n uint32, way int) {
	if a.live >= a.bound {
		a.evict()
	}
	if 2*(a.live+1) > len(a.index) {
		a.grow()
	}
	n = a.free
	if n != 0 {
		a.free = a.entries[n].next
	} else {
		n = uint32(len(a.entries))
		a.entries = append(a.entries, entry{})
	}
	e := &a.entries[n]
	*e = entry{src: k.src, dst: k.dst, sport: sport, dport: dport, proto: k.proto, slot: unlinked}
	if k.proto == TCP && k.flags&(SYN|ACK) == SYN|ACK {
		e.src, e.dst, e.sport, e.dport, way = k.dst, k.src, dport, sport, 1
	}
	a.place(slot{hash, n})
	if a.live == 0 {
		a.tick = a.newest >> tickShift
	}
	a.live++
	a.opened++
	return n, way
}

func (a *assembler) place(s slot) {
	mask := uint32(len(a.index) - 1)
	i := s.hash & mask
	for a.index[i].entry != 0 {
		i = (i + 1) & mask
	}
	a.index[i] = s
}

func (a *assembler) grow() {
	old := a.index
	a.index = make([]slot, 2*len(old))
	for _, s := range old {
		if s.entry != 0 {
			a.place(s)
		}
	}
}

// evict is the clock algorithm: an entry that was used since the hand last passed is spared once.
func (a *assembler) evict() {
	for {
		a.hand++
		if int(a.hand) >= len(a.entries) {
			a.hand = 1
		}
		e := &a.entries[a.hand]
		if e.slot == unlinked { // free
			continue
		}
		if e.state&stateTouched != 0 {
			e.state &^= stateTouched
			continue
		}
		a.emit(e, FlagForced)
		a.unlink(a.hand)
		a.drop(a.hand)
		a.evicted++
		return
	}
}

// remove takes an entry out of the index, and out of the wheel if it is there.
func (a *assembler) remove(n uint32) {
	if a.entries[n].slot != unlinked {
		a.unlink(n)
	}
	a.drop(n)
}

// drop frees an entry that is in no list of the wheel. Later slots of the same run move up, so there are no tombstones.
func (a *assembler) drop(n uint32) {
	e := &a.entries[n]
	mask := uint32(len(a.index) - 1)
	i := a.hash(e.src, e.dst, e.sport, e.dport, e.proto) & mask
	for a.index[i].entry != n {
		i = (i + 1) & mask
	}
	for j := i; ; {
		j = (j + 1) & mask
		s := a.index[j]
		if s.entry == 0 {
			break
		}
		if (j-s.hash&mask)&mask >= (j-i)&mask { // its home is at or before the hole
			a.index[i] = s
			i = j
		}
	}
	a.index[i] = slot{}
	*e = entry{slot: unlinked, next: a.free}
	a.free = n
	a.live--
}

// unlinked marks an entry that is in no slot of the wheel.
const unlinked = wheelSlots

// link puts an entry where it is looked at not before due. What lies beyond the wheel is looked at early and put back.
func (a *assembler) link(n uint32, due int64) {
	at := min(max(due>>tickShift+1, a.tick), a.tick+wheelSlots-1)
	i := at & (wheelSlots - 1)
	e, b := &a.entries[n], &a.wheel[i]
	e.slot, e.next, e.prev = uint16(i), 0, b.tail
	if b.tail == 0 {
		b.head = n
	} else {
		a.entries[b.tail].next = n
	}
	b.tail = n
}

func (a *assembler) unlink(n uint32) {
	e := &a.entries[n]
	if e.slot == unlinked {
		return
	}
	b := &a.wheel[e.slot]
	if e.prev == 0 {
		b.head = e.next
	} else {
		a.entries[e.prev].next = e.next
	}
	if e.next == 0 {
		b.tail = e.prev
	} else {
		a.entries[e.next].prev = e.prev
	}
	e.slot, e.next, e.prev = unlinked, 0, 0
}

// run visits what is due up to and with tick to. Each tick sees its own time, so the steps in which time moves do not matter.
func (a *assembler) run(to int64) {
	for a.tick <= to {
		if a.live == 0 {
			a.tick = to + 1
			return
		}
		now := a.tick << tickShift
		n := a.wheel[a.tick&(wheelSlots-1)].head
		a.wheel[a.tick&(wheelSlots-1)] = bucket{}
		a.tick++
		for n != 0 {
			e := &a.entries[n]
			next := e.next
			e.slot, e.next, e.prev = unlinked, 0, 0
			a.visit(n, now)
			n = next
		}
		// A long step hands over on its way, as the heartbeats of a live capture would: the watermark is the tick's.
		if mark := min(max(now, a.sent), a.newest); a.out != nil && (mark-a.sent >= batchWait || len(a.out.Records) >= batchRecords) {
			a.flushAt(mark)
		}
	}
}
