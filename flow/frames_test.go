package flow

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// serialize builds a frame from gopacket layers with right lengths and checksums.
func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: kind}
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, Id: 77, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("2001:db8::2")}
}

func tcp(sport, dport uint16, flags string) *layers.TCP {
	h := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Window: 1000}
	for _, f := range flags {
		switch f {
		case 'S':
			h.SYN = true
		case 'A':
			h.ACK = true
		case 'F':
			h.FIN = true
		case 'R':
			h.RST = true
		case 'P':
			h.PSH = true
		}
	}
	return h
}

func udp(sport, dport uint16) *layers.UDP {
	return &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
}

func payload(n int) gopacket.Payload { return bytes.Repeat([]byte{'x'}, n) }

// timed is a frame at a time.
type timed struct {
	at    int64
	frame []byte
	wire  int
}

// pcapFile writes frames as a classic pcap file.
func pcapFile(order binary.ByteOrder, nano bool, link uint32, frames []timed) []byte {
	magic, unit := uint32(0xa1b2c3d4), int64(1000)
	if nano {
		magic, unit = 0xa1b23c4d, 1
	}
	b := make([]byte, 24)
	order.PutUint32(b, magic)
	order.PutUint16(b[4:], 2)
	order.PutUint16(b[6:], 4)
	order.PutUint32(b[16:], 262144)
	order.PutUint32(b[20:], link)
	for _, f := range frames {
		var h [16]byte
		order.PutUint32(h[:], uint32(f.at/1e9))
		order.PutUint32(h[4:], uint32(f.at%1e9/unit))
		order.PutUint32(h[8:], uint32(len(f.frame)))
		order.PutUint32(h[12:], uint32(max(f.wire, len(f.frame))))
		b = append(append(b, h[:]...), f.frame...)
	}
	return b
}

// ngFile writes frames as pcapng with gopacket's writer.
func ngFile(t testing.TB, w io.Writer, frames []timed) {
	t.Helper()
	ng, err := pcapgo.NewNgWriter(w, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(0, f.at), CaptureLength: len(f.frame), Length: max(f.wire, len(f.frame))}
		if err := ng.WritePacket(ci, f.frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := ng.Flush(); err != nil {
		t.Fatal(err)
	}
}
