package flow

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each element lands where it belongs. Every record carries two addresses; what is not named is as in the plain record.
func TestElements(t *testing.T) {
	v6a, v6b := u64(0x20010db800000000, 1), u64(0x20010db800000000, 2)
	a6, b6 := Addr{0x20010db800000000, 1}, Addr{0x20010db800000000, 2}
	for _, c := range []struct {
		name   string
		fields []uint16
		record [][]byte
		want   func(*Record)
	}{
		{"plain", nil, nil, func(*Record) {}},
		{"ports, protocol, flags", []uint16{7, 2, 11, 2, 4, 1, 6, 1}, [][]byte{u16(40000, 443), {6, 0x12}}, func(r *Record) {
			r.SrcPort, r.DstPort, r.Proto, r.TCPFlags = 40000, 443, TCP, SYN|ACK
		}},
		{"TCP flags of two bytes", []uint16{6, 2}, [][]byte{u16(0x5012)}, func(r *Record) { r.TCPFlags = 0x12 }},
		{"counters of 3 and 8 bytes", []uint16{1, 3, 2, 8}, [][]byte{{1, 2, 3}, u64(1 << 40)}, func(r *Record) { r.Bytes, r.Packets = 0x010203, 1<<40 }},
		{"delta before total, wherever", []uint16{85, 4, 86, 4, 1, 4, 2, 4}, [][]byte{u32(1, 2, 3, 4)}, func(r *Record) { r.Bytes, r.Packets = 3, 4 }},
		{"total alone", []uint16{85, 4, 86, 4}, [][]byte{u32(1, 2)}, func(r *Record) { r.Bytes, r.Packets = 1, 2 }},
		{"the first of two equals", []uint16{1, 4, 1, 4}, [][]byte{u32(1, 2)}, func(r *Record) { r.Bytes = 1 }},
		{"interfaces", []uint16{10, 2, 14, 4}, [][]byte{u16(7), u32(1 << 20)}, func(r *Record) { r.InIf, r.OutIf = 7, 1<<20 }},
		{"after NAT", []uint16{225, 4, 226, 4, 227, 2, 228, 2}, [][]byte{u32(0x01020304, 0x05060708), u16(1024, 8443)}, func(r *Record) {
			r.NATSrc, r.NATDst, r.NATSrcPort, r.NATDstPort = Addr4(0x01020304), Addr4(0x05060708), 1024, 8443
		}},
		{"after NAT, IPv6", []uint16{281, 16, 282, 16}, [][]byte{v6a, v6b}, func(r *Record) { r.NATSrc, r.NATDst = a6, b6 }},
		{"VLAN with priority", []uint16{58, 2}, [][]byte{u16(0x6064)}, func(r *Record) { r.VLAN = 100 }},
		{"802.1Q VLAN", []uint16{243, 2}, [][]byte{u16(100)}, func(r *Record) { r.VLAN = 100 }},
		{"VXLAN segment", []uint16{351, 8}, [][]byte{u64(0x01<<56 | 5001)}, func(r *Record) { r.VNI = 5001 }},
		{"VLAN of the other side", []uint16{254, 2, 59, 2}, [][]byte{u16(101, 102)}, func(r *Record) { r.VLAN = 102 }},
		{"VRF", []uint16{235, 4, 234, 4}, [][]byte{u32(8, 7)}, func(r *Record) { r.VRF = 7 }},
		{"VRF of the outgoing side", []uint16{235, 4}, [][]byte{u32(8)}, func(r *Record) { r.VRF = 8 }},
		{"MPLS labels between", []uint16{70, 3, 71, 3, 46, 1, 47, 4, 1, 4}, [][]byte{{1, 2, 3}, {4, 5, 6}, {1}, u32(9), u32(5)}, func(r *Record) { r.Bytes = 5 }},
		{"seconds", []uint16{150, 4, 151, 4}, [][]byte{u32(labExport-9, labExport-3)}, ago(9*sec, 3*sec)},
		{"milliseconds", []uint16{152, 8, 153, 8}, [][]byte{u64(labExport*1000-9001, labExport*1000-3002)}, ago(9001*milli, 3002*milli)},
		{"microseconds", []uint16{154, 8, 155, 8}, [][]byte{u64(ntp(labExport-9, 1<<31), ntp(labExport-3, 1<<30))}, ago(8500*milli, 2750*milli)},
		{"plain microseconds", []uint16{154, 8, 155, 8}, [][]byte{u64((labExport-9)*1e6, (labExport-3)*1e6)}, ago(9*sec, 3*sec)},
		{"nanoseconds", []uint16{156, 8, 157, 8}, [][]byte{u64(ntp(labExport-9, 1<<31), ntp(labExport-3, 0))}, ago(8500*milli, 3*sec)},
		{"microseconds before the export", []uint16{158, 4, 159, 4}, [][]byte{u32(9_000_001, 3_000_002)}, ago(9000001_000, 3000002_000)},
		{"uptime and its boot in the record", []uint16{22, 4, 21, 4, 160, 8}, [][]byte{u32(91_000, 97_000), u64((labExport - 100) * 1000)}, ago(9*sec, 3*sec)},
		{"end and duration", []uint16{153, 8, 161, 4}, [][]byte{u64((labExport - 3) * 1000), u32(6000)}, ago(9*sec, 3*sec)},
		{"start and duration", []uint16{152, 8, 161, 4}, [][]byte{u64((labExport - 9) * 1000), u32(6000)}, ago(9*sec, 3*sec)},
		{"the finer time wins", []uint16{150, 4, 151, 4, 152, 8, 153, 8}, [][]byte{u32(labExport-9, labExport-3), u64(labExport*1000-9001, labExport*1000-3002)}, ago(9001*milli, 3002*milli)},
		{"ended", []uint16{136, 1}, [][]byte{{3}}, func(r *Record) { r.Flags |= FlagEnd }},
		{"cut by the active timeout", []uint16{136, 1}, [][]byte{{2}}, func(r *Record) { r.Flags |= FlagForced }},
		{"idle is no end", []uint16{136, 1}, [][]byte{{1}}, func(*Record) {}},
		{"ICMP type and code in one", []uint16{4, 1, 32, 2}, [][]byte{{1}, u16(0x0800)}, func(r *Record) { r.Proto, r.DstPort = ICMP, 0x0800 }},
		{"ICMP type and code apart", []uint16{4, 1, 176, 1, 177, 1}, [][]byte{{1, 3, 4}}, func(r *Record) { r.Proto, r.DstPort = ICMP, 0x0304 }},
		{"an address of 5 bytes", []uint16{225, 5}, [][]byte{{1, 2, 3, 4, 5}}, func(*Record) {}},
		{"unknown elements between", []uint16{9999, 7, 1, 4}, [][]byte{make([]byte, 7), u32(5)}, func(r *Record) { r.Bytes = 5 }},
		{"variable length before and after", []uint16{82, 0xffff, 1, 4, 83, 0xffff, 2, 0xffff}, [][]byte{{3, 'a', 'b', 'c'}, u32(5), {255, 0, 2, 'x', 'y'}, {2, 1, 0}}, func(r *Record) {
			r.Bytes, r.Packets = 5, 256
		}},
	} {
		l := newLab(t, Config{})
		record := u32(0x0a000001, 0x0a000002)
		for _, b := range c.record {
			record = append(record, b...)
		}
		fields := append([]uint16{8, 4, 12, 4}, c.fields...)
		got := l.send(newMessage(10).template(256, fields...).set(256, record, record).bytes())
		want := Record{
			First: labExport * sec, Last: labExport * sec, Src: Addr4(0x0a000001), Dst: Addr4(0x0a000002),
			Exporter: AddrOf(l.from), Domain: 1, Sampling: 1, Flags: FlagSamplingUnknown,
		}
		c.want(&want)
		if diff := cmp.Diff([]Record{want, want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// ago sets the times before the export, ns.
func ago(first, last int64) func(*Record) {
	return func(r *Record) { r.First, r.Last = labExport*sec-first, labExport*sec-last }
}

// ntp is the format of RFC 7011 6.1.9: seconds since 1900 and their fraction in 1/2^32.
func ntp(seconds, fraction uint64) uint64 { return (seconds+ntpEpoch)<<32 | fraction }

// The flags of YAF, in elements of its own enterprise: of the first packet, of the others, and the same of the answer.
func TestYAFFlags(t *testing.T) {
	l := newLab(t, Config{})
	fields := u16(256, 8, 8, 4, 12, 4, 85, 4)
	for _, f := range [][3]uint32{{14, 1, certPEN}, {15, 1, certPEN}, {14 | 0x4000, 1, certPEN}, {15 | 0x4000, 1, certPEN}} {
		fields = append(append(fields, u16(uint16(f[0])|0x8000, uint16(f[1]))...), u32(f[2])...)
	}
	fields = append(append(fields, u16(85|0x8000, 4)...), u32(reversePEN)...)
	record := append(u32(1, 2, 100), SYN, ACK|PSH|FIN, SYN|ACK, ACK|FIN)
	got := l.send(newMessage(10).set(2, fields).set(256, append(record, u32(200)...)).bytes())
	if len(got) != 2 || got[0].TCPFlags != SYN|ACK|PSH|FIN || got[1].TCPFlags != SYN|ACK|FIN {
		t.Errorf("got %+v", got)
	}
}

// A template with both families says which one holds by leaving the other 0.
func TestBothFamilies(t *testing.T) {
	fields := []uint16{8, 4, 27, 16, 12, 4, 28, 16}
	l := newLab(t, Config{})
	got := l.send(newMessage(10).template(256, fields...).set(256,
		u32(1), make([]byte, 16), u32(2), make([]byte, 16),
		u32(0), u64(3, 4), u32(0), u64(5, 6)).bytes())
	if len(got) != 2 || got[0].Src != Addr4(1) || got[0].Dst != Addr4(2) || got[1].Src != (Addr{3, 4}) || got[1].Dst != (Addr{5, 6}) {
		t.Errorf("got %+v", got)
	}
}

// The other direction of a biflow is a record of its own, and a record without an answer is none.
func TestBiflow(t *testing.T) {
	l := newLab(t, Config{})
	// 29305 is the enterprise of RFC 5103: element, length, enterprise.
	reverse := append(u16(0x8001, 4), u32(reversePEN)...)
	reverse = append(append(reverse, u16(0x8002, 4)...), u32(reversePEN)...)
	template := append(u16(256, 8, 8, 4, 12, 4, 7, 2, 11, 2, 1, 4, 2, 4), reverse...)
	record := func(bytes, packets uint32) []byte {
		b := append(u32(1, 2), u16(40000, 443)...)
		return append(b, u32(1000, 10, bytes, packets)...)
	}
	got := l.send(newMessage(10).set(2, template).set(256, record(7000, 9), record(0, 0)).bytes())
	if len(got) != 3 {
		t.Fatalf("%d records, want 3: %+v", len(got), got)
	}
	r := got[1]
	if r.Src != Addr4(2) || r.Dst != Addr4(1) || r.SrcPort != 443 || r.DstPort != 40000 || r.Bytes != 7000 || r.Packets != 9 || r.Flags&FlagReply == 0 {
		t.Errorf("reverse record %+v", r)
	}
	if got[0].Flags&FlagReply != 0 || got[2].Flags&FlagReply != 0 {
		t.Errorf("forward records are marked as replies")
	}
}

// An identical refresh compiles nothing and allocates nothing; another meaning of the id holds at once.
func TestTemplateRefresh(t *testing.T) {
	l := newLab(t, Config{})
	template := newMessage(10).template(256, 8, 4, 12, 4).bytes()
	l.send(template)
	buf := append(template, make([]byte, slack)...)
	l.decoder.emit = func(b *Batch) { b.Free() }
	if n := testing.AllocsPerRun(100, func() {
		l.decoder.datagram(buf, len(template), false, l.sender(), l.now)
		l.decoder.flush()
	}); n != 0 {
		t.Errorf("%v allocations per refresh", n)
	}
	if l.decoder.stats.refreshes.Get() == 0 || l.decoder.stats.templateChanges.Get() != 0 {
		t.Error("a refresh counts as a change")
	}
	l = newLab(t, Config{})
	l.send(template)
	got := l.send(newMessage(10).template(256, 12, 4, 8, 4).set(256, u32(1, 2)).bytes())
	if len(got) != 1 || got[0].Src != Addr4(2) || l.decoder.stats.templateChanges.Get() != 1 {
		t.Errorf("after the change: %+v", got)
	}
}

// Templates are known by the address, the domain and the version: not by the port, and not across domains.
func TestTemplateScope(t *testing.T) {
	l := newLab(t, Config{})
	l.send(newMessage(10).template(256, 8, 4, 12, 4).bytes())
	for _, c := range []struct {
		name    string
		version uint16
		domain  uint32
		want    int
	}{{"same", 10, 1, 1}, {"other domain", 10, 2, 0}, {"other version", 9, 1, 0}} {
		m := newMessage(c.version).set(256, u32(1, 2))
		m.domain = c.domain
		if got := l.send(m.bytes()); len(got) != c.want {
			t.Errorf("%s: %d records", c.name, len(got))
		}
	}
}

// A datagram with more records than a batch holds comes out whole, in batches of bounded size.
func TestLargeDatagram(t *testing.T) {
	l := newLab(t, Config{})
	l.send(newMessage(10).template(256, 8, 4).bytes())
	most := 0
	inner := l.decoder.emit
	l.decoder.emit = func(b *Batch) {
		most = max(most, len(b.Records))
		if b.Source != "netflow:192.0.2.1/1" || b.Arrival != l.now || b.Watermark == 0 {
			t.Errorf("batch %q, arrival %d, watermark %d", b.Source, b.Arrival, b.Watermark)
		}
		inner(b)
	}
	var body []byte
	for i := range uint32(16_000) {
		body = append(body, u32(i+1)...)
	}
	got := l.send(newMessage(10).set(256, body).bytes())
	for i, r := range got {
		if r.Src != Addr4(uint32(i+1)) {
			t.Fatalf("record %d is of %v", i, r.Src)
		}
	}
	if len(got) != 16_000 || most > 2*batchLimit {
		t.Errorf("%d records, largest batch %d", len(got), most)
	}
}

// Batches are of one domain each, in the order received.
func TestBatchPerDomain(t *testing.T) {
	l := newLab(t, Config{})
	for _, domain := range []uint32{1, 1, 2, 1} {
		m := newMessage(10).template(256, 8, 4, 12, 4).set(256, u32(domain, 2))
		m.domain = domain
		b := append(m.bytes(), make([]byte, slack)...)
		l.decoder.datagram(b, len(b)-slack, false, l.sender(), l.now)
	}
	l.decoder.flush()
	var got []string
	for _, b := range l.batches {
		got = append(got, b.Source)
	}
	if diff := cmp.Diff([]string{"netflow:192.0.2.1/1", "netflow:192.0.2.1/2", "netflow:192.0.2.1/1"}, got); diff != "" {
		t.Error(diff)
	}
	if len(l.records) != 4 {
		t.Errorf("%d records", len(l.records))
	}
}

// A datagram that the receiver cut keeps its complete sets, and one that ends before its message says as well.
func TestCutDatagram(t *testing.T) {
	l := newLab(t, Config{})
	l.send(newMessage(10).template(256, 8, 4, 12, 4).bytes())
	whole := newMessage(10).set(256, u32(1, 2)).set(256, u32(3, 4)).bytes()
	if got := l.send(whole[:len(whole)-3]); len(got) != 1 || l.refused(partCut) != 1 {
		t.Errorf("%d records, %d counted", len(got), l.refused(partCut))
	}
	b := v5(0, 100_000, 0, 3)
	b = append(b[:len(b)-10], make([]byte, slack)...)
	have := len(l.records)
	l.decoder.datagram(b, len(b)-slack, true, l.sender(), l.now)
	l.decoder.flush()
	if n := len(l.records) - have; n != 2 || l.decoder.stats.cut.Get() != 1 {
		t.Errorf("%d records of a cut v5 datagram", n)
	}
}

// A withdrawal is counted and left; where the configuration wants them honoured it takes one template, or all of its kind in its domain.
func TestWithdrawal(t *testing.T) {
	for _, c := range []struct {
		honoured bool
		set, id  uint16
		left     int
	}{
		{false, 2, 256, 4},
		{false, 2, 2, 4},
		{false, 3, 3, 4},
		{true, 2, 256, 3},
		{true, 2, 999, 4},
		{true, 3, 400, 3},
		{true, 2, 2, 2},
		{true, 3, 3, 2},
	} {
		l := newLab(t, Config{TemplateWithdrawals: c.honoured})
		l.send(newMessage(10).template(256, 8, 4).template(257, 12, 4).options(400, 144, 4, 34, 4).options(401, 144, 4, 50, 4).bytes())
		other := newMessage(10).template(256, 8, 4)
		other.domain = 2
		l.send(other.bytes())
		l.send(newMessage(10).set(c.set, u16(c.id, 0)).bytes())
		if s := l.status(1); s.Templates != c.left || l.status(2).Templates != 1 || l.decoder.templates != c.left+1 {
			t.Errorf("%+v: %d templates, %d in the other domain, %d in all", c, s.Templates, l.status(2).Templates, l.decoder.templates)
		}
		if counted := l.refused(partWithdrawal) == 1; counted == c.honoured {
			t.Errorf("%+v: counted %v", c, counted)
		}
		if got := l.send(newMessage(10).template(256, 12, 4).set(256, u32(1)).bytes()); len(got) != 1 || got[0].Dst != Addr4(1) {
			t.Errorf("%+v: the id cannot be used again: %+v", c, got)
		}
	}
}
