package flow

import "encoding/binary"

// Protocol types of GRE that are not Ethernet types of their own.
const (
	greERSPAN  = 0x88be // types I (no sequence number, no header of its own) and II
	greERSPAN3 = 0x22eb
	greWCCP    = 0x883e
)

// gre opens Generic Routing Encapsulation: RFC 2784 with the keys of RFC 2890 and the routing of RFC 1701, and version 1 of PPTP
// (RFC 2637).
//
//	0 C R K S s recursion 3, A, flags 4, version 3   2 protocol type   4 [checksum, offset] [key] [sequence] [routing | acknowledgement]
func gre(b []byte) (header int, c content) {
	c.kind = envGRE
	if len(b) < 4 {
		return 0, c
	}
	flags, protocol := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	header = 4
	if flags&0xc000 != 0 { // C or R: checksum and offset, both
		header += 4
	}
	if flags&0x2000 != 0 {
		header += 4
	}
	if flags&0x1000 != 0 {
		header += 4
	}
	switch version := flags & 7; {
	case version == 0 && flags&0x4000 != 0:
		header = sourceRoute(b, header)
	case version == 1 && protocol == typePPP:
		if flags&0x0080 != 0 {
			header += 4
		}
	case version != 0:
		return 0, c
	}
	if header < 0 || header > len(b) {
		return 0, c
	}
	switch protocol {
	case greERSPAN, greERSPAN3:
		var size int
		size, c = erspan(b[header:], protocol, flags)
		return header + size, c
	case greWCCP: // version 2 puts four bytes before the packet, version 1 does not
		if header < len(b) && ipVersion(b[header]) != typeIPv4 {
			header += 4
		}
		protocol = typeIPv4
	}
	c.ethertype = protocol
	return header, c
}

// sourceRoute walks the source route entries of RFC 1701; the last has length 0. -1 when they do not end.
func sourceRoute(b []byte, at int) int {
	for range maxExtensions {
		if len(b) < at+4 {
			return -1
		}
		size := int(b[at+3])
		at += 4 + size
		if size == 0 {
			return at
		}
	}
	return -1
}

// erspan reads the header of a mirrored frame, https://datatracker.ietf.org/doc/html/draft-foschiano-erspan-03. The VLAN it names is that of the
// mirrored port, of use when no tag was seen.
//
//	0 version 4, VLAN 12, COS 3, EN 2, T, session 10      type II: 4 reserved, index
//	4 timestamp   8 SGT 16, P, frame type 5, hardware 6, D, granularity 2, O      type III: 8 more where O is set
func erspan(b []byte, protocol, greFlags uint16) (header int, c content) {
	c.kind = envERSPAN
	switch {
	case protocol == greERSPAN && greFlags&0x1000 == 0:
		c.ethertype = typeEthernet
		return 0, c
	case protocol == greERSPAN:
		if len(b) < 8 || b[0]>>4 != 1 {
			return 0, c
		}
		c.ethertype, c.vlan = typeEthernet, binary.BigEndian.Uint16(b)&0xfff
		return 8, c
	}
	if len(b) < 12 || b[0]>>4 != 2 {
		return 0, c
	}
	header = 12
	if b[11]&1 != 0 {
		header += 8
	}
	switch frameType := b[10] >> 2 & 0x1f; {
	case frameType == 0:
		c.ethertype = typeEthernet
	case frameType == 2 && len(b) > header:
		c.ethertype = ipVersion(b[header])
	}
	c.vlan = binary.BigEndian.Uint16(b) & 0xfff
	return header, c
}
