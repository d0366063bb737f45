package flow

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/netsampler/goflow2/v2/decoders/sflow"
)

// sflowMessage writes a datagram of agent 192.0.2.9, sub-agent 1.
func sflowMessage(sequence, uptime uint32, samples ...[]byte) []byte {
	return bytes.Join(append([][]byte{u32(5, 1, 0xc0000209, 1, sequence, uptime, uint32(len(samples)))}, samples...), nil)
}

// item is a format, a length and data, filled up to four bytes.
func item(format uint32, data ...[]byte) []byte {
	b := bytes.Join(data, nil)
	return append(append(u32(format, uint32(len(b))), b...), make([]byte, -len(b)&3)...)
}

// taken is a compact flow sample of ifIndex 7, 1:512.
func taken(sequence, drops uint32, records ...[]byte) []byte {
	return item(sflowFlow, append([][]byte{u32(sequence, 7, 512, 100_000, drops, 7, 8, uint32(len(records)))}, records...)...)
}

func takenExpanded(sequence uint32, records ...[]byte) []byte {
	return item(sflowFlowExpanded, append([][]byte{u32(sequence, 0, 7, 512, 100_000, 0, 0, 7, 2, 3, uint32(len(records)))}, records...)...)
}

// head is a sampled header of at most 128 bytes, of a frame with its checksum.
func head(protocol uint32, frame []byte) []byte {
	kept := frame[:min(len(frame), 128)]
	return item(sflowHeader, u32(protocol, uint32(len(frame)+4), 4, uint32(len(kept))), kept, make([]byte, -len(kept)&3))
}

var sflowFour = item(sflowIPv4, u32(1500, TCP, 0x0a000001, 0x0a000002, 40000, 443, PSH|ACK, 0))

func TestSFlow(t *testing.T) {
	request := serialize(t, ethernet(typeVLAN), gopacket.Payload{0, 77, 8, 0}, ip4(TCP), tcp(40000, 443, "PA"), payload(1000))
	arp := serialize(t, ethernet(0x0806), payload(28))
	overlay := wrappedFrames(t)[0].frame
	six := item(sflowIPv6, u32(100, UDP), Addr16([]byte{0x20, 1, 13: 0, 15: 1}).bytes(), Addr16([]byte{0x20, 1, 13: 0, 15: 2}).bytes(), u32(5000, 53, 0xff, 0))
	a, b := Addr4(0x0a000001), Addr4(0x0a000002)
	plain := Record{
		First: labNow, Last: labNow, Src: a, Dst: b, SrcPort: 40000, DstPort: 443, Bytes: 1040, Packets: 1,
		Exporter: Addr4(0xc0000209), Domain: 1, Sampling: 512, InIf: 7, OutIf: 8, VLAN: 77, Proto: TCP, TCPFlags: PSH | ACK,
	}
	with := func(change func(*Record)) []Record { r := plain; change(&r); return []Record{r} }
	fields := func(r *Record) { r.Bytes, r.VLAN = 1500, 0 }
	for name, c := range map[string]struct {
		samples [][]byte
		want    []Record
		ignored map[verdict]uint64
		refused uint64
	}{
		"a header":          {samples: [][]byte{taken(1, 0, head(1, request))}, want: with(func(*Record) {})},
		"expanded":          {samples: [][]byte{takenExpanded(1, head(1, request))}, want: with(func(r *Record) { r.OutIf = 0 })},
		"several, counters": {samples: [][]byte{item(2, u32(1, 7, 0)), taken(1, 0, head(1, request)), item(4, u32(1, 0, 7, 0)), item(5, u32(1)), item(0x999005, u32(1)), taken(2, 0, head(1, request))}, want: []Record{plain, plain}},
		"IPv4 without link": {samples: [][]byte{taken(1, 0, head(11, request[18:]))}, want: with(func(r *Record) { r.VLAN = 0 })},
		"no header":         {samples: [][]byte{taken(1, 0, sflowFour)}, want: with(fields)},
		"IPv6, no header": {samples: [][]byte{taken(1, 0, six)}, want: with(func(r *Record) {
			r.Src, r.Dst = Addr16([]byte{0x20, 1, 15: 1}), Addr16([]byte{0x20, 1, 15: 2})
			r.SrcPort, r.DstPort, r.Bytes, r.VLAN, r.Proto, r.TCPFlags = 5000, 53, 100, 0, UDP, 0
		})},
		"a switch, a router, a gateway": {samples: [][]byte{taken(1, 0, item(sflowSwitch, u32(9, 0, 10, 0)), item(1002, u32(1, 0x0a0000fe, 24, 24)), item(1003, u32(1, 0x0a0000fe, 1, 2, 3, 1, 2, 2, 4, 5, 0, 100)), sflowFour)}, want: with(func(r *Record) { fields(r); r.VLAN = 9 })},
		"translated": {samples: [][]byte{taken(1, 0, head(1, request), item(sflowNAT, u32(1, 0xc6336401, 1, 0xc6336402)), item(sflowNATPort, u32(61000, 8443)))}, want: with(func(r *Record) {
			r.NATSrc, r.NATDst, r.NATSrcPort, r.NATDstPort = Addr4(0xc6336401), Addr4(0xc6336402), 61000, 8443
		})},
		"vxlan": {samples: [][]byte{taken(1, 0, head(1, overlay))}, want: with(func(r *Record) {
			r.Src, r.Dst, r.SrcPort, r.DstPort, r.Bytes, r.Proto, r.TCPFlags, r.VLAN, r.VNI = Addr4(0x0a090001), Addr4(0x0a090002), 1000, 2000, 38, UDP, 0, 0, 0x1092
		})},
		"a header that is no use, and fields": {samples: [][]byte{taken(1, 0, head(4, request), sflowFour)}, want: with(fields)},
		"ARP":                                 {samples: [][]byte{taken(1, 0, head(1, arp))}, ignored: map[verdict]uint64{notIP: 1}},
		"token bus":                           {samples: [][]byte{taken(1, 0, head(2, request))}, ignored: map[verdict]uint64{badLink: 1}},
		"nothing but a user name":             {samples: [][]byte{taken(1, 0, item(1004, u32(1, 2)))}, ignored: map[verdict]uint64{badLink: 1}},
		"header longer than the record":       {samples: [][]byte{taken(1, 0, item(sflowHeader, u32(1, 1058, 0, 9999), request[:100]))}, want: with(func(*Record) {})},
		"a sample past the end":               {samples: [][]byte{taken(1, 0, head(1, request)), u32(1, 0x7fffffff, 0)}, want: with(func(*Record) {}), refused: 1},
		"a record past the end":               {samples: [][]byte{taken(1, 0, head(1, request), u32(3, 0xffffffff))}, want: with(func(*Record) {}), refused: 1},
		"a sample too short":                  {samples: [][]byte{item(1, u32(1, 7, 512))}, ignored: map[verdict]uint64{tooShort: 1}, refused: 1},
		"4,294,967,295 records":               {samples: [][]byte{item(1, u32(1, 7, 512, 1, 0, 7, 8, 0xffffffff), sflowFour)}, want: with(fields)},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, Config{})
			got := l.send(sflowMessage(1, 60_000, c.samples...))
			if diff := cmp.Diff(c.want, append([]Record(nil), got...)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			for v := used + 1; v < numVerdict; v++ {
				if got := l.decoder.stats.sflow.ignored[v].Get(); got != c.ignored[v] {
					t.Errorf("%d ignored: %s", got, verdictNames[v])
				}
			}
			if got := l.refused(partSampleLength); got != c.refused {
				t.Errorf("%d parts refused, want %d", got, c.refused)
			}
			if l.batches[0].Source != "sflow:192.0.2.9/1" || l.batches[0].Watermark != labNow {
				t.Errorf("batch %+v", l.batches[0])
			}
			l.conservedSamples()
		})
	}
}

func (a Addr) bytes() []byte { b := a.Netip().As16(); return b[:] }

// conservedSamples: each flow sample is a record or is ignored for a reason.
func (l *lab) conservedSamples() {
	l.t.Helper()
	l.conserved()
	s := &l.decoder.stats.sflow
	sum := s.records.Get()
	for v := used + 1; v < numVerdict; v++ {
		sum += s.ignored[v].Get()
	}
	if sum != s.flows.Get() {
		l.t.Errorf("%d flow samples, %d accounted for", s.flows.Get(), sum)
	}
}

// Headers that are no sFlow, and agents that do not say who they are.
func TestSFlowHeader(t *testing.T) {
	l := newLab(t, Config{})
	for _, b := range [][]byte{u32(5), u32(5, 1, 2, 3, 4, 5), u32(5, 3, 2, 3, 4, 5, 6, 7, 8), u32(5, 2, 2, 3, 4, 5, 6, 7)} {
		l.send(b)
	}
	if l.refused(badShort) != 4 || len(l.batches) != 0 {
		t.Errorf("%d short, %d batches", l.refused(badShort), len(l.batches))
	}
	l.send(u32(4, 1, 0xc0000209, 1, 1, 1, 0))
	if l.refused(badVersion) != 1 {
		t.Errorf("sFlow 4 is refused %d times", l.refused(badVersion))
	}
	for name, header := range map[string][]byte{
		"sflow:192.0.2.1/3":   u32(5, 1, 0, 3, 1, 1, 0),
		"sflow:2001:db8::1/3": append(append(u32(5, 2), Addr16([]byte{0x20, 1, 0xd, 0xb8, 15: 1}).bytes()...), u32(3, 1, 1, 0)...),
	} {
		l.send(header)
		if got := l.batches[len(l.batches)-1].Source; got != name {
			t.Errorf("source %q, want %q", got, name)
		}
	}
	l.conservedSamples()
}

// Rates: of each sample, of the configuration, or unknown where the agent says an impossible one.
func TestSFlowRates(t *testing.T) {
	one := taken(1, 0, sflowFour)
	rate := func(b []byte, n uint32) []byte { b = bytes.Clone(b); binary.BigEndian.PutUint32(b[16:], n); return b }
	l := newLab(t, Config{})
	got := l.send(sflowMessage(1, 60_000, rate(one, 1), rate(one, 0), rate(one, 2_000_000), rate(one, 1000)))
	for i, want := range []struct {
		rate  uint32
		flags uint8
	}{{1, 0}, {1, FlagSamplingUnknown}, {1, FlagSamplingUnknown}, {1000, 0}} {
		if got[i].Sampling != want.rate || got[i].Flags != want.flags {
			t.Errorf("%d: 1:%d, flags %d", i, got[i].Sampling, got[i].Flags)
		}
	}
	if l.refused(partSampling) != 2 {
		t.Errorf("%d rates refused", l.refused(partSampling))
	}
	s := l.decoder.exportersStatus()[0]
	if s.Sampling != 1000 || s.SamplingFrom != "record" || s.Exporter.String() != "192.0.2.9" || s.Records != 4 {
		t.Errorf("status %+v", s)
	}
	l = newLab(t, Config{Sampling: []SamplingRate{{Exporter: "192.0.2.0/24", Rate: 64}}})
	if got := l.send(sflowMessage(1, 60_000, one)); got[0].Sampling != 64 {
		t.Errorf("1:%d, configured 64", got[0].Sampling)
	}
}

// Samples are numbered per data source; what is missing is a gap, and so is a restart.
func TestSFlowLosses(t *testing.T) {
	l := newLab(t, Config{})
	send := func(sequence, uptime uint32, samples ...[]byte) {
		l.now += second
		l.send(sflowMessage(sequence, uptime, samples...))
	}
	other := func(sequence uint32) []byte {
		b := taken(sequence, 0, sflowFour)
		b[15] = 9 // ifIndex
		return b
	}
	send(1, 600_000, taken(100, 5, sflowFour), other(40))
	send(2, 601_000, taken(101, 5, sflowFour), other(41))
	send(4, 603_000, taken(104, 8, sflowFour), other(43)) // 2 and 1 are missing; 3 dropped at the agent
	send(3, 602_000, taken(103, 5, sflowFour))            // one comes late
	send(5, 604_000, taken(105, 8, sflowFour))
	status := l.decoder.exportersStatus()[0]
	if status.Lost != 2 || status.LostUnit != "samples" || status.Reordered != 1 || status.Restarts != 0 {
		t.Errorf("status %+v", status)
	}
	if len(l.gaps) != 1 || l.gaps[0].Lost != 3 || l.gaps[0].Reason != "sequence" || l.gaps[0].Source != "sflow:192.0.2.9/1" || l.gaps[0].From != labNow+2*second || l.gaps[0].To != labNow+3*second {
		t.Errorf("gaps %+v", l.gaps)
	}
	if got := l.decoder.stats.sflow.agentDrops.Get(); got != 3 {
		t.Errorf("%d dropped at the agent", got)
	}
	send(1, 1000, taken(7, 0, sflowFour), other(3)) // restarted
	send(2, 2000, taken(8, 0, sflowFour), other(4))
	status = l.decoder.exportersStatus()[0]
	if status.Lost != 2 || status.Restarts != 1 || len(l.gaps) != 2 || l.gaps[1].Reason != "restart" {
		t.Errorf("status %+v, gaps %+v", status, l.gaps)
	}
	l.conservedSamples()
}

// A stranger with ever new agents and sources fills the tables, and no more than the tables.
func TestSFlowFlood(t *testing.T) {
	l := newLab(t, Config{})
	b := sflowMessage(1, 60_000, taken(1, 0, sflowFour))
	for i := range uint32(200_000) {
		binary.BigEndian.PutUint32(b[8:], 0x0a000000+i%5000) // agent
		binary.BigEndian.PutUint32(b[40:], i)                // source
		l.now += int64(time.Microsecond)
		l.records = l.records[:0]
		l.decoder.datagram(append(b, make([]byte, slack)...), len(b), false, l.sender(), l.now)
	}
	if got := l.decoder.sources.len(); got != sflowSources {
		t.Errorf("%d sources remembered", got)
	}
	if l.decoder.stats.sflow.evicted.Get() == 0 || l.decoder.stats.evictedDomains.Get() == 0 {
		t.Error("no eviction counted")
	}
}

// goflow2 reads the same samples out of the same bytes.
func TestSFlowOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	seeds := wrappedFrames(t)
	for range 2000 {
		var samples [][]byte
		for range r.IntN(6) {
			record := [][]byte{head(1, seeds[r.IntN(len(seeds))].frame), item(sflowSwitch, u32(9, 0, 10, 0))}[:1+r.IntN(2)]
			switch r.IntN(3) {
			case 0:
				samples = append(samples, taken(r.Uint32(), r.Uint32N(100), record...))
			case 1:
				samples = append(samples, takenExpanded(r.Uint32(), record...))
			default:
				samples = append(samples, taken(r.Uint32(), r.Uint32N(100), sflowFour))
			}
		}
		b := sflowMessage(r.Uint32(), r.Uint32(), samples...)
		l := newLab(t, Config{})
		got := l.send(b)
		var theirs sflow.Packet
		if err := sflow.DecodeMessageVersion(bytes.NewBuffer(bytes.Clone(b)), &theirs); err != nil {
			t.Fatal(err)
		}
		var want []Record
		take := func(rate, in, out uint32, records []sflow.FlowRecord) {
			var k packet
			switch x := records[0].Data.(type) {
			case sflow.SampledHeader:
				vlan := uint16(0)
				if len(records) > 1 {
					vlan = uint16(records[1].Data.(sflow.ExtendedSwitch).SrcVlan)
				}
				(&parser{}).parse(&k, linkEthernet, x.HeaderData, int(x.FrameLength-x.Stripped), vlan, 1)
			case sflow.SampledIPv4:
				k = packet{src: Addr4(binary.BigEndian.Uint32(x.SrcIP)), dst: Addr4(binary.BigEndian.Uint32(x.DstIP)), sport: uint16(x.SrcPort), dport: uint16(x.DstPort), proto: uint8(x.Protocol), flags: uint8(x.TcpFlags), bytes: uint64(x.Length)}
			}
			want = append(want, Record{
				First: labNow, Last: labNow, Src: k.src, Dst: k.dst, SrcPort: k.sport, DstPort: k.dport, Bytes: k.bytes, Packets: 1, VLAN: k.vlan, VNI: k.vni,
				Exporter: Addr4(binary.BigEndian.Uint32(theirs.AgentIP)), Domain: theirs.SubAgentId, Sampling: rate, InIf: in, OutIf: out, Proto: k.proto, TCPFlags: k.flags,
			})
		}
		for _, s := range theirs.Samples {
			switch s := s.(type) {
			case sflow.FlowSample:
				take(s.SamplingRate, s.Input, s.Output, s.Records)
			case sflow.ExpandedFlowSample:
				take(s.SamplingRate, s.InputIfValue, 0, s.Records)
			}
		}
		if diff := cmp.Diff(want, append([]Record(nil), got...)); diff != "" {
			t.Fatalf("-goflow2 +ours\n%s", diff)
		}
	}
}

// A capture of datagrams is recognised, and read with its times.
func TestSFlowCapture(t *testing.T) {
	var frames []timed
	for i := range 20 {
		b := sflowMessage(uint32(i), uint32(60_000+i*1000), taken(uint32(i), 0, sflowFour))
		frames = append(frames, timed{base + int64(i)*second, serialize(t, ethernet(typeIPv4), ip4(UDP), udp(50000, 6343), gopacket.Payload(b)), 0})
	}
	file := pcapFile(binary.LittleEndian, true, linkEthernet, frames)
	if !CaptureOfExports(file) {
		t.Error("not recognised")
	}
	var got []Record
	err := OpenDatagrams("test", bytes.NewReader(file), NewPool(1), metrics.NewSet()).Run(context.Background(), func(b *Batch) {
		got = append(got, b.Records...)
		b.Free()
	})
	if err != nil || len(got) != 20 || got[19].Last != base+19*second {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestSFlowAllocatesNothing(t *testing.T) {
	l := newLab(t, Config{})
	request := serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(40000, 443, "PA"), payload(1000))
	data := sflowMessage(1, 60_000, taken(1, 0, head(1, request)), taken(2, 0, head(1, request)), takenExpanded(3, sflowFour))
	l.send(data)
	l.decoder.emit = (*Batch).Free
	buf := append(data, make([]byte, slack)...)
	n := testing.AllocsPerRun(1000, func() {
		l.now += milli
		l.decoder.datagram(buf, len(data), false, l.sender(), l.now)
		l.decoder.flush()
	})
	if n != 0 {
		t.Errorf("%g allocations per datagram", n)
	}
}

// Whatever arrives: no panic, bounded memory, every sample accounted for, and the next good datagram is read.
func FuzzSFlow(f *testing.F) {
	for _, w := range wrappedFrames(f)[:6] {
		f.Add(sflowMessage(1, 60_000, taken(1, 0, head(1, w.frame)), takenExpanded(2, item(sflowSwitch, u32(9, 0, 10, 0)), sflowFour), item(2, u32(1, 2, 3))), false)
	}
	f.Add(sflowMessage(1, 60_000, item(1, u32(1, 7, 512, 1, 0, 7, 8, 0xffffffff), u32(1, 16, 1, 0xffffffff, 0xffffffff, 0xffffffff))), true)
	f.Fuzz(func(t *testing.T, b []byte, cut bool) {
		if len(b) > datagramSize {
			return
		}
		l := newLab(t, Config{})
		l.send(sflowMessage(1, 60_000, taken(1, 0, sflowFour)))
		buf := append(bytes.Clone(b), make([]byte, slack)...)
		if used := allocated(func() {
			l.decoder.datagram(buf, len(b), cut, l.sender(), l.now)
			l.decoder.flush()
		}); used > 1<<20 {
			t.Errorf("%d bytes allocated for %d received", used, len(b))
		}
		for _, r := range l.records {
			if isSFlow(b) && (r.Sampling == 0 || r.Packets != 1 || r.First != r.Last || r.Bytes > sflowFrame+maxInner) {
				t.Errorf("impossible record %+v", r)
			}
		}
		if got := l.send(sflowMessage(2, 61_000, taken(2, 0, sflowFour))); len(got) != 1 {
			t.Errorf("the next good datagram gave %d records", len(got))
		}
		l.conservedSamples()
	})
}

// A million random and mutated datagrams: every one is accounted for.
func TestSFlowMutated(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	request := serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(40000, 443, "PA"), payload(1000))
	seed := sflowMessage(1, 60_000, taken(1, 0, head(1, request)), takenExpanded(2, item(sflowSwitch, u32(9, 0, 10, 0)), sflowFour), item(2, u32(1, 2, 3)), taken(2, 0, sflowFour))
	l := newLab(t, Config{})
	l.decoder.emit = (*Batch).Free
	buf := make([]byte, len(seed)+slack)
	for i := range 1_000_000 {
		n := copy(buf, seed)
		for range 1 + r.IntN(6) {
			buf[r.IntN(n)] = byte(r.Uint32())
		}
		if i%4 != 0 {
			binary.BigEndian.PutUint32(buf, 5)
		}
		if i%8 == 0 {
			n = r.IntN(n)
		}
		l.now += milli
		l.decoder.datagram(buf, n, false, l.sender(), l.now)
	}
	l.decoder.flush()
	l.conservedSamples()
	if s := &l.decoder.stats.sflow; s.records.Get() < 500_000 || l.refused(partSampleLength) == 0 || l.decoder.sources.len() > sflowSources {
		t.Errorf("%d records, %d refused, %d sources", s.records.Get(), l.refused(partSampleLength), l.decoder.sources.len())
	}
}

// Over a socket, as `flow.sflow` opens it.
func TestSFlowSocket(t *testing.T) {
	c := Config{Netflow: []string{"off"}, SFlow: []string{"127.0.0.1:0"}, Interfaces: []string{"off"}, ReceiveBufferBytes: 1 << 20}
	sources, notes, err := c.Open(NewPool(4), metrics.NewSet(), nil)
	if err != nil || len(sources) != 1 || !strings.HasPrefix(notes[0], "listening for sFlow on udp 127.0.0.1:") {
		t.Fatalf("%d sources, notes %q, %v", len(sources), notes, err)
	}
	collector := sources[0].(*Collector)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := net.Dial("udp", collector.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(sflowMessage(1, 60_000, taken(1, 0, sflowFour))); err != nil { // the socket is bound: it waits there
		t.Fatal(err)
	}
	var got []Record
	err = collector.Run(ctx, func(b *Batch) {
		if got = append(got, b.Records...); len(got) > 0 {
			cancel()
		}
		b.Free()
	})
	if err != nil || len(got) != 1 || got[0].Sampling != 512 || collector.Kind() != "sflow" {
		t.Errorf("%+v of a collector of %s, %v", got, collector.Kind(), err)
	}
}
