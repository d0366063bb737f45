//go:build ignore

// Traffic writes the packets that the exporter fixtures are made of, or takes export datagrams into a capture file.
//
//	go run traffic.go packets FILE
//	go run traffic.go listen ADDRESS FILE SECONDS    ends after so many seconds without a datagram
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "packets":
		err = packets(os.Args[2])
	case len(os.Args) == 5 && os.Args[1] == "listen":
		err = listen(os.Args[2], os.Args[3], os.Args[4])
	default:
		err = fmt.Errorf("see the comment at the top")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var options = gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}

type writer struct {
	*pcapgo.Writer
	err error
}

func create(file string) (*writer, func() error, error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, nil, err
	}
	w := &writer{Writer: pcapgo.NewWriter(f)}
	return w, f.Close, w.WriteFileHeader(65535, layers.LinkTypeEthernet)
}

func (w *writer) frame(at time.Time, l ...gopacket.SerializableLayer) {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, options, l...); err != nil && w.err == nil {
		w.err = err
	}
	info := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(b.Bytes()), Length: len(b.Bytes())}
	if err := w.WritePacket(info, b.Bytes()); err != nil && w.err == nil {
		w.err = err
	}
}

func ip(src, dst string, proto layers.IPProtocol) (*layers.Ethernet, gopacket.NetworkLayer, gopacket.SerializableLayer) {
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	if net.ParseIP(src).To4() == nil {
		eth.EthernetType = layers.EthernetTypeIPv6
		l := &layers.IPv6{Version: 6, NextHeader: proto, HopLimit: 64, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
		return eth, l, l
	}
	l := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	return eth, l, l
}

// conversation is a whole TCP connection with n exchanges a second apart.
func (w *writer) conversation(at time.Time, a, b string, port uint16, n int) {
	send := func(from, to string, sp, dp uint16, size int, flags string) {
		eth, network, l := ip(from, to, layers.IPProtocolTCP)
		tcp := &layers.TCP{SrcPort: layers.TCPPort(sp), DstPort: layers.TCPPort(dp), Window: 1000}
		for _, f := range flags {
			switch f {
			case 'S':
				tcp.SYN = true
			case 'A':
				tcp.ACK = true
			case 'F':
				tcp.FIN = true
			case 'P':
				tcp.PSH = true
			}
		}
		tcp.SetNetworkLayerForChecksum(network)
		w.frame(at, eth, l, tcp, gopacket.Payload(make([]byte, size)))
		at = at.Add(3 * time.Millisecond)
	}
	send(a, b, port, 443, 0, "S")
	send(b, a, 443, port, 0, "SA")
	send(a, b, port, 443, 0, "A")
	for range n {
		send(a, b, port, 443, 200, "PA")
		send(b, a, 443, port, 1200, "PA")
		at = at.Add(time.Second)
	}
	send(a, b, port, 443, 0, "FA")
	send(b, a, 443, port, 0, "FA")
	send(a, b, port, 443, 0, "A")
}

func packets(file string) error {
	w, done, err := create(file)
	if err != nil {
		return err
	}
	at := time.Unix(1767323045, 0)
	w.conversation(at, "172.18.0.2", "203.0.113.9", 41000, 3)
	w.conversation(at.Add(10*time.Second), "2001:db8::2", "2001:db8:1::9", 41001, 2)
	for i := range 4 {
		t := at.Add(time.Duration(20+i) * time.Second)
		eth, network, l := ip("172.18.0.3", "198.51.100.53", layers.IPProtocolUDP)
		udp := &layers.UDP{SrcPort: layers.UDPPort(50000 + i), DstPort: 53}
		udp.SetNetworkLayerForChecksum(network)
		w.frame(t, eth, l, udp, gopacket.Payload(make([]byte, 40)))
		eth, network, l = ip("198.51.100.53", "172.18.0.3", layers.IPProtocolUDP)
		udp = &layers.UDP{SrcPort: 53, DstPort: layers.UDPPort(50000 + i)}
		udp.SetNetworkLayerForChecksum(network)
		w.frame(t.Add(9*time.Millisecond), eth, l, udp, gopacket.Payload(make([]byte, 90)))
		eth, _, l = ip("172.18.0.4", "198.51.100.7", layers.IPProtocolICMPv4)
		w.frame(t, eth, l, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: uint16(i)}, gopacket.Payload(make([]byte, 56)))
	}
	if err := done(); err != nil {
		return err
	}
	return w.err
}

func listen(address, file, seconds string) error {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	w, done, err := create(file)
	if err != nil {
		return err
	}
	a, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp4", a)
	if err != nil {
		return err
	}
	buf := make([]byte, 65535)
	for {
		c.SetReadDeadline(time.Now().Add(time.Duration(n) * time.Second))
		size, from, err := c.ReadFromUDP(buf)
		if err != nil {
			break
		}
		eth, network, l := ip(from.IP.String(), a.IP.String(), layers.IPProtocolUDP)
		udp := &layers.UDP{SrcPort: layers.UDPPort(from.Port), DstPort: layers.UDPPort(a.Port)}
		udp.SetNetworkLayerForChecksum(network)
		w.frame(time.Now(), eth, l, udp, gopacket.Payload(buf[:size]))
	}
	if err := done(); err != nil {
		return err
	}
	return w.err
}
