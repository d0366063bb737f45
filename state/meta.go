package state

import (
	"context"
	"database/sql"
	"errors"
)

// Get reads a small fact from meta; false when it is not there. Names are "room.fact".
func (db *DB) Get(name string) (string, bool, error) {
	var v string
	err := db.read.QueryRow("SELECT value FROM meta WHERE name = ?", name).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return v, err == nil, err
}

// Set writes a small fact to meta and returns when it is durable.
func (db *DB) Set(ctx context.Context, name, value string) error {
	return db.Write(ctx, func(tx *sql.Tx) error { return set(tx, name, value) })
}

func set(tx *sql.Tx, name, value string) error {
	_, err := tx.Exec("INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
	return err
}
