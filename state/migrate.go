package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// schema is what the ground floor itself owns.
var schema = []string{`
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE baseline_snapshot (
	detector TEXT NOT NULL,
	key      TEXT NOT NULL,    -- workload, '' for global facts
	time     INTEGER NOT NULL, -- event time, ns
	checksum INTEGER NOT NULL, -- CRC-32C
	blob     BLOB NOT NULL,
	PRIMARY KEY (detector, key)
);`}

const keepBackups = 2

// NewerError says that the file was written by a newer program.
type NewerError struct {
	Room         string
	File, Binary int // versions of the room's tables
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the state file has version %d of the %s tables, this binary knows version %d: "+
		"run the newer wharfwatch, or put a backup-*.db of the data directory in its place", e.File, e.Room, e.Binary)
}

// Migrate brings the tables of a room to version len(steps). Steps are forward-only: one that was released never changes, new ones are
// added behind it. Each runs in a transaction of its own together with its version. Before existing data is touched for the first time
// since Open, a backup is written; the two newest are kept. A file newer than the steps gives a *NewerError.
func (db *DB) Migrate(room string, steps ...string) error {
	if db.write == nil {
		return ErrClosed
	}
	db.backups.Lock()
	defer db.backups.Unlock()
	have, err := db.version(room)
	if err != nil {
		return fmt.Errorf("read version of the %s tables: %w", room, err)
	}
	if have > len(steps) {
		return &NewerError{Room: room, File: have, Binary: len(steps)}
	}
	if have > 0 && have < len(steps) && !db.backed {
		if err := db.backup(fmt.Sprintf("%s-%d", room, have)); err != nil {
			return fmt.Errorf("back up before migrating the %s tables: %w", room, err)
		}
		db.backed = true
	}
	for i := have; i < len(steps); i++ {
		err := db.Write(context.Background(), func(tx *sql.Tx) error {
			if _, err := tx.Exec(steps[i]); err != nil {
				return err
			}
			return set(tx, versionKey(room), strconv.Itoa(i+1))
		})
		if err != nil {
			return fmt.Errorf("migrate the %s tables to version %d: %w", room, i+1, err)
		}
	}
	return nil
}

// Versions of rooms stand in meta.
func versionKey(room string) string { return "version." + room }

func (db *DB) version(room string) (int, error) {
	var n int
	if err := db.read.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'").Scan(&n); err != nil || n == 0 {
		return 0, err
	}
	v, ok, err := db.Get(versionKey(room))
	if err != nil || !ok {
		return 0, err
	}
	return strconv.Atoi(v)
}

// backup writes a complete copy of what is committed. It appears under its final name only when it is whole and on disk.
func (db *DB) backup(why string) error {
	final := filepath.Join(db.dir, "backup-"+time.Now().UTC().Format("20060102T150405.000000000Z")+"-"+why+".db")
	tmp := final + ".tmp"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := db.write.Exec("VACUUM INTO ?", tmp); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := errors.Join(f.Sync(), os.Rename(tmp, final)); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(db.dir, "backup-*.db"))
	if err != nil {
		return err
	}
	slices.Sort(old)
	for ; len(old) > keepBackups; old = old[1:] {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
	}
	return nil
}
