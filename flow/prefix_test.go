package flow

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Contains answers as netip does, over random prefixes and addresses that lie in about half of them.
func TestPrefixContains(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	in := 0
	for range 200_000 {
		var b [16]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		a := netip.AddrFrom16(b)
		if r.IntN(2) == 0 {
			a = netip.AddrFrom4([4]byte(b[:4]))
		}
		p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1))
		if r.IntN(2) == 0 { // another address that shares some leading bits
			x := a.AsSlice()
			x[r.IntN(len(x))] ^= 1 << r.IntN(8)
			a, _ = netip.AddrFromSlice(x)
		}
		if r.IntN(8) == 0 {
			a = netip.AddrFrom4([4]byte{byte(r.Uint32()), 2, 3, 4})
		}
		want := p.Contains(a.Unmap())
		if got := PrefixOf(p).Contains(AddrOf(a)); got != want && !a.Is4In6() {
			t.Fatalf("%s contains %s: %v, want %v", p, a, got, want)
		}
		if want {
			in++
		}
	}
	if in < 50_000 || in > 150_000 {
		t.Errorf("%d of 200000 addresses lie in their prefix", in)
	}
	if PrefixOf(netip.Prefix{}).Contains(Addr4(1)) {
		t.Error("no prefix contains an address")
	}
}
