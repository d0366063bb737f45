package enrich

import (
	"encoding/binary"

	"github.com/wharfwatch/wharfwatch/flow"
)

// Messages of the connection tracker, by
// https://github.com/torvalds/linux/blob/master/include/uapi/linux/netfilter/nfnetlink_conntrack.h
//
//	nlmsghdr    length u32  type u16  flags u16  sequence u32  port u32       native byte order
//	nfgenmsg    family u8  version u8  resource be16
//	attributes  length u16  type u16  value, padded to 4                      nested; numbers inside are big endian
const (
	nlHeader   = 16
	nlError    = 2 // NLMSG_ERROR
	nlDone     = 3 // NLMSG_DONE
	nlTypeMask = 0x3fff

	ctSubsystem = 1 // NFNL_SUBSYS_CTNETLINK
	ctNew       = ctSubsystem << 8
	ctGet       = ctSubsystem<<8 | 1
	ctDelete    = ctSubsystem<<8 | 2

	ctaTupleOrig     = 1
	ctaTupleReply    = 2
	ctaStatus        = 3
	ctaProtoInfo     = 4
	ctaCountersOrig  = 9
	ctaCountersReply = 10
	ctaID            = 12
	ctaTimestamp     = 20
)

// conntrack is one connection as the kernel tells it.
type conntrack struct {
	orig, reply     Tuple
	bytes, packets  [2]uint64 // of both directions; 0 without accounting
	start, stop     int64     // ns; 0 without nf_conntrack_timestamp
	status, id      uint32
	proto, tcpState uint8
	counted         bool // counters were there
}

// netlinkMessage takes the first message off what a netlink socket gave. ok is false at the end, and for a length that does not fit.
func netlinkMessage(b []byte) (kind, flags uint16, seq uint32, payload, rest []byte, ok bool) {
	if len(b) < nlHeader {
		return
	}
	n := int(binary.NativeEndian.Uint32(b))
	if n < nlHeader || n > len(b) {
		return
	}
	kind, flags, seq = binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:])
	return kind, flags, seq, b[nlHeader:n], b[min((n+3)&^3, len(b)):], true
}

// attribute takes the first attribute off a list.
func attribute(b []byte) (kind uint16, value, rest []byte, ok bool) {
	if len(b) < 4 {
		return
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < 4 || n > len(b) {
		return
	}
	return binary.NativeEndian.Uint16(b[2:]) & nlTypeMask, b[4:n], b[min((n+3)&^3, len(b)):], true
}

// parseConntrack reads the payload of a message. ok is false where it is cut short or lacks a tuple.
func parseConntrack(b []byte) (c conntrack, ok bool) {
	if len(b) < 4 {
		return c, false
	}
	var replyProto uint8
	for b = b[4:]; len(b) > 0; {
		kind, v, rest, whole := attribute(b)
		if !whole {
			return c, false
		}
		switch kind {
		case ctaTupleOrig:
			c.proto, ok = c.orig.parse(v)
		case ctaTupleReply:
			replyProto, ok = c.reply.parse(v)
		case ctaStatus:
			c.status = be32(v)
		case ctaID:
			c.id = be32(v)
		case ctaProtoInfo:
			c.tcpState = tcpState(v)
		case ctaCountersOrig:
			c.packets[0], c.bytes[0] = two64(v)
			c.counted = true
		case ctaCountersReply:
			c.packets[1], c.bytes[1] = two64(v)
			c.counted = true
		case ctaTimestamp:
			start, stop := two64(v)
			c.start, c.stop = int64(start), int64(stop)
		}
		if !ok && (kind == ctaTupleOrig || kind == ctaTupleReply) {
			return c, false
		}
		b = rest
	}
	return c, c.proto == replyProto && !c.orig.Src.IsZero() && !c.reply.Src.IsZero()
}

// parse reads a nested tuple: addresses (IP 1, of which IPv4 is 1 and 2 and IPv6 3 and 4) and protocol (PROTO 2).
func (t *Tuple) parse(b []byte) (proto uint8, ok bool) {
	for len(b) > 0 {
		kind, v, rest, whole := attribute(b)
		if !whole {
			return 0, false
		}
		switch kind {
		case 1:
			if !t.parseIP(v) {
				return 0, false
			}
		case 2:
			if proto, whole = t.parseProto(v); !whole {
				return 0, false
			}
		}
		b = rest
	}
	return proto, !t.Src.IsZero() && !t.Dst.IsZero()
}

func (t *Tuple) parseIP(b []byte) bool {
	for len(b) > 0 {
		kind, v, rest, whole := attribute(b)
		if !whole {
			return false
		}
		var a flow.Addr
		switch {
		case kind <= 2 && len(v) == 4:
			a = flow.Addr4(binary.BigEndian.Uint32(v))
		case kind <= 4 && len(v) == 16:
			a = flow.Addr16(v)
		}
		switch kind {
		case 1, 3:
			t.Src = a
		case 2, 4:
			t.Dst = a
		}
		b = rest
	}
	return true
}

// parseProto reads number 1 and ports 2 and 3. The id, type and code of ICMP are left out: records have no id.
func (t *Tuple) parseProto(b []byte) (proto uint8, ok bool) {
	for len(b) > 0 {
		kind, v, rest, whole := attribute(b)
		if !whole {
			return 0, false
		}
		switch {
		case kind == 1 && len(v) >= 1:
			proto = v[0]
		case kind == 2 && len(v) >= 2:
			t.SrcPort = binary.BigEndian.Uint16(v)
		case kind == 3 && len(v) >= 2:
			t.DstPort = binary.BigEndian.Uint16(v)
		}
		b = rest
	}
	return proto, true
}

// tcpState reads CTA_PROTOINFO_TCP (1) with CTA_PROTOINFO_TCP_STATE (1), the first of its attributes.
func tcpState(b []byte) uint8 {
	kind, tcp, _, ok := attribute(b)
	if !ok || kind != 1 {
		return 0
	}
	kind, v, _, ok := attribute(tcp)
	if !ok || kind != 1 || len(v) == 0 {
		return 0
	}
	return v[0]
}

// two64 reads counters (packets 1, bytes 2) and times (start 1, stop 2).
func two64(b []byte) (first, second uint64) {
	for {
		kind, v, rest, ok := attribute(b)
		if !ok {
			return first, second
		}
		if len(v) == 8 {
			switch kind {
			case 1:
				first = binary.BigEndian.Uint64(v)
			case 2:
				second = binary.BigEndian.Uint64(v)
			}
		}
		b = rest
	}
}

func be32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
