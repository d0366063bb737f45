package flow

// timeKind says how a time is written.
type timeKind uint8

const (
	timeNone    timeKind = iota
	timeUptime           // ms since boot
	timeSeconds          // of the epoch
	timeMillis
	timeMicros // NTP format, RFC 7011 6.1.9
	timeNanos  // NTP format
	timeDelta  // us before the export time
)

// reading is what all records of one datagram share, and what was learned while they were read.
type reading struct {
	export    int64 // corrected export time, ns
	offset    int64 // added to absolute times
	uptime    uint32
	hasUptime bool
	arrival   int64
	oldest    int64
	latest    int64
	rate      uint32
	rated     map[uint32]uint32 // by interface, where options data said so
	fixedRate bool              // the configuration says it
	flags     uint8
	exporter  Addr
	domain    uint32
	from      *domain

	emitted, clamped, badRates int

	newest int64
}

// times sets the times of a record, corrected where they cannot be: a start after the end, an end far from the arrival.
func (c *reading) times(r *Record, first, last int64) {
	if last > c.latest || last < c.oldest {
		length := last - first
		if length < 0 || length > maxBehind {
			length = 0
		}
		last = min(c.export, c.arrival)
		first = last - length
		c.clamped++
	}
	if first > last || first < last-uptimeWrap {
		first = last
	}
	c.newest = max(c.newest, last)
	r.First, r.Last = first, last
}

func (c *reading) uptimeAt(v uint32) int64 {
	if v == 0 { // an exporter that does not know
		return c.export
	}
	return sinceBoot(c.export, c.uptime, v)
}

const ntpEpoch = 2208988800 // seconds from 1900 to 1970

// time turns a value of the wire into corrected ns.
func (c *reading) time(k timeKind, v uint64) int64 {
	switch k {
	case timeUptime:
		if !c.hasUptime {
			return c.guess(uint32(v))
		}
		return c.uptimeAt(uint32(v))
	case timeMillis:
		return int64(v)*milli + c.offset
	case timeSeconds:
		return int64(v)*sec + c.offset
	case timeMicros, timeNanos:
		at := (int64(v>>32)-ntpEpoch)*sec + int64((v&0xffffffff)*uint64(sec)>>32)
		if k == timeMicros && abs(at-c.export) > 10*365*24*3600*sec {
			at = int64(v) * 1000 // plain microseconds, against the RFC
		}
		return at + c.offset
	default:
		return c.export - int64(v)*1000
	}
}

// guess places uptimes of an exporter that never says when it booted: the newest uptime it ever wrote was just before an export.
func (c *reading) guess(v uint32) int64 {
	t := &c.from.timing
	boot := c.export - c.offset - int64(v)*milli
	if t.relativeBoot == 0 || boot < t.relativeBoot || boot > t.relativeBoot+maxAhead {
		t.relativeBoot = boot
	}
	return t.relativeBoot + int64(v)*milli + c.offset
}
