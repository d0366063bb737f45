package flow

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// wrapped is a packet in envelopes, and what must be read: an inner packet, its tags, how many envelopes were opened.
type wrapped struct {
	name      string
	frame     []byte
	want      said
	vni       uint32
	envelopes uint8
}

// wrappedFrames are one of each envelope. The inner packet is 10.9.0.1:1000 > 10.9.0.2:2000, 38 bytes of IPv4, or its like in IPv6.
func wrappedFrames(t testing.TB) []wrapped {
	inner4, inner6 := ip4(UDP), ip6(UDP)
	inner4.SrcIP[1], inner4.DstIP[1] = 9, 9
	inner6.SrcIP[15], inner6.DstIP[15] = 0x91, 0x92
	packet4 := serialize(t, inner4, udp(1000, 2000), payload(10))
	packet6 := serialize(t, inner6, udp(1000, 2000), payload(10))
	frame4 := serialize(t, ethernet(typeIPv4), gopacket.Payload(packet4))
	tagged4 := serialize(t, ethernet(typeVLAN), &layers.Dot1Q{VLANIdentifier: 77, Type: typeIPv4}, gopacket.Payload(packet4))
	want4 := said{"10.9.0.1", "10.9.0.2", 1000, 2000, UDP, 0, 0, 38, 10}
	want6 := said{"2001:db8::91", "2001:db8::92", 1000, 2000, UDP, 0, 0, 58, 10}
	tag := func(w said, vlan uint16) said { w.VLAN = vlan; return w }

	join := func(parts ...[]byte) gopacket.Payload { return slices.Concat(parts...) }
	overUDP := func(port uint16, parts ...[]byte) []byte {
		return serialize(t, ethernet(typeIPv4), ip4(UDP), udp(50000, port), join(parts...))
	}
	overIP := func(proto layers.IPProtocol, parts ...[]byte) []byte {
		return serialize(t, ethernet(typeIPv4), ip4(proto), join(parts...))
	}
	overLink := func(kind layers.EthernetType, parts ...[]byte) []byte {
		return serialize(t, ethernet(kind), join(parts...))
	}
	hex := func(s string) []byte { return hostileBytes(t, s) }
	vxlan := hex("08000000 00109200")
	return []wrapped{
		{"vxlan", overUDP(4789, vxlan, frame4), want4, 0x1092, 1},
		{"vxlan on the old port, IPv6 outside", serialize(t, ethernet(typeIPv6), ip6(UDP), udp(50000, 8472), join(vxlan, tagged4)), tag(want4, 77), 0x1092, 1},
		{"vxlan in vxlan: the outer VNI", overUDP(4789, hex("08000000 00000700"), overUDP(4789, vxlan, frame4)), want4, 7, 2},
		{"vxlan with a group policy", overUDP(4789, hex("88000011 00109200"), frame4), want4, 0x1092, 1},
		{"vxlan-gpe, IPv6 inside", overUDP(4790, hex("0c000002 00109200"), packet6), want6, 0x1092, 1},
		{"vxlan-gpe, NSH", overUDP(4790, hex("0c000004 00109200 0fc60101 00000aff 00000000 00000000 00000000 00000000"), packet4), want4, 0x1092, 1},
		{"geneve", overUDP(6081, hex("00006558 00109200"), frame4), want4, 0x1092, 1},
		{"geneve with options, IPv4 inside", overUDP(6081, hex("02000800 00109200 01080101 00000001"), packet4), want4, 0x1092, 1},
		{"gre", overIP(47, hex("00000800"), packet4), want4, 0, 1},
		{"gre with checksum, key and sequence", overIP(47, hex("b00086dd 00000000 00000007 00000001"), packet6), want6, 0, 1},
		{"gre with a source route", overIP(47, hex("40000800 00000000 08000404 0a000001 00000000"), packet4), want4, 0, 1},
		{"gre, a frame inside", overIP(47, hex("20006558 00000007"), tagged4), tag(want4, 77), 0, 1},
		{"gre, metadata", overIP(47, hex("20008909 00000028 08000101 00010000"), packet4), want4, 0, 1},
		{"gre over udp", overUDP(4754, hex("00000800"), packet4), want4, 0, 1},
		{"gre of pptp", overIP(47, hex("3081880b 002a0001 00000001 00000000 ff030021"), packet4), want4, 0, 1},
		{"gre of pptp, short protocol", overIP(47, hex("3001880b 00270001 00000001 21"), packet4), want4, 0, 1},
		{"gre of wccp 2", overIP(47, hex("0000883e 00000001"), packet4), want4, 0, 1},
		{"gre of wccp 1", overIP(47, hex("0000883e"), packet4), want4, 0, 1},
		{"erspan I", overIP(47, hex("000088be"), frame4), want4, 0, 1},
		{"erspan II", overIP(47, hex("100088be 00000001 10170001 00000000"), frame4), tag(want4, 0x17), 0, 1},
		{"erspan III", overIP(47, hex("100022eb 00000001 20170001 00000000 00000000"), frame4), tag(want4, 0x17), 0, 1},
		{"erspan III with a subheader", overIP(47, hex("100022eb 00000001 20170001 00000000 00000001 0000000000000000"), frame4), tag(want4, 0x17), 0, 1},
		{"erspan III of a packet", overIP(47, hex("100022eb 00000001 20170001 00000000 00000800"), packet4), tag(want4, 0x17), 0, 1},
		{"mpls", overLink(0x8847, hex("00010040 00020140"), packet4), want4, 0, 0},
		{"mpls pseudowire", overLink(0x8847, hex("00010140 00000000"), frame4), want4, 0, 1},
		{"mpls pseudowire without a control word", overLink(0x8847, hex("00010140"), frame4), want4, 0, 1},
		{"mpls pseudowire in a VLAN, to an address that begins like IP", overLink(0x8100, hex("0005 8847 00010140 440000000001 020000000002 0800"), packet4), tag(want4, 5), 0, 1},
		{"mpls over udp", overUDP(6635, hex("00010140"), packet6), want6, 0, 1},
		{"mpls over ip", overIP(137, hex("00010140"), packet4), want4, 0, 1},
		{"mpls over gre", overIP(47, hex("00008847 00010140"), packet4), want4, 0, 1},
		{"gtp-u", overUDP(2152, hex("30ff0026 00000001"), packet4), want4, 0, 1},
		{"gtp-u with extensions", overUDP(2152, hex("36ff0046 00000001 000100c0 01000185 01000000"), packet6), want6, 0, 1},
		{"ip in ip", overIP(4, packet4), want4, 0, 1},
		{"ipv6 in ip", overIP(41, packet6), want6, 0, 1},
		{"ip in ipv6 behind an extension", serialize(t, ethernet(typeIPv6), ip6(60), join(hex("04000104 00000000"), packet4)), want4, 0, 1},
		{"etherip", overIP(97, hex("3000"), frame4), want4, 0, 1},
		{"pppoe", overLink(0x8864, hex("11000001 00280021"), packet4), want4, 0, 0},
		{"pppoe in qinq", overLink(0x88a8, hex("00058100 00078864 11000001 003c0057"), packet6), tag(want6, 5), 0, 0},
		{"teredo", overUDP(3544, packet6), want6, 0, 1},
		{"teredo, authentication and origin", overUDP(3544, hex("00010000 0000000000000000 00 0000 1234 f5fffffe"), packet6), want6, 0, 1},
		{"vn-tag", overLink(0x8926, hex("00000001 8100 000b 0800"), packet4), tag(want4, 11), 0, 0},
		{"nsh", overLink(0x894f, hex("0fc20201 00000aff"), packet4), want4, 0, 0},
		{"802.1ah", overLink(0x88e7, hex("00001000"), frame4), want4, 0, 0},
		{"snap", overLink(0x002e, hex("aaaa0300 00000800"), packet4), want4, 0, 0},
	}
}

func TestEnvelopes(t *testing.T) {
	for _, w := range wrappedFrames(t) {
		t.Run(w.name, func(t *testing.T) {
			var p parser
			var k packet
			if v := p.parse(&k, linkEthernet, w.frame, 0, 0, 1); v != used {
				t.Fatal(verdictNames[v])
			}
			if diff := cmp.Diff(w.want, k.said()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if k.vni != w.vni || k.depth != w.envelopes {
				t.Errorf("VNI %d in %d envelopes, want %d in %d", k.vni, k.depth, w.vni, w.envelopes)
			}
			if got := string(k.transportPayload(w.frame)); got != "xxxxxxxxxx" {
				t.Errorf("payload %q", got)
			}
			// However much of the end is missing, what is read is the inner packet, one around it, or nothing.
			for n := range w.frame {
				if v := p.parse(&k, linkEthernet, w.frame[:n], len(w.frame), 0, 1); v == used && k.depth == w.envelopes && (k.src.String() != w.want.Src || k.bytes != w.want.Bytes) {
					t.Fatalf("cut at %d: %+v", n, k.said())
				}
			}
		})
	}
}

// What holds no IP stays the flow that it is itself, and is counted by its kind.
func TestEnvelopesOpaque(t *testing.T) {
	for name, c := range map[string]struct {
		kind  envelope
		proto layers.IPProtocol
		port  uint16
		data  string
	}{
		"vxlan, ARP":               {envVXLAN, UDP, 4789, "08000000 00109200 020000000002 020000000001 0806 00010800 06040001"},
		"vxlan without a VNI":      {envVXLAN, UDP, 4789, "0000000000109200"},
		"vxlan cut":                {envVXLAN, UDP, 4789, "08000000"},
		"geneve, version 1":        {envGeneve, UDP, 6081, "40006558 00109200"},
		"geneve, options too long": {envGeneve, UDP, 6081, "3f000800 00109200 45000014"},
		"gtp signalling":           {envGTP, UDP, 2152, "32010004 00000000 00000000"},
		"gtp, endless extensions":  {envGTP, UDP, 2152, "36ff0026 00000001 00010085 00000085"},
		"dns on the port of gtp":   {envGTP, UDP, 2152, "6bcb0100 00010000 00000000 04616263"},
		"teredo, no IPv6":          {envTeredo, UDP, 3544, "45000014"},
		"gre, version 3":           {envGRE, 47, 0, "00030800 45000014"},
		"gre, empty":               {envGRE, 47, 0, "2000"},
		"gre, keepalive":           {envGRE, 47, 0, "20000000 00000028"},
		"gre, endless route":       {envGRE, 47, 0, "40000800 00000000 080004ff"},
		"erspan II, version 0":     {envERSPAN, 47, 0, "100088be 00000001 00170001 00000000"},
		"erspan III, frame type 7": {envERSPAN, 47, 0, "100022eb 00000001 20170001 00000000 00001c00 45000014"},
		"mpls without an end":      {envMPLS, 137, 0, "00010040 00010040"},
		"etherip, version 4":       {envEtherIP, 97, 0, "4000"},
		"ip in ip, version 6":      {envIPIP, 4, 0, "60000014 45000014 45000014 45000014 45000014"},
	} {
		t.Run(name, func(t *testing.T) {
			data, ls := hostileBytes(t, c.data), []gopacket.SerializableLayer{ethernet(typeIPv4), ip4(c.proto)}
			size := uint64(20 + len(data))
			if c.proto == UDP {
				ls = append(ls, udp(50000, c.port))
				size += 8
			}
			frame := serialize(t, append(ls, gopacket.Payload(data))...)
			var p parser
			var k packet
			if v := p.parse(&k, linkEthernet, frame, 0, 0, 1); v != used {
				t.Fatal(verdictNames[v])
			}
			if k.src.String() != "10.0.0.1" || k.dport != c.port || k.bytes != size || k.depth != 0 {
				t.Errorf("%+v", k.said())
			}
			var want [envelopes]uint64
			want[c.kind] = 1
			if p.opaque != want || p.unwrapped != [envelopes]uint64{} {
				t.Errorf("opaque %v, opened %v", p.opaque, p.unwrapped)
			}
		})
	}
}

// Packets in packets: eight are opened, whatever stands inside them.
func TestEnvelopesDepth(t *testing.T) {
	var p parser
	var k packet
	ls := []gopacket.SerializableLayer{ethernet(typeIPv4)}
	for range maxEnvelopes + 3 {
		ls = append(ls, ip4(4))
	}
	if v := p.parse(&k, linkEthernet, serialize(t, append(ls, ip4(UDP), udp(1, 2))...), 0, 0, 1); v != used || k.depth != maxEnvelopes || k.proto != 4 || p.tooDeep != 1 {
		t.Errorf("%s, %d deep, %+v, %d too deep", verdictNames[v], k.depth, k.said(), p.tooDeep)
	}
	// A frame within a label within a frame, and so on: no stack is long enough for the frames that fit into 256 KiB.
	var b []byte
	for len(b) < pcapFrame-18 {
		b = append(append(b, make([]byte, 12)...), 0x88, 0x47, 0, 1, 1, 64)
	}
	binary.BigEndian.PutUint16(b[len(b)-6:], typeIPv4)
	if v := p.parse(&k, linkEthernet, b, 0, 0, 1); v == used {
		t.Errorf("%+v", k.said())
	}
}

// The first fragment of an envelope shows the packet inside whole; later ones are the envelope's.
func TestEnvelopeInFragments(t *testing.T) {
	inner := ip4(UDP)
	inner.SrcIP[1], inner.DstIP[1] = 9, 9
	whole := append([]byte{0, 0, 8, 0}, serialize(t, inner, udp(1000, 2000), payload(2000))...)
	part := func(offset uint16, flags layers.IPv4Flag, data []byte) []byte {
		h := ip4(47)
		h.FragOffset, h.Flags = offset, flags
		return serialize(t, ethernet(typeIPv4), h, gopacket.Payload(data))
	}
	var p parser
	var k packet
	for i, c := range []struct {
		frame []byte
		want  said
	}{
		{part(0, layers.IPv4MoreFragments, whole[:1480]), said{"10.9.0.1", "10.9.0.2", 1000, 2000, UDP, 0, 0, 2028, 2000}},
		{part(185, 0, whole[1480:]), said{"10.0.0.1", "10.0.0.2", 0, 0, 47, 0, 0, uint64(20 + len(whole) - 1480), 0}},
	} {
		if v := p.parse(&k, linkEthernet, c.frame, 0, 0, 1); v != used {
			t.Fatal(verdictNames[v])
		}
		if diff := cmp.Diff(c.want, k.said()); diff != "" {
			t.Errorf("%d: -want +got\n%s", i, diff)
		}
		if k.partial {
			t.Errorf("%d: neither the inner packet nor a later fragment is a first fragment", i)
		}
	}
	if p.fragments.orphans != 0 {
		t.Errorf("%d orphans", p.fragments.orphans)
	}
}

// A million random and mutated frames: every one is judged, none panics, takes long, or makes a table grow.
func TestFramesMutated(t *testing.T) {
	const n = 1_000_000
	r := rand.New(rand.NewPCG(7, 7))
	seeds := wrappedFrames(t)
	links := []uint32{linkEthernet, linkNull, linkPPP, linkRaw, linkRaw2, linkPPPSerial, linkPPPEther, linkCiscoHDLC, linkSLL, linkMPLS, linkSLL2, 147}
	var p parser
	var k packet
	var buf [512]byte
	verdicts := [numVerdict]int{}
	begin := time.Now()
	grown := allocated(func() {
		for i := range n {
			frame := buf[:r.IntN(len(buf))]
			link := links[r.IntN(len(links))]
			if i%8 == 0 {
				for j := range frame {
					frame[j] = byte(r.Uint32())
				}
			} else {
				link = linkEthernet
				frame = buf[:copy(buf[:], seeds[r.IntN(len(seeds))].frame)]
				for range 1 + r.IntN(4) {
					frame[12+r.IntN(len(frame)-12)] = byte(r.Uint32())
				}
				if r.IntN(4) == 0 {
					frame = frame[:r.IntN(len(frame))]
				}
			}
			verdicts[p.parse(&k, link, frame, len(frame)+r.IntN(3000), 0, int64(i)*1000)]++
		}
	})
	if grown > 1<<20 {
		t.Errorf("%d bytes allocated", grown)
	}
	if verdicts[used] < n/3 || verdicts[notIP] == 0 || verdicts[tooShort] == 0 || verdicts[malformed] == 0 {
		t.Errorf("verdicts %v", verdicts)
	}
	t.Logf("%d frames in %v: %v, opened %v, opaque %v", n, time.Since(begin).Round(time.Millisecond), verdicts, p.unwrapped, p.opaque)
}

// A closed parser reports the envelopes: nothing that stands inside can hide them. What stands between Ethernet and IP is no envelope.
func TestEnvelopesClosed(t *testing.T) {
	for _, w := range wrappedFrames(t) {
		p := parser{closed: true}
		var k packet
		if v := p.parse(&k, linkEthernet, w.frame, 0, 0, 1); v != used || p.unwrapped != [envelopes]uint64{} || p.opaque != [envelopes]uint64{} {
			t.Errorf("%s: %s, opened %v, opaque %v", w.name, verdictNames[v], p.unwrapped, p.opaque)
		}
		inner := k.src.String() == w.want.Src
		if ipOutside := w.envelopes > 0 && !strings.HasPrefix(w.name, "mpls pseudowire"); inner == ipOutside {
			t.Errorf("%s: %+v", w.name, k.said())
		}
	}
}
