package baseline

import "math"

const circleVersion = 1

// Dirty yields the circles that changed.
func (x *circles) Dirty(yield func(key string, blob []byte) bool) {
	for len(x.lost) > 0 {
		if x.learning.byName[x.lost[0]] == nil && !yield(x.lost[0], nil) {
			return
		}
		x.lost = x.lost[1:]
	}
	var out writer
	for len(x.queue) > 0 {
		c := x.queue[0]
		if !c.gone {
			c.encode(&out)
			if !yield(c.w.name, out.b) {
				return
			}
		}
		c.dirty = false
		x.queue = x.queue[1:]
	}
}

// Restore takes a circle back.
func (x *circles) Restore(key string, blob []byte) error {
	c, err := decodeCircle(blob)
	if err != nil {
		return err
	}
	c.w = x.learning.named(key)
	if x.ofIndex(c.w) != nil {
		x.forget(c.w)
	}
	x.place(c)
	for _, k := range c.all {
		x.known.change(callersKey(k.dest), c.w, false)
	}
	return nil
}

func (c *circle) encode(out *writer) {
	out.reset(circleVersion)
	out.int(c.born)
	out.uint(c.image)
	out.int(c.change)
	out.int(c.day)
	for _, n := range c.news {
		out.uint(uint64(n))
	}
	out.uint(uint64(c.inside))
	out.uint(uint64(c.spilled))
	out.bytes(c.bloom)
	out.uint(uint64(len(c.all)))
	for _, k := range c.all {
		out.uint(k.dest)
		out.uint(uint64(k.first))
		out.uint(uint64(k.last))
		out.bool(k.out)
	}
}

func decodeCircle(blob []byte) (*circle, error) {
	r := newReader(blob, circleVersion)
	c := &circle{born: r.int(), image: r.uint(), change: r.int(), day: r.int()}
	for i := range c.news {
		n := r.uint()
		if n > math.MaxUint16 {
			r.fail()
		}
		c.news[i] = uint16(n)
	}
	c.inside, c.spilled = int(r.uint32()), r.uint32()
	if bloom := r.bytes(); len(bloom) > 0 {
		c.bloom = append([]byte(nil), bloom...)
	}
	for range r.count(4, circleExact) {
		c.all = append(c.all, familiar{r.uint(), r.uint32(), r.uint32(), r.bool()})
	}
	if len(c.bloom) != 0 && len(c.bloom) != bloomBytes {
		r.fail()
	}
	return c, r.done()
}
