package alerts

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/state"
)

const (
	second = int64(time.Second)
	minute = int64(time.Minute)
	hour   = int64(time.Hour)
	day    = 24 * hour
)

// start of event time in all tests: 2026-03-01 00:00 UTC.
var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()

var quietLog = slog.New(slog.NewTextHandler(io.Discard, nil))

// finding makes one with an id from detector, workload, subject and time.
func finding(detector, workload, subject string, at int64, s baseline.Severity, score float64) baseline.Finding {
	return baseline.Finding{
		ID: fmt.Sprintf("%s/%s/%s/%d", detector, workload, subject, at), Detector: detector, Time: at, Window: at - hour, Workload: workload,
		Instance: &enrich.Container{ID: strings.Repeat("a", 64), Name: "shop-worker-1", Image: "acme/worker:1.8", Workload: workload},
		Subject:  subject, Score: score, Severity: s, Summary: detector + " to " + subject, Attack: []string{"T1071.001"},
		Evidence: map[string]any{"period_seconds": 60.1, "intervals": []float64{60, 61, 59, 60, 60, 58, 62, 60}, "beats": 8},
		Method:   enrich.MethodIP, Confidence: enrich.Exact,
	}
}

func beacon(at int64) baseline.Finding {
	return finding("beacon", "compose:shop/worker", "203.0.113.9:443/tcp", at, baseline.High, .97)
}

func memoryManager(t *testing.T, c Config) *Manager {
	t.Helper()
	m, err := NewManager(c, &Memory{}, metrics.NewSet(), quietLog)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// stored opens a Manager on a state file; the function it returns closes both, as often as called.
func stored(t *testing.T, dir string, c Config) (*Manager, *Store, func()) {
	t.Helper()
	db, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(db, c)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(c, s, metrics.NewSet(), quietLog)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	stop := func() {
		if closed {
			return
		}
		closed = true
		if err := m.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return m, s, stop
}

func only(t *testing.T, m *Manager) Incident {
	t.Helper()
	all := m.Incidents()
	if len(all) != 1 {
		t.Fatalf("%d incidents, want one", len(all))
	}
	return all[0]
}
