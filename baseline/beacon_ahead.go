package baseline

import "github.com/wharfwatch/wharfwatch/enrich"

// sight is what beacon loads before it looks at some flows.
type sight struct {
	slots   [batch]*indexSlot
	series  [batch]*series
	touched uint64 // keeps the loads
}

// ahead loads, for all flows at once, what Flow will need for each: the place in the index, then the series or the door, then the end
// of its spans. Each step waits for memory once, not once per flow. A key that has been pushed out of its place is found by Flow.
func (b *beacon) ahead(fs []enrich.Flow, ws []*workload) {
	v, sum := &b.sight, b.sight.touched
	for i := range fs {
		f := &fs[i]
		v.slots[i] = nil
		if ws[i] == nil || f.Kind&(enrich.Open|enrich.Close) == 0 || !calls(f) {
			continue
		}
		slot := b.index.home(b.index.hash(ws[i].index, destKey{f.Peer, f.PeerPort, f.Proto}))
		v.slots[i] = slot
		sum += slot.hash
	}
	for i := range fs {
		v.series[i] = nil
		if v.slots[i] == nil {
			continue
		}
		if s := v.slots[i].s; s != nil {
			v.series[i] = s
			sum += uint64(s.key.port) + uint64(s.count) + uint64(s.closed)
		} else if n := ws[i].index; n < len(b.sets) && b.sets[n] != nil { // a workload may be known and have no key yet
			f, k := &fs[i], b.sets[n]
			sum += k.door[(&destKey{f.Peer, f.PeerPort, f.Proto}).slot()].key.addr.Lo
		}
	}
	for _, s := range v.series[:len(fs)] {
		if s != nil && len(s.spans) > 0 {
			sum += uint64(s.spans[len(s.spans)-1].last)
		}
	}
	v.touched = sum
}
