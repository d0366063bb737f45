package flow

import "encoding/binary"

// xdr takes values off a buffer; once it is too short, all that follows is zero and bad is set.
type xdr struct {
	b   []byte
	bad bool
}

func (x *xdr) u32() uint32 {
	if len(x.b) < 4 {
		x.b, x.bad = nil, true
		return 0
	}
	v := binary.BigEndian.Uint32(x.b)
	x.b = x.b[4:]
	return v
}

// opaque is a length and as many bytes, filled up to four.
func (x *xdr) opaque() []byte {
	n := x.u32()
	if uint64(n) > uint64(len(x.b)) {
		x.b, x.bad = nil, true
		return nil
	}
	v := x.b[:n]
	x.b = x.b[min(int(n+3)&^3, len(x.b)):]
	return v
}

// addr is a type (0 none, 1 IPv4, 2 IPv6) and an address.
func (x *xdr) addr() (a Addr) {
	switch x.u32() {
	case 0:
	case 1:
		a = Addr4(x.u32())
	case 2:
		if len(x.b) < 16 {
			x.b, x.bad = nil, true
			return a
		}
		a = Addr16(x.b)
		x.b = x.b[16:]
	default:
		x.b, x.bad = nil, true
	}
	return a
}
