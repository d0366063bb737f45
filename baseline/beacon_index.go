package baseline

import (
	"math/bits"
	"math/rand/v2"
)

// seriesIndex leads from a workload and an address to its series. One table for all workloads, with the hash beside the pointer, costs
// one line of memory per look where a map for each costs three: between two flows of one series come those of thousands of others.
// It is open addressing with linear probing; the seed is random, so that nobody can choose addresses that collide.
type seriesIndex struct {
	seed  [3]uint64
	slots []indexSlot // a power of two, at most half taken
	used  int
}

type indexSlot struct {
	hash uint64
	s    *series // nil: free
}

func newSeriesIndex() *seriesIndex {
	return &seriesIndex{seed: [3]uint64{rand.Uint64(), rand.Uint64(), rand.Uint64()}, slots: make([]indexSlot, 64)}
}

// home is where a key with that hash is, unless others were there first.
func (x *seriesIndex) home(hash uint64) *indexSlot { return &x.slots[int(hash)&(len(x.slots)-1)] }

func (x *seriesIndex) hash(workload int, key destKey) uint64 {
	rest := uint64(workload)<<24 | uint64(key.port)<<8 | uint64(key.proto)
	return mix(mix(key.addr.Hi^x.seed[0], key.addr.Lo^x.seed[1])^rest, x.seed[2])
}

// mix folds a product, as wyhash does. https://github.com/wangyi-fudan/wyhash
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// locate returns the slot of a key, or the free one where it would go.
func (x *seriesIndex) locate(k *keySet, key destKey, hash uint64) int {
	last := len(x.slots) - 1
	for i := int(hash) & last; ; i = (i + 1) & last {
		slot := &x.slots[i]
		if slot.s == nil || slot.hash == hash && slot.s.set == k && slot.s.leads(key) {
			return i
		}
	}
}

// find returns the series that key leads to; nil for none.
func (x *seriesIndex) find(k *keySet, key destKey) *series {
	return x.slots[x.locate(k, key, x.hash(k.w.index, key))].s
}

// put makes key lead to s, which knows it.
func (x *seriesIndex) put(k *keySet, key destKey, s *series) {
	if 2*x.used >= len(x.slots) {
		x.grow()
	}
	hash := x.hash(k.w.index, key)
	slot := &x.slots[x.locate(k, key, hash)]
	if slot.s == nil {
		x.used++
	}
	*slot = indexSlot{hash, s}
}

// remove lets key lead nowhere if it leads to s. What was pushed past the slot moves back, so that there are no tombstones.
func (x *seriesIndex) remove(k *keySet, key destKey, s *series) {
	free := x.locate(k, key, x.hash(k.w.index, key))
	if x.slots[free].s != s {
		return
	}
	last := len(x.slots) - 1
	for i := (free + 1) & last; x.slots[i].s != nil; i = (i + 1) & last {
		if home := int(x.slots[i].hash) & last; (i-home)&last >= (i-free)&last {
			x.slots[free] = x.slots[i]
			free = i
		}
	}
	x.slots[free] = indexSlot{}
	x.used--
}

func (x *seriesIndex) grow() {
	old := x.slots
	x.slots = make([]indexSlot, 2*len(old))
	last := len(x.slots) - 1
	for _, slot := range old {
		if slot.s == nil {
			continue
		}
		i := int(slot.hash) & last
		for x.slots[i].s != nil {
			i = (i + 1) & last
		}
		x.slots[i] = slot
	}
}
