package configs

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestSampleIsDefault reads the shipped file into nothing: what comes out must be the defaults, so no key may be missing or differ.
func TestSampleIsDefault(t *testing.T) {
	var got Config
	_, problems := overlay(reflect.ValueOf(&got).Elem(), "wharfwatch.yaml", Sample, nil, nil, map[string]Origin{})
	if problems != nil {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(*Default(), got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("wharfwatch.yaml is not the defaults: -default +file\n%s", diff)
	}
}

// TestSampleNamesEveryKey finds keys whose default is the zero value, which the comparison above cannot miss.
func TestSampleNamesEveryKey(t *testing.T) {
	c := Default()
	origins := map[string]Origin{}
	if _, problems := overlay(reflect.ValueOf(c).Elem(), "wharfwatch.yaml", Sample, nil, nil, origins); problems != nil {
		t.Fatal(problems)
	}
	walk(reflect.ValueOf(c).Elem(), "", func(path string, _ reflect.Value) {
		if _, ok := origins[path]; !ok {
			t.Errorf("%s is not in wharfwatch.yaml", path)
		}
	})
}

// TestSampleExplains wants a comment above each key, or above the key before it where a group is explained at once.
func TestSampleExplains(t *testing.T) {
	file, err := parser.ParseBytes(Sample, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var visit func(n ast.Node, path string, explained bool)
	visit = func(n ast.Node, path string, explained bool) {
		switch n := n.(type) {
		case *ast.MappingNode:
			for _, pair := range n.Values {
				key := join(path, pair.Key.String())
				explained = explained || pair.GetComment() != nil
				if _, scalar := pair.Value.(ast.ScalarNode); scalar && !explained {
					t.Errorf("%s has no comment", key)
				}
				visit(pair.Value, key, false)
			}
		case *ast.SequenceNode:
			for i, v := range n.Values {
				visit(v, path, n.GetComment() != nil || n.Entries[i].HeadComment != nil)
			}
		}
	}
	visit(file.Docs[0].Body, "", false)
}

// TestSampleExamples uncomments the examples ("# key:" with indented lines below it) and reads them: they must be valid.
func TestSampleExamples(t *testing.T) {
	lines := strings.Split(string(Sample), "\n")
	found := 0
	for i := 0; i < len(lines); i++ {
		indent, key, ok := strings.Cut(lines[i], "# ")
		if !ok || strings.TrimSpace(indent) != "" || !strings.HasSuffix(key, ":") || strings.Contains(key, " ") {
			continue
		}
		end := i + 1
		for end < len(lines) && strings.HasPrefix(lines[end], indent+"#   ") {
			end++
		}
		if end == i+1 {
			continue
		}
		found++
		text := append([]string(nil), lines...)
		for j := i; j < end; j++ {
			text[j] = indent + strings.TrimPrefix(strings.TrimPrefix(lines[j], indent), "# ")
		}
		whole := strings.Join(text, "\n")
		whole = strings.Replace(whole, "\n"+indent+key+" []\n", "\n", 1) // the empty default that the example stands for
		if _, err := load("example", []byte(whole), nil, nil); err != nil {
			t.Errorf("the example of line %d: %v", i+1, err)
		}
		i = end
	}
	if found < 3 {
		t.Errorf("%d examples found", found)
	}
}

// TestDefaultIsValid loads nothing.
func TestDefaultIsValid(t *testing.T) {
	c, err := Load("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Show() {
		if s.Origin.Kind != "default" {
			t.Errorf("%s comes from %v", s.Path, s.Origin)
		}
	}
}

// TestRooms compares the report on whole configurations with wrong values, as rooms judge them.
func TestRooms(t *testing.T) {
	file := filepath.Join("testdata", "rooms", "wrong.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = load("wrong.yaml", text, []string{"flow.slack_seconds=-1"}, []string{"WHARFWATCH_CONSOLE__LISTEN=nowhere"})
	if err == nil {
		t.Fatal("accepted")
	}
	golden(t, filepath.Join("testdata", "rooms", "wrong.want"), err.Error()+"\n")
}

// TestShowHidesSecrets plants a canary wherever a secret may stand and looks for it in everything that is printed.
func TestShowHidesSecrets(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "rooms", "secrets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := load("secrets.yaml", text, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	planted := bytes.Count(text, []byte("canary")) + bytes.Count(text, []byte("whsec_"))
	masked := 0
	for _, s := range c.Show() {
		if strings.Contains(s.Value, "canary") || strings.Contains(s.Value, "Y2FuYXJ5") {
			t.Errorf("%s shows %s", s.Path, s.Value)
		}
		if strings.Contains(s.Value, mask) && !strings.HasSuffix(s.Path, ".headers.0.name") {
			masked++
		}
	}
	if masked != planted || planted < 3 {
		t.Errorf("%d secrets planted, %d masked", planted, masked)
	}
}

// TestFlags says what the monitor needs to know: what a person named must work.
func TestExplicit(t *testing.T) {
	c, err := load("t.yaml", []byte("flow: {netflow: [':9995']}\nenrich: {docker: off}\n"), []string{"console.listen=off"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, path := range []string{"flow.netflow", "flow.interfaces", "enrich.docker", "console.listen", "console", "data_dir"} {
		got[path] = c.Explicit(path)
	}
	want := map[string]bool{"flow.netflow": true, "flow.interfaces": false, "enrich.docker": true, "console.listen": true, "console": true, "data_dir": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !c.Flow.ExplicitNetflow || c.Flow.ExplicitInterfaces || len(c.Enrich.Docker) != 0 {
		t.Errorf("%+v %+v", c.Flow, c.Enrich.Docker)
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil, nil); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
}

// FuzzLoad holds that no text makes the loader panic, and that whatever it accepts is valid and shows no secret.
func FuzzLoad(f *testing.F) {
	f.Add(Sample, "", "")
	files, _ := filepath.Glob("testdata/*.yaml")
	rooms, _ := filepath.Glob("testdata/rooms/*.yaml")
	for _, file := range append(files, rooms...) {
		if text, err := os.ReadFile(file); err == nil {
			f.Add(text, "log.level=debug", "1")
		}
	}
	f.Add([]byte("a: &a [*a]"), "flow.netflow=[a", "off")
	f.Fuzz(func(t *testing.T, text []byte, set, env string) {
		if len(text) > 64<<10 {
			return
		}
		c, err := load("fuzz.yaml", text, []string{set}, []string{"WHARFWATCH_FLOW__NETFLOW=" + env})
		if err != nil {
			_ = err.Error()
			return
		}
		c.validate(func(path, message string) { t.Errorf("accepted, but %s: %s", path, message) })
		c.Show()
	})
}
