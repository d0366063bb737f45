package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/wharfwatch/wharfwatch/state"
)

const (
	saveSlice = 256     // keys encoded per turn at the engine, five turns a second
	saveBytes = 2 << 20 // and what they take, so that a turn stays short: a workload with many destinations is a megabyte
	saveQueue = 16      // slices that may wait for the disk; a full queue postpones the round, nothing is lost
)

// saver snapshots the baselines incrementally, off the hot path: whoever has the engine encodes a slice of changed keys at a time, a
// goroutine of its own writes them, in order. A slice that cannot be written is tried again until it is: what follows must wait.
type saver struct {
	db       *state.DB
	log      *slog.Logger
	interval time.Duration
	retry    time.Duration
	queue    chan []state.Snapshot
	next     time.Time     // when the next round begins
	stopping chan struct{} // closed by stop
	stopped  chan struct{} // closed by run at its end
}

func newSaver(db *state.DB, interval time.Duration, log *slog.Logger) *saver {
	return &saver{
		db: db, log: log, interval: interval, retry: 5 * time.Second, queue: make(chan []state.Snapshot, saveQueue), next: time.Now().Add(interval),
		stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
}

// run writes until stop, and then what still waits, with one more attempt for what the disk refuses.
func (s *saver) run() {
	defer close(s.stopped)
	for slice := range s.queue {
		for said, last := false, false; !s.write(slice, said) && !last; said = true {
			last = !s.again()
		}
	}
}

// again waits for the next attempt; false when it is the last one.
func (s *saver) again() bool {
	select {
	case <-s.stopping:
		return false
	case <-time.After(s.retry):
		return true
	}
}

// stop returns when everything queued has been written or given up: what is saved after it is newer. It is called by who has the engine.
func (s *saver) stop() {
	close(s.stopping)
	close(s.queue)
	<-s.stopped
}

func (s *saver) write(slice []state.Snapshot, said bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := s.db.SaveSnapshots(ctx, slice)
	if err != nil && !said {
		s.log.Error("baselines cannot be saved: what was learned since the last snapshot is at risk", "keys", len(slice), "err", err)
	}
	return err == nil
}

// snapshot continues the round under way, or begins one when the interval is over.
func (m *monitor) snapshot() {
	s := m.saver
	if time.Now().Before(s.next) || len(s.queue) == cap(s.queue) {
		return
	}
	slice, more := m.dirty(saveSlice, saveBytes)
	if !more {
		s.next = time.Now().Add(s.interval)
		slice = append(slice, mark(m.now)...)
	}
	s.queue <- slice
}

// roundMark is a snapshot that knows nothing: its time says how far the last complete round knew.
const roundMark = "-"

// mark is the end of a round that knows up to an event time. Before the first input there is none: the mark of the last run stays.
func mark(known int64) []state.Snapshot {
	if known == 0 {
		return nil
	}
	return []state.Snapshot{{Detector: roundMark, Time: known, Blob: []byte{1}}}
}

// dirty takes changed keys from the detectors, at most that many, until they take up size bytes. It reports whether there are more.
func (e *engine) dirty(keys, size int) (slice []state.Snapshot, more bool) {
	e.detectors.Dirty(keys, func(detector, key string, blob []byte) bool {
		if size <= 0 {
			more = true
			return false
		}
		size -= len(blob)
		slice = append(slice, state.Snapshot{Detector: detector, Key: key, Time: e.now, Blob: append([]byte(nil), blob...)})
		return true
	})
	return slice, more || len(slice) == keys
}

// saveAll writes every changed key at once, at a clean end.
func (e *engine) saveAll(ctx context.Context, db *state.DB) error {
	for {
		slice, more := e.dirty(1024, 64<<20)
		if !more {
			return db.SaveSnapshots(ctx, append(slice, mark(e.now)...))
		}
		if err := db.SaveSnapshots(ctx, slice); err != nil {
			return err
		}
	}
}
