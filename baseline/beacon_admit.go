package baseline

import (
	"github.com/wharfwatch/wharfwatch/enrich"
)

// find leads a flow whose address is unknown, or known by another name, to its series; nil for a first sighting.
func (b *beacon) find(k *keySet, s *series, key destKey, f *enrich.Flow) *series {
	if s == nil && isPlumbing(f) {
		return nil
	}
	var named *series
	if f.PeerName != "" {
		named = k.names[nameKey{f.PeerName, key.port, key.proto}]
	}
	switch {
	case s == nil && named != nil: // another address of a known name
		b.alias(k, key, named)
		if first, known := k.recall(key); known {
			named.start(first)
		}
		return named
	case s == nil:
		first, again := k.knock(key, f.Start)
		b.touch(k)
		if !again {
			return nil
		}
		return b.admit(k, key, f, first)
	case s.name == "" && named == nil: // the name came later than the first connections
		s.name = f.PeerName
		k.names[nameKey{s.name, key.port, key.proto}] = s
		b.known.change(prevalenceKey{destKey{port: key.port, proto: key.proto}, s.name}, k.w, false)
		return s
	case s.name == "":
		named.absorb(s)
		b.drop(s)
		b.alias(k, key, named)
		return named
	case named != nil:
		b.alias(k, key, named)
		return named
	case sameSite(s.name, f.PeerName):
		return s
	}
	return b.admit(k, key, f, f.Start) // another site on a shared address
}

// admit makes a series. At the quota another one of the workload gives way; at the cap, one of the workload if it holds its fair
// share, else one of the workload that holds most.
func (b *beacon) admit(k *keySet, key destKey, f *enrich.Flow, first int64) *series {
	if k.size() >= b.c.MaxKeysPerWorkload {
		b.evict(k)
	} else if b.total >= b.c.MaxKeys {
		if k.size() > 0 && k.size() >= b.c.MaxKeys/max(b.keyed, 1) {
			b.evict(k)
		} else {
			b.evict(b.largest())
		}
	}
	s := &series{key: key, name: f.PeerName, due: nextDue(0)}
	b.meet(s, key, f)
	if k.size() == 0 {
		b.keyed++
	}
	k.add(s)
	b.total++
	b.admitted.Inc()
	b.known.change(prevalenceKey{dest: key}, k.w, false)
	if s.name != "" {
		b.known.change(prevalenceKey{destKey{port: key.port, proto: key.proto}, s.name}, k.w, false)
	}
	s.start(first)
	return s
}

// alias leads another address to a series.
func (b *beacon) alias(k *keySet, key destKey, s *series) {
	if k.at(key) == s {
		return
	}
	if a := s.past().addrs; len(a) == maxAliases {
		b.known.change(prevalenceKey{dest: a[0]}, k.w, true)
	}
	k.alias(key, s)
	b.known.change(prevalenceKey{dest: key}, k.w, false)
}

func (b *beacon) evict(k *keySet) {
	b.drop(k.victim())
	b.touch(k)
	b.evicted.Inc()
}

func (b *beacon) drop(s *series) {
	k := s.set
	for _, a := range s.addresses() {
		b.known.change(prevalenceKey{dest: a}, k.w, true)
	}
	if s.name != "" {
		b.known.change(prevalenceKey{destKey{port: s.key.port, proto: s.key.proto}, s.name}, k.w, true)
	}
	k.drop(s)
	b.total--
	if k.size() == 0 {
		b.keyed--
	}
}

// largest is the set with most series, the first by index.
func (b *beacon) largest() (most *keySet) {
	for _, k := range b.sets {
		if k != nil && (most == nil || k.size() > most.size()) {
			most = k
		}
	}
	return most
}

func (b *beacon) setOf(w *workload) *keySet {
	if w.index >= len(b.sets) {
		b.sets = append(b.sets, make([]*keySet, w.index+1-len(b.sets))...)
	}
	k := b.sets[w.index]
	if k == nil {
		k = newKeySet(w, b.index)
		b.sets[w.index] = k
	}
	return k
}

// forget drops a workload.
func (b *beacon) forget(w *workload) {
	if w.index >= len(b.sets) || b.sets[w.index] == nil {
		return
	}
	k := b.sets[w.index]
	for k.size() > 0 {
		b.drop(k.victim())
	}
	k.removed = true
	b.sets[w.index] = nil
	b.gone = append(b.gone, w.name)
}

func (b *beacon) touch(k *keySet) {
	if !k.dirty {
		k.dirty = true
		b.dirty = append(b.dirty, k)
	}
}
