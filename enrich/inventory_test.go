package enrich

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// lines makes events readable.
func lines(events []Event) (out []string) {
	for _, e := range events {
		line := fmt.Sprintf("%s %s", time.Unix(0, e.Time).UTC().Format("2006-01-02T15:04:05"), e.Kind)
		if e.Container != nil {
			line += " " + e.Container.Name
		}
		if e.Binding != nil {
			line += fmt.Sprintf(" %s %v", e.Binding.Network, e.Binding.Addrs)
		}
		out = append(out, line)
	}
	return out
}

func TestInventory(t *testing.T) {
	f := func(in string, want ...string) {
		t.Helper()
		events, err := ReadInventory(strings.NewReader(in), "inventory")
		if err != nil {
			t.Errorf("%s: %v", in, err)
			return
		}
		want = append(want, "1970-01-01T00:00:00 synced", "2262-04-11T23:47:16 progress")
		if d := gocmp.Diff(want, lines(events)); d != "" {
			t.Errorf("%s (-want +got):\n%s", in, d)
		}
	}
	entry := func(name, from, to, ip string) string {
		return fmt.Sprintf(`{"Id":"id-%s","Name":"/%s","State":{"StartedAt":%q,"FinishedAt":%q},"NetworkSettings":{"Networks":{"n":{"IPAddress":%q}}}}`, name, name, from, to, ip)
	}
	const day1, day2, day3, never = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00.000000000Z", "0001-01-01T00:00:00Z"
	f(`[]`)
	f(``)
	f("\ufeff [ ]\n")
	f("["+entry("a", day1, never, "10.0.0.1")+"]", "2026-01-01T00:00:00 listed a", "2026-01-01T00:00:00 connected a n [10.0.0.1]")
	f("["+entry("a", "", "", "10.0.0.1")+"]", "1970-01-01T00:00:00 listed a", "1970-01-01T00:00:00 connected a n [10.0.0.1]")
	// one address, two lives that touch; later entries and arrays count
	f("["+entry("b", day2, day3, "10.0.0.1")+"]["+entry("a", day1, day3, "10.0.0.9")+","+entry("a", day1, day2, "10.0.0.1")+"]",
		"2026-01-01T00:00:00 listed a", "2026-01-01T00:00:00 connected a n [10.0.0.1]",
		"2026-01-02T00:00:00 disconnect a n [10.0.0.1]", "2026-01-02T00:00:00 listed b", "2026-01-02T00:00:00 connected b n [10.0.0.1]",
		"2026-01-03T00:00:00 disconnect b n [10.0.0.1]")
	f("["+entry("again", day2, day1, "10.0.0.1")+"]", "2026-01-02T00:00:00 listed again", "2026-01-02T00:00:00 connected again n [10.0.0.1]")
	f("["+entry("mute", day1, never, "")+"]", "2026-01-01T00:00:00 listed mute")
}

func TestInventoryRefuses(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		_, err := ReadInventory(strings.NewReader(in), "inventory")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
	f(`{"Id":"x"}`, "container 0 (line 1, column 1): expected '['")
	f("[\n  {\"Id\":\"x\"},\n  {\"Name\":\"y\"}\n]", "container 1 (line 3, column 3): no Id")
	f("[{\"Id\":\"x\"},\n {\"Id\":\"y\",\n  \"State\":{\"Running\":\"yes\"}}]", "container 1 (line 3, column 26): State.Running is string")
	f("[\n{\"Id\":\"x\"\n", "container 0 (line 3, column 1): the file ends inside the array")
	f("[\n{\"Id\":\"x\"}\n{\"Id\"", "container 1 (line 3, column 1): ")
	f("[{\"Id\":\"x\",\"Created\":\"then\"}]", "container 0 (line 1, column 2): Created: \"then\" is no RFC 3339 time")
	f("[\n{\"Id\":x}]", "container 0 (line 2, column 7): invalid character 'x'")
}

func TestInventoryRealEngine(t *testing.T) {
	r, err := os.Open("testdata/inventory.json")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	events, err := ReadInventory(r, "test")
	if err != nil {
		t.Fatal(err)
	}
	check(t, events, 7, 4)
}

// TestInventoryShared reads the inventories of the data pack beside the project.
func TestInventoryShared(t *testing.T) {
	root := cmp.Or(os.Getenv("WHARFWATCH_DATA"), "../../shared/data")
	files, _ := filepath.Glob(filepath.Join(root, "inventory", "*.json"))
	if len(files) == 0 {
		t.Skipf("no inventories below %s (WHARFWATCH_DATA names the data pack)", root)
	}
	for _, file := range files {
		r, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		events, err := ReadInventory(r, "inventory")
		r.Close()
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		hosts := 0
		for _, e := range events {
			if e.Kind == Listed {
				hosts++
				if !strings.HasPrefix(e.Container.Workload, "compose:") {
					t.Errorf("%s: workload %s", file, e.Container.Workload)
				}
			}
		}
		check(t, events, hosts, hosts)
	}
}

// check holds events against the promises of ReadInventory.
func check(t *testing.T, events []Event, listed, connected int) {
	t.Helper()
	count := map[EventKind]int{}
	for _, e := range events {
		count[e.Kind]++
	}
	if count[Listed] != listed || count[Connected] != connected || listed == 0 {
		t.Errorf("%d listed, %d connected, want %d, %d", count[Listed], count[Connected], listed, connected)
	}
	body, end := events[:len(events)-2], events[len(events)-2:]
	if !slices.IsSortedFunc(body, func(a, b Event) int { return cmp.Compare(a.Time, b.Time) }) {
		t.Error("the events are not sorted by time")
	}
	if end[0].Kind != Synced || end[1].Kind != Progress {
		t.Errorf("the end is %s, %s", end[0].Kind, end[1].Kind)
	}
}

// FuzzInventory: a file that somebody made by hand is an error with a position, or events that keep the promises.
func FuzzInventory(f *testing.F) {
	f.Add([]byte(`[{"Id":"x","State":{"StartedAt":"2026-01-01T00:00:00Z","FinishedAt":"2026-01-02T00:00:00Z"},"NetworkSettings":{"IPAddress":"10.0.0.1"}}]`))
	f.Add([]byte(`[{"Id":"x"},]`))
	f.Add([]byte(`[] [{}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		events, err := ReadInventory(strings.NewReader(string(in)), "e")
		if err != nil {
			if !strings.Contains(err.Error(), "line ") {
				t.Errorf("no position: %v", err)
			}
			return
		}
		open := map[string]int{}
		for i, e := range events {
			if i > 0 && i < len(events)-2 && e.Time < events[i-1].Time {
				t.Fatalf("event %d is older than the one before", i)
			}
			switch e.Kind {
			case Connected:
				open[e.Container.ID+e.Binding.Network]++
			case Disconnect:
				open[e.Container.ID+e.Binding.Network]--
			}
		}
		for at, n := range open {
			if n < 0 {
				t.Fatalf("%s was disconnected more often than connected", at)
			}
		}
	})
}
