// Package eval is the evaluation of the detectors: the drawn benchmarks, the scores of other tools written from their published
// formulas, the statistics, and the tables, plots and figures that are published. Only tests import it.
//
// Tests of the rooms drive the product over the benchmarks and save a Part each; `make eval` does so at full size and publishes the
// parts as docs/evaluation.md, docs/evaluation/*.svg and docs/evaluation/results.json.
package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Part is one chapter of the evaluation.
type Part struct {
	Order   int               `json:"order"` // place on the page
	ID      string            `json:"id"`
	Title   string            `json:"title"`
	Text    []string          `json:"text"` // paragraphs before the tables: how it was measured
	Tables  []Table           `json:"tables"`
	Plots   []Plot            `json:"plots"`
	Bounds  []string          `json:"bounds"` // what bounds the figures, one sentence each
	Figures map[string]Figure `json:"figures"`
}

// Table is shown as it is. Cells may hold Markdown.
type Table struct {
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Figure is one published number with its 95 % confidence interval.
type Figure struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	N     int     `json:"n"`               // how many cases it rests on
	Lower bool    `json:"lower,omitempty"` // lower is better
	Exact bool    `json:"exact,omitempty"` // the input is the same each time: any change is one of the product
	Free  bool    `json:"free,omitempty"`  // not compared between runs: it depends on the machine
	Floor float64 `json:"floor,omitempty"` // must not be undercut (exceeded where lower is better); 0 none
	Goal  float64 `json:"goal,omitempty"`  // pushed towards; 0 none
	Minor bool    `json:"minor,omitempty"` // one of many: named among the floors only where it is missed
}

// Held reports whether the floor holds.
func (f Figure) Held() bool {
	return f.Floor == 0 || !f.Lower && f.Value >= f.Floor-1e-9 || f.Lower && f.Value <= f.Floor+1e-9
}

// Full is the folder for the parts of a full run, "" for the short form that runs with the other tests.
func Full() string { return os.Getenv("WHARFWATCH_EVAL") }

// Progress says on standard error how far a full run is. The short form says nothing.
func Progress(format string, args ...any) {
	if Full() != "" {
		fmt.Fprintf(os.Stderr, "eval: "+format+"\n", args...)
	}
}

// Add puts a figure under the part's name.
func (p *Part) Add(name string, f Figure) {
	if p.Figures == nil {
		p.Figures = map[string]Figure{}
	}
	p.Figures[p.ID+"."+name] = f
}

// Save writes the part into the folder of a full run; without one it does nothing.
func (p *Part) Save() error {
	dir := Full()
	if dir == "" {
		return nil
	}
	text, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return fmt.Errorf("encode the part %s: %w", p.ID, err)
	}
	return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, p.ID+".json"), text, 0o644))
}

// Load reads the parts in a folder, in the order of the page.
func Load(dir string) (parts []Part, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var p Part
		if err := json.Unmarshal(text, &p); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b Part) int {
		if a.Order != b.Order {
			return a.Order - b.Order
		}
		return strings.Compare(a.ID, b.ID)
	})
	return parts, nil
}

// Development reports whether a full run draws from the development seeds: for looking, never for publishing.
func Development() bool { return os.Getenv("WHARFWATCH_EVAL_SEEDS") == "development" }
