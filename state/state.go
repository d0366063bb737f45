// Package state is the ground floor: one SQLite file that holds what must outlive the process. Every room owns its tables in it.
//
// The file is in WAL mode with synchronous=FULL: what Write returned nil for survives kill -9 and, as far as the disk keeps its
// word, power loss. One goroutine writes; all that waits for it shares one transaction and one fsync. Readers have connections of
// their own and never wait for the writer.
package state

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
	_ "modernc.org/sqlite" // the driver named "sqlite"
)

// File is the name of the state file inside the data directory.
const File = "state.db"

const (
	readers   = 4                // connections of the read pool
	queueSize = 1024             // callers that may wait for the writer before Write itself blocks
	maxBatch  = 256              // functions that share one commit
	walAlarm  = 64 * 1024 * 1024 // a WAL above this says that a reader never ends or that checkpoints fail
)

// DB is the open state file. All methods are safe for concurrent use.
type DB struct {
	dir   string
	write *sql.DB // one connection; nil when read-only
	read  *sql.DB
	lock  *os.File

	queue chan *job
	idle  chan struct{} // closed when the writer has ended

	mu     sync.RWMutex // protects closed against a send on queue
	closed bool

	backups sync.Mutex // serialises Migrate; protects backed
	backed  bool       // a backup was made since Open

	commits, writes, failures atomic.Uint64 // transactions; functions that succeeded; functions and commits that did not
	seconds                   atomic.Pointer[metrics.Histogram]
}

// Open opens or creates the state file in dir for this process alone. A directory it has to create gets mode 0700, its files 0600.
// A second process gets a *LockedError.
func Open(dir string) (*DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	lock, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	db, err := open(dir)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open state file %s: %w", filepath.Join(dir, File), err)
	}
	db.lock = lock
	go db.run()
	if err := db.Migrate("state", schema...); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// OpenReadOnly opens an existing state file for reading, whether or not another process has it open for writing. Write and Migrate
// refuse. A directory without a state file gives an error that is fs.ErrNotExist.
func OpenReadOnly(dir string) (*DB, error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("no state in %s: %w", dir, err)
	}
	read, err := connect(path, "query_only(1)", readers)
	if err != nil {
		return nil, fmt.Errorf("open state file %s: %w", path, err)
	}
	return &DB{dir: dir, read: read, closed: true}, nil
}

func open(dir string) (*DB, error) {
	path := filepath.Join(dir, File)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite gives its -wal and -shm files the mode of this one
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, err
	}
	write, err := connect(path, "foreign_keys(1)", 1)
	if err != nil {
		return nil, err
	}
	read, err := connect(path, "query_only(1)", readers)
	if err != nil {
		write.Close()
		return nil, err
	}
	return &DB{dir: dir, write: write, read: read, queue: make(chan *job, queueSize), idle: make(chan struct{})}, nil
}

// connect opens a pool. Pragmas stand in the name because database/sql opens more connections whenever it likes.
func connect(path, pragma string, conns int) (*sql.DB, error) {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", pragma}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	if err := db.Ping(); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Metrics shows the counters of this file in set; they have counted since Open.
func (db *DB) Metrics(set *metrics.Set) {
	set.NewGauge("wharfwatch_state_commits_total", func() float64 { return float64(db.commits.Load()) })
	set.NewGauge("wharfwatch_state_writes_total", func() float64 { return float64(db.writes.Load()) })
	set.NewGauge("wharfwatch_state_write_failures_total", func() float64 { return float64(db.failures.Load()) })
	set.NewGauge("wharfwatch_state_wal_bytes", func() float64 { return float64(db.WALBytes()) })
	db.seconds.Store(set.NewHistogram("wharfwatch_state_commit_seconds"))
}

// Dir is the data directory.
func (db *DB) Dir() string { return db.dir }

// Read is the pool of read-only connections. It sees what was committed; a long query holds the WAL, not the writer.
func (db *DB) Read() *sql.DB { return db.read }

// WALBytes is the size of the write-ahead log now; 0 without one.
func (db *DB) WALBytes() int64 {
	st, err := os.Stat(filepath.Join(db.dir, File+"-wal"))
	if err != nil {
		return 0
	}
	return st.Size()
}

// Healthy says what is wrong with the file, in words for the operator; nil is fine.
func (db *DB) Healthy() error {
	if n := db.WALBytes(); n > walAlarm {
		return fmt.Errorf("the write-ahead log of the state file has %d MB: checkpoints do not get through", n>>20)
	}
	return nil
}

// Close waits for the writes under way, truncates the write-ahead log and gives the lock back. Later Writes fail with ErrClosed.
func (db *DB) Close() error {
	db.mu.Lock()
	closed := db.closed
	db.closed = true
	db.mu.Unlock()
	if db.write == nil {
		return db.read.Close()
	}
	if closed {
		return nil
	}
	close(db.queue)
	<-db.idle
	err := db.read.Close() // first: a reader would keep the checkpoint from truncating
	_, cp := db.write.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	err = errors.Join(err, cp, db.write.Close())
	if db.lock != nil {
		err = errors.Join(err, db.lock.Close())
	}
	if err != nil {
		return fmt.Errorf("close state file: %w", err)
	}
	return nil
}

// ErrClosed is returned by Write after Close and on a read-only file.
var ErrClosed = fmt.Errorf("the state file is not open for writing: %w", fs.ErrClosed)
