package flow

import (
	"fmt"
	"math"

	"github.com/VictoriaMetrics/metrics"
)

// tap is what live captures and packet files share: frame in, Records and Names out. One goroutine uses it.
// Every frame is counted in a record or ignored with a reason, also when the numbers are looked at in between:
// packets_total is counted by the frame, the records hold the rest until their slice is over.
type tap struct {
	parser    parser
	assembler *assembler
	sniffer   sniffer

	lane    [laneSize]laned // parsed, not yet counted
	waiting int
	touched uint64 // keeps the loads of settle alive

	frames, cut uint64 // since the last publish
	ignored     [numVerdict]uint64
	published   struct {
		opened, evicted, steps uint64
		live                   int
	}

	meter *tapMeter
	tape  *tape // of a capture that keeps its packets, else nil
}

// laned is a packet on its way from the parser to the assembler. Packets go there a few at a time, so that the cache misses
// of their conversations overlap.
type laned struct {
	packet packet
	now    int64
	hash   uint32
}

const laneSize = 16

// tapMeter are the counters of all taps of one metrics.Set.
type tapMeter struct {
	packets, truncated     *metrics.Counter
	opened, evicted, steps *metrics.Counter
	names                  *nameMeter
	sights                 sightMeter
	live                   *metrics.Gauge
	ignored                [numVerdict]*metrics.Counter
	parser                 parserMeter
}

func newTapMeter(set *metrics.Set) *tapMeter {
	m := &tapMeter{
		packets:   set.GetOrCreateCounter("wharfwatch_flow_packets_total"),
		truncated: set.GetOrCreateCounter("wharfwatch_flow_packets_truncated_total"),
		parser:    newParserMeter(set),
		opened:    set.GetOrCreateCounter("wharfwatch_flow_conversations_total"),
		live:      set.GetOrCreateGauge("wharfwatch_flow_conversations", nil),
		evicted:   set.GetOrCreateCounter("wharfwatch_flow_conversations_evicted_total"),
		steps:     set.GetOrCreateCounter("wharfwatch_flow_capture_clock_steps_total"),
		names:     newNameMeter(set),
		sights:    newSightMeter(set),
	}
	for v := used + 1; v < numVerdict; v++ {
		m.ignored[v] = set.GetOrCreateCounter(fmt.Sprintf(`wharfwatch_flow_packets_ignored_total{reason=%q}`, verdictNames[v]))
	}
	return m
}

func newTap(name string, pool Pool, conversations int, set *metrics.Set, send func(*Batch)) *tap {
	t := &tap{assembler: newAssembler(name, pool, conversations, send), meter: newTapMeter(set)}
	t.assembler.publish = t.publish
	return t
}

// frame takes one frame; it is not kept.
func (t *tap) frame(link uint32, frame []byte, wire int, vlan uint16, now int64) {
	t.frames++
	l := &t.lane[t.waiting]
	k := &l.packet
	if v := t.parser.parse(k, link, frame, wire, vlan, now); v != used {
		t.ignored[v]++
		if v == notIP && link == linkEthernet {
			t.arp(frame, now)
		}
		return
	}
	if k.cut {
		t.cut++
	}
	if t.sniffer.wants(k, frame) {
		keep := *k // settling reuses the lane
		t.listen(&keep, frame, now)
		l = &t.lane[t.waiting]
		l.packet = keep
		k = &l.packet
	}
	l.now, l.hash = now, t.assembler.key(k)
	if t.waiting++; t.waiting == laneSize {
		t.settle()
	}
}

// arp looks at a frame that is not IP.
func (t *tap) arp(frame []byte, now int64) {
	if s, say := t.assembler.witness.arp(frame, now); say {
		t.advance(now)
		b := t.assembler.batch()
		b.Sights = append(b.Sights, s)
	}
}

// settle counts the packets that wait.
func (t *tap) settle() {
	a, lane := t.assembler, t.lane[:t.waiting]
	for i := range lane {
		t.touched += uint64(a.index[lane[i].hash&uint32(len(a.index)-1)].hash)
	}
	for i := range lane {
		e := &a.entries[a.index[lane[i].hash&uint32(len(a.index)-1)].entry]
		t.touched += e.src.Lo + e.way[1].bytes
	}
	for i := range lane {
		a.add(&lane[i].packet, lane[i].hash, lane[i].now)
		if a.ready() {
			t.unanswered(a.newest)
			a.flush()
		}
	}
	t.waiting = 0
}

// drain hands over everything, at the end of the input.
func (t *tap) drain() {
	t.settle()
	t.unanswered(math.MaxInt64)
	for len(t.sniffer.queue) > 0 {
		t.giveUp(t.assembler.newest)
	}
	t.assembler.drain()
}

// advance moves time on without a packet.
func (t *tap) advance(now int64) {
	t.settle()
	t.assembler.advance(now)
	if t.assembler.ready() {
		t.unanswered(now)
		t.assembler.flush()
	}
}

// skip counts a frame that is not looked at.
func (t *tap) skip(v verdict) {
	t.frames++
	t.ignored[v]++
}

// publish moves what was counted since the last time to the metrics.
func (t *tap) publish() {
	m, a, p := t.meter, t.assembler, &t.published
	m.packets.AddInt64(int64(t.frames))
	m.truncated.AddInt64(int64(t.cut))
	m.names.publish(&t.sniffer.count)
	for v := used + 1; v < numVerdict; v++ {
		m.ignored[v].AddInt64(int64(t.ignored[v]))
	}
	t.frames, t.cut, t.ignored = 0, 0, [numVerdict]uint64{}
	m.opened.AddInt64(int64(a.opened - p.opened))
	m.evicted.AddInt64(int64(a.evicted - p.evicted))
	m.steps.AddInt64(int64(a.steps - p.steps))
	m.sights.publish(&a.witness)
	m.live.Add(float64(a.live - p.live))
	m.parser.publish(&t.parser)
	p.live = a.live
	p.opened, p.evicted, p.steps = a.opened, a.evicted, a.steps
}
