package flow

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

const maxClockSources = 16384

// Clock merges the watermarks of all sources into the one event time of the engine. It is pure: it knows only what it is told,
// and is not safe for concurrent use.
//
// The engine's watermark is the least of the live sources less the slack, and never goes back. Nobody moves it alone: a source
// ahead of its own arrival is clamped to it, and one that is silent, or behind the newest source, for longer than the limit
// stops holding it back.
type Clock struct {
	slack, limit int64
	sources      map[string]*clockSource
	silent       int // of the sources
	refused      uint64
	last         int64 // result so far
	started      bool
	least        int64 // of the sources that hold back
	stale        bool  // least must be found again
	next         int64 // when the next source may fall silent
	silences     []Silence
}

type clockSource struct {
	watermark, arrival int64
	silent, behind     bool
}

// Silence says that a source stopped holding event time back. It is reported once, until the source is heard again.
type Silence struct {
	Source    string `json:"source"`
	Since     int64  `json:"since"`     // arrival of the last input, ns
	Watermark int64  `json:"watermark"` // event time up to which the source was heard, ns
	Behind    bool   `json:"behind"`    // it does speak, but its clock lags behind the others by more than the limit
}

// NewClock makes a clock that holds event time back by slack. Sources are silent after a minute, or SetLimit.
func NewClock(slack time.Duration) *Clock {
	return &Clock{slack: int64(slack), limit: int64(slack + time.Minute), sources: map[string]*clockSource{}, next: math.MaxInt64}
}

// SetLimit says for how long a source may be silent, or behind, before it stops holding back: the active timeout of exporters
// plus the slack.
func (c *Clock) SetLimit(limit time.Duration) { c.limit, c.stale = int64(limit), true }

// Observe takes the watermark and the arrival of a batch.
func (c *Clock) Observe(source string, watermark, arrival int64) {
	watermark = min(watermark, arrival)
	s := c.sources[source]
	if s == nil {
		if len(c.sources) >= maxClockSources && !c.forget() {
			c.refused++
			return
		}
		c.sources[source] = &clockSource{watermark: watermark, arrival: arrival}
		c.stale = true
		return
	}
	c.stale = c.stale || s.silent || s.behind || s.watermark <= c.least
	if s.silent {
		s.silent = false
		c.silent--
	}
	s.watermark, s.arrival = max(s.watermark, watermark), max(s.arrival, arrival)
}

// Watermark returns the event time that all live sources have passed, ns; false before the first input. now is the wall clock of
// a live run, and the arrival of the newest input of a replay. With no live source it follows now at the distance of the limit.
func (c *Clock) Watermark(now int64) (int64, bool) {
	if len(c.sources) == 0 {
		return c.last, c.started
	}
	if c.stale || now > c.next {
		c.scan(now)
	}
	at := c.least - c.slack
	if c.least == math.MaxInt64 {
		at = now - c.limit
	}
	if !c.started || at > c.last {
		c.last, c.started = at, true
	}
	return c.last, true
}

// Silences returns the sources that fell silent since the last call, by name.
func (c *Clock) Silences() []Silence {
	s := c.silences
	c.silences = nil
	return s
}

// Refused counts what was observed of sources beyond the bound of 16,384; they move nothing.
func (c *Clock) Refused() uint64 { return c.refused }

// scan finds the least watermark again. The order of the map does not show in the result.
func (c *Clock) scan(now int64) {
	c.stale, c.least, c.next = false, math.MaxInt64, math.MaxInt64
	newest := int64(math.MinInt64)
	for name, s := range c.sources {
		if !s.silent && now-s.arrival > c.limit {
			s.silent = true
			c.silent++
			c.silences = append(c.silences, Silence{Source: name, Since: s.arrival, Watermark: s.watermark})
		}
		if !s.silent {
			newest = max(newest, s.watermark)
		}
	}
	for name, s := range c.sources {
		if s.silent {
			continue
		}
		c.next = min(c.next, s.arrival+c.limit)
		behind := newest-s.watermark > c.limit
		if behind && !s.behind {
			c.silences = append(c.silences, Silence{Source: name, Since: s.arrival, Watermark: s.watermark, Behind: true})
		}
		if s.behind = behind; !behind {
			c.least = min(c.least, s.watermark)
		}
	}
	slices.SortFunc(c.silences, func(a, b Silence) int { return cmp.Compare(a.Source, b.Source) })
}

// forget drops the silent sources. They have been reported, and hold nothing back.
func (c *Clock) forget() bool {
	if c.silent == 0 {
		return false
	}
	maps.DeleteFunc(c.sources, func(_ string, s *clockSource) bool { return s.silent })
	c.silent = 0
	return true
}
