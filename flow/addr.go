package flow

import (
	"cmp"
	"encoding/binary"
	"net/netip"
)

// Addr is an IP address without a pointer: 128 bits, IPv4 in the v4-mapped form ::ffff:a.b.c.d. The zero value means "none".
// netip.Addr carries an interned pointer, which would make every record a work item of the garbage collector.
type Addr struct{ Hi, Lo uint64 }

const mapped = 0xffff << 32 // the upper half of Lo in a v4-mapped address

// Addr4 is the address of four bytes in host order: 0x0a000001 is 10.0.0.1.
func Addr4(v uint32) Addr { return Addr{Lo: mapped | uint64(v)} }

// Addr16 reads 16 bytes off the wire; v4-mapped input comes out as IPv4. It panics when b is shorter.
func Addr16(b []byte) Addr {
	return Addr{Hi: binary.BigEndian.Uint64(b), Lo: binary.BigEndian.Uint64(b[8:16])}
}

// AddrOf converts; the zone of a link-local address is dropped.
func AddrOf(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	b := a.As16()
	return Addr16(b[:])
}

// ParseAddr reads the text form of an address.
func ParseAddr(s string) (Addr, error) {
	a, err := netip.ParseAddr(s)
	return AddrOf(a), err
}

// Netip converts back; IPv4 is unmapped. The zero Addr gives the invalid netip.Addr.
func (a Addr) Netip() netip.Addr {
	if a.IsZero() {
		return netip.Addr{}
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
	return netip.AddrFrom16(b).Unmap()
}

// Is4 tells IPv4 from IPv6.
func (a Addr) Is4() bool { return a.Hi == 0 && a.Lo>>32 == 0xffff }

// IsZero reports "none".
func (a Addr) IsZero() bool { return a == Addr{} }

// Compare orders addresses as numbers.
func (a Addr) Compare(b Addr) int {
	if c := cmp.Compare(a.Hi, b.Hi); c != 0 {
		return c
	}
	return cmp.Compare(a.Lo, b.Lo)
}

// String is the canonical text; "" for none.
func (a Addr) String() string {
	if a.IsZero() {
		return ""
	}
	return a.Netip().String()
}

// MarshalText makes addresses readable in JSON.
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Addr) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*a = Addr{}
		return nil
	}
	*a, err = ParseAddr(string(b))
	return err
}
