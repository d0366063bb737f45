package flow

import (
	"math/bits"
	"math/rand/v2"
	"time"
)

// When the assembler hands over what it counted. All of it is packet time, so a file gives the records that the wire gave.
const (
	firstSlice  = int64(time.Second)      // a new conversation is told within about a second
	activeSlice = int64(60 * time.Second) // then at most every minute while it lasts
	idleSlice   = int64(15 * time.Second) // what was counted waits no longer than this for more
	tcpKeep     = int64(5 * time.Minute)  // a silent TCP connection is remembered (who opened it), nothing is emitted
	endDelay    = int64(time.Second)      // after FIN from both sides or RST: the last acknowledgements belong to it

	maxBackward = int64(10 * time.Second) // packets older than this against the newest mean that the clock was set back

	// DefaultConversations bounds one assembler: 128 bytes each, allocated as they are needed.
	DefaultConversations = 1 << 20
)

// assembler counts packets per conversation, both directions in one entry, and appends Records to batches.
// It allocates nothing per packet. One goroutine uses it. Its output depends on its input only, not on the hash seed.
//
// Entries live in a slab and are named by their number; index is the hash table over them; a timing wheel finds those that
// are due. Entry 0 is none.
type assembler struct {
	name    string
	pool    Pool
	send    func(*Batch)
	publish func() // called before each send: counters go out per batch, not per packet
	out     *Batch

	seed    uint64
	index   []slot // open addressing, a power of two, at most half full
	entries []entry
	free    uint32 // list of unused entries through next
	live    int
	bound   int    // most entries
	hand    uint32 // of the eviction clock

	wheel  [wheelSlots]bucket
	tick   int64 // the next one to run
	newest int64 // time of the newest packet or heartbeat: the watermark
	sent   int64 // the watermark last handed over

	witness witness

	opened, evicted, steps uint64 // conversations; evictions; times the clock was set back
}

// entry is one conversation: two cache lines. src sent the first packet that was seen, unless that was a SYN-ACK.
type entry struct {
	src, dst     Addr
	sport, dport uint16 // for ICMP both hold the request's type<<8 | code: what pairs the directions
	proto, state uint8
	slot         uint16 // of the wheel
	next, prev   uint32 // in the wheel's slot, or in the free list
	way          [2]direction
}

// direction counts what one side sent in the present slice.
type direction struct {
	first, last int64
	bytes       uint64
	packets     uint32
	vni         uint32
	vlan        uint16
	dport       uint16 // ICMP: type<<8 | code of this direction
	flags       uint8
}

// State of an entry.
const (
	stateTold        = 1 << iota // the first slice is out
	stateFIN0                    // FIN seen from src
	stateFIN1                    // FIN seen from dst
	stateClosed                  // FIN from both, or RST
	stateEstablished             // src acknowledged: a later SYN is a new connection
	stateTouched                 // used since the eviction clock last passed
)

func newAssembler(name string, pool Pool, bound int, send func(*Batch)) *assembler {
	return &assembler{
		name: name, pool: pool, send: send, bound: max(bound, 1), publish: func() {},
		seed: rand.Uint64() | 1, index: make([]slot, 1024), entries: make([]entry, 1, 512),
	}
}

// add counts one packet; hash is its key.
func (a *assembler) add(k *packet, hash uint32, now int64) {
	if now > a.newest {
		a.newest = now
		if now>>tickShift >= a.tick {
			a.run(now >> tickShift)
		}
	} else if now < a.newest-maxBackward {
		a.setBack(now)
	}
	sport, dport := k.pair()
	n, way := a.find(hash, k, sport, dport)
	if n != 0 && k.proto == TCP && k.flags&(SYN|ACK) == SYN && a.entries[n].state&(stateClosed|stateEstablished) != 0 {
		a.emit(&a.entries[n], FlagEnd) // the ports are used again
		a.remove(n)
		n = 0
	}
	touched := uint8(stateTouched)
	if n == 0 {
		n, way = a.insert(hash, k, sport, dport)
		touched = 0 // a flood of single packets evicts itself first
	}
	e := &a.entries[n]
	d := &e.way[way]
	begins := e.way[0].packets|e.way[1].packets == 0
	if d.packets == 0 {
		d.first, d.last, d.dport, d.vlan, d.vni = now, max(now, d.last), k.dport, k.vlan, k.vni
		if k.mac != 0 && k.depth == 0 { // inside an envelope the address is another's than the frame
			if s, say := a.witness.packet(k, now); say {
				b := a.batch()
				b.Sights = append(b.Sights, s)
			}
		}
	} else {
		d.first, d.last = min(d.first, now), max(d.last, now)
	}
	d.bytes += k.bytes
	d.packets++
	if d.vlan == 0 {
		d.vlan = k.vlan
	}
	if d.vni == 0 {
		d.vni = k.vni
	}
	d.flags |= k.flags
	state := e.state
	e.state |= touched
	if k.proto == TCP {
		if way == 0 && k.flags&(SYN|ACK) == ACK {
			e.state |= stateEstablished
		}
		if k.flags&FIN != 0 {
			e.state |= stateFIN0 << way
		}
		if k.flags&RST != 0 || e.state&(stateFIN0|stateFIN1) == stateFIN0|stateFIN1 {
			e.state |= stateClosed
		}
	}
	if begins || e.state&^state&stateClosed != 0 { // due sooner than the wheel has it
		a.unlink(n)
		a.link(n, e.due())
	}
}

// key is the hash of a packet's conversation.
func (a *assembler) key(k *packet) uint32 {
	sport, dport := k.pair()
	return a.hash(k.src, k.dst, sport, dport, k.proto)
}

// pair is what names the conversation beside addresses and protocol.
func (k *packet) pair() (sport, dport uint16) {
	if k.proto == ICMP || k.proto == ICMPv6 {
		request := icmpRequest(k.proto, k.dport)
		return request, request
	}
	return k.sport, k.dport
}

// setBack handles a clock that was set back, or files glued together: what was counted is handed over and time starts anew.
func (a *assembler) setBack(now int64) {
	a.steps++
	a.drain()
	a.newest, a.tick = now, now>>tickShift
	a.sent = min(a.sent, now)
}

// advance moves time on without a packet.
func (a *assembler) advance(now int64) {
	if now > a.newest {
		a.newest = now
		a.run(now >> tickShift)
	}
}

// drain hands over everything as if silence followed, which is what the end of a file is.
func (a *assembler) drain() {
	if a.live > 0 {
		a.run(a.tick + (tcpKeep+activeSlice)>>tickShift + 2)
	}
	a.flush()
}

// ready reports whether a batch should go out: it is full, or time moved on since the last.
func (a *assembler) ready() bool {
	return a.newest-a.sent >= batchWait || a.out != nil && len(a.out.Records)+len(a.out.Names)+len(a.out.Sights) >= batchRecords
}

const (
	batchRecords = 512
	batchWait    = int64(time.Second) / 4
)

// batch is where records and names are appended to.
func (a *assembler) batch() *Batch {
	if a.out == nil {
		a.out = a.pool.Get()
	}
	return a.out
}

// flush hands over the batch, also an empty one: its watermark is news.
func (a *assembler) flush() { a.flushAt(a.newest) }

func (a *assembler) flushAt(watermark int64) {
	b := a.batch()
	a.out = nil
	b.Source, b.Arrival, b.Watermark = a.name, watermark, watermark
	a.sent = watermark
	a.publish()
	a.send(b)
}

// emit appends what both directions counted since the last slice.
func (a *assembler) emit(e *entry, flags uint8) {
	for way := range e.way {
		d := &e.way[way]
		if d.packets == 0 {
			continue
		}
		b := a.batch()
		b.Records = append(b.Records, Record{
			First: d.first, Last: d.last, Src: e.src, Dst: e.dst, SrcPort: e.sport, DstPort: e.dport,
			Bytes: d.bytes, Packets: uint64(d.packets), Sampling: 1,
			VLAN: d.vlan, VNI: d.vni, Proto: e.proto, TCPFlags: d.flags, Flags: flags | FlagPackets,
		})
		r := &b.Records[len(b.Records)-1]
		if way == 1 {
			r.Src, r.Dst, r.SrcPort, r.DstPort = e.dst, e.src, e.dport, e.sport
			r.Flags |= FlagReply
		}
		if e.proto == ICMP || e.proto == ICMPv6 {
			r.SrcPort, r.DstPort = 0, d.dport
		}
		d.bytes, d.packets, d.flags = 0, 0, 0
	}
}

// due is when something must happen to the entry.
func (e *entry) due() int64 {
	last := max(e.way[0].last, e.way[1].last)
	start, pending := e.start()
	switch {
	case !pending && e.proto == TCP:
		return last + tcpKeep
	case !pending:
		return last + idleSlice
	case e.state&stateClosed != 0:
		return min(last+endDelay, start+activeSlice)
	case e.state&stateTold == 0:
		return start + firstSlice
	}
	return min(start+activeSlice, last+idleSlice)
}

// start is when the present slice began; pending is false when nothing was counted in it.
func (e *entry) start() (at int64, pending bool) {
	a, b := &e.way[0], &e.way[1]
	switch {
	case a.packets == 0:
		return b.first, b.packets != 0
	case b.packets == 0:
		return a.first, true
	}
	return min(a.first, b.first), true
}

// visit does what is due to an entry at a tick.
func (a *assembler) visit(n uint32, now int64) {
	e := &a.entries[n]
	if e.due() > now {
		a.link(n, e.due())
		return
	}
	_, pending := e.start()
	idle := e.proto != TCP && max(e.way[0].last, e.way[1].last)+idleSlice <= now
	switch {
	case !pending:
		a.remove(n)
		return
	case e.state&stateClosed != 0:
		a.emit(e, FlagEnd)
		a.remove(n)
		return
	case idle:
		a.emit(e, 0)
		a.remove(n)
		return
	}
	a.emit(e, FlagForced)
	e.state |= stateTold
	a.link(n, e.due())
}

// icmpRequest maps the type of an answer to that of its question, so that both fall into one conversation.
func icmpRequest(proto uint8, typecode uint16) uint16 {
	if proto == ICMPv6 {
		if typecode>>8 == 129 { // echo reply
			return 128 << 8
		}
		return typecode
	}
	switch typecode >> 8 {
	case 0: // echo reply
		return 8 << 8
	case 14, 16, 18: // timestamp, information, address mask replies
		return typecode - 1<<8
	}
	return typecode
}

// hash is the same for both directions. The seed keeps senders from choosing addresses that collide.
func (a *assembler) hash(src, dst Addr, sport, dport uint16, proto uint8) uint32 {
	h := a.end(src, sport) + a.end(dst, dport) + uint64(proto)
	hi, lo := bits.Mul64(h^a.seed, 0x9e3779b97f4a7c15)
	return uint32(hi ^ lo)
}

func (a *assembler) end(addr Addr, port uint16) uint64 {
	hi, lo := bits.Mul64(addr.Lo^a.seed, addr.Hi^uint64(port)<<20^bits.RotateLeft64(a.seed, 32))
	return hi ^ lo
}
