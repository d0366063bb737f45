package flow

import "encoding/binary"

// Link types as pcap files number them, https://www.tcpdump.org/linktypes.html.
const (
	linkNull      = 0
	linkEthernet  = 1
	linkPPP       = 9
	linkRaw       = 12 // as written on BSD; linkRaw2 is the registered number
	linkRawOld    = 14 // OpenBSD's
	linkPPPSerial = 50
	linkPPPEther  = 51
	linkRaw2      = 101
	linkCiscoHDLC = 104
	linkLoop      = 108
	linkSLL       = 113
	linkMPLS      = 219
	linkIPv4      = 228
	linkIPv6      = 229
	linkSLL2      = 276
)

// Ethernet types, https://www.iana.org/assignments/ieee-802-numbers.
const (
	typeIPv4     = 0x0800
	typeIPv6     = 0x86dd
	typeVLAN     = 0x8100 // 802.1Q
	typeQinQ     = 0x88a8 // 802.1ad
	typeQinQOld  = 0x9100 // before 802.1ad
	typeVNTag    = 0x8926 // 802.1BR and VN-Tag: six bytes between two tags
	typeEthernet = 0x6558 // transparent bridging: a frame inside
	typeMPLS     = 0x8847
	typeMPLS2    = 0x8848 // multicast
	typePPPoE    = 0x8864
	typePPP      = 0x880b
	typeNSH      = 0x894f
	typeMetadata = 0x8909 // Cisco's, before the true type
	typeBackbone = 0x88e7 // 802.1ah, a frame inside
	maxLength    = 0x05ff // below: an 802.3 length

	maxTags    = 4
	maxStack   = 16
	maxHeaders = 16 // of all kinds between the start of a frame and its IP header
)

// linkLayer finds the type of what stands behind the header of a link.
func linkLayer(link uint32, frame []byte) (at int, kind uint16, v verdict) {
	switch link {
	case linkEthernet:
		at = 0
		kind = typeEthernet
	case linkSLL:
		at = 16
		if len(frame) >= at {
			kind = binary.BigEndian.Uint16(frame[14:])
		}
	case linkSLL2:
		at = 20
		if len(frame) >= at {
			kind = binary.BigEndian.Uint16(frame)
		}
	case linkNull, linkLoop:
		at = 4 // an address family whose numbers and byte order differ by system: the version nibble tells
		fallthrough
	case linkRaw, linkRawOld, linkRaw2, linkIPv4, linkIPv6:
		if len(frame) <= at {
			return 0, 0, tooShort
		}
		kind = ipVersion(frame[at])
	case linkPPP, linkPPPSerial:
		kind = typePPP
		if len(frame) >= 4 && frame[0] == 0x0f && frame[1] == 0 { // RFC 4349: Cisco HDLC on the same link
			at, kind = 4, binary.BigEndian.Uint16(frame[2:])
		}
	case linkCiscoHDLC:
		at = 4
		if len(frame) >= at {
			kind = binary.BigEndian.Uint16(frame[2:])
		}
	case linkPPPEther:
		kind = typePPPoE
	case linkMPLS:
		kind = typeMPLS
	default:
		return 0, 0, badLink
	}
	if len(frame) < at {
		return 0, 0, tooShort
	}
	return at, kind, used
}

// network walks to the IP header through what may stand before it. end is where the packet ends on the wire.
func (p *parser) network(k *packet, frame []byte, at, end int, kind uint16, now int64) verdict {
	tags := 0
	for range maxHeaders {
		switch kind {
		case typeIPv4:
			return p.ipv4(k, frame, at, end, now)
		case typeIPv6:
			return p.ipv6(k, frame, at, end, now)
		case typeMPLS, typeMPLS2:
			return p.mpls(k, frame, at, end, now)
		}
		size, from := 0, 0 // of this header; where the next type stands in it
		switch kind {
		case typeEthernet:
			size, from = 14, 12
		case typeVLAN, typeQinQ, typeQinQOld:
			if tags++; tags > maxTags {
				return notIP
			}
			size, from = 4, 2
		case typeVNTag:
			size, from = 6, 4
		case typeMetadata:
			size, from = 8, 6
		case typeBackbone:
			size, from = 18, 16
		case typePPPoE, typePPP, typeNSH:
			size, from = 8, -1
			if kind == typePPP {
				size = 1
			}
		default:
			if kind > maxLength {
				return notIP
			}
			size, from = 8, -1
		}
		if len(frame) < at+size {
			return tooShort
		}
		if at+size > end {
			return malformed
		}
		b := frame[at:]
		if kind == typeMetadata && plausible(binary.BigEndian.Uint16(b)) {
			from = 0 // behind GRE the type comes first
		}
		if from >= 0 {
			if tagged(kind) && k.vlan == 0 {
				k.vlan = binary.BigEndian.Uint16(b) & 0xfff
			}
			kind = binary.BigEndian.Uint16(b[from:])
			at += size
			continue
		}
		switch kind {
		case typePPPoE:
			if b[0] != 0x11 || b[1] != 0 {
				return malformed
			}
			at, kind = at+6, typePPP
		case typePPP:
			size, kind = ppp(b)
			at += size
		case typeNSH:
			at, kind = at+int(b[1]&0x3f)*4, serviceProtocol(b[3])
			if b[1]&0x3f < 2 {
				return malformed
			}
		default:
			if binary.BigEndian.Uint32(b) != 0xaaaa0300 || b[4] != 0 { // LLC with SNAP of organisation 0; 802.2 alone carries no IP today
				return notIP
			}
			kind, at = binary.BigEndian.Uint16(b[6:]), at+8
		}
		if kind <= maxLength {
			return notIP
		}
	}
	return notIP
}

func tagged(kind uint16) bool { return kind == typeVLAN || kind == typeQinQ || kind == typeQinQOld }

// ppp reads the protocol of a PPP frame, which may follow an address and control byte, and may be one byte where it is odd (RFC 1661).
func ppp(b []byte) (size int, kind uint16) {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 3 {
		size = 2
	}
	if len(b) < size+2 {
		return size, 0
	}
	protocol := binary.BigEndian.Uint16(b[size:])
	if b[size]&1 != 0 {
		protocol = uint16(b[size])
		size++
	} else {
		size += 2
	}
	switch protocol {
	case 0x0021:
		return size, typeIPv4
	case 0x0057:
		return size, typeIPv6
	case 0x0281:
		return size, typeMPLS
	}
	return size, 0
}

// mpls walks a label stack. What stands behind the last label nobody says: a version nibble of 4 or 6 is taken for IP where an IP
// header can be read there, else a frame is looked for, with and without the control word of a pseudowire (RFC 4385).
func (p *parser) mpls(k *packet, frame []byte, at, end int, now int64) verdict {
	for n := 0; ; n++ {
		if n == maxStack || at+4 > end {
			return malformed
		}
		if len(frame) < at+4 {
			return tooShort
		}
		at += 4
		if frame[at-2]&1 != 0 { // bottom of stack
			break
		}
	}
	if len(frame) <= at {
		return tooShort
	}
	before, v := *k, notIP
	if kind := ipVersion(frame[at]); kind != 0 {
		if v = p.network(k, frame, at, end, kind, now); v != malformed {
			return v
		}
	}
	*k = before
	for _, word := range [2]int{4, 0} {
		if (word == 0 || frame[at]>>4 == 0) && len(frame) >= at+word+14 && plausible(binary.BigEndian.Uint16(frame[at+word+12:])) {
			if k.depth++; k.depth > maxEnvelopes {
				p.tooDeep++
				return notIP
			}
			return p.network(k, frame, at+word, end, typeEthernet, now)
		}
	}
	return v
}

// plausible tells Ethernet types behind which a flow can stand.
func plausible(kind uint16) bool {
	return kind == typeIPv4 || kind == typeIPv6 || tagged(kind)
}
