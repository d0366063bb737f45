package flow

import "time"

// fragments remembers the ports of first fragments, so that later ones are counted with their connection. It is a small
// set-associative table: a full set forgets its oldest entry, and what is not joined is counted with ports 0.
type fragments struct {
	sets             [][fragmentWays]fragment // made at the first fragment
	orphans, evicted uint64                   // later fragments without a first; first fragments forgotten early
}

type fragment struct {
	src, dst     Addr
	time         int64
	id           uint32
	sport, dport uint16
	next, proto  uint8 // as the IP header says, which is the key; as found behind IPv6 extension headers
}

const (
	fragmentSets    = 256
	fragmentWays    = 4
	fragmentTimeout = int64(30 * time.Second) // what Linux waits for the rest of a packet
)

// fragment handles a part of a packet: the first carries the ports, later ones borrow them by (src, dst, id, protocol).
func (p *parser) fragment(k *packet, frame []byte, at, length int, id uint32, next uint8, first bool, now int64) verdict {
	if !first {
		k.payload, k.length = at, 0 // the middle of something: nothing that a payload parser could read
		p.fragments.join(k, id, next, now)
		return used
	}
	v := k.transport(frame, at, length)
	k.partial = true
	if v == used && !k.cut {
		p.fragments.add(k, id, next, now)
		if !p.closed && k.carries() {
			p.unwrap(k, frame, at, at+maxInner, now) // a packet inside is as long as it says; the later fragments stay the envelope's
		}
	}
	return v
}

// fragment6 walks the extension headers that stand in the first fragment only.
func (p *parser) fragment6(k *packet, frame []byte, at, end int, id uint32, first bool, now int64) verdict {
	next := k.proto
	for range maxExtensions {
		if !first || !extension(k.proto) || k.proto == fragmentation {
			break
		}
		if len(frame) < at+2 {
			k.cut = true
			return used
		}
		size := int(frame[at+1])*8 + 8
		if k.proto == authentication {
			size = int(frame[at+1])*4 + 8
		}
		if at+size > end {
			return malformed
		}
		k.proto, at = frame[at], at+size
	}
	return p.fragment(k, frame, at, end-at, id, next, first, now)
}

func (f *fragments) set(k *packet, id uint32, next uint8) *[fragmentWays]fragment {
	if f.sets == nil {
		f.sets = make([][fragmentWays]fragment, fragmentSets)
	}
	h := (k.src.Lo^k.src.Hi)*0x9e3779b97f4a7c15 + (k.dst.Lo^k.dst.Hi)*0xc2b2ae3d27d4eb4f + (uint64(id)<<8|uint64(next))*0x165667b19e3779f9
	return &f.sets[h>>56%fragmentSets]
}

func (f *fragments) add(k *packet, id uint32, next uint8, now int64) {
	set := f.set(k, id, next)
	at := 0
	for i := range set {
		if e := &set[i]; e.time == 0 || e.match(k, id, next) {
			at = i
			break
		}
		if set[i].time < set[at].time {
			at = i
		}
	}
	if e := &set[at]; e.time != 0 && !e.match(k, id, next) && now-e.time < fragmentTimeout {
		f.evicted++
	}
	set[at] = fragment{src: k.src, dst: k.dst, time: now, id: id, sport: k.sport, dport: k.dport, next: next, proto: k.proto}
}

func (f *fragments) join(k *packet, id uint32, next uint8, now int64) {
	set := f.set(k, id, next)
	for i := range set {
		if e := &set[i]; e.time != 0 && e.match(k, id, next) && now-e.time < fragmentTimeout && e.time-now < fragmentTimeout {
			k.sport, k.dport, k.proto = e.sport, e.dport, e.proto
			return
		}
	}
	f.orphans++
}

func (e *fragment) match(k *packet, id uint32, next uint8) bool {
	return e.id == id && e.next == next && e.src == k.src && e.dst == k.dst
}
