package baseline

import (
	"cmp"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// destKey is where a connection went.
type destKey struct {
	addr  flow.Addr
	port  uint16
	proto uint8
}

// nameKey is a destination by its DNS name.
type nameKey struct {
	name  string
	port  uint16
	proto uint8
}

const (
	doorSlots   = 128
	maxAliases  = 16 // addresses per named destination
	provenCount = 6  // spans from which a series outlives newcomers
)

// keySet is what one workload calls. A destination is an address and port, or the DNS name behind several addresses.
//
// A series is made at the second sighting of its address: the first is kept in a small table (door) that a spray of addresses
// overwrites. Within the quota, series of fewer than six beats give way first, the longest unused before the others.
type keySet struct {
	w       *workload
	index   *seriesIndex // of all sets
	all     []*series    // in no order
	used    []uint64     // when each was used last, counted in uses; with isProven for series that outlive newcomers
	uses    uint64
	dirty   bool
	removed bool
	names   map[nameKey]*series
	door    [doorSlots]knocker
}

// isProven puts a series behind all that are not in the order of giving way.
const isProven = 1 << 63

type knocker struct {
	key destKey
	at  int64 // ns; 0 empty
}

func newKeySet(w *workload, index *seriesIndex) *keySet {
	return &keySet{w: w, index: index, names: map[nameKey]*series{}}
}

// at is the series that an address leads to; nil for none.
func (k *keySet) at(key destKey) *series { return k.index.find(k, key) }

// slot is where the door keeps a key. The function is fixed: what is overwritten must not differ between runs.
func (k *destKey) slot() int {
	h := k.addr.Hi*0x9e3779b97f4a7c15 ^ k.addr.Lo*0xc2b2ae3d27d4eb4f ^ (uint64(k.port)<<8|uint64(k.proto))*0x165667b19e3779f9
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return int(h >> 57)
}

// knock notes a sighting; the second of the same key returns the time of the first.
func (k *keySet) knock(key destKey, at int64) (first int64, again bool) {
	if first, again = k.recall(key); !again {
		k.door[key.slot()] = knocker{key, at}
	}
	return first, again
}

// recall takes a first sighting out of the door.
func (k *keySet) recall(key destKey) (first int64, known bool) {
	d := &k.door[key.slot()]
	if d.key != key || d.at == 0 {
		return 0, false
	}
	first = d.at
	*d = knocker{}
	return first, true
}

// alias makes key lead to s.
func (k *keySet) alias(key destKey, s *series) {
	if k.at(key) == s {
		return
	}
	if key != s.key || s.story != nil && len(s.story.addrs) > 0 {
		o := s.own()
		o.addrs = s.addresses()
		if len(o.addrs) == maxAliases {
			k.index.remove(k, o.addrs[0], s)
			o.addrs = append(o.addrs[:0], o.addrs[1:]...)
		}
		o.addrs = append(o.addrs, key)
	}
	k.index.put(k, key, s)
}

// add puts a new series under its address and name.
func (k *keySet) add(s *series) {
	s.set, s.place = k, uint32(len(k.all))
	k.alias(s.key, s)
	if s.name != "" {
		k.names[nameKey{s.name, s.key.port, s.key.proto}] = s
	}
	k.all, k.used = append(k.all, s), append(k.used, 0)
	k.use(s)
}

// drop takes a series out.
func (k *keySet) drop(s *series) {
	for _, a := range s.addresses() {
		k.index.remove(k, a, s)
	}
	n := nameKey{s.name, s.key.port, s.key.proto}
	if k.names[n] == s {
		delete(k.names, n)
	}
	last := len(k.all) - 1
	moved := k.all[last]
	k.all[s.place], k.used[s.place], moved.place = moved, k.used[last], s.place
	k.all[last] = nil
	k.all, k.used = k.all[:last], k.used[:last]
	s.dead = true
}

// use notes that a series was used just now.
func (k *keySet) use(s *series) {
	s.old = s.old || s.count >= provenCount
	k.uses++
	at := k.uses
	if s.old {
		at |= isProven
	}
	k.used[s.place] = at
}

func (k *keySet) size() int { return len(k.all) }

// victim is the series that gives way first; nil when there is none.
func (k *keySet) victim() *series {
	best := -1
	for i, at := range k.used {
		if best < 0 || at < k.used[best] {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	return k.all[best]
}

// ordered lists all series, the one that gives way first in front.
func (k *keySet) ordered() []*series {
	out := slices.Clone(k.all)
	slices.SortFunc(out, func(a, b *series) int { return cmp.Compare(k.used[a.place], k.used[b.place]) })
	return out
}

// sameSite reports whether two DNS names belong to one registered domain, near enough: the last two labels are equal, or the last
// three below a two-letter domain with a short second level, as in co.uk. It is asked only of names that share an address.
func sameSite(a, b string) bool { return site(a) == site(b) }

func site(name string) string {
	end := len(name)
	last := strings.LastIndexByte(name, '.')
	if last < 0 {
		return name
	}
	second := strings.LastIndexByte(name[:last], '.')
	if end-last-1 == 2 && last-second-1 <= 3 && second > 0 {
		second = strings.LastIndexByte(name[:second], '.')
	}
	return name[second+1:]
}

// absorb takes over the starts of a series that turned out to be the same destination.
func (s *series) absorb(o *series) {
	for _, v := range o.spans {
		for _, rel := range [2]uint32{v.at, v.last} {
			s.start(o.nanos(rel))
		}
	}
	if p := o.past(); p.told != 0 && s.past().told == 0 {
		t := s.own()
		t.told, t.toldSegment, t.toldAs, t.subject = p.told, t.segment, p.toldAs, p.subject
	}
}

// calls reports whether a flow is the workload's own doing, with a start worth timing: the container opened it, it was seen from
// its beginning, it is not sampled, and the attribution is sure. An unknown opener passes only where the ports leave no doubt: a
// service's port called from an ephemeral one.
func calls(f *enrich.Flow) bool {
	if f.Midstream || f.Sampled || f.Confidence < enrich.High {
		return false
	}
	switch f.Opener {
	case enrich.OpenerLocal:
		return true
	case enrich.OpenerUnknown:
		return f.LocalPort >= 32768 && f.PeerPort > 0 && f.PeerPort < 10000
	}
	return false
}
