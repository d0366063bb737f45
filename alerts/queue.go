package alerts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"
)

// queue brings changes to the journal one after the other. A journal that refuses (disk full) is asked again, for ever; meanwhile
// changes wait here, bounded, and the engine goes on.
type queue struct {
	journal Journal
	log     *slog.Logger
	max     int
	wake    chan struct{}
	quit    chan struct{} // closed by stop
	stopped chan struct{} // closed by run at its end

	mu       sync.Mutex // protects all below
	items    []*waiting
	stopping bool
	failed   error // of the last attempt; nil when it went well
	since    time.Time
}

type waiting struct {
	change *Change
	done   chan struct{} // closed when durable
}

const (
	commitTimeout = 10 * time.Second
	commitRetry   = 100 * time.Millisecond
	commitRetryUp = 5 * time.Second
)

func newQueue(journal Journal, limit int, log *slog.Logger) *queue {
	q := &queue{journal: journal, log: log, max: limit, wake: make(chan struct{}, 1), quit: make(chan struct{}), stopped: make(chan struct{})}
	go q.run()
	return q
}

// put takes a change; false when there is no room.
func (q *queue) put(c *Change) (*waiting, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= q.max || q.stopping {
		return nil, false
	}
	w := &waiting{change: c, done: make(chan struct{})}
	q.items = append(q.items, w)
	q.kick()
	return w, true
}

func (q *queue) kick() {
	select {
	case q.wake <- struct{}{}:
	default: // one is waiting already
	}
}

// room says whether half of the queue is free.
func (q *queue) room() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) <= q.max/2
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// healthy is nil while the journal takes what it gets.
func (q *queue) healthy() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed == nil {
		return nil
	}
	return fmt.Errorf("%d changes wait for the state file since %s: %w", len(q.items), q.since.UTC().Format(time.RFC3339), q.failed)
}

func (q *queue) run() {
	defer close(q.stopped)
	wait := commitRetry
	for {
		q.mu.Lock()
		var head *waiting
		if len(q.items) > 0 {
			head = q.items[0]
		}
		stopping := q.stopping
		q.mu.Unlock()
		if head == nil {
			if stopping {
				return
			}
			<-q.wake
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		err := q.journal.Commit(ctx, head.change)
		cancel()
		q.note(err)
		if err == nil {
			close(head.done)
			wait = commitRetry
			continue
		}
		if stopping {
			return // one last attempt each; Stop says what was lost
		}
		select {
		case <-time.After(wait):
		case <-q.quit:
		}
		wait = min(wait*2, commitRetryUp)
	}
}

// note records how an attempt went; it logs when that changes.
func (q *queue) note(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		q.items[0] = nil
		q.items = q.items[1:]
		if q.failed != nil {
			q.log.Info("state file takes changes again", "waiting", len(q.items))
		}
		q.failed = nil
		return
	}
	if q.failed == nil {
		q.since = time.Now()
	}
	if q.failed == nil || q.failed.Error() != err.Error() {
		q.log.Error("state file does not take changes: incidents wait in memory, nothing is sent", "error", err, "waiting", len(q.items))
	}
	q.failed = err
}

// last lets in what has no room, because stop comes next.
func (q *queue) last() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.max = math.MaxInt
}

// stop commits what waits, with one more attempt if the journal is in trouble, and ends the goroutine.
func (q *queue) stop(ctx context.Context) error {
	q.mu.Lock()
	if !q.stopping {
		close(q.quit)
	}
	q.stopping = true
	q.mu.Unlock()
	q.kick()
	select {
	case <-q.stopped:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), q.healthy())
	}
	if n := q.len(); n > 0 {
		return fmt.Errorf("%d changes of incidents could not be kept: %w", n, q.healthy())
	}
	return nil
}
