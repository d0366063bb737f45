package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// job is one caller of Write. Its state decides a race: the writer begins it or its caller gives it up, never both.
type job struct {
	fn    func(*sql.Tx) error
	state atomic.Int32
	done  chan error // buffered: the writer never waits for a caller
}

const (
	jobWaiting = iota
	jobBegun
	jobGivenUp
)

// Write runs fn in a transaction and returns when it is durable. Functions of concurrent callers run one after the other inside one
// transaction, each in a savepoint: an error of fn undoes fn alone and is returned as it is. fn must not end the transaction, must
// not call Write, and should be short: it holds up every other writer.
//
// ctx counts while fn waits for its turn. Once fn has begun, Write returns its true outcome.
func (db *DB) Write(ctx context.Context, fn func(*sql.Tx) error) error {
	j := &job{fn: fn, done: make(chan error, 1)}
	if err := db.enqueue(ctx, j); err != nil {
		return err
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobWaiting, jobGivenUp) {
			return ctx.Err()
		}
		return <-j.done
	}
}

func (db *DB) enqueue(ctx context.Context, j *job) error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.closed {
		return ErrClosed
	}
	select {
	case db.queue <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run is the writer goroutine: it takes what waits, at most maxBatch, and commits it at once.
func (db *DB) run() {
	defer close(db.idle)
	batch := make([]*job, 0, maxBatch)
	for j := range db.queue {
		batch = append(batch[:0], j)
	more:
		for len(batch) < maxBatch {
			select {
			case j, ok := <-db.queue:
				if !ok {
					break more
				}
				batch = append(batch, j)
			default:
				break more
			}
		}
		db.commit(batch)
	}
}

// commit runs a batch in one transaction and tells every caller how it went.
func (db *DB) commit(batch []*job) {
	start := time.Now()
	results := make([]error, len(batch))
	err := db.transact(batch, results)
	if err == nil {
		db.commits.Add(1)
	}
	if h := db.seconds.Load(); h != nil {
		h.UpdateDuration(start)
	}
	for i, j := range batch {
		if j.state.Load() == jobGivenUp {
			continue
		}
		if err != nil && results[i] == nil {
			results[i] = err
		}
		if results[i] == nil {
			db.writes.Add(1)
		} else {
			db.failures.Add(1)
		}
		j.done <- results[i]
	}
}

// transact returns an error when the transaction as a whole was lost; results holds the errors of single functions.
func (db *DB) transact(batch []*job, results []error) error {
	tx, err := db.write.Begin()
	if err != nil {
		for _, j := range batch { // nothing has run: a caller may still give up
			j.state.CompareAndSwap(jobWaiting, jobBegun)
		}
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() // does nothing after a commit
	var lost error
	for i, j := range batch {
		if !j.state.CompareAndSwap(jobWaiting, jobBegun) || lost != nil {
			continue
		}
		if results[i], lost = savepoint(tx, j.fn); lost != nil {
			lost = fmt.Errorf("transaction lost: %w", errors.Join(lost, results[i]))
		}
	}
	if lost != nil {
		return lost
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// savepoint runs fn. The second error means that SQLite gave up the whole transaction (disk full, I/O error).
func savepoint(tx *sql.Tx, fn func(*sql.Tx) error) (failed, lost error) {
	if _, err := tx.Exec("SAVEPOINT one"); err != nil {
		return nil, err
	}
	if failed = fn(tx); failed != nil {
		if _, err := tx.Exec("ROLLBACK TO one"); err != nil {
			return failed, err
		}
	}
	_, lost = tx.Exec("RELEASE one")
	return failed, lost
}
