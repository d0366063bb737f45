package baseline

import (
	"cmp"
	"math"
	"slices"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

const beaconVersion = 1

// Dirty yields one blob per workload that changed, and the gaps under the key "".
func (b *beacon) Dirty(yield func(key string, blob []byte) bool) {
	var out writer
	if b.gapsDirty {
		out.reset(beaconVersion)
		out.uint(uint64(len(b.gaps)))
		for _, g := range b.gaps {
			out.int(g.From)
			out.int(g.To)
		}
		if !yield("", out.b) {
			return
		}
		b.gapsDirty = false
	}
	for len(b.gone) > 0 {
		if b.env.learning.byName[b.gone[0]] == nil && !yield(b.gone[0], nil) {
			return
		}
		b.gone = b.gone[1:]
	}
	for len(b.dirty) > 0 {
		if k := b.dirty[0]; !k.removed {
			k.encode(&out)
			if !yield(k.w.name, out.b) {
				return
			}
			k.dirty = false
		}
		b.dirty = b.dirty[1:]
	}
}

// Restore takes a blob back.
func (b *beacon) Restore(key string, blob []byte) error {
	r := newReader(blob, beaconVersion)
	if key == "" {
		gaps := make([]flow.Gap, r.count(2, maxBeaconGaps))
		for i := range gaps {
			gaps[i] = flow.Gap{From: r.int(), To: r.int()}
		}
		if err := r.done(); err != nil {
			return err
		}
		for _, g := range gaps {
			b.Gap(g)
		}
		b.gapsDirty = false
		return nil
	}
	door, all := decodeKeys(r)
	if err := r.done(); err != nil {
		return err
	}
	k := b.setOf(b.env.learning.named(key))
	for k.size() > 0 {
		b.drop(k.victim())
	}
	k.door = door
	for _, s := range all {
		if k.size() >= b.c.MaxKeysPerWorkload || b.total >= b.c.MaxKeys {
			b.evicted.Inc()
			continue // the limits were lowered; what was used last is restored last, but proven series come after young ones
		}
		b.readmit(k, s)
	}
	return nil
}

// readmit puts a restored series where admit and alias had it.
func (b *beacon) readmit(k *keySet, s *series) {
	if k.size() == 0 {
		b.keyed++
	}
	aliases := s.addresses()
	if s.story != nil {
		s.story.addrs = nil
	}
	k.add(s)
	b.total++
	b.known.change(prevalenceKey{dest: s.key}, k.w, false)
	if s.name != "" {
		b.known.change(prevalenceKey{destKey{port: s.key.port, proto: s.key.proto}, s.name}, k.w, false)
	}
	for _, a := range aliases {
		b.alias(k, a, s)
	}
	b.consider(s)
}

func (k *keySet) encode(out *writer) {
	out.reset(beaconVersion)
	n := 0
	for i := range k.door {
		if k.door[i].at != 0 {
			n++
		}
	}
	out.uint(uint64(n))
	for i := range k.door {
		if k.door[i].at != 0 {
			out.dest(k.door[i].key)
			out.int(k.door[i].at)
		}
	}
	all := k.ordered()
	var instances []*enrich.Container
	for _, s := range all {
		if s.instance != nil && !slices.Contains(instances, s.instance) {
			instances = append(instances, s.instance)
		}
	}
	out.uint(uint64(len(instances)))
	for _, c := range instances {
		for _, v := range [...]string{c.ID, c.Name, c.Engine, c.Workload, c.Image, c.ImageID} {
			out.string(v)
		}
	}
	out.uint(uint64(len(all)))
	for _, s := range all {
		s.encode(out, slices.Index(instances, s.instance)+1)
	}
}

func decodeKeys(r *reader) (door [doorSlots]knocker, all []*series) {
	for range r.count(4, doorSlots) {
		v := knocker{r.dest(), r.int()}
		door[v.key.slot()] = v
	}
	instances := make([]*enrich.Container, 1+r.count(6, 1<<16))
	for i := range instances[1:] {
		c := &enrich.Container{}
		for _, v := range [...]*string{&c.ID, &c.Name, &c.Engine, &c.Workload, &c.Image, &c.ImageID} {
			*v = r.string()
		}
		instances[i+1] = c
	}
	n := r.count(40, 1<<20)
	for range n {
		s := decodeSeries(r, instances)
		if r.bad {
			return door, nil
		}
		all = append(all, s)
	}
	return door, all
}

func (s *series) encode(out *writer, instance int) {
	out.dest(s.key)
	out.string(s.name)
	p, addrs := s.past(), s.addresses()
	out.uint(uint64(len(addrs)))
	for _, a := range addrs {
		out.dest(a)
	}
	out.bool(s.old)
	out.int(s.first)
	out.int(s.base)
	out.uint(uint64(s.count))
	out.uint(uint64(s.due))
	out.uint(uint64(len(s.spans)))
	before := uint32(0)
	for _, v := range s.spans {
		out.uint(uint64(v.at - before))
		out.uint(uint64(v.last - v.at))
		before = v.last
	}
	out.uint(uint64(instance))
	out.string(s.peerName())
	out.uint(uint64(s.class))
	out.uint(uint64(s.method))
	out.uint(uint64(s.sure))
	var recent [8]launch
	copy(recent[:], s.launches())
	for _, v := range recent {
		out.uint(uint64(v.instance))
		out.int(v.at)
	}
	out.bytes(s.sizes[:min(s.closed, sizeRing)])
	out.uint(uint64(s.closed))
	out.uint(uint64(s.unheard))
	out.uint(uint64(s.unlikely))
	for _, v := range [...]float64{p.period, p.candidate, p.previous} {
		out.float(v)
	}
	out.uint(uint64(p.size))
	out.uint(uint64(p.previousSize))
	out.uint(uint64(p.times))
	out.bool(p.early)
	out.uint(uint64(p.segment))
	out.int(p.told)
	out.uint(uint64(p.toldSegment))
	out.uint(uint64(p.toldAs))
	out.string(p.subject)
}

func decodeSeries(r *reader, instances []*enrich.Container) *series {
	s := &series{key: r.dest(), name: r.string(), story: &story{}}
	p := s.story
	for range r.count(3, maxAliases) {
		p.addrs = append(p.addrs, r.dest())
	}
	s.old = r.bool()
	s.first, s.base = r.int(), r.int()
	s.count, s.due = r.uint32(), r.uint32()
	n := r.count(2, spanRoom)
	at := uint64(0)
	for i := range n {
		step, length := uint64(r.uint32()), uint64(r.uint32())
		if at += step; i > 0 && step <= chainGap || at+length > math.MaxUint32 {
			r.fail()
			return s
		}
		s.spans = append(s.spans, span{uint32(at), uint32(at + length)})
		at += length
	}
	i := r.uint32()
	if int(i) >= len(instances) {
		r.fail()
		return s
	}
	s.instance = instances[i]
	p.peerName = r.string()
	s.class, s.method, s.sure = class(r.byte()), enrich.Method(r.byte()), enrich.Confidence(r.byte())
	for i := range p.recent {
		p.recent[i] = launch{r.uint32(), r.int()}
	}
	kept := r.bytes()
	s.closed, s.unheard, s.unlikely = r.uint32(), r.uint32(), r.uint32()
	p.period, p.candidate, p.previous = r.float(), r.float(), r.float()
	p.size, p.previousSize, p.times, p.early, p.segment = r.byte(), r.byte(), r.uint32(), r.bool(), r.uint32()
	p.told, p.toldSegment, p.toldAs, p.subject = r.int(), r.uint32(), Severity(r.byte()), r.string()
	sound := s.class <= plumbing && p.toldAs <= Critical && uint32(len(kept)) == min(s.closed, sizeRing) && cmp.Compare(p.period, 0) >= 0
	if !sound {
		r.fail()
		return s
	}
	copy(s.sizes[:], kept)
	s.shorten()
	return s
}

// shorten drops what a story says that its series says by itself.
func (s *series) shorten() {
	p := s.story
	if len(p.addrs) == 1 && p.addrs[0] == s.key {
		p.addrs = nil
	}
	if l := p.recent[0]; l.at != 0 && p.recent[1].at == 0 && s.instance != nil && l.instance == fingerprint(s.instance.ID) {
		s.since, p.recent[0] = l.at, launch{}
	}
	if p.local.IsZero() && p.peerName == "" && p.addrs == nil && p.recent[0].at == 0 && p.period == 0 && p.candidate == 0 && p.told == 0 && p.subject == "" {
		s.story = nil
	}
}

func (w *writer) dest(k destKey) {
	w.uint(k.addr.Hi)
	w.uint(k.addr.Lo)
	w.uint(uint64(k.port)<<8 | uint64(k.proto))
}

func (r *reader) dest() destKey {
	k := destKey{addr: flow.Addr{Hi: r.uint(), Lo: r.uint()}}
	v := r.uint()
	if v > 1<<24-1 {
		r.fail()
	}
	k.port, k.proto = uint16(v>>8), uint8(v)
	return k
}

func (r *reader) uint32() uint32 {
	v := r.uint()
	if v > math.MaxUint32 {
		r.fail()
		return 0
	}
	return uint32(v)
}

func (r *reader) byte() uint8 {
	v := r.uint()
	if v > math.MaxUint8 {
		r.fail()
		return 0
	}
	return uint8(v)
}
