package enrich

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// session is one connection to the engine. Its goroutine (run) owns everything here but the ring; workers and the lister only send
// to channels.
type session struct {
	*Docker
	emit   func(Event)
	ctx    context.Context
	api    dockerAPI
	habits habits
	offset int64 // engine's clock less ours, ns
	synced bool
	ring   *ring

	queue     []*pending
	ripe      bool // something in the queue may have become ready to go since the last flush
	inquiries map[question]*inquiry
	backlog   []question
	busy      int
	answers   chan answer
	lists     chan listing
	listed    *listing // waits for the events before it
	listing   bool     // one is under way
	listTime  int64    // of the last list that was applied, engine clock, ns
	gapAt     int64    // when events were last found lost, 0 never: no Progress until a later list made up for them
	progress  int64    // the last one told
	workers   sync.WaitGroup
}

const (
	askTimeout     = 5 * time.Second
	listTimeout    = 30 * time.Second
	reconcileEvery = 60 * time.Second
	pingEvery      = 10 * time.Second
	progressEvery  = 250 * time.Millisecond
	// How far Progress stays behind the engine's clock: events take .2 to 4 ms, and up to 100 ms when some other subscriber stalls.
	progressMargin = 200 * time.Millisecond
)

func (s *session) now() int64 { return time.Now().UnixNano() + s.offset }

// run subscribes, lists, and then applies: an event between the two calls is in both, never in neither.
func (s *session) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	s.ctx, s.ring = ctx, newRing()
	s.inquiries = map[question]*inquiry{}
	s.answers, s.lists = make(chan answer, inspectWorkers), make(chan listing, 1)
	defer s.abandon()
	defer s.workers.Wait()
	defer cancel()
	if s.api, err = s.dial(); err != nil {
		return fmt.Errorf("docker client for %s: %w", s.c.Endpoint(), err)
	}
	defer s.api.Close()
	if err := s.greet(); err != nil {
		return err
	}
	since := s.now()
	if s.last != 0 {
		since = s.last - int64(time.Second)
	}
	messages, errs := s.api.Events(ctx, events.ListOptions{
		Since:   fmt.Sprintf("%d.%09d", since/1e9, since%1e9),
		Filters: filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("type", string(events.NetworkEventType))),
	})
	ended := make(chan error, 1)
	s.workers.Go(func() { ended <- s.read(messages, errs) })
	if err := s.listAll(); err != nil {
		return err
	}
	return s.loop(ended)
}

// greet learns the engine's clock and defaults. A proxy may refuse /info: then they are taken as ours.
func (s *session) greet() error {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	if _, err := s.api.Ping(ctx); err != nil {
		return fmt.Errorf("ping %s: %w", s.c.Endpoint(), err)
	}
	before := time.Now()
	info, err := s.api.Info(ctx)
	if err != nil {
		s.log.Warn("docker engine does not tell about itself: its clock and defaults are taken as this host's", "error", err)
		return nil
	}
	s.habits = habits{runtime: info.DefaultRuntime, cgroupHost: info.CgroupVersion != "2"}
	theirs, err := time.Parse(time.RFC3339Nano, info.SystemTime)
	if err == nil && !strings.HasPrefix(s.c.Endpoint(), "unix:") {
		s.offset = int64(theirs.Sub(before.Add(time.Since(before) / 2)))
	}
	return nil
}

// read does nothing but push (attribution.md 1.8).
func (s *session) read(messages <-chan events.Message, errs <-chan error) error {
	for {
		select {
		case m := <-messages:
			s.m.received.Inc()
			s.m.lag.Update(float64(s.now()-m.TimeNano) / 1e9)
			if !s.ring.push(m) {
				s.m.dropped.Inc()
			}
		case err := <-errs:
			if err == nil {
				err = errors.New("the event stream ended")
			}
			return fmt.Errorf("events of %s: %w", s.c.Endpoint(), err)
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

func (s *session) loop(ended <-chan error) error {
	progress, reconcile, ping := time.NewTicker(progressEvery), time.NewTicker(reconcileEvery), time.NewTicker(pingEvery)
	defer progress.Stop()
	defer reconcile.Stop()
	defer ping.Stop()
	for {
		for s.intake() {
			s.flush()
		}
		s.flush()
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case err := <-ended:
			for s.intake() { // what came before the end
				s.flush()
			}
			s.flush()
			return err
		case <-s.ring.wake:
		case a := <-s.answers:
			s.answered(a)
		case l := <-s.lists:
			s.listing = false
			if l.err != nil {
				return l.err
			}
			s.listed = &l
		case <-reconcile.C:
			s.startList()
		case <-ping.C:
			s.workers.Go(s.ping)
		case <-progress.C:
			s.ripe = true // by the passing of time
			s.flush()
			s.tellProgress()
		}
	}
}

// ping ends the session when the engine does not answer: an idle event stream does not show a dead connection. A slow engine gets
// the time that a list gets.
func (s *session) ping() {
	ctx, cancel := context.WithTimeout(s.ctx, listTimeout)
	defer cancel()
	if _, err := s.api.Ping(ctx); err != nil && s.ctx.Err() == nil {
		select {
		case s.lists <- listing{err: fmt.Errorf("ping %s: %w", s.c.Endpoint(), err)}:
		default: // another failure is already waiting there
		}
	}
}

// lost notes that the state is not what the events told, and has it listed.
func (s *session) lost() {
	s.gapAt = s.now()
	s.startList()
}

// intake moves events from the ring to the queue while there is room, and starts their inspects. It reports whether there were any.
func (s *session) intake() (some bool) {
	if s.ring.takeGap() {
		s.m.gaps.Inc()
		s.log.Warn("docker events were lost: the engine is listed again")
		s.lost()
	}
	for len(s.queue) < pendingMost {
		a, ok := s.ring.pop()
		if !ok {
			break
		}
		some = true
		s.last = max(s.last, a.TimeNano)
		if !s.seen.add(&a.Message) {
			s.m.duplicate.Inc()
			continue
		}
		p := classify(a)
		if p == nil {
			s.m.ignored.Inc()
			continue
		}
		s.queue = append(s.queue, p)
		if p.question.id != "" {
			s.ask(p)
		} else {
			p.ready, s.ripe = true, true
		}
	}
	return some
}

// abandon counts what waited for answers that will not come any more; the next session lists everything.
func (s *session) abandon() {
	for _, p := range s.queue {
		if p.message != nil {
			s.m.dropped.Inc()
		}
	}
	for _, ok := s.ring.pop(); ok; _, ok = s.ring.pop() {
		s.m.dropped.Inc()
	}
	s.queue = nil
}

// tellProgress says up to when everything has been told.
func (s *session) tellProgress() {
	if s.gapAt != 0 {
		return
	}
	to := s.now() - int64(progressMargin)
	for _, p := range s.queue {
		to = min(to, p.time-1)
	}
	if to > s.progress {
		s.progress = to
		s.emit(Event{Time: to, Kind: Progress, Engine: s.c.Name})
	}
}
