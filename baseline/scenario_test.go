package baseline

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

var update = flag.Bool("update", false, "write what is told today into the want sections of the scenarios")

// TestScenario runs testdata/scenarios/*.txtar: flow records and container events in, findings out, through the real connection
// table and the real engine. testdata/scenarios/README.md explains the files.
func TestScenario(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := parseScenario(file, data)
			if err != nil {
				t.Fatal(err)
			}
			got := s.play()
			if *update {
				if err := os.WriteFile(file, s.rewrite(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := gocmp.Diff(strings.Split(s.want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if again := s.play(); again != got {
				t.Errorf("a second run told otherwise:\n%s", gocmp.Diff(got, again))
			}
		})
	}
}

// epoch is the beginning of every scenario: a Monday.
var epoch = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC).UnixNano()

const sec = int64(time.Second)

// stage is one run of a scenario.
type stage struct {
	s      *scenario
	table  *enrich.Table
	engine *Engine
	now    int64
	out    strings.Builder
	alive  map[string]bool
}

// play runs the scenario and prints what was told, one finding a line.
func (s *scenario) play() string {
	g := &stage{s: s, now: epoch - sec, alive: map[string]bool{}}
	g.table = enrich.NewTable(enrich.Default(), metrics.NewSet())
	g.engine = New(s.config, metrics.NewSet(), g.told)
	g.engine.SetIndicators(&s.indicators)
	end := epoch
	for _, step := range s.steps {
		g.advance(step.at)
		step.do(g)
		end = max(end, step.at)
	}
	g.advance(end + 20*60*sec)
	return g.out.String()
}

// advance moves event time to at, second by second while there is something to wait for, faster in quiet hours.
func (g *stage) advance(at int64) {
	busy := g.now + 5*sec
	for g.now+sec <= at {
		step := sec
		if g.now >= busy {
			step = min(30*sec, (at-g.now)/sec*sec)
		}
		g.now += step
		g.table.Advance(g.now, g.engine)
		g.engine.Tick(g.now)
	}
}

func (g *stage) event(e enrich.Event) {
	e.Engine = "local"
	g.table.Event(&e)
	g.engine.Event(&e)
}

// life is what an engine says when a container comes: it is made, gets its address, starts.
func (g *stage) life(at int64, c *member, first enrich.EventKind) {
	g.alive[c.ID] = first != enrich.Died
	switch first {
	case enrich.Died:
		g.event(enrich.Event{Time: at, Kind: enrich.Died, Container: &c.Container})
		g.gone(at, c)
		return
	}
	if first != enrich.Listed {
		c.Created, c.Started = at, at
	}
	g.event(enrich.Event{Time: at, Kind: first, Container: &c.Container})
	if c.binding != nil {
		g.event(enrich.Event{Time: at, Kind: enrich.Connected, Container: &c.Container, Binding: c.binding})
	}
	if first == enrich.Created {
		g.event(enrich.Event{Time: at, Kind: enrich.Started, Container: &c.Container})
	}
}

// gone is what follows the end of a container that is not kept.
func (g *stage) gone(at int64, c *member) {
	g.alive[c.ID] = false
	if c.binding != nil {
		g.event(enrich.Event{Time: at, Kind: enrich.Disconnect, Container: &c.Container, Binding: c.binding})
	}
	g.event(enrich.Event{Time: at, Kind: enrich.Destroyed, Container: &c.Container})
}

// restart puts the state of the engine into a new one, which then hears the list of what runs.
func (g *stage) restart(at int64) {
	type row struct {
		detector, key string
		blob          []byte
	}
	var rows []row
	g.engine.Dirty(1<<30, func(detector, key string, blob []byte) bool {
		rows = append(rows, row{detector, key, slices.Clone(blob)})
		return true
	})
	g.engine = New(g.s.config, metrics.NewSet(), g.told)
	g.engine.SetIndicators(&g.s.indicators)
	for _, r := range rows {
		if err := g.engine.Restore(r.detector, r.key, r.blob); err != nil {
			panic(err)
		}
	}
	g.engine.Gap(flow.Gap{Source: "monitor", From: at - sec, To: at, Reason: "restart"})
	for _, c := range g.s.containers {
		if g.alive[c.ID] {
			g.life(at, c, enrich.Listed)
		}
	}
	g.event(enrich.Event{Time: at, Kind: enrich.Synced})
}

// told prints a finding: when it could be said, how bad, by whom, about what, and the sentence.
func (g *stage) told(f Finding) {
	learning := ""
	if f.Learning {
		learning = " (learning)"
	}
	fmt.Fprintf(&g.out, "%s %s %s %s %q%s: %s\n", clock(f.Time-epoch), f.Severity, f.Detector, f.Workload, f.Subject, learning, f.Summary)
	for _, key := range g.s.show {
		if v, ok := f.Evidence[key]; ok {
			fmt.Fprintf(&g.out, "    %s: %s\n", key, jsonOf(v))
		}
	}
}

// clock prints an offset from the epoch as day and time of day: 2d 02:15:00.
func clock(offset int64) string {
	d := time.Duration(offset).Truncate(time.Second)
	day := d / (24 * time.Hour)
	d -= day * 24 * time.Hour
	return fmt.Sprintf("%dd %02d:%02d:%02d", day, d/time.Hour, d/time.Minute%60, d/time.Second%60)
}

// step is one input of a scenario at its time of arrival.
type step struct {
	at int64
	do func(*stage)
}

func sortSteps(steps []step) {
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
}

func names[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }
