package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/cmd/wharfwatch/demo"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

func newDemoCommand(g *globals) *cobra.Command {
	var format string
	var headless, engine bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "A scripted week and a day: attacks beside look-alikes, through the real product",
		Long: `Plays a small shop of twelve containers to the engine: seven ordinary days, then one with attacks, beside things that look like attacks
and are none. What the router exports and the container engine says is scripted; decoding, attribution, baselines, detectors and
incidents are the real ones, on their defaults. It needs no root, no Docker and no network, keeps nothing, and is the same every time.

With --docker the stage is the local engine: six containers made of this very binary on a network of their own, an implant and a
container with too many rights among them, watched by a real monitor and removed afterwards. It needs no registry.

The exit code is 0 when every attack was told and nothing else was, else 1.`,
		Example: "  wharfwatch demo\n  wharfwatch demo --headless -o json\n  sudo wharfwatch demo --docker",
		Args:    cobra.NoArgs,
		RunE: action(func(ctx context.Context, _ []string) error {
			if format != "table" && format != "json" {
				return usage(fmt.Errorf("-o %s: wanted table or json", format))
			}
			p := &play{g: g, config: configs.Default(), live: format == "table" && !headless}
			act := p.run
			if engine {
				act = (&stage{g: g}).run
			}
			result, err := act(ctx)
			if err != nil {
				return err
			}
			if err := result.print(g, format); err != nil {
				return err
			}
			if !result.Passed {
				return &exitError{code: exitFound}
			}
			return nil
		}),
	}
	c.Flags().StringVarP(&format, "output", "o", "table", "table or json")
	c.Flags().BoolVar(&engine, "docker", false, "six real containers on the local engine instead, for one to four minutes (root)")
	c.Flags().BoolVar(&headless, "headless", false, "only the result, not the incidents as they come")
	return c
}

// play is an engine on a stage.
type play struct {
	engine
	g      *globals
	config *configs.Config
	live   bool
	clock  *flow.Clock
	told   map[string]baseline.Severity // by incident, as printed last
}

// run plays the scene and compares what was told with the script.
func (p *play) run(ctx context.Context) (*demoResult, error) {
	scene, err := demo.New()
	if err != nil {
		return nil, err
	}
	set, log := metrics.NewSet(), p.g.logger(p.config.Log)
	if p.incidents, err = alerts.NewManager(p.config.Alerts, &alerts.Memory{}, set, log); err != nil {
		return nil, err
	}
	p.incidents.SetClock(func() time.Time { return time.Unix(0, p.now) })
	p.table = enrich.NewTable(p.config.Enrich, set)
	p.detectors = baseline.New(p.config.Baseline, set, p.tell)
	p.clock, p.told = flow.NewClock(0), map[string]baseline.Severity{}
	p.clock.SetLimit(p.config.Flow.ActiveTimeout() + p.config.Flow.Slack())

	pool := flow.NewPool(4)
	day := -1
	for part := range scene.Parts {
		p.detectors.SetQuiet(!part.Until.After(demo.Day)) // the week is a lesson, as with replay --learn
		if d := int(part.Until.Add(-1).Sub(demo.Begin).Hours() / 24); p.live && d != day {
			day = d
			p.day(d)
		}
		for i := range part.Events {
			p.event(&part.Events[i])
		}
		if len(part.Names) > 0 { // they wait for event time to reach them
			b, until := pool.Get(), part.Until.UnixNano()
			b.Source, b.Arrival, b.Watermark, b.Names = "capture:demo", until, until, append(b.Names, part.Names...)
			p.clock.Observe(b.Source, b.Watermark, b.Arrival)
			p.batch(b)
		}
		router := flow.OpenDatagrams("demo", bytes.NewReader(part.Exports), pool, set)
		err := router.Run(ctx, func(b *flow.Batch) {
			arrival := b.Arrival
			p.clock.Observe(b.Source, b.Watermark, arrival)
			p.batch(b)
			if at, ok := p.clock.Watermark(arrival); ok {
				p.advance(at)
			}
			p.show()
		})
		if err != nil {
			return nil, fmt.Errorf("play the scene: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p.show()
	}
	p.advance(p.now + afterwards)
	p.show()
	return compare(scene, p.incidents.Incidents(), p.records), nil
}

// day announces a day.
func (p *play) day(n int) {
	if n < demo.Week {
		fmt.Fprintf(p.g.stdout, "day %d  ordinary: learned, nothing is told\n", n+1)
		return
	}
	fmt.Fprintf(p.g.stdout, "day %d  %s\n\n", n+1, demo.Day.Format("Monday, 2 January 2006, times in UTC"))
}

// show prints incidents that are new or have become worse.
func (p *play) show() {
	if !p.live || p.incidents == nil {
		return
	}
	for _, i := range p.incidents.Incidents() {
		if before, known := p.told[i.ID]; known && i.Severity <= before {
			continue
		}
		p.told[i.ID] = i.Severity
		fmt.Fprintf(p.g.stdout, "  %s  %-8s %s\n", i.LastSeen.Std().UTC().Format("15:04"), i.Severity, clean(i.Summary, false))
	}
}

// demoResult is what came of the script.
type demoResult struct {
	Records    uint64            `json:"records"`
	Attacks    []attackResult    `json:"attacks"`
	LookAlikes []lookAlikeResult `json:"look_alikes"`
	False      []string          `json:"false"` // ids of incidents that nobody scripted
	Incidents  []alerts.Incident `json:"incidents"`
	Passed     bool              `json:"passed"`
}

type attackResult struct {
	Title    string `json:"title"`
	Workload string `json:"workload"`
	Detector string `json:"detector"`
	Began    string `json:"began"`
	Told     string `json:"told,omitempty"` // event time of the finding
	Incident string `json:"incident,omitempty"`
	Found    bool   `json:"found"`
}

type lookAlikeResult struct {
	Title    string `json:"title"`
	Workload string `json:"workload"`
	Like     string `json:"like"`
	Why      string `json:"why"`
	Silent   bool   `json:"silent"`
}

// compare holds the incidents against the script.
func compare(scene *demo.Scene, incidents []alerts.Incident, records uint64) *demoResult {
	r := &demoResult{Records: records, False: []string{}, Incidents: incidents, Passed: true}
	scripted := map[string]bool{}
	for _, a := range scene.Attacks {
		out := attackResult{Title: a.Title, Workload: a.Workload, Detector: a.Detector, Began: a.At.Format(time.RFC3339)}
		for _, i := range incidents {
			for _, f := range i.Findings {
				if i.Workload == a.Workload && f.Detector == a.Detector && f.Severity >= baseline.Medium && !f.Time.Std().Before(a.At) && !out.Found {
					out.Found, out.Incident, out.Told = true, i.ID, f.Time.Std().UTC().Format(time.RFC3339)
				}
			}
		}
		scripted[a.Workload] = true
		r.Attacks = append(r.Attacks, out)
		r.Passed = r.Passed && out.Found
	}
	for _, i := range incidents {
		if !scripted[i.Workload] {
			r.False, r.Passed = append(r.False, i.ID), false
		}
	}
	for _, l := range scene.LookAlikes {
		out := lookAlikeResult{l.Title, l.Workload, l.Like, l.Why, true}
		for _, i := range incidents {
			out.Silent = out.Silent && i.Workload != l.Workload
		}
		r.LookAlikes = append(r.LookAlikes, out)
		r.Passed = r.Passed && out.Silent
	}
	return r
}

func (r *demoResult) print(g *globals, format string) error {
	if format == "json" {
		e := json.NewEncoder(g.stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var out strings.Builder
	found, silent := 0, 0
	fmt.Fprintln(&out, "\nAttacks")
	for _, a := range r.Attacks {
		word, when := "MISSED", ""
		if a.Found {
			found++
			word, when = "found", fmt.Sprintf(", %s after it began", after(a.Began, a.Told))
		}
		fmt.Fprintf(&out, "  %-7s %s\n          by %s%s\n", word, a.Title, a.Detector, when)
	}
	fmt.Fprintln(&out, "Look-alikes")
	for _, l := range r.LookAlikes {
		word := "ALARM"
		if l.Silent {
			silent++
			word = "silent"
		}
		fmt.Fprintf(&out, "  %-7s %s\n          %s\n", word, l.Title, l.Why)
	}
	fmt.Fprintf(&out, "\n%d of %d attacks found, %d of %d look-alikes silent, %d false; %d records\n", found, len(r.Attacks), silent, len(r.LookAlikes), len(r.False), r.Records)
	_, err := fmt.Fprint(g.stdout, out.String())
	return err
}

func after(from, to string) string {
	a, _ := time.Parse(time.RFC3339, from)
	b, _ := time.Parse(time.RFC3339, to)
	if d := b.Sub(a); d > 0 {
		return d.String()
	}
	return "at once"
}
