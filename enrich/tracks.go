package enrich

import (
	"slices"
	"strings"
)

// Tracks takes what a kernel told. Nothing is said before Advance.
func (t *Table) Tracks(b *Tracks) {
	n := t.engine(b.Engine)
	x := &t.tracks
	for len(x.kernels) <= int(n) {
		x.kernels = append(x.kernels, kernelState{})
	}
	k := &x.kernels[n]
	t.count.tracks += uint64(len(b.Entries))
	k.heard, k.live = true, true
	switch b.Mark {
	case MarkDump:
		k.dump++
		k.began = b.Time
	case MarkLost:
		if len(k.gaps) == maxGaps {
			k.gaps = slices.Delete(k.gaps, 0, 1)
		}
		k.gaps = append(k.gaps, gap{b.From, b.Time})
	case MarkBlind:
		k.live = false
	case MarkHost:
		t.hostAddrs(k, b)
	}
	for i := range b.Entries {
		switch e := &b.Entries[i]; e.Kind {
		case TrackBegin, TrackFound:
			x.begin(n, e)
		case TrackEnd:
			x.end(n, e)
		case TrackListen:
			x.listen(n, e)
		case TrackDeaf:
			x.deaf(n, e)
		}
	}
	if b.Mark == MarkDumped {
		x.dumped(n, b.Time)
	}
	if b.Mark == MarkNone {
		k.progress = max(k.progress, b.Time)
	}
	t.count.flush()
}

// hostAddrs takes the addresses of a kernel's host. Two hosts never share one but for loopback, which needs no telling.
func (t *Table) hostAddrs(k *kernelState, b *Tracks) {
	for _, a := range k.host {
		if !slices.Contains(b.Host, a) && !slices.Contains(t.c.Addresses.Host, a.String()) {
			t.nets.host.del(a)
		}
	}
	k.host = append(k.host[:0], b.Host...)
	for _, a := range k.host {
		t.nets.host.put(a, 0)
	}
}

// publish follows what an event says of published ports and of the addresses of bridges.
func (t *Table) publish(i uint32, e *Event) {
	m := &t.roster.members[i]
	if strings.HasPrefix(e.Container.NetworkMode, sharedMode) {
		t.join(e.Container)
	}
	switch e.Kind {
	case Started, Listed, Changed:
		if !e.Container.Running {
			break
		}
		from := e.Container.Started
		if from == 0 {
			from = e.Time
		}
		m.spans += t.ports.open(i, m.engine, e.Container, from)
	case Died, Destroyed:
		t.ports.close(i, m.c, e.Time)
	case Connected:
		if e.Binding == nil {
			break
		}
		for _, a := range e.Binding.Gateways {
			if t.nets.gateways.n < maxBlocks {
				t.nets.gateways.put(a, 0)
			}
		}
	}
}
