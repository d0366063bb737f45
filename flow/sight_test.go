package flow

import (
	"net"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// sighted feeds frames to a tap, a millisecond apart, and returns what it saw of speakers. own is the bridge's address, 0 for no bridge.
func sighted(t testing.TB, own MAC, frames ...[]byte) (out []Sight) {
	t.Helper()
	tap := newTap("test", NewPool(4), 64, metrics.NewSet(), func(b *Batch) {
		out = append(out, b.Sights...)
		b.Free()
	})
	tap.assembler.witness.own, tap.assembler.witness.bridge = own, own != 0
	for i, f := range frames {
		tap.frame(linkEthernet, f, len(f), 0, sec+int64(i)*1e6)
	}
	tap.drain()
	return out
}

func hardware(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0x42, 0xac, 0x11, 0, last} }

const (
	macBridge = MAC(0x0242ac110001)
	macTwo    = MAC(0x0242ac110002)
	macThree  = MAC(0x0242ac110003)
)

func serialized(parts ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func spokenFrame(mac byte, src, dst string, sport, dport uint16) []byte {
	return serialized(
		&layers.Ethernet{SrcMAC: hardware(mac), DstMAC: hardware(9), EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()},
		&layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}, gopacket.Payload("x"))
}

func arpFrame(mac, claimed byte, addr string) []byte {
	return serialized(
		&layers.Ethernet{SrcMAC: hardware(mac), DstMAC: hardware(9), EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
			SourceHwAddress: hardware(claimed), SourceProtAddress: net.ParseIP(addr).To4(), DstHwAddress: hardware(9), DstProtAddress: net.ParseIP("172.17.0.9").To4(),
		})
}

func routerFrame(mac byte) []byte {
	return serialized(
		&layers.Ethernet{SrcMAC: hardware(mac), DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv6},
		&layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP("ff02::1")},
		gopacket.Payload([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}))
}

func TestSights(t *testing.T) {
	two, outside := Addr4(0xac110002), Addr4(0xcb007109)
	at := func(n int64) int64 { return sec + n*1e6 }
	tests := map[string]struct {
		own    MAC
		frames [][]byte
		want   []Sight
	}{
		"once for a pair": {0, [][]byte{spokenFrame(2, "172.17.0.2", "203.0.113.9", 1000, 53), spokenFrame(2, "172.17.0.2", "203.0.113.9", 1001, 53)}, []Sight{
			{Time: at(0), Kind: SightSource, MAC: macTwo, Told: macTwo, Addr: two, Peer: outside, Port: 53, Proto: UDP},
		}},
		"each change of the speaker": {
			macBridge, [][]byte{
				spokenFrame(2, "172.17.0.2", "203.0.113.9", 1000, 53), spokenFrame(3, "172.17.0.2", "203.0.113.9", 1001, 53), spokenFrame(2, "172.17.0.2", "203.0.113.9", 1002, 53),
			}, []Sight{
				{Time: at(0), Kind: SightSource, MAC: macTwo, Told: macTwo, Addr: two, Peer: outside, Port: 53, Proto: UDP, Bridge: true},
				{Time: at(1), Kind: SightSource, MAC: macThree, Told: macThree, Addr: two, Peer: outside, Port: 53, Proto: UDP, Bridge: true},
				{Time: at(2), Kind: SightSource, MAC: macTwo, Told: macTwo, Addr: two, Peer: outside, Port: 53, Proto: UDP, Bridge: true},
			},
		},
		"the bridge itself": {macBridge, [][]byte{spokenFrame(1, "203.0.113.9", "172.17.0.2", 53, 1000), arpFrame(1, 1, "172.17.0.1")}, nil},
		"addresses outside once for a sender": {0, [][]byte{spokenFrame(1, "203.0.113.9", "172.17.0.2", 53, 1000), spokenFrame(1, "203.0.113.8", "172.17.0.2", 53, 1000)}, []Sight{
			{Time: at(0), Kind: SightOutside, MAC: macBridge, Told: macBridge, Addr: outside, Peer: two, Port: 1000, Proto: UDP},
		}},
		"arp": {macBridge, [][]byte{arpFrame(2, 3, "172.17.0.1"), arpFrame(2, 2, "0.0.0.0"), arpFrame(2, 2, "172.17.0.1")[:40]}, []Sight{
			{Time: at(0), Kind: SightARP, MAC: macTwo, Told: macThree, Addr: Addr4(0xac110001), Bridge: true},
		}},
		"router": {macBridge, [][]byte{routerFrame(2)}, []Sight{
			{
				Time: at(0), Kind: SightRouter, MAC: macTwo, Told: macTwo, Addr: Addr{Hi: 0xfe80 << 48, Lo: 1}, Peer: Addr{Hi: 0xff02 << 48, Lo: 1},
				Port: 134 << 8, Proto: ICMPv6, Bridge: true,
			},
		}},
		"dhcp": {macBridge, [][]byte{spokenFrame(2, "172.17.0.2", "255.255.255.255", 67, 68)}, []Sight{
			{Time: at(0), Kind: SightDHCP, MAC: macTwo, Told: macTwo, Addr: two, Peer: Addr4(0xffffffff), Port: 68, Proto: UDP, Bridge: true},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, sighted(t, tt.own, tt.frames...)); diff != "" {
				t.Errorf("sights (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSightsBounded has one address in more hands than a second may tell of: what is not said is counted.
func TestSightsBounded(t *testing.T) {
	w := &witness{}
	said, asked := 0, 3*sightRate
	for i := range asked {
		k := packet{mac: MAC(i%7 + 1), src: Addr4(0xac110002), dst: Addr4(0xac110003), proto: UDP}
		if _, say := w.packet(&k, sec+int64(i)); say {
			said++
		}
	}
	if said != sightRate || w.told+w.again+w.overflow != uint64(asked) || w.told != uint64(said) || w.overflow == 0 {
		t.Errorf("%d said of %d, counted %d + %d + %d; want %d and the rest beyond the rate", said, asked, w.told, w.again, w.overflow, sightRate)
	}
}

func TestMACText(t *testing.T) {
	if m, ok := ParseMAC(macTwo.String()); !ok || m != macTwo {
		t.Errorf("%s is read as %v %v", macTwo, m, ok)
	}
	for _, bad := range []string{"", "02:42:ac:11:00", "02:42:ac:11:00:2", "02:42:ac:11:00:zz", "02:42:ac:11:00:02:03"} {
		if _, ok := ParseMAC(bad); ok {
			t.Errorf("%q is taken for an address", bad)
		}
	}
}

// FuzzARP gives any frame to the reader of ARP.
func FuzzARP(f *testing.F) {
	f.Add(arpFrame(2, 3, "172.17.0.1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		w := &witness{}
		if s, say := w.arp(frame, sec); say && (s.MAC == 0 || s.Kind != SightARP || nobodysAddress(s.Addr)) {
			t.Errorf("%+v out of %x", s, frame)
		}
	})
}
