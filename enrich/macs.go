package enrich

import "github.com/wharfwatch/wharfwatch/flow"

const (
	maxMACs   = 1 << 16 // hardware addresses remembered
	maxPerMAC = 16      // containers remembered for one: engines and times repeat them
)

// macIndex knows which containers have a hardware address. Docker makes them from the address, so that they repeat over time and over
// engines, and an ipvlan's children share one.
type macIndex struct {
	at      map[flow.MAC][]macSpan
	dropped func(holder uint32) // one span of this holder is gone
	evicted uint64
}

// macSpan is one container's time with a hardware address.
type macSpan struct {
	from, to int64
	holder   uint32
	engine   uint8
	network  string
}

// open notes that a member has a hardware address on a network from then on. It reports whether that is a new span.
func (x *macIndex) open(mac flow.MAC, network string, holder uint32, engine uint8, from int64) bool {
	if x.at == nil {
		x.at = map[flow.MAC][]macSpan{}
	}
	spans := x.at[mac]
	for i := range spans {
		if s := &spans[i]; s.holder == holder && s.network == network {
			s.from, s.to = min(s.from, from), forever
			return false
		}
	}
	if len(spans) >= maxPerMAC {
		x.dropped(spans[0].holder)
		spans = spans[:copy(spans, spans[1:])]
		x.evicted++
	} else if len(spans) == 0 && len(x.at) >= maxMACs {
		x.evicted++
		return false
	}
	x.at[mac] = append(spans, macSpan{from, forever, holder, engine, network})
	return true
}

// close ends what a member has on a network, on all of them for "".
func (x *macIndex) close(mac flow.MAC, network string, holder uint32, to int64) {
	spans := x.at[mac]
	for i := range spans {
		if s := &spans[i]; s.holder == holder && (network == "" || s.network == network) && s.to == forever {
			s.to = max(to, s.from)
		}
	}
}

// has says whether a member has the hardware address at a time.
func (x *macIndex) has(mac flow.MAC, holder uint32, at, slack int64) bool {
	for _, s := range x.at[mac] {
		if s.holder == holder && s.from-slack <= at && at <= s.end(slack) {
			return true
		}
	}
	return false
}

func (s *macSpan) end(slack int64) int64 {
	if s.to == forever {
		return forever
	}
	return s.to + slack
}

// holder is the newest of those who have the hardware address at a time; network narrows it down unless it is "".
func (x *macIndex) holder(mac flow.MAC, network string, at, slack int64) (found macSpan, ok bool) {
	for _, s := range x.at[mac] {
		if s.from-slack <= at && at <= s.end(slack) && (network == "" || s.network == network) && (!ok || s.from >= found.from) {
			found, ok = s, true
		}
	}
	return found, ok
}

// prune forgets what ended before t.
func (x *macIndex) prune(t int64) {
	for mac, spans := range x.at {
		n := 0
		for _, s := range spans {
			if s.to >= t {
				spans[n] = s
				n++
			} else {
				x.dropped(s.holder)
			}
		}
		if n == 0 {
			delete(x.at, mac)
		} else if n < len(spans) {
			x.at[mac] = spans[:n]
		}
	}
}
