package enrich

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/flow"
)

// naive is the index as one would say it: per key, who holds now, and the list of what ended.
type naive struct {
	now  map[Key]hit
	past map[Key][]hit
}

func (n *naive) open(k Key, holder uint32, t int64) {
	if h, ok := n.now[k]; ok {
		if h.holder == holder {
			return
		}
		n.end(k, t)
	}
	n.now[k] = hit{t, forever, holder}
}

func (n *naive) close(k Key, holder uint32, t int64) {
	if h, ok := n.now[k]; ok && h.holder == holder {
		n.end(k, t)
	}
}

func (n *naive) end(k Key, t int64) {
	h := n.now[k]
	n.past[k] = append(n.past[k], hit{h.from, t, h.holder})
	delete(n.now, k)
}

func (n *naive) find(addr flow.Addr, first, last, slack int64) (out []hit) {
	for k, h := range n.now {
		if k.Addr == addr && h.from <= last+slack {
			out = append(out, h)
		}
	}
	for k, hs := range n.past {
		for _, h := range hs {
			if k.Addr == addr && h.from <= last+slack && h.to > first-slack {
				out = append(out, h)
			}
		}
	}
	return sorted(out)
}

func sorted(hs []hit) []hit {
	slices.SortFunc(hs, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.holder, b.holder), cmp.Compare(a.to, b.to))
	})
	return hs
}

func TestIndexAgainstNaive(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		x := newIPIndex(1<<20, 1<<20, nil)
		n := &naive{map[Key]hit{}, map[Key][]hit{}}
		now := int64(0)
		for range 400 {
			now += 1 + r.Int64N(20)
			k := Key{"e", []string{"a", "b"}[r.IntN(2)], flow.Addr4(uint32(1 + r.IntN(3)))}
			holder := uint32(1 + r.IntN(4))
			if r.IntN(3) > 0 {
				x.open(k, holder, now)
				n.open(k, holder, now)
			} else {
				x.close(k, holder, now, false)
				n.close(k, holder, now)
			}
			first := r.Int64N(now + 10)
			last := first + r.Int64N(100)
			slack := r.Int64N(6)
			got := sorted(x.find(k.Addr, first, last, slack, make([]hit, 0, 1000)))
			if d := gocmp.Diff(n.find(k.Addr, first, last, slack), got, gocmp.AllowUnexported(hit{})); d != "" && len(got)+len(n.find(k.Addr, first, last, slack)) > 0 {
				t.Fatalf("seed %d, %v in [%d,%d] slack %d: -want +got\n%s", seed, k, first, last, slack, d)
			}
		}
	}
}

// Whatever order engines report in, a lane stays sorted and nobody shares an address of one network.
func TestIndexInvariantsOutOfOrder(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		alive := map[uint32]int{}
		x := newIPIndex(12, 30, nil)
		x.dropped = func(h uint32) { alive[h]-- }
		for range 500 {
			k := Key{"e", "n", flow.Addr4(uint32(1 + r.IntN(4)))}
			holder, at := uint32(1+r.IntN(5)), r.Int64N(1000)
			switch r.IntN(8) {
			case 0:
				x.prune(at / 4)
			case 1, 2:
				x.close(k, holder, at, r.IntN(2) == 0)
			default:
				if x.open(k, holder, at) {
					alive[holder]++
				}
			}
			total, held := 0, map[uint32]int{}
			for _, lanes := range x.lanes {
				for _, ln := range lanes {
					for i, s := range ln.spans {
						if s.to < s.from || i > 0 && ln.spans[i-1].to > s.from {
							t.Fatalf("seed %d: spans overlap: %+v", seed, ln.spans)
						}
						held[s.holder]++
						total++
					}
					if len(ln.spans) > 12 {
						t.Fatalf("%d spans in a lane bounded to 12", len(ln.spans))
					}
				}
			}
			if total != x.spans || total > 30 {
				t.Fatalf("%d spans, counted %d, bound 30", total, x.spans)
			}
			for h, n := range alive {
				if held[h] != n {
					t.Fatalf("holder %d has %d spans, told %d", h, held[h], n)
				}
			}
		}
	}
}

func TestIndexForgets(t *testing.T) {
	x := newIPIndex(1024, 64, nil)
	for i := range 10_000 { // A22: create and destroy
		k := Key{"e", "n", flow.Addr4(uint32(1000 + i%200))}
		x.open(k, uint32(i), int64(10*i))
		x.close(k, uint32(i), int64(10*i+5), false)
	}
	if x.spans > 64 || x.evicted != 10_000-64 {
		t.Errorf("%d spans kept, %d evicted, want 64 and %d", x.spans, x.evicted, 10_000-64)
	}
	x.prune(1 << 60)
	if x.spans != 0 || x.at.n != 0 {
		t.Errorf("%d spans and %d addresses left after all ended", x.spans, x.at.n)
	}
}

func TestIndexDoesNotAllocate(t *testing.T) {
	x := newIPIndex(1024, 1<<16, nil)
	for i := range 512 {
		x.open(Key{"e", "n", flow.Addr4(uint32(1000 + i%64))}, uint32(i), int64(10*i))
	}
	var room [16]hit
	if n := testing.AllocsPerRun(100, func() { x.find(flow.Addr4(1010), 100, 2000, 5, room[:0]) }); n != 0 {
		t.Errorf("%v allocations per lookup", n)
	}
}

func TestAddrMapAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	var m addrMap
	want := map[flow.Addr]uint32{}
	for range 20_000 {
		a := flow.Addr{Hi: uint64(r.IntN(2)), Lo: uint64(1 + r.IntN(300))}
		if r.IntN(2) == 0 {
			v := r.Uint32()
			m.put(a, v)
			want[a] = v
		} else {
			m.del(a)
			delete(want, a)
		}
		b := flow.Addr{Hi: uint64(r.IntN(2)), Lo: uint64(1 + r.IntN(300))}
		got, ok := m.get(b)
		if v, has := want[b]; v != got || has != ok || m.n != len(want) {
			t.Fatalf("%v: got %v %v of %d, want %v %v of %d", b, got, ok, m.n, v, has, len(want))
		}
	}
}

func BenchmarkIndexFind(b *testing.B) {
	x := newIPIndex(1024, 1<<16, nil)
	for i := range 512 {
		x.open(Key{"e", "n", flow.Addr4(uint32(1000 + i))}, uint32(i), int64(10*i))
	}
	var room [16]hit
	for i := 0; b.Loop(); i++ {
		x.find(flow.Addr4(uint32(1000+i%1024)), 8000, 9000, 5, room[:0])
	}
}
