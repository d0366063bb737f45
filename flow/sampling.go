package flow

import "math"

const (
	maxRate     = 1_000_000
	maxSamplers = 256  // per domain
	maxRated    = 4096 // interfaces with a rate of their own, per domain
)

// sampling is what a domain has said about its rates. Counts stay raw in the records, with the rate beside them. From the
// strongest: the configuration, a field of the record itself, options data for the sampler that the record names, options data
// for its interface, options data for the whole domain, the header of v5. Otherwise 1, marked as unknown.
type sampling struct {
	samplers map[uint64]uint32 // by id of elements 48 or 302
	rated    map[uint32]uint32 // by SNMP index
	options  uint32            // 0 unknown
	whole    bool              // it was said for the whole domain, not for an interface
	header   uint32            // v5, 0 unknown
	inRecord bool              // a record said its rate
	last     uint32            // that rate
}

type rateOrigin uint8

const (
	rateUnknown rateOrigin = iota
	rateHeader
	rateOptions
	rateRecord
	rateConfig
)

func (o rateOrigin) String() string {
	return [...]string{"unknown", "header", "options", "record", "config"}[o]
}

// rate is what holds for records that say nothing themselves.
func (s *domain) rate() (uint32, rateOrigin) {
	switch {
	case s.override != 0:
		return s.override, rateConfig
	case s.sampling.inRecord:
		return s.sampling.last, rateRecord
	}
	return s.sampling.rate()
}

// rateOf gives a record the rate that options data gave its interface.
func (c *reading) rateOf(r *Record) {
	rate := c.rated[r.InIf]
	if rate == 0 {
		rate = c.rated[r.OutIf]
	}
	if rate != 0 {
		r.Sampling = rate
		r.Flags &^= FlagSamplingUnknown
	}
}

// byInterface applies the rates configured for interfaces.
func (s *domain) byInterface(recs []Record) {
	rates := s.ifRates
	if rates == nil {
		return
	}
	for i := range recs {
		r := &recs[i]
		rate := rates[r.InIf]
		if rate == 0 {
			rate = rates[r.OutIf]
		}
		if rate != 0 {
			r.Sampling = rate
			r.Flags &^= FlagSamplingUnknown
		}
	}
}

func (s *sampling) rate() (uint32, rateOrigin) {
	switch {
	case s.options != 0:
		return s.options, rateOptions
	case s.header != 0:
		return s.header, rateHeader
	}
	return 1, rateUnknown
}

// learn takes a rate from options data, and says whether it is news. A domain with more samplers or interfaces than any router has keeps the
// first ones.
func (s *sampling) learn(o optionsScope, rate uint32) (news bool) {
	switch {
	case o.hasSampler:
		return keepRate(&s.samplers, o.sampler, rate, maxSamplers)
	case o.interfaceID != 0:
		news = keepRate(&s.rated, o.interfaceID, rate, maxRated)
		if s.whole {
			return news
		}
		s.options = rate // for records that name no interface
		return news
	}
	news = s.options != rate || !s.whole
	s.options, s.whole = rate, true
	return news
}

// optionsScope says whom an options record is about.
type optionsScope struct {
	sampler     uint64
	hasSampler  bool
	interfaceID uint32
}

func keepRate[K comparable](m *map[K]uint32, k K, rate uint32, limit int) (news bool) {
	if *m == nil {
		*m = map[K]uint32{}
	}
	old, known := (*m)[k]
	if !known && len(*m) >= limit {
		return false
	}
	(*m)[k] = rate
	return old != rate
}

// rateFields are the elements that state a rate, wherever they stand. Absent ones are 0.
type rateFields struct {
	interval, samplerInterval uint64 // 34, 50
	packets, space            uint64 // 305, 306
	size, population          uint64 // 309, 310
	probability               float64
}

// rate is 0 where the fields say none; good is false where they say one that cannot be.
// https://www.iana.org/assignments/ipfix/ipfix.xhtml and RFC 5477.
func (f *rateFields) rate() (rate uint32, good bool) {
	var r float64
	switch {
	case f.interval != 0:
		r = float64(f.interval)
	case f.samplerInterval != 0:
		r = float64(f.samplerInterval)
	case f.packets != 0:
		r = (float64(f.packets) + float64(f.space)) / float64(f.packets)
	case f.size != 0 && f.population != 0:
		r = float64(f.population) / float64(f.size)
	case f.probability != 0:
		r = 1 / f.probability
	default:
		return 0, true
	}
	r = math.Round(r)
	if !(r >= 1 && r <= maxRate) {
		return 0, false
	}
	return uint32(r), true
}
