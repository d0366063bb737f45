package alerts

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// policy says when to try again and when to give up.
type policy struct {
	steps []time.Duration // before the second, third, … attempt, up to a tenth is added; nil: exponential
	base  time.Duration   // exponential with full jitter: up to base, 2 base, 4 base, … most
	most  time.Duration
	calm  time.Duration // give up after so long since the message was handed over
	page  time.Duration // the same for critical incidents
}

var (
	chat = policy{base: 2 * time.Second, most: 10 * time.Minute, calm: 6 * time.Hour, page: 24 * time.Hour}

	// The schedule of Standard Webhooks 1.0.0, https://github.com/standard-webhooks/standard-webhooks (deliverability and reliability).
	hook = policy{
		steps: []time.Duration{
			5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour,
			24 * time.Hour,
		},
		calm: 84 * time.Hour, page: 84 * time.Hour, // the whole schedule with its jitter
	}
)

const leastDelay = 250 * time.Millisecond

// delay is the wait after the attempt with this number, from 1. random is in [0, 1).
func (p *policy) delay(attempt int, random float64) time.Duration {
	if p.steps != nil {
		step := p.steps[min(attempt, len(p.steps))-1]
		return step + time.Duration(random*float64(step)/10)
	}
	ceiling := p.most
	if attempt < 30 && p.base<<(attempt-1) < p.most {
		ceiling = p.base << (attempt - 1)
	}
	return max(leastDelay, time.Duration(random*float64(ceiling)))
}

// over says whether a message has been tried for long enough.
func (p *policy) over(age time.Duration, attempts int, s baseline.Severity) bool {
	if p.steps != nil && attempts > len(p.steps) {
		return true
	}
	if s == baseline.Critical {
		return age >= p.page
	}
	return age >= p.calm
}

func jitter() float64 { return rand.Float64() }

// Bounds on what a receiver may ask for.
const (
	leastAfter = time.Second
	mostAfter  = time.Hour
)

// retryAfter reads the header as seconds or as an HTTP date; 0 when it says nothing.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		return clampAfter(s)
	}
	if t, err := http.ParseTime(v); err == nil {
		return clampAfter(t.Sub(now).Seconds())
	}
	return 0
}

func clampAfter(seconds float64) time.Duration {
	if !(seconds > leastAfter.Seconds()) { // NaN too
		return leastAfter
	}
	if seconds > mostAfter.Seconds() {
		return mostAfter
	}
	return time.Duration(seconds * float64(time.Second))
}
