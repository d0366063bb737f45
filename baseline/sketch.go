package baseline

import (
	"math"
	"math/bits"
)

// sketch estimates a number of different things: HyperLogLog with 1024 registers (Flajolet and others 2007), 3.3 % off, exact enough
// by linear counting below a thousand.
type sketch struct {
	registers [1024]uint8
}

func (s *sketch) add(h uint64) (changed bool) {
	r := &s.registers[h>>54]
	if rank := uint8(bits.LeadingZeros64(h<<10|1<<9) + 1); rank > *r {
		*r = rank
		return true
	}
	return false
}

// union estimates how many things are in either.
func union(a, b *sketch) float64 {
	sum, zero := 0., 0
	for i := range a.registers {
		r := max(a.registers[i], b.registers[i])
		sum += 1 / float64(uint64(1)<<r)
		if r == 0 {
			zero++
		}
	}
	const m = 1024.
	if e := .7213 / (1 + 1.079/m) * m * m / sum; e > 2.5*m || zero == 0 {
		return e
	}
	return m * math.Log(m/float64(zero))
}
