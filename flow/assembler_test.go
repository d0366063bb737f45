package flow

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"
)

const second = int64(time.Second)

// collected is what a test assembler handed over.
type collected struct {
	records []Record
	names   []Name
	marks   []int64
	late    int64 // the most that a conversation's slice lay behind a watermark handed over before it
}

func (c *collected) take(b *Batch) {
	c.records = append(c.records, b.Records...)
	for i := range b.Records {
		last := b.Records[i].Last
		if n := i + 1; n < len(b.Records) && b.Records[n].Flags&FlagReply != 0 {
			last = max(last, b.Records[n].Last)
		}
		if i > 0 && b.Records[i].Flags&FlagReply != 0 {
			last = max(last, b.Records[i-1].Last) // its other direction, if that said something
		}
		if n := len(c.marks); n > 0 {
			c.late = max(c.late, c.marks[n-1]-last)
		}
	}
	c.names = append(c.names, b.Names...)
	c.marks = append(c.marks, b.Watermark)
	b.Free()
}

// lines prints records short: when, who, how much, flags.
func (c *collected) lines() []string {
	var out []string
	for _, r := range c.records {
		flags := ""
		for i, name := range []string{"unknown", "", " end", " forced", " reply"} {
			if r.Flags>>i&1 != 0 {
				flags += name
			}
		}
		out = append(out, fmt.Sprintf("%gs-%gs %s:%d>%s:%d p%d n%d b%d f%#x%s", float64(r.First-base)/1e9, float64(r.Last-base)/1e9,
			r.Src, r.SrcPort, r.Dst, r.DstPort, r.Proto, r.Packets, r.Bytes, r.TCPFlags, flags))
	}
	return out
}

const base = 1_700_000_000 * second

// step is one packet of a script: at ms after base; back is from the second address.
type step struct {
	ms    int64
	back  bool
	flags uint8
}

func play(proto uint8, until int64, steps ...step) *collected {
	c := &collected{}
	a := newAssembler("test", NewPool(4), 1000, c.take)
	for _, s := range steps {
		k := packet{src: Addr4(1), dst: Addr4(2), sport: 40000, dport: 443, proto: proto, flags: s.flags, bytes: 100}
		if s.back {
			k.src, k.dst, k.sport, k.dport = k.dst, k.src, k.dport, k.sport
		}
		a.add(&k, a.key(&k), base+s.ms*1e6)
	}
	a.advance(base + until*1e6)
	a.flush()
	if until == 0 {
		a.drain()
	}
	return c
}

func TestAssemblerSlices(t *testing.T) {
	for name, c := range map[string]struct {
		got  *collected
		want []string
	}{
		"a short connection is told once, with its end": {
			play(TCP, 2000, step{0, false, SYN}, step{10, true, SYN | ACK}, step{20, false, ACK}, step{30, false, PSH | ACK}, step{40, true, FIN | ACK}, step{50, false, FIN | ACK}, step{60, true, ACK}),
			[]string{"0s-0.05s 0.0.0.1:40000>0.0.0.2:443 p6 n4 b400 f0x1b end", "0.01s-0.06s 0.0.0.2:443>0.0.0.1:40000 p6 n3 b300 f0x13 end reply"},
		},
		"a refused connection ends": {
			play(TCP, 2000, step{0, false, SYN}, step{1, true, RST | ACK}),
			[]string{"0s-0s 0.0.0.1:40000>0.0.0.2:443 p6 n1 b100 f0x2 end", "0.001s-0.001s 0.0.0.2:443>0.0.0.1:40000 p6 n1 b100 f0x14 end reply"},
		},
		"a new connection is told within about a second": {
			play(TCP, 1200, step{0, false, SYN}, step{900, false, ACK}),
			[]string{"0s-0.9s 0.0.0.1:40000>0.0.0.2:443 p6 n2 b200 f0x12 forced"},
		},
		"a question and its answer": {
			play(UDP, 20_000, step{0, false, 0}, step{5, true, 0}),
			[]string{"0s-0s 0.0.0.1:40000>0.0.0.2:443 p17 n1 b100 f0x0 forced", "0.005s-0.005s 0.0.0.2:443>0.0.0.1:40000 p17 n1 b100 f0x0 forced reply"},
		},
		"after silence UDP is a new conversation": {
			play(UDP, 40_000, step{0, false, 0}, step{20_000, true, 0}),
			[]string{"0s-0s 0.0.0.1:40000>0.0.0.2:443 p17 n1 b100 f0x0 forced", "20s-20s 0.0.0.2:443>0.0.0.1:40000 p17 n1 b100 f0x0 forced"},
		},
		"after silence TCP still knows who opened": {
			play(TCP, 300_000, step{0, false, SYN}, step{200_000, true, ACK}),
			[]string{"0s-0s 0.0.0.1:40000>0.0.0.2:443 p6 n1 b100 f0x2 forced", "200s-200s 0.0.0.2:443>0.0.0.1:40000 p6 n1 b100 f0x10 forced reply"},
		},
		"ports used again make a new connection": {
			play(TCP, 1500, step{0, false, SYN}, step{10, false, ACK}, step{100, false, SYN}),
			[]string{"0s-0.01s 0.0.0.1:40000>0.0.0.2:443 p6 n2 b200 f0x12 end", "0.1s-0.1s 0.0.0.1:40000>0.0.0.2:443 p6 n1 b100 f0x2 forced"},
		},
		"a SYN-ACK is an answer, also to what was not seen": {
			play(TCP, 1500, step{0, true, SYN | ACK}, step{10, false, ACK}),
			[]string{"0.01s-0.01s 0.0.0.1:40000>0.0.0.2:443 p6 n1 b100 f0x10 forced", "0s-0s 0.0.0.2:443>0.0.0.1:40000 p6 n1 b100 f0x12 forced reply"},
		},
		"a repeated SYN is the same connection": {
			play(TCP, 4500, step{0, false, SYN}, step{500, false, SYN}, step{600, true, RST | ACK}),
			[]string{"0s-0.5s 0.0.0.1:40000>0.0.0.2:443 p6 n2 b200 f0x2 end", "0.6s-0.6s 0.0.0.2:443>0.0.0.1:40000 p6 n1 b100 f0x14 end reply"},
		},
	} {
		if diff := cmp.Diff(c.want, c.got.lines()); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// A conversation that never pauses is cut every minute; its first packet of a slice is that slice's First.
func TestAssemblerActive(t *testing.T) {
	var steps []step
	for ms := int64(0); ms < 185_000; ms += 100 {
		steps = append(steps, step{ms, false, ACK})
	}
	c := play(TCP, 0, steps...)
	var firsts []int64
	var packets uint64
	for _, r := range c.records {
		firsts = append(firsts, (r.First-base)/1e9)
		packets += r.Packets
	}
	if diff := cmp.Diff([]int64{0, 1, 61, 121, 181}, firsts); diff != "" {
		t.Errorf("slices begin: -want +got\n%s", diff)
	}
	if packets != uint64(len(steps)) {
		t.Errorf("%d packets of %d", packets, len(steps))
	}
}

// Echo requests and their replies are one conversation with two types.
func TestAssemblerICMP(t *testing.T) {
	for _, kinds := range [][3]uint16{{ICMP, 8 << 8, 0}, {ICMPv6, 128 << 8, 129 << 8}, {ICMP, 0, 8 << 8}} {
		c := &collected{}
		a := newAssembler("test", NewPool(1), 10, c.take)
		there := packet{src: Addr4(1), dst: Addr4(2), proto: uint8(kinds[0]), dport: kinds[1], bytes: 84}
		back := packet{src: Addr4(2), dst: Addr4(1), proto: uint8(kinds[0]), dport: kinds[2], bytes: 84}
		a.add(&there, a.key(&there), base)
		a.add(&back, a.key(&back), base+1)
		a.drain()
		if len(c.records) != 2 || c.records[0].DstPort != kinds[1] || c.records[1].DstPort != kinds[2] || c.records[1].Flags&FlagReply == 0 || c.records[0].SrcPort != 0 {
			t.Errorf("%v: %+v", kinds, c.records)
		}
	}
}

// traffic makes n packets of a mixed set of conversations, in time order.
func traffic(seed uint64, n, conversations int) (ks []packet, times []int64) {
	r := rand.New(rand.NewPCG(seed, 7))
	now := base
	for range n {
		c := r.IntN(conversations)
		k := packet{
			src: Addr4(0x0a000000 + uint32(c%251)), dst: Addr4(0xc0a80000 + uint32(c%1021)), sport: uint16(1024 + c), dport: 443,
			proto: []uint8{TCP, TCP, UDP, ICMP}[c%4], bytes: uint64(40 + r.IntN(1460)), flags: ACK, vlan: uint16(c % 3),
		}
		if c%5 == 0 {
			k.src.Hi, k.dst.Hi = 0x20010db8<<32, 0x20010db8<<32
		}
		if k.proto == TCP {
			k.flags = []uint8{SYN, ACK, ACK, ACK, PSH | ACK, PSH | ACK, FIN | ACK, RST}[r.IntN(8)]
		} else {
			k.flags = 0
		}
		if k.proto == ICMP {
			k.sport, k.dport = 0, 8<<8
		}
		if r.IntN(2) == 0 {
			k.src, k.dst, k.sport, k.dport = k.dst, k.src, k.dport, k.sport
			if k.proto == ICMP {
				k.sport, k.dport = 0, 0
			}
		}
		ks, times = append(ks, k), append(times, now)
		now += int64(r.ExpFloat64() * 5e6)
		if r.IntN(2000) == 0 {
			now += int64(r.IntN(100)) * second
		}
	}
	return ks, times
}

func sums(rs []Record) (packets, bytes uint64) {
	for i := range rs {
		packets += rs[i].Packets
		bytes += rs[i].Bytes
	}
	return packets, bytes
}

// Every packet is in exactly one record, also when the table is far too small; nothing stays behind.
func TestAssemblerConservation(t *testing.T) {
	ks, times := traffic(1, 200_000, 5000)
	var want uint64
	for i := range ks {
		want += ks[i].bytes
	}
	for _, bound := range []int{1, 100, 1 << 20} {
		c := &collected{}
		a := newAssembler("test", NewPool(4), bound, c.take)
		for i := range ks {
			a.add(&ks[i], a.key(&ks[i]), times[i])
			if a.live > bound {
				t.Fatalf("%d entries of at most %d", a.live, bound)
			}
			if a.ready() {
				a.flush()
			}
		}
		a.drain()
		if packets, bytes := sums(c.records); packets != uint64(len(ks)) || bytes != want {
			t.Errorf("bound %d: %d packets of %d, %d bytes of %d", bound, packets, len(ks), bytes, want)
		}
		if a.live != 0 {
			t.Errorf("bound %d: %d entries left", bound, a.live)
		}
		for i := range a.index {
			if a.index[i].entry != 0 {
				t.Fatalf("bound %d: the index still names entry %d", bound, a.index[i].entry)
			}
		}
		if (a.evicted > 0) != (bound < 5000) {
			t.Errorf("bound %d: %d evicted", bound, a.evicted)
		}
		if !slices.IsSorted(c.marks) || c.late > idleSlice+1<<tickShift {
			t.Errorf("bound %d: the watermark went back, or a record came %d ns behind it", bound, c.late)
		}
		for _, r := range c.records {
			if r.Last < r.First || r.Last-r.First > activeSlice {
				t.Fatalf("bound %d: a slice of %d ns", bound, r.Last-r.First)
			}
		}
	}
}

// The records depend on the packets only: not on the seed of the hash, nor on how often time was moved on in between.
func TestAssemblerDeterministic(t *testing.T) {
	ks, times := traffic(2, 50_000, 3000)
	run := func(heartbeat int64) []Record {
		c := &collected{}
		a := newAssembler("test", NewPool(4), 2000, c.take)
		for i := range ks {
			if heartbeat > 0 {
				for h := a.newest + heartbeat; i > 0 && h < times[i]; h += heartbeat {
					a.advance(h)
				}
			}
			a.add(&ks[i], a.key(&ks[i]), times[i])
		}
		a.drain()
		return c.records
	}
	want := run(0)
	for _, heartbeat := range []int64{0, second / 4, second / 100, 10 * second} {
		got := run(heartbeat)
		if slices.Equal(want, got) {
			continue
		}
		for i := range want {
			if i >= len(got) || want[i] != got[i] {
				t.Fatalf("with a heartbeat of %d ns: %d records of %d, the first difference is at %d: %+v", heartbeat, len(got), len(want), i, want[i])
			}
		}
		t.Errorf("with a heartbeat of %d ns: %d records more", heartbeat, len(got)-len(want))
	}
}

// Packets a little late fall into their conversation; a clock set back starts time anew and loses nothing.
func TestAssemblerTimeGoesBack(t *testing.T) {
	c := &collected{}
	a := newAssembler("test", NewPool(4), 100, c.take)
	k := packet{src: Addr4(1), dst: Addr4(2), sport: 1, dport: 2, proto: UDP, bytes: 10}
	for _, at := range []int64{base, base + 5*second, base + 2*second, base + 900*second, base + 6*second, base - 3600*second, 1} {
		a.add(&k, a.key(&k), at)
	}
	a.drain()
	if packets, _ := sums(c.records); packets != 7 || a.live != 0 || a.steps != 3 {
		t.Errorf("%d packets of 7, %d entries left, %d steps of 3\n%v", packets, a.live, a.steps, c.lines())
	}
	for _, r := range c.records {
		if r.Last < r.First {
			t.Errorf("a record ends before it begins: %v", r)
		}
	}
}

// Hostile times: whatever they are, work per packet stays bounded and nothing is lost.
func TestAssemblerHostileTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	c := &collected{}
	a := newAssembler("test", NewPool(4), 50, c.take)
	begin := time.Now()
	const n = 20_000
	for i := range n {
		k := packet{src: Addr4(uint32(r.IntN(100))), dst: Addr4(2), sport: 1, dport: 2, proto: uint8(6 + 11*(i&1)), bytes: 10}
		a.add(&k, a.key(&k), int64(r.Uint32())*second)
	}
	a.drain()
	if packets, _ := sums(c.records); packets != n {
		t.Errorf("%d packets of %d", packets, n)
	}
	// Generous, for a busy machine: work that grows with the distance of times takes hours.
	if took := time.Since(begin); took > n*3*time.Millisecond {
		t.Errorf("%v for %d packets", took, n)
	}
}

// In the steady state, conversations known or not, a packet costs no allocation.
func TestAssemblerAllocations(t *testing.T) {
	ks, times := traffic(4, 100_000, 4000)
	a := newAssembler("test", NewPool(4), 1<<20, (*Batch).Free)
	last := times[len(times)-1] - times[0] + second
	round := int64(0)
	all := func() {
		for i := range ks {
			a.add(&ks[i], a.key(&ks[i]), times[i]+round*last)
			if a.ready() {
				a.flush()
			}
		}
		round++
	}
	all()
	all()
	if n := testing.AllocsPerRun(2, all); n > 0 {
		t.Errorf("%g allocations for %d packets", n, len(ks))
	}
}

// The whole way from frame to record costs no allocation, once the pools are warm.
func TestTapAllocations(t *testing.T) {
	p := newTap("test", NewPool(4), 100, metrics.NewSet(), (*Batch).Free)
	frames := [][]byte{
		serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(1, 2, "S")), serialize(t, ethernet(typeIPv6), ip6(UDP), udp(1, 2), payload(9)),
		serialize(t, ethernet(typeIPv4), ip4(ICMP), &layers.ICMPv4{TypeCode: 0x0800}), serialize(t, ethernet(0x0806), payload(28)),
	}
	now := base
	some := func() {
		for range 100 {
			for _, f := range frames {
				p.frame(linkEthernet, f, 0, 0, now)
				now += second / 50
			}
		}
	}
	some()
	some()
	if n := testing.AllocsPerRun(50, some); n > 0 {
		t.Errorf("%g allocations for 400 frames", n)
	}
}

// Live, time moves on by heartbeats; from a file, by packets only. The batches say the same.
func TestTapHeartbeats(t *testing.T) {
	frames := sample(t)
	run := func(beat int64) []string {
		var got []string
		p := newTap("test", NewPool(4), 100, metrics.NewSet(), func(b *Batch) {
			for _, r := range b.Records {
				got = append(got, fmt.Sprintf("%gs: %s:%d>%s:%d at %gs", float64(b.Watermark-base)/1e9, r.Src, r.SrcPort, r.Dst, r.DstPort, float64(r.First-base)/1e9))
			}
			b.Free()
		})
		for _, f := range frames {
			for at := p.assembler.newest + beat; beat > 0 && p.assembler.newest > 0 && at < f.at; at += beat {
				p.advance(at)
			}
			p.frame(linkEthernet, f.frame, f.wire, 0, f.at)
		}
		p.drain()
		return got
	}
	if diff := cmp.Diff(run(1<<tickShift), run(0)); diff != "" {
		t.Errorf("-live +file\n%s", diff)
	}
}

// Frames in = packets in records + ignored by reason, as the metrics say it.
func TestTapConservation(t *testing.T) {
	set := metrics.NewSet()
	c := &collected{}
	p := newTap("test", NewPool(4), 100, set, c.take)
	good := serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(1, 2, "S"))
	frames := [][]byte{
		good, good[:40], good[:20], good[:5], serialize(t, ethernet(0x0806), payload(28)),
		append(append([]byte(nil), good[:14]...), make([]byte, 40)...),
		serialize(t, ethernet(typeIPv6), ip6(ICMPv6), payload(8)),
	}
	n := 0
	for i := range 5000 {
		p.frame(linkEthernet, frames[i%len(frames)], 54, 0, base+int64(i)*1e6)
		n++
	}
	p.frame(147, good, 0, 0, base+6e9)
	p.skip(outgoing)
	n += 2
	p.drain()
	packets, _ := sums(c.records)
	ignored := uint64(0)
	for v := used + 1; v < numVerdict; v++ {
		one := p.meter.ignored[v].Get()
		if one == 0 {
			t.Errorf("nothing was ignored for %q", verdictNames[v])
		}
		ignored += one
	}
	if live := p.meter.live.Get(); live != 0 {
		t.Errorf("%g conversations after the end", live)
	}
	if total := p.meter.packets.Get(); total != uint64(n) || packets+ignored != total {
		t.Errorf("%d frames: counted %d, %d in records, %d ignored", n, total, packets, ignored)
	}
	if p.meter.truncated.Get() == 0 {
		t.Error("no truncated packet was counted")
	}
}
