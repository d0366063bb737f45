package flow

import "math"

// optionsPlan reads options data: what an exporter says about itself. Only sampling rates and the boot time are used.
type optionsPlan struct {
	fields []field
	size   int // least size of a record
	useful bool
}

func compileOptions(fields []field) (*optionsPlan, reason) {
	if len(fields) == 0 || len(fields) > maxFields {
		return nil, partFields
	}
	o := &optionsPlan{fields: append([]field(nil), fields...)}
	for _, f := range fields {
		if f.length == variableLength {
			o.size++
		} else {
			o.size += int(f.length)
		}
		if f.pen == 0 {
			switch f.id {
			case 34, 50, 305, 306, 309, 310, 311, 160:
				o.useful = true
			}
		}
	}
	if o.size == 0 || o.size > maxRecord {
		return nil, partSize
	}
	return o, fine
}

// optionsData reads a set without its header. good is false where its records could not be counted.
func (d *exportDecoder) optionsData(o *optionsPlan, x []byte, s *domain) (records int, good bool) {
	for len(x) >= o.size {
		n, fits := o.record(x, d, s)
		if !fits {
			d.refuse(s, partVariable, 1)
			return records, false
		}
		x = x[n:]
		records++
	}
	if len(x) > 3 || !zero(x) {
		d.refuse(s, partPadding, 1)
	}
	return records, true
}

func (o *optionsPlan) record(x []byte, d *exportDecoder, s *domain) (size int, fits bool) {
	var f rateFields
	var about optionsScope
	off := 0
	for _, e := range o.fields {
		at, n, fits := extent(x, off, e.length)
		if !fits {
			return 0, false
		}
		v, is := unsigned(x[at : at+n])
		switch {
		case !is:
		case e.pen == scopePEN && e.id == 2: // the interface, in v9
			about.interfaceID = uint32(v)
		case e.pen == 0:
			switch e.id {
			case 48, 302:
				about.sampler, about.hasSampler = v, true
			case 10, 14:
				about.interfaceID = uint32(v)
			case 34:
				f.interval = v
			case 50:
				f.samplerInterval = v
			case 305:
				f.packets = v
			case 306:
				f.space = v
			case 309:
				f.size = v
			case 310:
				f.population = v
			case 311:
				f.probability = probability(v, n)
			case 160:
				if at := int64(min(v, math.MaxInt64/uint64(milli))) * milli; at != s.timing.init {
					s.timing.init = at
					d.keeper.change()
				}
			}
		}
		off = at + n
	}
	if o.useful {
		switch rate, good := f.rate(); {
		case !good:
			d.refuse(s, partSampling, 1)
		case rate != 0:
			if s.sampling.learn(about, rate) {
				d.keeper.change()
			}
		}
	}
	return off, true
}

// unsigned reads an integer of reduced size.
func unsigned(b []byte) (v uint64, is bool) {
	if len(b) < 1 || len(b) > 8 {
		return 0, false
	}
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v, true
}

// probability is a float64, or a float32 by reduced size.
func probability(v uint64, size int) float64 {
	switch size {
	case 8:
		return math.Float64frombits(v)
	case 4:
		return float64(math.Float32frombits(uint32(v)))
	}
	return 0
}
