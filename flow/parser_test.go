package flow

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// said is what the tests compare: what a frame says, as text.
type said struct {
	Src, Dst     string
	Sport, Dport uint16
	Proto, Flags uint8
	VLAN         uint16
	Bytes        uint64
	Payload      int
}

func (k *packet) said() said {
	return said{k.src.String(), k.dst.String(), k.sport, k.dport, k.proto, k.flags, k.vlan, k.bytes, k.length}
}

// The edge frames of IP: each is a way in which a plain decoder gets bytes, ports or the packet wrong.
func TestParserEdges(t *testing.T) {
	tcp4 := serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(40000, 443, "PA"), payload(1000))
	zeroed := func(frame []byte, at int) []byte {
		frame = append([]byte(nil), frame...)
		frame[at], frame[at+1] = 0, 0
		return frame
	}
	tcp6 := serialize(t, ethernet(typeIPv6), ip6(TCP), tcp(40000, 443, "PA"), payload(1000))
	big := serialize(t, ethernet(typeIPv6), ip6(TCP), tcp(40000, 443, "A"), payload(65000))
	// with puts extension headers between the IPv6 header and the rest. The first byte of each is the next header.
	with := func(frame []byte, first uint8, headers ...[]byte) []byte {
		out := append([]byte(nil), frame[:54]...)
		out[20] = first
		for _, h := range headers {
			out = append(out, h...)
		}
		out = append(out, frame[54:]...)
		binary.BigEndian.PutUint16(out[18:], uint16(len(out)-54))
		return out
	}
	options := func(next uint8) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	jumbo := with(big, hopByHop, []byte{TCP, 0, 0xc2, 4, 0, 0, 0xfe, 0xb4})
	eight := with(tcp6, hopByHop, options(60), options(60), options(60), options(60), options(60), options(60), options(43), options(TCP))
	nine := with(tcp6, hopByHop, options(60), options(60), options(60), options(60), options(60), options(60), options(60), options(60), options(TCP))
	ah := with(tcp6, authentication, []byte{TCP, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	tagged := func(outer layers.EthernetType, ids ...uint16) []byte {
		ls := []gopacket.SerializableLayer{ethernet(outer)}
		for i, id := range ids {
			kind := layers.EthernetType(typeIPv4)
			if i < len(ids)-1 {
				kind = typeVLAN
			}
			ls = append(ls, &layers.Dot1Q{VLANIdentifier: id, Type: kind})
		}
		return serialize(t, append(ls, ip4(UDP), udp(1000, 2000), payload(10))...)
	}
	a4, b4, a6, b6 := "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"
	for name, c := range map[string]struct {
		frame []byte
		wire  int
		want  said
		v     verdict
	}{
		"plain tcp":                   {frame: tcp4, want: said{a4, b4, 40000, 443, TCP, PSH | ACK, 0, 1040, 1000}},
		"ipv4 total length 0":         {frame: zeroed(tcp4, 16), want: said{a4, b4, 40000, 443, TCP, PSH | ACK, 0, 1040, 1000}},
		"ipv4 total length 0, cut":    {frame: zeroed(tcp4, 16)[:80], wire: 200014, want: said{a4, b4, 40000, 443, TCP, PSH | ACK, 0, 200000, 199960}},
		"ipv4 longer than the wire":   {frame: tcp4[:200], want: said{a4, b4, 40000, 443, TCP, PSH | ACK, 0, 186, 146}},
		"ipv6 jumbo":                  {frame: zeroed(jumbo, 18), want: said{a6, b6, 40000, 443, TCP, ACK, 0, 65068, 65000}},
		"ipv6 length 0, no option":    {frame: zeroed(tcp6, 18), want: said{a6, b6, 40000, 443, TCP, PSH | ACK, 0, 1060, 1000}},
		"ipv6 eight extensions":       {frame: eight, want: said{a6, b6, 40000, 443, TCP, PSH | ACK, 0, 1124, 1000}},
		"ipv6 nine extensions":        {frame: nine, want: said{a6, b6, 0, 0, 60, 0, 0, 1132, 1028}},
		"ipv6 authentication":         {frame: ah, want: said{a6, b6, 40000, 443, TCP, PSH | ACK, 0, 1084, 1000}},
		"ipv6 no next header":         {frame: append(zeroed(tcp6, 18)[:20:20], append([]byte{noNext}, tcp6[21:54]...)...), wire: 60, want: said{a6, b6, 0, 0, noNext, 0, 0, 40, 0}},
		"tcp cut at 8":                {frame: tcp4[:14+20+8], wire: len(tcp4), want: said{a4, b4, 40000, 443, TCP, 0, 0, 1040, 0}},
		"tcp cut at 14":               {frame: tcp4[:14+20+14], wire: len(tcp4), want: said{a4, b4, 40000, 443, TCP, PSH | ACK, 0, 1040, 1000}},
		"tcp cut at 3":                {frame: tcp4[:14+20+3], wire: len(tcp4), want: said{a4, b4, 0, 0, TCP, 0, 0, 1040, 0}},
		"qinq":                        {frame: tagged(typeQinQ, 7, 9), want: said{a4, b4, 1000, 2000, UDP, 0, 7, 38, 10}},
		"priority tag before a vlan":  {frame: tagged(typeVLAN, 0, 9), want: said{a4, b4, 1000, 2000, UDP, 0, 9, 38, 10}},
		"four tags":                   {frame: tagged(typeQinQ, 7, 9, 11, 13), want: said{a4, b4, 1000, 2000, UDP, 0, 7, 38, 10}},
		"five tags":                   {frame: tagged(typeQinQ, 7, 9, 11, 13, 15), v: notIP},
		"icmp":                        {frame: serialize(t, ethernet(typeIPv4), ip4(ICMP), &layers.ICMPv4{TypeCode: 0x0800}, payload(56)), want: said{a4, b4, 0, 0x0800, ICMP, 0, 0, 84, 64}},
		"icmpv6":                      {frame: serialize(t, ethernet(typeIPv6), ip6(ICMPv6), &layers.ICMPv6{TypeCode: 0x8000}, payload(8)), want: said{a6, b6, 0, 0x8000, ICMPv6, 0, 0, 52, 12}},
		"other protocol":              {frame: serialize(t, ethernet(typeIPv4), ip4(89), payload(44)), want: said{a4, b4, 0, 0, 89, 0, 0, 64, 44}},
		"padding of short frames":     {frame: append(serialize(t, ethernet(typeIPv4), ip4(UDP), udp(1, 2)), make([]byte, 18)...), want: said{a4, b4, 1, 2, UDP, 0, 0, 28, 0}},
		"arp":                         {frame: serialize(t, ethernet(layers.EthernetTypeARP), payload(28)), v: notIP},
		"no ethernet header":          {frame: tcp4[:13], v: tooShort},
		"ip header cut":               {frame: tcp4[:33], wire: 1054, v: tooShort},
		"ipv6 header cut":             {frame: tcp6[:53], wire: 1074, v: tooShort},
		"ihl below 5":                 {frame: append(append([]byte(nil), tcp4[:14]...), append([]byte{0x44}, tcp4[15:]...)...), v: malformed},
		"version 5":                   {frame: append(append([]byte(nil), tcp4[:14]...), append([]byte{0x55}, tcp4[15:]...)...), v: malformed},
		"extension past the end":      {frame: with(tcp6[:54:54], hopByHop, []byte{TCP, 9, 1, 4, 0, 0, 0, 0}), v: malformed},
		"tcp of 3 bytes":              {frame: serialize(t, ethernet(typeIPv4), ip4(TCP), payload(3)), v: malformed},
		"tcp data offset past packet": {frame: serialize(t, ethernet(typeIPv4), ip4(TCP), gopacket.Payload{0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 2, 0, 0, 0, 0, 0, 0}), want: said{a4, b4, 1, 2, TCP, SYN, 0, 40, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var p parser
			var k packet
			v := p.parse(&k, linkEthernet, c.frame, c.wire, 0, 1)
			if v != c.v {
				t.Fatalf("verdict %q, want %q", verdictNames[v], verdictNames[c.v])
			}
			if v == used {
				if diff := cmp.Diff(c.want, k.said()); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			}
		})
	}
}

func TestParserLinks(t *testing.T) {
	ip := serialize(t, ip4(UDP), udp(1, 2), payload(5))
	sll := append([]byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0}, ip...)
	sll2 := append([]byte{8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}, ip...)
	want := said{"10.0.0.1", "10.0.0.2", 1, 2, UDP, 0, 0, 33, 5}
	for link, frame := range map[uint32][]byte{
		linkRaw: ip, linkRaw2: ip, linkIPv4: ip, linkSLL: sll, linkSLL2: sll2, linkNull: append([]byte{2, 0, 0, 0}, ip...),
	} {
		var p parser
		var k packet
		if v := p.parse(&k, link, frame, 0, 0, 1); v != used {
			t.Errorf("link %d: %s", link, verdictNames[v])
		} else if diff := cmp.Diff(want, k.said()); diff != "" {
			t.Errorf("link %d: -want +got\n%s", link, diff)
		}
	}
	var p parser
	if v := p.parse(&packet{}, 147, ip, 0, 0, 1); v != badLink {
		t.Errorf("an unknown link type: %q", verdictNames[v])
	}
}

// The first fragment carries the ports; later ones get them by (src, dst, id, protocol).
func TestParserFragments(t *testing.T) {
	var p parser
	var k packet
	parse := func(frame []byte, now int64) said {
		t.Helper()
		if v := p.parse(&k, linkEthernet, frame, 0, 0, now); v != used {
			t.Fatal(verdictNames[v])
		}
		return k.said()
	}
	part4 := func(id, offset uint16, more bool, ls ...gopacket.SerializableLayer) []byte {
		h := ip4(UDP)
		h.Id, h.FragOffset = id, offset
		if more {
			h.Flags = layers.IPv4MoreFragments
		}
		return serialize(t, append([]gopacket.SerializableLayer{ethernet(typeIPv4), h}, ls...)...)
	}
	part6 := func(id uint32, offset uint16, more byte, rest []byte) []byte {
		h := []byte{destination, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(h[2:], offset<<3|uint16(more))
		binary.BigEndian.PutUint32(h[4:], id)
		return serialize(t, ethernet(typeIPv6), ip6(fragmentation), gopacket.Payload(append(h, rest...)))
	}
	first6 := append([]byte{UDP, 0, 1, 4, 0, 0, 0, 0}, 0x03, 0xe8, 0x07, 0xd0, 0, 100, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	for i, c := range []struct{ got, want said }{
		{parse(part4(5, 0, true, udp(1000, 2000), payload(24)), 10), said{"10.0.0.1", "10.0.0.2", 1000, 2000, UDP, 0, 0, 52, 24}},
		{parse(part4(5, 4, true, payload(32)), 11), said{"10.0.0.1", "10.0.0.2", 1000, 2000, UDP, 0, 0, 52, 0}},
		{parse(part4(5, 8, false, payload(9)), 12), said{"10.0.0.1", "10.0.0.2", 1000, 2000, UDP, 0, 0, 29, 0}},
		{parse(part4(6, 8, false, payload(9)), 12), said{"10.0.0.1", "10.0.0.2", 0, 0, UDP, 0, 0, 29, 0}},
		{parse(part4(5, 8, false, payload(9)), 12+fragmentTimeout), said{"10.0.0.1", "10.0.0.2", 0, 0, UDP, 0, 0, 29, 0}},
		{parse(part6(9, 0, 1, first6), 20), said{"2001:db8::1", "2001:db8::2", 1000, 2000, UDP, 0, 0, 72, 8}},
		{parse(part6(9, 3, 0, make([]byte, 10)), 20), said{"2001:db8::1", "2001:db8::2", 1000, 2000, UDP, 0, 0, 58, 0}},
		{parse(part6(10, 0, 0, first6), 20), said{"2001:db8::1", "2001:db8::2", 1000, 2000, UDP, 0, 0, 72, 8}}, // atomic
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%d: -want +got\n%s", i, diff)
		}
	}
	if parse(part4(7, 0, true, udp(1000, 2000), payload(24)), 30); !k.partial {
		t.Error("a first fragment passes for a whole packet")
	}
	if p.fragments.orphans != 2 {
		t.Errorf("%d orphans, want 2", p.fragments.orphans)
	}
	for i := range 100_000 { // a flood keeps the table as it is
		k = packet{src: Addr4(uint32(i)), dst: Addr4(1), proto: UDP}
		p.fragments.add(&k, uint32(i), UDP, 30)
	}
	if p.fragments.evicted < 90_000 || len(p.fragments.sets) != fragmentSets {
		t.Errorf("%d evicted from %d sets", p.fragments.evicted, len(p.fragments.sets))
	}
}

// oracle decodes with the six layers of gopacket.
type oracle struct {
	eth  layers.Ethernet
	tag  layers.Dot1Q
	ip4  layers.IPv4
	ip6  layers.IPv6
	tcp  layers.TCP
	udp  layers.UDP
	p    *gopacket.DecodingLayerParser
	seen []gopacket.LayerType
}

func newOracle() *oracle {
	o := &oracle{}
	o.p = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &o.eth, &o.tag, &o.ip4, &o.ip6, &o.tcp, &o.udp)
	o.p.IgnoreUnsupported = true
	return o
}

func (o *oracle) said(frame []byte) (s said, err error) {
	if err = o.p.DecodeLayers(frame, &o.seen); err != nil {
		return s, err
	}
	for _, l := range o.seen {
		switch l {
		case layers.LayerTypeDot1Q:
			if s.VLAN == 0 {
				s.VLAN = o.tag.VLANIdentifier
			}
		case layers.LayerTypeIPv4:
			s.Src, s.Dst = o.ip4.SrcIP.String(), o.ip4.DstIP.String()
			s.Proto, s.Bytes, s.Payload = uint8(o.ip4.Protocol), uint64(o.ip4.Length), len(o.ip4.Payload)
		case layers.LayerTypeIPv6:
			s.Src, s.Dst = o.ip6.SrcIP.String(), o.ip6.DstIP.String()
			s.Proto, s.Bytes, s.Payload = uint8(o.ip6.NextHeader), uint64(o.ip6.Length)+40, len(o.ip6.Payload)
		case layers.LayerTypeTCP:
			s.Sport, s.Dport, s.Flags, s.Payload = uint16(o.tcp.SrcPort), uint16(o.tcp.DstPort), o.tcp.Contents[13], len(o.tcp.Payload)
		case layers.LayerTypeUDP:
			s.Sport, s.Dport, s.Payload = uint16(o.udp.SrcPort), uint16(o.udp.DstPort), len(o.udp.Payload)
		}
	}
	return s, nil
}

// On well-formed frames the hand parser says what gopacket says.
func TestParserOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	o := newOracle()
	for i := range 20_000 {
		var ls []gopacket.SerializableLayer
		kind := layers.EthernetType(typeIPv4)
		six := r.IntN(2) == 0
		if six {
			kind = typeIPv6
		}
		switch tags := r.IntN(4); tags {
		case 1, 2:
			ls = append(ls, ethernet([]layers.EthernetType{typeVLAN, typeQinQ}[r.IntN(2)]))
			for n := range tags {
				next := kind
				if n < tags-1 {
					next = typeVLAN
				}
				ls = append(ls, &layers.Dot1Q{VLANIdentifier: uint16(1 + r.IntN(4094)), Priority: uint8(r.IntN(8)), Type: next})
			}
			if tags == 2 { // the oracle keeps the inner tag only
				ls[1].(*layers.Dot1Q).VLANIdentifier = ls[2].(*layers.Dot1Q).VLANIdentifier
			}
		default:
			ls = append(ls, ethernet(kind))
		}
		proto := []layers.IPProtocol{TCP, UDP, 50, 89}[r.IntN(4)]
		if six {
			h := ip6(proto)
			h.SrcIP[15], h.DstIP[9] = byte(r.Uint32()), byte(r.Uint32())
			ls = append(ls, h)
		} else {
			h := ip4(proto)
			h.SrcIP[3], h.DstIP[1] = byte(r.Uint32()), byte(r.Uint32())
			for range r.IntN(3) {
				h.Options = append(h.Options, layers.IPv4Option{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}})
			}
			ls = append(ls, h)
		}
		switch proto {
		case TCP:
			h := tcp(uint16(r.Uint32()), uint16(r.Uint32()), []string{"S", "SA", "A", "PA", "FA", "R"}[r.IntN(6)])
			for range r.IntN(4) {
				h.Options = append(h.Options, layers.TCPOption{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)})
			}
			ls = append(ls, h)
		case UDP:
			ls = append(ls, udp(uint16(r.Uint32()), uint16(r.Uint32())))
		}
		frame := serialize(t, append(ls, payload(1+r.IntN(1400)))...)
		want, err := o.said(frame)
		if err != nil {
			t.Fatal(err)
		}
		var p parser
		var k packet
		if v := p.parse(&k, linkEthernet, frame, len(frame), 0, 1); v != used {
			t.Fatalf("frame %d: %s, gopacket: %+v", i, verdictNames[v], want)
		}
		if diff := cmp.Diff(want, k.said()); diff != "" {
			t.Fatalf("frame %d: -gopacket +ours\n%s\n%x", i, diff, frame)
		}
	}
}

// Whatever the bytes are, the parser returns, stays inside the frame and never counts more than was on the wire.
func FuzzPacket(f *testing.F) {
	for _, seed := range [][]byte{
		serialize(f, ethernet(typeIPv4), ip4(TCP), tcp(1, 2, "S")),
		serialize(f, ethernet(typeIPv6), ip6(UDP), udp(53, 2), payload(20)),
		serialize(f, ethernet(typeQinQ), &layers.Dot1Q{Type: typeVLAN}, &layers.Dot1Q{Type: typeIPv4}, ip4(ICMP), payload(9)),
		serialize(f, ethernet(typeIPv6), ip6(hopByHop), gopacket.Payload{44, 0, 0xc2, 4, 0, 0, 0, 0, 60, 0, 0, 1, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}),
	} {
		f.Add(uint32(linkEthernet), seed, uint32(len(seed)))
		f.Add(uint32(linkRaw), seed[14:], uint32(9000))
	}
	for _, w := range wrappedFrames(f) {
		f.Add(uint32(linkEthernet), w.frame, uint32(len(w.frame)))
	}
	o := newOracle()
	f.Fuzz(func(t *testing.T, link uint32, frame []byte, wire uint32) {
		wire = max(wire&(1<<20-1), uint32(len(frame)))
		var p parser
		var k packet
		for now := int64(1); now < 3; now++ {
			v := p.parse(&k, link, frame, int(wire), 0, now)
			if v != used {
				continue
			}
			most := int(wire)
			if k.depth > 0 {
				most += maxInner // in the first fragment of its envelope
			}
			if k.bytes > uint64(most) || k.bytes < 20 || k.depth > maxEnvelopes {
				t.Fatalf("%d bytes of %d on the wire, in %d envelopes", k.bytes, wire, k.depth)
			}
			if k.payload < 0 || k.length < 0 || k.payload+k.length > most || len(k.transportPayload(frame)) > k.length {
				t.Fatalf("payload %d+%d of %d on the wire", k.payload, k.length, wire)
			}
			if k.src.IsZero() && k.proto == 0 && k.bytes == 0 {
				t.Fatal("used, and nothing was read")
			}
		}
		if link != linkEthernet || len(frame) < 40 {
			return
		}
		// Where both read ports of an unfragmented packet, they read the same.
		want, err := o.said(frame)
		if err == nil && k.depth == 0 && want.Sport != 0 && want.Proto == k.proto && want.Bytes != 0 && k.bytes == want.Bytes && !k.cut && (want.Sport != k.sport || want.Dport != k.dport || want.Src != k.src.Netip().String()) {
			if o.ip4.FragOffset == 0 && want.Bytes != 40 && fmt.Sprint(k.src) == want.Src {
				t.Fatalf("gopacket %+v, ours %+v", want, k.said())
			}
		}
	})
}
