package baseline

import "math"

const egressVersion = 1

func (e *egress) touch(s *sender) {
	if !s.dirty {
		s.dirty = true
		e.queue = append(e.queue, s)
	}
}

// Dirty yields the workloads that learned. Open bins are not in it: a crash loses at most the last minutes of traffic.
func (e *egress) Dirty(yield func(key string, blob []byte) bool) {
	for len(e.gone) > 0 {
		if w := e.env.learning.byName[e.gone[0]]; (w == nil || e.at(w) == nil) && !yield(e.gone[0], nil) {
			return
		}
		e.gone = e.gone[1:]
	}
	var out writer
	for len(e.queue) > 0 {
		s := e.queue[0]
		if !s.forgotten {
			s.encode(&e.c, &out)
			if !yield(s.w.name, out.b) {
				return
			}
		}
		s.dirty = false
		e.queue = e.queue[1:]
	}
}

// Restore takes a workload back.
func (e *egress) Restore(key string, blob []byte) error {
	s, err := decodeSender(&e.c, blob)
	if err != nil {
		return err
	}
	s.w = e.env.learning.named(key)
	e.place(s)
	return nil
}

func (e *egress) at(w *workload) *sender {
	if w.index < len(e.byIndex) {
		return e.byIndex[w.index]
	}
	return nil
}

func (s *sender) encode(c *EgressSpike, out *writer) {
	out.reset(egressVersion)
	out.uint(uint64(math.Float32bits(float32(c.scale()))))
	out.uint(uint64(math.Float32bits(s.peak)))
	out.string(s.image)
	out.string(s.inherited)
	out.int(s.born)
	out.int(s.active)
	out.int(s.toldBin)
	out.uint(s.toldBytes)
	for i := range s.slots {
		t := &s.slots[i]
		out.uint(uint64(math.Float32bits(t.level)))
		out.uint(uint64(math.Float32bits(t.variance)))
		out.uint(uint64(t.count))
	}
	out.uint(uint64(len(s.bursts)))
	for _, b := range s.bursts {
		out.int(b.bin)
		out.int(b.last)
		out.uint(b.bytes)
		out.bool(b.unusual)
	}
}

// decodeSender converts levels learned with another floor; variances change little and stay.
func decodeSender(c *EgressSpike, blob []byte) (*sender, error) {
	r := newReader(blob, egressVersion)
	scale, peak := float32of(r), float32of(r)
	s := &sender{peak: peak, image: r.string(), inherited: r.string(), born: r.int(), active: r.int(), toldBin: r.int(), toldBytes: r.uint()}
	for i := range s.slots {
		level, variance, count := float32of(r), float32of(r), r.uint()
		if count > math.MaxUint32 || level < 0 || level > 100 || variance < 0 {
			r.fail()
		}
		if scale != float32(c.scale()) {
			level = float32(math.Log1p(math.Expm1(float64(level)) * float64(scale) / c.scale()))
		}
		s.slots[i] = egressSlot{level, variance, uint32(count)}
	}
	if scale < 1 || peak < 0 {
		r.fail()
	}
	for range r.count(4, maxBursts) {
		s.bursts = append(s.bursts, burst{r.int(), r.int(), r.uint(), r.bool()})
	}
	return s, r.done()
}

// float32of reads what Float32bits gave and refuses what is no number.
func float32of(r *reader) float32 {
	v := r.uint()
	f := math.Float32frombits(uint32(v))
	if v > math.MaxUint32 || math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		r.fail()
		return 0
	}
	return f
}
