package baseline

import (
	"math/rand/v2"
	"testing"

	"github.com/wharfwatch/wharfwatch/flow"
)

// The index does what a map would, over puts, replacements and removals.
func TestSeriesIndexIsAMap(t *testing.T) {
	type place struct {
		k   *keySet
		key destKey
	}
	r := rand.New(rand.NewPCG(1, 1))
	x := newSeriesIndex()
	want := map[place]*series{}
	var sets []*keySet
	for i := range 5 {
		sets = append(sets, newKeySet(&workload{index: i}, x))
	}
	for range 200_000 {
		p := place{sets[r.IntN(len(sets))], destKey{addr: flow.Addr4(r.Uint32N(400)), port: uint16(r.UintN(2))}}
		if got := p.k.at(p.key); got != want[p] {
			t.Fatalf("%+v leads to %p instead of %p", p.key, got, want[p])
		}
		switch s := want[p]; {
		case s == nil || r.IntN(10) == 0:
			s = &series{key: p.key, set: p.k}
			x.put(p.k, p.key, s)
			want[p] = s
		case r.IntN(2) == 0:
			x.remove(p.k, p.key, &series{}) // another one: nothing happens
			x.remove(p.k, p.key, s)
			delete(want, p)
		}
		if x.used != len(want) {
			t.Fatalf("%d slots taken by %d keys", x.used, len(want))
		}
	}
	for p, s := range want {
		if p.k.at(p.key) != s {
			t.Errorf("%+v does not lead to its series", p.key)
		}
	}
}
