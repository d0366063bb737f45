package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/state"
)

// offline serves the API in this process over the state file, when no monitor runs: read-only, or alone, under the lock, to change
// something. What it changes is delivered by the next monitor.
func (g *globals) offline(c *configs.Config, write bool) (*client, error) {
	db, store, err := openStore(c, write)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no monitor runs on %s, and there is no state file in it: start `wharfwatch run`, or name its --data-dir", c.DataDir)
	}
	if err != nil {
		return nil, err
	}
	set, log := metrics.NewSet(), g.logger(c.Log)
	manager, err := alerts.NewManager(c.Alerts, store, set, log)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	notify, err := notifyDeps(c, store, manager.Labels)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	access, err := openAccess(db, write)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	server := console.New(c.Console, console.Deps{Alerts: manager, Notify: notify, Access: access}, set, log)
	return &client{
		http: &http.Client{Transport: inProcess{server.Handler()}},
		close: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return errors.Join(manager.Stop(ctx), db.Close())
		},
	}, nil
}

func openAccess(db *state.DB, write bool) (*console.Access, error) {
	if write {
		return console.OpenAccess(db)
	}
	return console.ReadAccess(db)
}

func openStore(c *configs.Config, write bool) (*state.DB, *alerts.Store, error) {
	if !write {
		db, err := state.OpenReadOnly(c.DataDir)
		if err != nil {
			return nil, nil, err
		}
		return db, alerts.ReadStore(db), nil
	}
	db, err := state.Open(c.DataDir)
	if err != nil {
		return nil, nil, err
	}
	store, err := alerts.OpenStore(db, c.Alerts)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, store, nil
}
