package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/wharfwatch/wharfwatch/state"
)

const (
	saveSlice = 64 // keys encoded per visit to the engine's goroutine: some tens of microseconds
	saveQueue = 16 // slices that may wait for the disk; a full queue postpones the round, nothing is lost
)

// saver snapshots the baselines incrementally, off the hot path: the engine's goroutine encodes a slice of changed keys at a time, a
// goroutine of its own writes them.
type saver struct {
	db       *state.DB
	log      *slog.Logger
	interval time.Duration
	queue    chan []state.Snapshot
	next     time.Time // when the next round begins
}

func newSaver(db *state.DB, interval time.Duration, log *slog.Logger) *saver {
	return &saver{db: db, log: log, interval: interval, queue: make(chan []state.Snapshot, saveQueue), next: time.Now().Add(interval)}
}

// run writes until ctx ends, and then what still waits.
func (s *saver) run(ctx context.Context) {
	last := context.WithoutCancel(ctx)
	for {
		select {
		case slice := <-s.queue:
			s.write(last, slice)
		case <-ctx.Done():
			for {
				select {
				case slice := <-s.queue:
					s.write(last, slice)
				default:
					return
				}
			}
		}
	}
}

func (s *saver) write(ctx context.Context, slice []state.Snapshot) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.db.SaveSnapshots(ctx, slice); err != nil {
		s.log.Error("baselines could not be saved: what was learned since the last snapshot is at risk", "keys", len(slice), "err", err)
	}
}

// snapshot continues the round under way, or begins one when the interval is over.
func (m *monitor) snapshot() {
	s := m.saver
	if time.Now().Before(s.next) || len(s.queue) == cap(s.queue) {
		return
	}
	slice := m.dirty(saveSlice)
	if len(slice) < saveSlice {
		s.next = time.Now().Add(s.interval)
		slice = append(slice, state.Snapshot{Detector: roundMark, Time: m.now, Blob: []byte{1}})
	}
	s.queue <- slice
}

// roundMark is a snapshot that knows nothing: its time says how far the last complete round knew.
const roundMark = "-"

// dirty takes at most limit changed keys from the detectors.
func (e *engine) dirty(limit int) (slice []state.Snapshot) {
	e.detectors.Dirty(limit, func(detector, key string, blob []byte) bool {
		slice = append(slice, state.Snapshot{Detector: detector, Key: key, Time: e.now, Blob: append([]byte(nil), blob...)})
		return true
	})
	return slice
}

// saveAll writes every changed key at once: at a clean end, and after learning.
func (e *engine) saveAll(ctx context.Context, db *state.DB) error {
	for {
		slice := e.dirty(1024)
		if len(slice) < 1024 {
			return db.SaveSnapshots(ctx, append(slice, state.Snapshot{Detector: roundMark, Time: e.now, Blob: []byte{1}}))
		}
		if err := db.SaveSnapshots(ctx, slice); err != nil {
			return err
		}
	}
}
