package flow

import (
	"math"
	"net/netip"
	"testing"
)

// Every source of a rate outranks the ones below it.
func TestSamplingOrder(t *testing.T) {
	const own, named, whole, config = 34, 48, 50, 0
	send := func(l *lab, version uint16, from ...int) Record {
		l.t.Helper()
		has := func(x int) bool {
			for _, f := range from {
				if f == x {
					return true
				}
			}
			return false
		}
		if has(named) {
			l.send(newMessage(version).options(400, 1, 4, 48, 1, 50, 4).set(400, u32(0), []byte{7}, u32(300)).bytes())
			l.send(newMessage(version).options(401, 1, 4, 48, 1, 50, 4).set(401, u32(0), []byte{8}, u32(999)).bytes())
		}
		if has(whole) {
			l.send(newMessage(version).options(402, 1, 4, 34, 4).set(402, u32(0), u32(400)).bytes())
		}
		fields, record := []uint16{8, 4, 12, 4, 48, 1}, append(u32(1, 2), 7)
		if has(own) {
			fields, record = append(fields, 34, 4), append(record, u32(200)...)
		}
		got := l.send(newMessage(version).template(256, fields...).set(256, record).bytes())
		if len(got) != 1 {
			l.t.Fatalf("%d records", len(got))
		}
		return got[0]
	}
	for _, version := range []uint16{9, 10} {
		for _, c := range []struct {
			name string
			from []int
			want uint32
			who  string
		}{
			{"nobody", nil, 1, "unknown"},
			{"options for the whole domain", []int{whole}, 400, "options"},
			{"options for the sampler", []int{whole, named}, 300, "options"},
			{"the record", []int{whole, named, own}, 200, "record"},
		} {
			l := newLab(t, Config{})
			r := send(l, version, c.from...)
			if r.Sampling != c.want || (r.Flags&FlagSamplingUnknown != 0) != (c.from == nil) {
				t.Errorf("version %d, %s: rate %d, flags %b", version, c.name, r.Sampling, r.Flags)
			}
			if s := l.decoder.exportersStatus()[0]; s.SamplingFrom != c.who {
				t.Errorf("version %d, %s: status says %s", version, c.name, s.SamplingFrom)
			}
			l = newLab(t, Config{Sampling: []SamplingRate{{Exporter: "192.0.0.0/8", Rate: 5}, {Exporter: "192.0.2.0/24", Rate: 100}, {Exporter: "198.51.100.0/24", Rate: 6}}})
			if r := send(l, version, c.from...); r.Sampling != 100 || r.Flags&FlagSamplingUnknown != 0 {
				t.Errorf("version %d, %s and the configuration: rate %d", version, c.name, r.Sampling)
			}
		}
	}
}

func TestSamplingV5Header(t *testing.T) {
	l := newLab(t, Config{})
	if r := l.send(v5(0, 100_000, 0x4000|1000, 1))[0]; r.Sampling != 1000 || r.Flags&FlagSamplingUnknown != 0 {
		t.Errorf("rate %d, flags %b", r.Sampling, r.Flags)
	}
	if r := l.send(v5(1, 100_000, 0, 1))[0]; r.Sampling != 1 || r.Flags&FlagSamplingUnknown == 0 {
		t.Errorf("rate %d, flags %b", r.Sampling, r.Flags)
	}
}

// Two samplers of one router, and the same sampler in another domain, do not overwrite each other.
func TestSamplersAreKeptApart(t *testing.T) {
	l := newLab(t, Config{})
	for domain, rates := range map[uint32][2]uint32{1: {10, 20}, 2: {30, 40}} {
		m := newMessage(10).options(400, 1, 4, 302, 8, 305, 4, 306, 4)
		m.domain = domain
		m.set(400, u32(0), u64(1), u32(1, rates[0]-1), u32(0), u64(2), u32(1, rates[1]-1))
		l.send(m.bytes())
	}
	for domain, rates := range map[uint32][2]uint32{1: {10, 20}, 2: {30, 40}} {
		m := newMessage(10).template(256, 8, 4, 302, 8).set(256, u32(1), u64(1), u32(1), u64(2))
		m.domain = domain
		got := l.send(m.bytes())
		if len(got) != 2 || got[0].Sampling != rates[0] || got[1].Sampling != rates[1] {
			t.Errorf("domain %d: %+v, want rates %v", domain, got, rates)
		}
	}
}

func TestRateFields(t *testing.T) {
	for _, c := range []struct {
		name string
		in   rateFields
		want uint32
		good bool
	}{
		{"none", rateFields{}, 0, true},
		{"interval", rateFields{interval: 1000}, 1000, true},
		{"packets and space", rateFields{packets: 1, space: 999}, 1000, true},
		{"ten of a thousand", rateFields{packets: 10, space: 990}, 100, true},
		{"size and population", rateFields{size: 10, population: 1000}, 100, true},
		{"probability", rateFields{probability: 0.01}, 100, true},
		{"a million", rateFields{interval: 1_000_000}, 1_000_000, true},
		{"more", rateFields{interval: 1_000_001}, 0, false},
		{"no probability", rateFields{probability: math.NaN()}, 0, false},
		{"more than certain", rateFields{probability: 1000}, 0, false},
		{"negative", rateFields{probability: -1}, 0, false},
		{"overflow", rateFields{packets: math.MaxUint64, space: math.MaxUint64}, 2, true},
	} {
		if got, good := c.in.rate(); got != c.want || good != c.good {
			t.Errorf("%s: %d %v, want %d %v", c.name, got, good, c.want, c.good)
		}
	}
}

// An override may be of one domain or one interface; the longest prefix wins, then the interface, then the domain.
func TestSamplingOverrides(t *testing.T) {
	two := uint32(2)
	l := newLab(t, Config{Sampling: []SamplingRate{
		{Exporter: "192.0.0.0/8", Rate: 5},
		{Exporter: "192.0.0.0/8", Interface: 9, Rate: 6},
		{Exporter: "192.0.2.1", Rate: 10},
		{Exporter: "192.0.2.1", Interface: 7, Rate: 20},
		{Exporter: "192.0.2.1", Domain: &two, Rate: 30},
		{Exporter: "192.0.2.1", Domain: &two, Interface: 7, Rate: 40},
		{Exporter: "198.51.100.1", Interface: 7, Rate: 50},
	}})
	send := func(exporter string, domain, in, out uint32) Record {
		l.from = netip.MustParseAddr(exporter)
		m := newMessage(10)
		m.domain = domain
		return l.send(m.template(256, 8, 4, 12, 4, 10, 4, 14, 4, 34, 4).set(256, u32(1, 2, in, out, 77)).bytes())[0]
	}
	for _, c := range []struct {
		exporter        string
		domain, in, out uint32
		want            uint32
	}{
		{"192.0.3.1", 1, 1, 1, 5},
		{"192.0.3.1", 1, 9, 1, 6},
		{"192.0.2.1", 1, 1, 1, 10},
		{"192.0.2.1", 1, 9, 1, 10}, // a longer prefix outranks an interface of a shorter one
		{"192.0.2.1", 1, 7, 1, 20},
		{"192.0.2.1", 1, 1, 7, 20},
		{"192.0.2.1", 2, 1, 1, 30},
		{"192.0.2.1", 2, 7, 1, 40},
		{"198.51.100.1", 1, 7, 1, 50},
		{"198.51.100.1", 1, 1, 1, 77}, // nothing configured: what the record says
		{"203.0.113.1", 1, 7, 7, 77},
	} {
		if r := send(c.exporter, c.domain, c.in, c.out); r.Sampling != c.want || r.Flags&FlagSamplingUnknown != 0 {
			t.Errorf("%+v: rate %d, flags %b", c, r.Sampling, r.Flags)
		}
	}
	l.from = netip.MustParseAddr("198.51.100.1")
	if r := l.send(v5(0, 100_000, 0, 1))[0]; r.Sampling != 1 || r.Flags&FlagSamplingUnknown == 0 { // interfaces 3 and 4
		t.Errorf("v5: rate %d, flags %b", r.Sampling, r.Flags)
	}
	l = newLab(t, Config{Sampling: []SamplingRate{{Exporter: "192.0.2.1", Interface: 4, Rate: 12}}})
	if r := l.send(v5(0, 100_000, 0, 1))[0]; r.Sampling != 12 || r.Flags&FlagSamplingUnknown != 0 {
		t.Errorf("v5: rate %d, flags %b", r.Sampling, r.Flags)
	}
}

// Options data about interfaces holds for their records; others have what was said last, unless something was said for all.
func TestSamplingByInterface(t *testing.T) {
	for _, version := range []uint16{9, 10} {
		l := newLab(t, Config{})
		options := func(of, rate uint32) {
			m := newMessage(version)
			if version == 9 {
				m.set(1, u16(400, 4, 4, 2, 4, 34, 4)) // scope 2 is the interface
			} else {
				m.set(3, u16(400, 2, 1, 10, 4, 34, 4))
			}
			l.send(m.set(400, u32(of, rate)).bytes())
		}
		check := func(in, out, want uint32) {
			t.Helper()
			r := l.send(newMessage(version).template(256, 8, 4, 12, 4, 10, 4, 14, 4).set(256, u32(1, 2, in, out)).bytes())[0]
			if r.Sampling != want || r.Flags&FlagSamplingUnknown != 0 {
				t.Errorf("version %d, interfaces %d and %d: rate %d, flags %b, want %d", version, in, out, r.Sampling, r.Flags, want)
			}
		}
		options(7, 100)
		options(8, 200)
		check(7, 1, 100)
		check(8, 7, 200)
		check(1, 7, 100)
		check(1, 1, 200)
		l.send(newMessage(version).options(401, 144, 4, 34, 4).set(401, u32(0, 300)).bytes())
		options(8, 250)
		check(8, 7, 250)
		check(1, 1, 300)
		r := l.send(newMessage(version).template(257, 8, 4, 12, 4, 10, 4, 34, 4).set(257, u32(1, 2, 7, 9)).bytes())[0]
		if r.Sampling != 9 {
			t.Errorf("version %d: the record's own rate does not win: %d", version, r.Sampling)
		}
	}
}

// A rate holds from where it stands: for the sets behind it in the same datagram, not for those before.
func TestSamplingInOneDatagram(t *testing.T) {
	for _, version := range []uint16{9, 10} {
		l := newLab(t, Config{})
		m := newMessage(version).template(256, 8, 4, 12, 4).options(400, 144, 4, 34, 4).set(256, u32(1, 2)).set(400, u32(0, 50)).set(256, u32(3, 4))
		got := l.send(m.set(400, u32(0, 60)).set(256, u32(5, 6)).bytes())
		if len(got) != 3 || got[0].Sampling != 1 || got[0].Flags&FlagSamplingUnknown == 0 || got[1].Sampling != 50 || got[1].Flags&FlagSamplingUnknown != 0 || got[2].Sampling != 60 {
			t.Errorf("version %d: %+v", version, got)
		}
	}
}
