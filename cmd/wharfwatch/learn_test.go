package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/state"
)

// TestLearn teaches two weeks of a router's exports, among them a backup every night. The first live day is then judged by them: an
// unusual transfer of another container is told as known to be unusual, the backup is not mentioned. Without the lesson both look alike.
func TestLearn(t *testing.T) {
	dir := t.TempDir()
	c := &cli{t: t, data: filepath.Join(dir, "data")}
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	s := newSite(5, "web", "api", "worker", "mail", "search", "database")
	inventory := s.inventory(t, filepath.Join(dir, "inventory.json"), map[string]any{"Privileged": true})
	var weeks []string
	records := 0
	for week := range 2 {
		x := newExports(begin.Add(-time.Hour))
		for day := range 7 {
			x.Write(s.day(begin.AddDate(0, 0, 7*week+day)))
		}
		weeks = append(weeks, x.save(t, filepath.Join(dir, fmt.Sprintf("week%d.pcap", week+1))))
		records += x.Records
	}
	midnight := begin.AddDate(0, 0, 14)
	x := newExports(begin.Add(-time.Hour))
	x.Write(append(s.day(midnight), s.transfer("worker", netip.MustParseAddr("203.0.113.99"), midnight.Add(14*time.Hour+10*time.Minute), 10, 200e6)...))
	today := x.save(t, filepath.Join(dir, "today.pcap"))

	start := time.Now()
	out, errs := c.run(0, append([]string{"replay", "--learn", "--inventory", inventory}, weeks...)...)
	took := time.Since(start)
	if out != "" {
		t.Errorf("learning tells:\n%s", out)
	}
	c.contains(errs, fmt.Sprintf("learned %d records of 6 workloads, up to 2026-03-15T23:", records), fmt.Sprintf("records %d\nfindings 0\n", records))
	t.Logf("learned %d records of two weeks in %.1f s", records, took.Seconds())
	if took > 30*time.Second {
		t.Errorf("two weeks of 6 containers took %s", took)
	}

	// The first live day.
	out, errs = c.run(0, "replay", "--inventory", inventory, today)
	told := spikes(t, out)
	if len(told) != 1 {
		t.Fatalf("told %d spikes on the first day, want 1:\n%s%s", len(told), out, errs)
	}
	f := told[0]
	if f.workload != "compose:shop/worker" || f.Severity < baseline.Medium || f.Learning || f.Time.Std().Hour() != 14 {
		t.Errorf("told %+v", f)
	}
	var said struct {
		Bytes float64 `json:"bytes"`
	}
	if err := json.Unmarshal(f.Evidence, &said); err != nil || said.Bytes < 10e8 || said.Bytes > 10.1e8 {
		t.Errorf("the first bin holds five slices of 200 MB and is told as %s", f.Evidence)
	}
	if again, _ := c.run(0, "replay", "--inventory", inventory, today); again != out {
		t.Error("replay with --data-dir has changed what it is judged by")
	}
	// What is set up how was not learned, so the first start still reports it, and nothing else is told.
	if incidents := strings.Count(out, "\n"); incidents != 2 || !strings.Contains(out, `"subject":"adoption"`) {
		t.Errorf("%d incidents on the first day, want the spike and the adoption report:\n%s", incidents, out)
	}

	// The control: the same day, judged without the lesson.
	var blank strings.Builder
	if code := execute(t.Context(), []string{"replay", "--inventory", inventory, today}, nil, &blank, &blank, nil); code != 0 {
		t.Fatalf("exit code %d: %s", code, blank.String())
	}
	backup := false
	for _, f := range spikes(t, blank.String()) {
		backup = backup || f.workload == "compose:shop/database"
		if !f.Learning {
			t.Errorf("without a lesson %s is not marked learning", f.workload)
		}
	}
	if !backup {
		t.Errorf("without a lesson the first backup is not told, so its silence shows nothing:\n%s", blank.String())
	}

	t.Run("twice", func(t *testing.T) {
		before := snapshots(t, c.data)
		_, errs := c.run(0, append([]string{"replay", "--learn", "--inventory", inventory}, weeks...)...)
		c.contains(errs, fmt.Sprintf("note: %d records left out: the baselines in %s knew up to 2026-03-15T23:", records, c.data), "nothing was learned")
		if after := snapshots(t, c.data); after != before {
			t.Error("learning the same files again changed the baselines")
		}
	})
	t.Run("goes on", func(t *testing.T) {
		_, errs := c.run(0, "replay", "--learn", "--inventory", inventory, weeks[1], today)
		c.contains(errs, "records left out", fmt.Sprintf("learned %d records of 6 workloads, up to 2026-03-16T23:", x.Records))
	})
	t.Run("excludes", func(t *testing.T) {
		for _, flag := range []string{"--findings", "--records", "--fail-on=low"} {
			_, errs := c.run(2, "replay", "--learn", flag, today)
			c.contains(errs, "--learn tells nothing")
		}
	})
}

type spike struct {
	alerts.Finding
	workload string
}

// spikes are the findings of egress-spike in the incidents that replay printed.
func spikes(t *testing.T, text string) (out []spike) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		var i alerts.Incident
		if !strings.HasPrefix(line, "{") {
			continue
		}
		if err := json.Unmarshal([]byte(line), &i); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		for _, f := range i.Findings {
			if f.Detector == "egress-spike" {
				out = append(out, spike{f, i.Workload})
			}
		}
	}
	return out
}

// snapshots is everything that a data directory knows of baselines.
func snapshots(t *testing.T, dir string) string {
	t.Helper()
	db, err := state.OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var b strings.Builder
	if _, err := db.LoadSnapshots(func(s state.Snapshot) error {
		fmt.Fprintf(&b, "%s %s %d %x\n", s.Detector, s.Key, s.Time, s.Blob)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
