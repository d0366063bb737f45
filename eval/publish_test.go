package eval

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestPublish writes the page, the plots and the results from the parts of a full run, and compares the results with those published
// before. It runs from scripts/eval.sh only. Results that are worse beyond noise fail and stay beside the parts, unless
// WHARFWATCH_EVAL_ACCEPT says that they are what will be published.
func TestPublish(t *testing.T) {
	dir := Full()
	if dir == "" {
		t.Skip("-short: make eval publishes")
	}
	parts, err := Load(dir)
	if err != nil || len(parts) == 0 {
		t.Fatalf("%d parts: %v", len(parts), err)
	}
	if Development() {
		t.Log("\n" + Page(parts))
		return
	}
	const page, pictures = "../docs/evaluation.md", "../docs/evaluation"
	results := filepath.Join(pictures, "results.json")
	now := Collect(parts)
	var before Results
	text, err := os.ReadFile(results)
	if err == nil {
		err = json.Unmarshal(text, &before)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, complaint := range now.Worse(before) {
		t.Log(complaint)
		if os.Getenv("WHARFWATCH_EVAL_ACCEPT") == "" {
			t.Fail()
		}
	}
	for name, f := range now.Figures {
		if !f.Held() {
			t.Logf("floor missed: %s is %.4g, floor %g", name, f.Value, f.Floor)
		}
	}
	if t.Failed() {
		t.Fatal("not published; WHARFWATCH_EVAL_ACCEPT=1 publishes nevertheless")
	}
	if text, err = now.JSON(); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{page: Page(parts), results: string(text)}
	for _, p := range parts {
		for _, plot := range p.Plots {
			files[filepath.Join(pictures, plot.File+".svg")] = plot.SVG()
		}
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}
