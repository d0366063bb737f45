package flow

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Datagrams is a Source of export datagrams in a capture file: UDP payloads to any port that are NetFlow by their structure go
// through the decoder of the live collector, with the capture's times as arrival.
type Datagrams struct {
	name    string
	r       io.Reader
	decoder *exportDecoder
	other   *metrics.Counter
}

// OpenDatagrams reads a pcap or pcapng file. name is for messages only: batches are named after the exporters.
func OpenDatagrams(name string, r io.Reader, pool Pool, set *metrics.Set) *Datagrams {
	return &Datagrams{
		name: name, r: r, decoder: newExportDecoder(&policy{}, pool, newStats(set)),
		other: set.GetOrCreateCounter("wharfwatch_flow_packets_not_export_total"),
	}
}

// Configure applies the exporters allowed and the sampling rates of c; to be called before Run.
func (f *Datagrams) Configure(c Config) error {
	p, err := c.policy()
	if err != nil {
		return err
	}
	f.decoder.policy = p
	return nil
}

// Exporters says what is known about everybody in the file.
func (f *Datagrams) Exporters() []ExporterStatus { return f.decoder.exportersStatus() }

// Run reads to the end of the file.
func (f *Datagrams) Run(ctx context.Context, emit func(*Batch)) error {
	f.decoder.emit = emit
	defer f.decoder.end()
	p, err := openPackets(f.r)
	if err != nil {
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	buf := make([]byte, datagramSize+slack)
	u := newUDPParser(p.LinkType())
	for n := 0; ctx.Err() == nil; n++ {
		data, info, err := p.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s, packet %d: %w", f.name, n+1, err)
		}
		from, payload, is := u.payload(data)
		if !is || !LooksLikeExport(payload) && !f.known(from, payload) {
			f.other.Inc()
			continue
		}
		size := copy(buf[:datagramSize], payload)
		clear(buf[size : size+slack])
		arrival := info.Timestamp.UnixNano()
		if arrival-f.decoder.opened > holdBatch { // as live: event time must not wait for a full batch
			f.decoder.flush()
		}
		f.decoder.datagram(buf, size, info.CaptureLength < info.Length, from, arrival)
	}
	return nil
}

// known lets a sender that has exported before speak in a form that does not look like it: the decoder counts what is wrong.
func (f *Datagrams) known(from netip.AddrPort, payload []byte) bool {
	if len(payload) < 2 || payload[0] != 0 || payload[1] != 5 && payload[1] != 9 && payload[1] != 10 {
		return false
	}
	f.decoder.mu.Lock()
	defer f.decoder.mu.Unlock()
	if !f.decoder.policy.keyPort {
		from = netip.AddrPortFrom(from.Addr(), 0)
	}
	_, is := f.decoder.exporters.get(from)
	return is
}

type packetReader interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	LinkType() layers.LinkType
}

// openPackets tells pcap from pcapng by the first bytes.
func openPackets(r io.Reader) (packetReader, error) {
	b := bufio.NewReaderSize(r, 1<<20)
	magic, err := b.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("no capture file: %w", err)
	}
	if magic[0] == 0x0a && magic[1] == 0x0d && magic[2] == 0x0d && magic[3] == 0x0a {
		return pcapgo.NewNgReader(b, pcapgo.DefaultNgReaderOptions)
	}
	return pcapgo.NewReader(b)
}

// udpParser finds the UDP payload of a frame.
type udpParser struct {
	parser  *gopacket.DecodingLayerParser
	decoded []gopacket.LayerType
	eth     layers.Ethernet
	loop    layers.Loopback
	cooked  layers.LinuxSLL
	tag     layers.Dot1Q
	ip4     layers.IPv4
	ip6     layers.IPv6
	udp     layers.UDP
}

func newUDPParser(link layers.LinkType) *udpParser {
	u := &udpParser{}
	first := layers.LayerTypeEthernet
	switch link {
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		first = layers.LayerTypeLoopback
	case layers.LinkTypeLinuxSLL:
		first = layers.LayerTypeLinuxSLL
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, 12:
		first = layers.LayerTypeIPv4
	case layers.LinkTypeIPv6:
		first = layers.LayerTypeIPv6
	}
	u.parser = gopacket.NewDecodingLayerParser(first, &u.eth, &u.loop, &u.cooked, &u.tag, &u.ip4, &u.ip6, &u.udp)
	u.parser.IgnoreUnsupported = true
	return u
}

// payload returns the sender and the payload of a UDP datagram; a fragment past the first is none.
func (u *udpParser) payload(frame []byte) (from netip.AddrPort, payload []byte, is bool) {
	var ip netip.Addr
	if u.parser.DecodeLayers(frame, &u.decoded) != nil && len(u.decoded) == 0 {
		return from, nil, false
	}
	for _, l := range u.decoded {
		switch l {
		case layers.LayerTypeIPv4:
			ip, _ = netip.AddrFromSlice(u.ip4.SrcIP)
		case layers.LayerTypeIPv6:
			ip, _ = netip.AddrFromSlice(u.ip6.SrcIP)
		case layers.LayerTypeUDP:
			return netip.AddrPortFrom(ip.Unmap(), uint16(u.udp.SrcPort)), u.udp.Payload, ip.IsValid()
		}
	}
	return from, nil, false
}
