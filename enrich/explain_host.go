package enrich

import (
	"slices"

	"github.com/wharfwatch/wharfwatch/flow"
)

// outside looks for whom the kernels saw behind an address and port of a host at a time, whoever the peer was: the newest connection
// counts, and the holders of others with the same port come after it. It looks at all that is remembered.
func (t *Table) outside(addr flow.Addr, port uint16, at int64) (best verdict, others []uint32) {
	place, slack, newest := t.nets.place(addr), int64(t.c.Addresses.Tolerance), int64(-1)
	var all []uint32
	if port == 0 {
		return best, nil
	}
	for i := range t.tracks.entries {
		e := &t.tracks.entries[i]
		if !e.taken || e.from-slack > at || e.to != forever && e.to+slack < at {
			continue
		}
		for view := range uint32(2) {
			v := e.view(view)
			q := query{addr: addr, peer: v.Dst, port: port, peerPort: v.DstPort, proto: e.proto, first: at, last: at}
			side := uint8(0)
			if v.Src != addr || v.SrcPort != port {
				if v.Dst != addr || v.DstPort != port {
					continue
				}
				side, q.peer, q.peerPort = 1, v.Src, v.SrcPort
			}
			d := t.behind(q, match{uint32(i), side}, place)
			if d.holder == 0 {
				continue
			}
			if all = append(all, d.holder); e.from > newest {
				best, newest = d, e.from
			}
		}
	}
	slices.Sort(all)
	for _, h := range slices.Compact(all) {
		if h != best.holder {
			others = append(others, h)
		}
	}
	return best, others[:min(len(others), 16)]
}
