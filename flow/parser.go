package flow

import "encoding/binary"

const maxExtensions = 8 // headers in a chain that are walked; an IPv6 packet with more keeps its addresses and loses its ports

// packet is what the parser reads off one frame.
type packet struct {
	src, dst     Addr
	bytes        uint64 // of the IP packet: its length field, or what was on the wire where that is 0 (TSO, jumbo); never more than the wire
	payload      int    // where the transport payload begins in the frame
	length       int    // how long it was on the wire, by the headers; the frame may hold less
	sport, dport uint16 // ICMP: dport is type<<8 | code
	vlan         uint16 // the outermost tag that is not 0
	vni          uint32 // of the outermost overlay that is not 0
	seq          uint32 // TCP sequence number, where the flags are
	mac          MAC    // source of the Ethernet frame, 0 where there is none
	proto, flags uint8
	depth        uint8 // envelopes that were opened around it
	cut          bool  // the snap length took the ports or the TCP flags
	partial      bool  // the first fragment of more: the payload is not whole
}

// verdict says what became of a frame: used, or the reason why not.
type verdict uint8

const (
	used       verdict = iota
	badLink            // a link type that is not read here
	notIP              // ARP, LLC, five tags and more
	tooShort           // cut before the end of the IP header
	malformed          // lengths or version contradict each other
	outgoing           // loopback shows a packet twice; the first sight is skipped
	numVerdict = iota
)

// verdictNames are the label values of wharfwatch_flow_packets_ignored_total.
var verdictNames = [numVerdict]string{"", "link", "not-ip", "short", "malformed", "outgoing"}

// parser reads frames without allocating. Its only state joins the fragments of one packet, and counts; one goroutine uses it.
type parser struct {
	fragments         fragments
	unwrapped, opaque [envelopes]uint64 // envelopes opened; those whose inside is not IP or cannot be read
	closed            bool              // envelopes are left closed
	tooDeep           uint64            // envelopes not opened because of how many stood around them
}

// parse fills k from a frame. wire is the length the frame had before it was cut, now its time (for the fragments).
// vlan is the tag that the kernel took out of the frame, 0 for none.
func (p *parser) parse(k *packet, link uint32, frame []byte, wire int, vlan uint16, now int64) verdict {
	*k = packet{vlan: vlan & 0xfff}
	wire = max(wire, len(frame))
	if link == linkEthernet && len(frame) >= 14 {
		kind := binary.BigEndian.Uint16(frame[12:])
		k.mac = macAt(frame[6:])
		if kind == typeIPv4 {
			return p.ipv4(k, frame, 14, wire, now)
		}
		return p.network(k, frame, 14, wire, kind, now)
	}
	at, kind, v := linkLayer(link, frame)
	if v != used {
		return v
	}
	return p.network(k, frame, at, wire, kind, now)
}

func (p *parser) ipv4(k *packet, frame []byte, at, wire int, now int64) verdict {
	if len(frame) < at+20 {
		return tooShort
	}
	h := frame[at : at+20]
	header, length := int(h[0]&15)*4, int(binary.BigEndian.Uint16(h[2:]))
	if length == 0 || length > wire-at {
		length = wire - at
	}
	if h[0]>>4 != 4 || header < 20 || length < header {
		return malformed
	}
	k.bytes = uint64(length)
	k.proto = h[9]
	k.src, k.dst = Addr4(binary.BigEndian.Uint32(h[12:])), Addr4(binary.BigEndian.Uint32(h[16:]))
	fragment := binary.BigEndian.Uint16(h[6:]) & 0x3fff // more fragments, and the offset
	if fragment == 0 {
		return p.upper(k, frame, at+header, length-header, now)
	}
	id := uint32(binary.BigEndian.Uint16(h[4:]))
	return p.fragment(k, frame, at+header, length-header, id, k.proto, fragment&0x1fff == 0, now)
}

func (p *parser) ipv6(k *packet, frame []byte, at, wire int, now int64) verdict {
	if len(frame) < at+40 {
		return tooShort
	}
	h := frame[at : at+40]
	if h[0]>>4 != 6 {
		return malformed
	}
	next, length := h[6], int(binary.BigEndian.Uint16(h[4:]))+40
	if length > wire-at || length == 40 && next != noNext {
		length = wire - at // a jumbogram, or TSO: RFC 2675 and BIG TCP both leave the field 0
	}
	if length < 40 { // its envelope ends inside the header
		return malformed
	}
	k.bytes = uint64(length)
	k.src, k.dst = Addr16(h[8:]), Addr16(h[24:])
	end := at + length
	at += 40
	for range maxExtensions {
		size := 8
		switch next {
		case hopByHop, routing, destination, mobility, hip, shim6:
			if len(frame) > at+1 {
				size = int(frame[at+1])*8 + 8
			}
		case authentication:
			if len(frame) > at+1 {
				size = int(frame[at+1])*4 + 8
			}
		case fragmentation:
			if at+8 > end {
				return malformed
			}
			if len(frame) < at+8 {
				k.proto, k.cut = next, true
				return used
			}
			k.proto = frame[at]
			fragment, id := binary.BigEndian.Uint16(frame[at+2:])&0xfff9, binary.BigEndian.Uint32(frame[at+4:])
			if fragment != 0 {
				return p.fragment6(k, frame, at+8, end, id, fragment&0xfff8 == 0, now)
			}
		default:
			k.proto = next
			return p.upper(k, frame, at, end-at, now)
		}
		if at+size > end {
			return malformed
		}
		if len(frame) < at+size {
			k.proto, k.cut = next, true
			return used
		}
		next, at = frame[at], at+size
	}
	k.proto = next
	if !extension(next) {
		return p.upper(k, frame, at, end-at, now)
	}
	k.payload, k.length = at, end-at
	return used
}

// IPv6 next headers that are not transports, https://www.iana.org/assignments/ipv6-parameters.
const (
	hopByHop       = 0
	routing        = 43
	fragmentation  = 44
	authentication = 51
	noNext         = 59
	destination    = 60
	mobility       = 135
	hip            = 139
	shim6          = 140
)

func extension(next uint8) bool {
	switch next {
	case hopByHop, routing, fragmentation, authentication, destination, mobility, hip, shim6:
		return true
	}
	return false
}

// transport reads ports and flags at frame[at:]; length is what the IP header leaves for it. It takes what the snap length left:
// ports need 4 bytes, TCP flags 14.
func (k *packet) transport(frame []byte, at, length int) verdict {
	have := min(len(frame)-at, length)
	k.payload, k.length = at, length
	switch k.proto {
	case TCP:
		if length < 4 {
			return malformed
		}
		if have < 14 {
			k.cut = length >= 14 || have < 4
			if have >= 4 {
				k.ports(frame[at:])
			}
			k.payload, k.length = at+have, 0
			return used
		}
		k.ports(frame[at:])
		k.flags, k.seq = frame[at+13], binary.BigEndian.Uint32(frame[at+4:])
		header := int(frame[at+12]>>4) * 4
		if header < 20 || header > length {
			header = length // no payload that could be trusted
		}
		k.payload, k.length = at+header, length-header
	case UDP, udpLite, dccp, sctp:
		if length < 4 {
			return malformed
		}
		if have < 4 {
			k.cut = true
			return used
		}
		k.ports(frame[at:])
		header := min(length, 8)
		k.payload, k.length = at+header, length-header
	case ICMP, ICMPv6:
		if length < 2 {
			return malformed
		}
		if have < 2 {
			k.cut = true
			return used
		}
		k.dport = binary.BigEndian.Uint16(frame[at:])
	}
	return used
}

// Protocols whose ports stand where those of UDP do.
const (
	dccp    = 33
	sctp    = 132
	udpLite = 136
)

func (k *packet) ports(h []byte) {
	k.sport, k.dport = binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:])
}

// transportPayload is the transport payload that was captured, empty where the snap length took all of it.
func (k *packet) transportPayload(frame []byte) []byte {
	end := min(k.payload+k.length, len(frame))
	if k.payload >= end {
		return nil
	}
	return frame[k.payload:end]
}
