package flow

import "slices"

const (
	pieceBytes  = 4096 // of a beginning that is put together: a ClientHello with post-quantum keys has 1,800
	pieceRanges = 16   // holes are possible between so many parts
)

// pieces puts the beginning of a stream together from parts in any order.
type pieces struct {
	b    []byte
	have [][2]int // ranges that are there, sorted, apart
}

func (p *pieces) reset() { p.b, p.have = p.b[:0], p.have[:0] }

// add takes a part; what lies beyond the bound is left out. It reports false when there are too many holes.
func (p *pieces) add(at int, part []byte) bool {
	end := min(at+len(part), pieceBytes)
	if at < 0 || at >= end {
		return true
	}
	if len(p.b) < end {
		p.b = slices.Grow(p.b, end-len(p.b))[:end]
	}
	copy(p.b[at:end], part)
	from := 0
	for from < len(p.have) && p.have[from][1] < at {
		from++
	}
	to := from
	for to < len(p.have) && p.have[to][0] <= end {
		at, end = min(at, p.have[to][0]), max(end, p.have[to][1])
		to++
	}
	p.have = slices.Replace(p.have, from, to, [2]int{at, end})
	return len(p.have) <= pieceRanges
}

// start is what is there without a hole from the beginning.
func (p *pieces) start() []byte {
	if len(p.have) == 0 || p.have[0][0] != 0 {
		return nil
	}
	return p.b[:p.have[0][1]]
}
