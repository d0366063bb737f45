package enrich

import (
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
)

// ring holds engine events between the reader, which must never wait (a stalled reader slows every call at the engine), and the
// session. A full ring drops what comes and remembers that it did.
type ring struct {
	wake chan struct{} // capacity 1: something was pushed

	mu   sync.Mutex // protects the rest
	held []arrival
	next int // first one not taken
	gap  bool
}

type arrival struct {
	events.Message
	at time.Time
}

const (
	ringSize    = 4096
	pendingMost = 1024 // events that wait for inspects; past that the ring fills
)

func newRing() *ring { return &ring{wake: make(chan struct{}, 1)} }

// push reports whether there was room.
func (r *ring) push(m events.Message) bool {
	r.mu.Lock()
	room := len(r.held)-r.next < ringSize
	if room {
		r.held = append(r.held, arrival{m, time.Now()})
	} else {
		r.gap = true
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it has not looked since the last one
	}
	return room
}

func (r *ring) pop() (arrival, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == len(r.held) {
		r.held, r.next = r.held[:0], 0
		return arrival{}, false
	}
	a := r.held[r.next]
	r.held[r.next] = arrival{}
	r.next++
	if r.next >= ringSize { // never empty, always moving: do not grow for ever
		r.held = append(r.held[:0], r.held[r.next:]...)
		r.next = 0
	}
	return a, true
}

// takeGap reports whether something was dropped since it was last asked.
func (r *ring) takeGap() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	gap := r.gap
	r.gap = false
	return gap
}

// seenEvents knows the newest events, for a subscription that starts a second back.
type seenEvents struct {
	keys map[eventKey]struct{}
	ring []eventKey
	next int
}

type eventKey struct {
	id, action, container string
	time                  int64
}

const seenMost = 4096

// add reports whether the event is new.
func (s *seenEvents) add(m *events.Message) bool {
	k := eventKey{m.Actor.ID, string(m.Action), m.Actor.Attributes["container"], m.TimeNano}
	if _, old := s.keys[k]; old {
		return false
	}
	if s.keys == nil {
		s.keys = make(map[eventKey]struct{}, seenMost)
		s.ring = make([]eventKey, seenMost)
	}
	delete(s.keys, s.ring[s.next])
	s.ring[s.next] = k
	s.next = (s.next + 1) % seenMost
	s.keys[k] = struct{}{}
	return true
}
