package alerts

import (
	"sync"
	"time"
)

// bucket is the rate of one endpoint, shared by the receivers that use it.
type bucket struct {
	mu     sync.Mutex
	rate   float64 // tokens a second; 0 no limit
	burst  float64
	tokens float64
	last   time.Time
	closed time.Time // the endpoint asked for quiet until then
}

func newBucket(rate, burst float64) *bucket { return &bucket{rate: rate, burst: burst, tokens: burst} }

// take uses up a token, or says how long to wait before asking again.
func (b *bucket) take(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.closed.Sub(now); d > 0 {
		return d
	}
	if b.rate == 0 {
		return 0
	}
	if !b.last.IsZero() {
		b.tokens = min(b.burst, b.tokens+b.rate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.tokens < 1 {
		return max(time.Millisecond, time.Duration((1-b.tokens)/b.rate*float64(time.Second)))
	}
	b.tokens--
	return 0
}

// close keeps everyone off the endpoint until a time.
func (b *bucket) close(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until.After(b.closed) {
		b.closed = until
	}
}
