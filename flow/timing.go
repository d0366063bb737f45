package flow

import "time"

const (
	sec   = int64(time.Second)
	milli = int64(time.Millisecond)

	maxAhead  = int64(time.Hour)      // of arrival: later records are clamped
	maxBehind = 24 * int64(time.Hour) // older ones too

	timingWindow = 10 * sec             // over which the least delay is taken
	bootWindow   = 10 * 60 * sec        // over which the latest boot time is taken
	steady       = 1500 * milli         // two windows that agree this well show a wrong clock and not a backlog
	deadBand     = 2 * sec              // offsets below it are delay and truncation, not a wrong clock
	uptimeWrap   = int64(1<<32) * milli // 49.7 days
)

// timing corrects the clock of one domain.
//
// Headers of v9 and IPFIX give export time in whole seconds while uptimes are in milliseconds, so the boot time computed from one
// header is up to a second early. The latest one seen is the truest: using it keeps a beacon's jitter below the second.
//
// The offset of a wrong clock is the least delay between export and arrival. It is applied when two windows agree on it; an
// exporter that works off a backlog has delays that change, and its times are left alone. Beyond what any record may differ from
// arrival the first delay is taken at once, since the records could not be used otherwise.
type timing struct {
	boot, bootNext int64 // ns, latest boot time in this window and in the next
	bootSince      int64
	started        bool

	offset       int64 // ns, added to the exporter's clock
	least        int64 // delay in this window
	previous     int64 // least delay of the last window
	windowStart  int64
	windows      int
	relativeBoot int64 // boot time guessed from records that say only uptimes; 0 unknown
	init         int64 // systemInitTimeMilliseconds from options data, ns; 0 unknown
}

// begin takes a header and returns the corrected export time. precise is that time at the exporter's own clock.
func (t *timing) begin(h *header, arrival int64) (export int64, stepped bool) {
	precise := h.export
	if h.hasUptime {
		precise = t.bootTime(h.export-int64(h.uptime)*milli, arrival) + int64(h.uptime)*milli
	}
	stepped = t.learn(arrival-precise, arrival)
	return precise + t.offset, stepped
}

func (t *timing) bootTime(boot, arrival int64) int64 {
	switch {
	case !t.started || boot > t.boot+steady || boot < t.boot-steady: // first, restarted, or the clock was set
		t.boot, t.bootNext, t.bootSince, t.started = boot, boot, arrival, true
	case arrival-t.bootSince > bootWindow:
		t.boot, t.bootNext, t.bootSince = max(t.bootNext, boot), boot, arrival
	default:
		t.boot, t.bootNext = max(t.boot, boot), max(t.bootNext, boot)
	}
	return t.boot
}

func (t *timing) learn(delay, arrival int64) (stepped bool) {
	switch {
	case t.windows == 0:
		t.windows, t.windowStart, t.least = 1, arrival, delay
	case arrival-t.windowStart > timingWindow:
		if t.windows > 1 && abs(t.least-t.previous) < steady {
			stepped = t.correct(min(t.least, t.previous))
		}
		t.windows++
		t.windowStart, t.previous, t.least = arrival, t.least, delay
	default:
		t.least = min(t.least, delay)
	}
	if at := t.offset - delay; at > maxAhead || at < -maxBehind {
		stepped = t.correct(delay) || stepped
	}
	return stepped
}

func (t *timing) correct(offset int64) bool {
	if abs(offset) < deadBand {
		offset = 0
	}
	if abs(offset-t.offset) < steady && (offset != 0 || t.offset == 0) {
		return false
	}
	t.offset = offset
	return true
}

// sinceBoot turns an uptime in a record into a time. now is the corrected export time at uptime up. The counter wraps every
// 49.7 days; a record may be up to an hour ahead of its header.
func sinceBoot(now int64, up, at uint32) int64 {
	age := int64(up-at) * milli
	if age > uptimeWrap-maxAhead {
		age -= uptimeWrap
	}
	return now - age
}

func abs(x int64) int64 {
	if x < 0 {
		return -x
	}
	return x
}
