package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/state"
)

// quietConfig watches nothing and tells nobody.
func quietConfig(t *testing.T, sets ...string) *configs.Config {
	t.Helper()
	sets = append([]string{"data_dir=" + t.TempDir(), "console.listen=off", "flow.netflow=off", "flow.sflow=off", "flow.interfaces=off"}, sets...)
	c, err := configs.Load("", sets, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Enrich.Docker = nil
	return c
}

func toBuffer(b *bytes.Buffer) *globals { return &globals{stdout: io.Discard, stderr: b} }

// TestStartFails holds that a start that fails says why, leaves nothing open, and is no run that did not end.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, c := range []struct{ name, set, want string }{
		{"console", "console.listen=" + taken.Addr().String(), "address already in use"},
		{"netflow", "flow.netflow=" + udp.LocalAddr().String(), "address already in use"},
		{"inventory", "enrich.inventory=" + filepath.Join(t.TempDir(), "none.json"), "inventory"},
		{"recording", "record=/proc/none", "/proc/none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			wrong := quietConfig(t, c.set)
			wrong.Flow.ExplicitNetflow = true
			for range 2 { // the second finds nothing left over of the first
				if _, err := open(t.Context(), wrong, toBuffer(&log)); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("open: %v, want something of %q", err, c.want)
				}
			}
			right := quietConfig(t)
			right.DataDir = wrong.DataDir
			m, err := open(t.Context(), right, toBuffer(&log))
			if err != nil {
				t.Fatal(err)
			}
			ended, end := context.WithCancel(t.Context())
			end()
			if err := m.run(ended); err != nil {
				t.Error(err)
			}
			if err := m.db.Close(); err != nil {
				t.Error(err)
			}
			if !strings.Contains(log.String(), "nothing is watched") {
				t.Errorf("nothing is watched, and nobody says so:\n%s", log.String())
			}
			if strings.Contains(log.String(), "did not end") {
				t.Errorf("a start that failed is taken for a run:\n%s", log.String())
			}
		})
	}
}

// TestTimeWithoutInput holds that event time goes on, and incidents with it, while nobody exports to the port that is listened on.
func TestTimeWithoutInput(t *testing.T) {
	c := quietConfig(t, "flow.netflow=127.0.0.1:0", "flow.active_timeout_seconds=1", "flow.slack_seconds=0")
	m, err := open(t.Context(), c, toBuffer(new(bytes.Buffer)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.run(ctx) }()
	for told := int64(0); told == 0; {
		if err := m.ask(t.Context(), func() { told = m.now }); err != nil {
			t.Fatal(err)
		}
	}
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := m.db.Close(); err != nil {
		t.Error(err)
	}
	if behind := time.Since(time.Unix(0, m.now)); behind < c.Flow.ActiveTimeout() || behind > c.Flow.ActiveTimeout()+time.Minute {
		t.Errorf("event time is %s behind the clock", behind)
	}
}

// TestSaverOrder holds that what was queued while the disk refused is written before stop returns, so that nothing older overwrites
// what is saved at the end.
func TestSaverOrder(t *testing.T) {
	db, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := newSaver(db, time.Hour, slog.New(slog.DiscardHandler))
	for i := range int64(saveQueue) {
		s.queue <- []state.Snapshot{{Detector: "beacon", Key: "k", Time: i + 1, Blob: []byte{byte(i)}}}
	}
	go s.run()
	s.stop()
	last := int64(0)
	if _, err := db.LoadSnapshots(func(s state.Snapshot) error { last = s.Time; return nil }); err != nil {
		t.Fatal(err)
	}
	if last != saveQueue {
		t.Errorf("the state file knows up to %d when stop returns, want %d", last, saveQueue)
	}
}

// TestSaverInsists holds that a slice that could not be written is not forgotten.
func TestSaverInsists(t *testing.T) {
	db, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	refused := &saidOnce{said: make(chan struct{})}
	s := newSaver(db, time.Hour, slog.New(slog.NewTextHandler(refused, nil)))
	s.retry = time.Millisecond
	ctx := t.Context()
	refuse := func(statement string) {
		if err := db.Write(ctx, func(tx *sql.Tx) error { _, err := tx.Exec(statement); return err }); err != nil {
			t.Fatal(err)
		}
	}
	refuse("CREATE TRIGGER full BEFORE INSERT ON baseline_snapshot BEGIN SELECT RAISE(FAIL, 'no room'); END")
	s.queue <- []state.Snapshot{{Detector: "beacon", Key: "k", Time: 1, Blob: []byte{1}}}
	s.queue <- []state.Snapshot{{Detector: "beacon", Key: "l", Time: 2, Blob: []byte{1}}}
	go s.run()
	<-refused.said
	refuse("DROP TRIGGER full")
	s.stop()
	n := 0
	if _, err := db.LoadSnapshots(func(state.Snapshot) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	if n != 2 {
		t.Errorf("%d snapshots were kept, want 2", n)
	}
}

// saidOnce is a log that tells of its first line.
type saidOnce struct {
	once sync.Once
	said chan struct{}
}

func (w *saidOnce) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.said) })
	return len(b), nil
}

// TestAdoptionIsKept holds that what an engine ran at the first start is saved at once, whatever the interval: a crash soon after must
// not adopt what was created meanwhile.
func TestAdoptionIsKept(t *testing.T) {
	m, err := open(t.Context(), quietConfig(t, "snapshot_interval=1h"), toBuffer(new(bytes.Buffer)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.run(ctx) }()
	m.hear(enrich.Event{Kind: enrich.Synced, Engine: "local", Time: time.Now().UnixNano()})
	deadline := time.Now().Add(20 * time.Second)
	for kept := 0; kept == 0; {
		if _, err := m.db.LoadSnapshots(func(state.Snapshot) error { kept++; return nil }); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was saved")
		}
	}
	end()
	if err := errors.Join(<-done, m.db.Close()); err != nil {
		t.Error(err)
	}
}

// TestClockSetBack holds that a clock that was wrong and is set back is said, once each time: event time stands still then.
func TestClockSetBack(t *testing.T) {
	var log bytes.Buffer
	m := &monitor{log: slog.New(slog.NewTextHandler(&log, nil))}
	now := time.Now().UnixNano()
	m.now = now + int64(time.Second)
	m.clockBack(now) // as far as any clock wobbles
	if log.Len() != 0 {
		t.Errorf("said without a reason: %s", log.String())
	}
	m.now = now + int64(time.Hour)
	m.clockBack(now)
	m.clockBack(now + second)
	if n := strings.Count(log.String(), "set back"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, log.String())
	}
}
