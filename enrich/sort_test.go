package enrich

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSorterAgainstSlices(t *testing.T) {
	var s sorter
	r := rand.New(rand.NewPCG(1, 4))
	for _, n := range []int{0, 1, 150, 1000, 5000} {
		for _, span := range []int64{1, 50, second, 100 * second, 1 << 50, 1 << 62} {
			items := make([]item, n)
			for i := range items {
				items[i] = item{time: t0 - r.Int64N(span), id: r.Uint64N(4), conn: uint32(i), kind: FlowKind(r.IntN(3))}
			}
			want := slices.Clone(items)
			slices.SortFunc(want, before)
			if got := s.sort(items); !slices.Equal(got, want) {
				t.Fatalf("%d items over %d ns are not in order", n, span)
			}
		}
	}
}
