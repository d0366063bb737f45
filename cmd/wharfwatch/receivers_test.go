package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/state"
)

// TestRetryAll holds that a delivery that cannot go again, because the receiver has heard later ones, does not keep the rest.
func TestRetryAll(t *testing.T) {
	db, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := quietConfig(t)
	c.Alerts.AddWebhook("http://127.0.0.1:1/hook")
	store, err := alerts.OpenStore(db, c.Alerts)
	if err != nil {
		t.Fatal(err)
	}
	m, err := alerts.NewManager(c.Alerts, store, metrics.NewSet(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i, workload := range []string{"compose:shop/a", "compose:shop/b", "compose:shop/c"} {
		m.Finding(beaconFinding(int64(i+1), workload, "203.0.113.9:443/tcp"))
	}
	if err := m.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	spoil := "UPDATE outbox SET state = 'dead'; INSERT INTO outbox (id, receiver, dedup_key, seq, incident, generation, transition, severity, state, created_at, next_at, message) " +
		"SELECT 'later', receiver, dedup_key, seq + 1, incident, generation, 'resolve', severity, 'delivered', created_at, next_at, message FROM outbox ORDER BY created_at DESC LIMIT 1"
	if err := db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(spoil); return err }); err != nil {
		t.Fatal(err)
	}
	n, err := notifyDeps(c, store, m.Labels)
	if err != nil {
		t.Fatal(err)
	}
	queued, err := n.Retry(t.Context(), nil)
	if queued != 2 || err == nil || !strings.Contains(err.Error(), "2 queued again, 1 not") {
		t.Errorf("%d queued again, %v", queued, err)
	}
	if left, err := store.Failed(10); err != nil || len(left) != 1 {
		t.Errorf("still given up: %v, %v", left, err)
	}
	if _, err := n.Preview("nobody", nil); !errors.Is(err, console.ErrNoReceiver) || !strings.Contains(err.Error(), "webhook-1") {
		t.Errorf("unknown receiver: %v", err)
	}
}
