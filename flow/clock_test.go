package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestClockIsTheLeastOfTheLive(t *testing.T) {
	c := NewClock(5 * time.Second)
	c.SetLimit(time.Minute)
	want := func(now, at int64) {
		t.Helper()
		if got, known := c.Watermark(now * sec); !known || got != at*sec {
			t.Errorf("at %d: watermark %v s, want %d", now, float64(got)/1e9, at)
		}
	}
	if _, known := c.Watermark(100 * sec); known {
		t.Error("a watermark before any input")
	}
	c.Observe("a", 100*sec, 100*sec)
	want(100, 95)
	c.Observe("b", 90*sec, 100*sec)
	want(100, 95) // never back
	c.Observe("a", 120*sec, 120*sec)
	want(120, 95)
	c.Observe("b", 118*sec, 121*sec)
	want(121, 113)
	c.Observe("b", 110*sec, 122*sec) // an older watermark of the same source changes nothing
	want(122, 113)
	c.Observe("a", 500*sec, 130*sec) // nobody is ahead of arrival
	c.Observe("b", 130*sec, 130*sec)
	want(130, 125)

	c.Observe("a", 180*sec, 180*sec)
	want(180, 125) // b is quiet for 50 s
	c.Observe("a", 191*sec, 191*sec)
	want(191, 186) // for 61 s
	if diff := cmp.Diff([]Silence{{Source: "b", Since: 130 * sec, Watermark: 130 * sec}}, c.Silences()); diff != "" {
		t.Errorf("silences (-want +got):\n%s", diff)
	}
	want(200, 186)
	if s := c.Silences(); s != nil {
		t.Errorf("told twice: %v", s)
	}
	c.Observe("b", 150*sec, 201*sec) // back with old input, within the limit of a: it holds back, and nothing goes back
	want(201, 186)
	c.Observe("b", 202*sec, 202*sec)
	want(202, 186)
	c.Observe("a", 203*sec, 203*sec)
	want(203, 197)
	want(400, 340) // all silent: event time follows at the distance of the limit
	if s := c.Silences(); len(s) != 2 || s[0].Source != "a" || s[1].Source != "b" {
		t.Errorf("silences %v", s)
	}
}

// One source that lags, or was forged, moves nobody.
func TestClockForgedSource(t *testing.T) {
	c := NewClock(0)
	c.SetLimit(time.Minute)
	for i := range int64(100) {
		now := (1000 + i) * sec
		c.Observe("good", now, now)
		c.Observe("forged", 5*sec, now)
		if got, _ := c.Watermark(now); got != now {
			t.Fatalf("at %d the watermark is %d", now, got)
		}
	}
	if s := c.Silences(); len(s) != 1 || s[0].Source != "forged" || !s[0].Behind {
		t.Errorf("silences %+v", s)
	}
}

// The caches of the clock give what a plain computation gives, the result never goes back, and the order of the map does not show.
func TestClockAgainstThePlainRule(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, b := NewClock(2*time.Second), NewClock(2*time.Second)
	last := int64(0)
	now := 10_000 * sec
	for range 20_000 {
		now += r.Int64N(sec)
		source := fmt.Sprint(r.IntN(12))
		at := now - r.Int64N(3*sec)
		if r.IntN(200) == 0 {
			now += 100 * sec
		}
		a.Observe(source, at, now)
		b.Observe(source, at, now)
		b.stale = true // find everything again
		x, _ := a.Watermark(now)
		y, _ := b.Watermark(now)
		if x != y || x < last || x > now {
			t.Fatalf("watermark %d, the plain rule %d, before %d, now %d", x, y, last, now)
		}
		last = x
		if diff := cmp.Diff(a.Silences(), b.Silences()); diff != "" {
			t.Fatalf("silences: %s", diff)
		}
	}
}

func TestClockIsBounded(t *testing.T) {
	c := NewClock(0)
	for i := range 2 * maxClockSources {
		c.Observe(fmt.Sprint(i), sec, sec)
	}
	if len(c.sources) != maxClockSources || c.Refused() != maxClockSources {
		t.Errorf("%d sources, %d refused", len(c.sources), c.Refused())
	}
	c.Watermark(1000 * sec) // all silent
	c.Observe("new", 1000*sec, 1000*sec)
	if c.sources["new"] == nil || len(c.sources) > maxClockSources {
		t.Error("a silent source did not make room")
	}
}
