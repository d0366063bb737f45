package flow

import (
	"encoding/binary"
	"math"
)

const (
	portDNS       = 53
	dnsAddrs      = 32  // most addresses taken from one answer
	dnsRecords    = 256 // most answer records walked
	dnsNameLength = 253 // as text, without the final dot
	dnsJumps      = 32  // most compression pointers in one name
)

// What a payload from UDP port 53 was.
const (
	dnsOther     = iota // a question, an update, a transfer: nothing to learn
	dnsAnswer           // the name is filled
	dnsMalformed        // not DNS, or hostile
)

// parseQuestion reads a standard DNS query (RFC 1035) of one question into n.
func parseQuestion(b []byte, n *Name) (id uint16, ok bool) {
	if len(b) < 17 {
		return 0, false
	}
	if flags := binary.BigEndian.Uint16(b[2:]); flags&0xf800 != 0 || binary.BigEndian.Uint16(b[4:]) != 1 {
		return 0, false
	}
	var text [4 * 256]byte
	name, at, ok := dnsName(text[:0], b, 12)
	if !ok || at+4 > len(b) {
		return 0, false
	}
	n.Kind, n.Name, n.QType = NameQuery, shortName(name), binary.BigEndian.Uint16(b[at:])
	return binary.BigEndian.Uint16(b), true
}

// shortName bounds a name; only escapes make it too long, and its end says whose it is.
func shortName(name []byte) string {
	if len(name) > dnsNameLength {
		name = name[len(name)-dnsNameLength:]
	}
	return string(name)
}

// parseAnswer reads a DNS response (RFC 1035) into n: the name as asked, and the addresses at the end of whatever chain of
// CNAMEs. cut says that the payload was shortened on its way here: then the records that are whole count.
func parseAnswer(b []byte, cut bool, n *Name) int {
	if len(b) < 12 {
		return dnsMalformed
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if flags&0x8000 == 0 || flags>>11&15 != 0 { // a question, or not a standard query
		return dnsOther
	}
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		if binary.BigEndian.Uint16(b[4:]) == 0 {
			return dnsOther // refusals may come without the question
		}
		return dnsMalformed
	}
	var text [4 * 256]byte
	name, at, ok := dnsName(text[:0], b, 12)
	if !ok || at+4 > len(b) {
		return dnsMalformed
	}
	n.Name = shortName(name)
	n.QType = binary.BigEndian.Uint16(b[at:])
	n.RCode = uint8(flags & 15)
	at += 4
	least := uint32(math.MaxUint32)
	for range min(int(binary.BigEndian.Uint16(b[6:])), dnsRecords) {
		next, ok := dnsSkip(b, at)
		if !ok || next+10 > len(b) {
			if cut || flags&0x0200 != 0 {
				break
			}
			return dnsMalformed
		}
		kind, class := binary.BigEndian.Uint16(b[next:]), binary.BigEndian.Uint16(b[next+2:])
		ttl, size := binary.BigEndian.Uint32(b[next+4:]), int(binary.BigEndian.Uint16(b[next+8:]))
		at = next + 10 + size
		if at > len(b) {
			if cut || flags&0x0200 != 0 {
				break
			}
			return dnsMalformed
		}
		if class != 1 {
			continue
		}
		data := b[next+10 : at]
		switch {
		case kind == 1 && size == 4:
			if len(n.Addrs) < dnsAddrs {
				n.Addrs = append(n.Addrs, Addr4(binary.BigEndian.Uint32(data)))
			}
		case kind == 28 && size == 16:
			if len(n.Addrs) < dnsAddrs {
				n.Addrs = append(n.Addrs, Addr16(data))
			}
		case kind == 1, kind == 28:
			return dnsMalformed
		}
		least = min(least, ttl)
	}
	if least != math.MaxUint32 {
		n.TTL = least
	}
	return dnsAnswer
}

// dnsName appends a name as text: lower case, bytes that are not printable escaped as \DDD (RFC 4343). at is behind the name.
// Pointers must go backwards, so a loop cannot be built; the name is bounded by 255 bytes on the wire.
func dnsName(text, b []byte, at int) (name []byte, next int, ok bool) {
	wire, jumps, limit := 0, 0, len(b)
	for {
		if at >= limit {
			return nil, 0, false
		}
		c := int(b[at])
		switch {
		case c == 0:
			if next == 0 {
				next = at + 1
			}
			return text, next, true
		case c < 64:
			wire += c + 1
			if at+1+c > limit || wire > 254 {
				return nil, 0, false
			}
			if len(text) > 0 {
				text = append(text, '.')
			}
			for _, x := range b[at+1 : at+1+c] {
				switch {
				case x >= 'A' && x <= 'Z':
					text = append(text, x+'a'-'A')
				case x <= ' ' || x > '~' || x == '.' || x == '\\':
					text = append(text, '\\', '0'+x/100, '0'+x/10%10, '0'+x%10)
				default:
					text = append(text, x)
				}
			}
			at += c + 1
		case c >= 192:
			if at+2 > limit || jumps == dnsJumps {
				return nil, 0, false
			}
			to := (c&63)<<8 | int(b[at+1])
			if next == 0 {
				next = at + 2
			}
			if to >= at || to < 12 {
				return nil, 0, false
			}
			jumps++
			at, limit = to, at
		default: // 64-191: extended labels were withdrawn
			return nil, 0, false
		}
	}
}

// dnsSkip walks over a name without following pointers.
func dnsSkip(b []byte, at int) (int, bool) {
	for at < len(b) {
		switch c := int(b[at]); {
		case c == 0:
			return at + 1, true
		case c < 64:
			at += c + 1
		case c >= 192:
			return at + 2, at+2 <= len(b)
		default:
			return 0, false
		}
	}
	return 0, false
}
