package alerts

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/state"
)

type countingJournal struct {
	*Store
	commits atomic.Int32
}

func (c *countingJournal) Commit(ctx context.Context, ch *Change) error {
	c.commits.Add(1)
	return c.Store.Commit(ctx, ch)
}

// The findings of one tick are one commit, durable when Release returns, and the same as if each had been committed alone.
func TestHeldFindingsAreOneCommit(t *testing.T) {
	db, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := allReceivers()
	s, err := OpenStore(db, c)
	if err != nil {
		t.Fatal(err)
	}
	j := &countingJournal{Store: s}
	m, err := NewManager(c, j, metrics.NewSet(), quietLog)
	if err != nil {
		t.Fatal(err)
	}
	m.Hold()
	for i := range 60 {
		m.Finding(finding("beacon", fmt.Sprintf("w%d", i%20), fmt.Sprint(i), start+int64(i), baseline.High, .9))
	}
	if n := j.commits.Load(); n != 0 {
		t.Errorf("%d commits before Release", n)
	}
	m.Release()
	saved, err := s.Load(100)
	if err != nil || len(saved.Incidents) != 20 || len(saved.Seen) != 60 || j.commits.Load() != 1 {
		t.Fatalf("%v: %d incidents, %d findings durable in %d commits", err, len(saved.Incidents), len(saved.Seen), j.commits.Load())
	}
	for _, k := range saved.Incidents {
		if k.Count != 3 || len(k.Findings) != 3 {
			t.Errorf("%s is kept with %d findings", k.Workload, len(k.Findings))
		}
	}
	m.Hold()
	m.Finding(finding("scan", "w0", "x", start+hour, baseline.High, .9))
	if _, err := m.Close(saved.Incidents[0].ID, Benign, "ana", "ours"); err != nil { // a person comes between: the order stays
		t.Fatal(err)
	}
	m.Release()
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if saved, err = s.Load(100); err != nil || saved.Incidents[0].State != Closed || len(saved.Incidents[0].Findings) != 4 {
		t.Error(err, saved.Incidents[0])
	}
}

// A damaged row is a dead letter with its reason; those behind it go out, and one that is folded into is written anew.
func TestDamagedRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		spoil := func(workload string) {
			err := s.store.db.Write(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.Exec("UPDATE outbox SET message = '{half' WHERE incident = (SELECT id FROM incident WHERE workload = ?)", workload)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		s.m.Finding(finding("beacon", "a", "x", start, baseline.High, .9))
		s.m.Finding(finding("beacon", "b", "x", start, baseline.High, .9))
		s.m.Finding(finding("beacon", "c", "x", start, baseline.High, .9))
		spoil("a")
		spoil("c")
		s.m.Finding(finding("scan", "c", "x", start+1, baseline.High, .9))
		time.Sleep(time.Hour)
		s.conserved("hook", map[string]int{dead: 1, delivered: 2})
		failed, err := s.store.Failed(10)
		if err != nil || len(failed) != 3 || !strings.Contains(failed[0].Reason, "cannot be read") {
			t.Error(failed, err)
		}
	})
}

// Others are told once that a receiver is gone.
func TestGoneIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		s.say("/hook", answer(410, "bye"))
		s.m.Finding(critical(start))
		time.Sleep(time.Hour)
		for _, path := range []string{"/slack", "/pagerduty"} {
			told := 0
			for _, r := range s.requests(path) {
				if strings.Contains(r.Body, "receiver hook is disabled") {
					told++
				}
			}
			if told != 1 {
				t.Errorf("%s was told %d times", path, told)
			}
		}
		if n := len(s.requests("/hook")); n != 1 {
			t.Errorf("the one that is gone was asked %d times", n)
		}
	})
}
