package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestDemo plays the demo twice: the same bytes, every attack found, every look-alike silent, nothing else told.
func TestDemo(t *testing.T) {
	play := func(args ...string) string {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"demo"}, args...), nil, &out, &errs, nil); code != 0 {
			t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
		}
		return out.String()
	}
	text := play("--headless", "-o", "json")
	if again := play("--headless", "-o", "json"); again != text {
		t.Error("the second demo differs from the first")
	}
	var r demoResult
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Attacks) < 8 || len(r.LookAlikes) < 8 || r.Records < 100_000 {
		t.Errorf("%d attacks, %d look-alikes, %d records", len(r.Attacks), len(r.LookAlikes), r.Records)
	}
	seen := map[string]bool{}
	for _, a := range r.Attacks {
		if !a.Found {
			t.Errorf("not found: %s", a.Title)
		}
	}
	for _, l := range r.LookAlikes {
		if !l.Silent {
			t.Errorf("not silent: %s", l.Title)
		}
	}
	for _, i := range r.Incidents {
		if seen[i.Workload] {
			t.Errorf("two incidents of %s", i.Workload)
		}
		seen[i.Workload] = true
	}
	if shown := play(); strings.Count(shown, "found   ") != len(r.Attacks) || !strings.Contains(shown, "attacks found") {
		t.Errorf("the board:\n%s", shown)
	}
}
