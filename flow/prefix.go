package flow

import "net/netip"

// Prefix is a network of Addrs. Contains costs two comparisons, where netip's needs a conversion first.
type Prefix struct{ base, mask Addr }

// PrefixOf converts; bits of the address behind the prefix length are dropped. An invalid prefix contains nothing but "none".
func PrefixOf(p netip.Prefix) Prefix {
	if !p.IsValid() {
		return Prefix{mask: Addr{^uint64(0), ^uint64(0)}}
	}
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	mask := Addr{^uint64(0), ^uint64(0)}
	if bits < 64 {
		mask = Addr{Hi: ^(^uint64(0) >> bits)}
	} else {
		mask.Lo = ^(^uint64(0) >> (bits - 64))
	}
	a := AddrOf(p.Addr())
	return Prefix{Addr{a.Hi & mask.Hi, a.Lo & mask.Lo}, mask}
}

// Contains reports whether an address lies in the network. IPv4 addresses lie in IPv4 networks only, and in ::ffff:0:0/96.
func (p Prefix) Contains(a Addr) bool {
	return a.Hi&p.mask.Hi == p.base.Hi && a.Lo&p.mask.Lo == p.base.Lo && (p.mask.Lo != 0 || p.base.Hi != 0 || !a.Is4())
}
