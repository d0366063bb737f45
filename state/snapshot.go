package state

import (
	"context"
	"database/sql"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Snapshot is what one detector knows about one key. The blob is the detector's own, with a version of its own inside.
type Snapshot struct {
	Detector string
	Key      string // a workload, "" for global facts
	Time     int64  // event time up to which the blob knows, ns
	Blob     []byte // empty: the key is gone
}

// Skipped is a snapshot that could not be used. What it knew has to be learned again.
type Skipped struct {
	Detector, Key string
	Reason        error
}

const snapshotTime = "baseline.snapshot_time"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(s *Snapshot) uint32 {
	sum := crc32.Checksum([]byte(s.Detector), castagnoli)
	sum = crc32.Update(sum, castagnoli, append([]byte{0}, s.Key...))
	sum = crc32.Update(sum, castagnoli, strconv.AppendInt([]byte{0}, s.Time, 10))
	return crc32.Update(sum, castagnoli, s.Blob)
}

// SaveSnapshots stores all of them in one transaction and notes the newest time. Write megabytes in several calls: findings wait for
// the same writer.
func (db *DB) SaveSnapshots(ctx context.Context, snapshots []Snapshot) error {
	if len(snapshots) == 0 {
		return nil
	}
	return db.Write(ctx, func(tx *sql.Tx) error {
		put, err := tx.Prepare("INSERT OR REPLACE INTO baseline_snapshot (detector, key, time, checksum, blob) VALUES (?, ?, ?, ?, ?)")
		if err != nil {
			return err
		}
		defer put.Close()
		newest := snapshots[0].Time
		for i := range snapshots {
			s := &snapshots[i]
			newest = max(newest, s.Time)
			if len(s.Blob) == 0 {
				_, err = tx.Exec("DELETE FROM baseline_snapshot WHERE detector = ? AND key = ?", s.Detector, s.Key)
			} else {
				_, err = put.Exec(s.Detector, s.Key, s.Time, checksum(s), s.Blob)
			}
			if err != nil {
				return fmt.Errorf("save snapshot of %s %q: %w", s.Detector, s.Key, err)
			}
		}
		return markSnapshot(tx, newest)
	})
}

// MarkSnapshot says that everything is saved up to an event time although nothing had changed.
func (db *DB) MarkSnapshot(ctx context.Context, time int64) error {
	return db.Write(ctx, func(tx *sql.Tx) error { return markSnapshot(tx, time) })
}

func markSnapshot(tx *sql.Tx, time int64) error {
	return set(tx, snapshotTime, strconv.FormatInt(time, 10))
}

// LastSnapshotTime is the event time up to which snapshots know; what happened after it and before a crash is a gap in the learning.
// False when there never was one.
func (db *DB) LastSnapshotTime() (int64, bool, error) {
	v, ok, err := db.Get(snapshotTime)
	if err != nil || !ok {
		return 0, false, err
	}
	t, err := strconv.ParseInt(v, 10, 64)
	return t, err == nil, err
}

// LoadSnapshots gives back every snapshot, ordered by detector and key. A torn one (its checksum is wrong) and one that take refuses
// are skipped and returned; the error is one of the file itself.
func (db *DB) LoadSnapshots(take func(Snapshot) error) (skipped []Skipped, err error) {
	rows, err := db.read.Query("SELECT detector, key, time, checksum, blob FROM baseline_snapshot ORDER BY detector, key")
	if err != nil {
		return nil, fmt.Errorf("load snapshots: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var s Snapshot
		var sum uint32
		if err := rows.Scan(&s.Detector, &s.Key, &s.Time, &sum, &s.Blob); err != nil {
			return skipped, fmt.Errorf("load snapshots: %w", err)
		}
		reason := error(nil)
		if got := checksum(&s); got != sum {
			reason = fmt.Errorf("torn: checksum %08x, want %08x", got, sum)
		} else {
			reason = take(s)
		}
		if reason != nil {
			skipped = append(skipped, Skipped{Detector: s.Detector, Key: s.Key, Reason: reason})
		}
	}
	return skipped, rows.Err()
}
