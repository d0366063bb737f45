package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wharfwatch/wharfwatch/configs"
)

const module = "github.com/wharfwatch/wharfwatch"

// imports says which of our packages each package may import: the import line of the data path, leftwards only. A package that is
// not listed may not exist.
var imports = map[string][]string{
	"flow":           {},
	"state":          {},
	"docs":           {},
	"eval":           {},
	"enrich":         {"flow"},
	"baseline":       {"enrich", "flow"},
	"alerts":         {"baseline", "enrich", "flow", "state"},
	"console":        {"alerts", "baseline", "enrich", "flow", "state"},
	"configs":        {"console", "alerts", "baseline", "enrich", "flow", "state"},
	"cmd/wharfwatch": {"docs", "configs", "console", "alerts", "baseline", "enrich", "flow", "state", "cmd/wharfwatch/demo"},
	"rig":            {"flow", "enrich"},

	"cmd/wharfwatch/demo": {"enrich", "flow"},
}

// fences says where a heavy or sharp dependency may be imported, and why only there.
var fences = []struct {
	prefix  string
	allowed []string
	reason  string
}{
	{"github.com/netsampler/goflow2", []string{"flow"}, "untyped decoders stay behind one door"},
	{"github.com/google/gopacket", []string{"flow"}, "packets are flow's, and gopacket allocates"},
	{"github.com/docker/", []string{"enrich"}, "86 packages never leak into detectors"},
	{"github.com/goccy/go-yaml", []string{"configs"}, "one reader of configuration"},
	{"github.com/spf13/", []string{"cmd/wharfwatch"}, "flags are the command's"},
	{"modernc.org/", []string{"state"}, "one door to the disk"},
	{"github.com/wneessen/", []string{"alerts"}, "mail is a way of telling"},
	{"net/http", []string{"alerts", "console", "cmd/wharfwatch"}, "one outgoing door, one listener, one client of it"},
	{module + "/rig", nil, "the rig is for tests"},
	{module + "/eval", nil, "the evaluation is for tests"},
	{"C", nil, "the monitor is built without cgo"},
}

// pure are packages whose code has no clock and no I/O, with what they must not import and not call.
var pure = map[string]struct{ imports, calls []string }{
	"baseline": {
		imports: []string{"os", "net", "net/http", "io/fs", "syscall", "os/exec", "log", "log/slog"},
		calls:   []string{"time.Now", "time.Since", "time.Until", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker", "time.Tick", "time.Sleep"},
	},
}

// pkg is the part of `go list -json` that is judged here.
type pkg struct {
	ImportPath, Dir string
	Doc             string
	GoFiles         []string
	Imports         []string
	TestGoFiles     []string
	XTestGoFiles    []string
}

// name is the path below the module.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func TestArchitecture(t *testing.T) {
	for _, complaint := range judge(list(t)) {
		t.Error(complaint)
	}
}

// TestArchitectureBites gives the judge a house with one of each fault.
func TestArchitectureBites(t *testing.T) {
	house := []pkg{
		{ImportPath: module + "/flow", Doc: "d", Imports: []string{"net", module + "/enrich"}},
		{ImportPath: module + "/enrich", Doc: "d", Imports: []string{"net/http", module + "/flow", module + "/rig"}},
		{ImportPath: module + "/alerts", Imports: []string{"github.com/google/gopacket/layers"}},
		{ImportPath: module + "/baseline", Doc: "d", Imports: []string{"os", "github.com/docker/docker/client"}},
		{ImportPath: module + "/utils", Doc: "d"},
	}
	got := strings.Join(judge(house), "\n")
	for _, want := range []string{
		"flow imports enrich", "enrich imports net/http", "enrich imports " + module + "/rig", "alerts has no package comment",
		"alerts imports github.com/google/gopacket/layers", "baseline imports os", "baseline imports github.com/docker/docker/client", "utils is in no table",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not said: %s\nsaid:\n%s", want, got)
		}
	}
	source := `package x
import (hidden "time"; "time")
func init() {}
func f() { _ = hidden.Now(); go time.Sleep(1); _ = time.Second }`
	complaints := strings.Join(judgeSource("x.go", source, []string{"time.Now", "time.Sleep"}, true), "\n")
	for _, want := range []string{"init()", "time.Now", "time.Sleep", "goroutine"} {
		if !strings.Contains(complaints, want) {
			t.Errorf("not said: %s\nsaid:\n%s", want, complaints)
		}
	}
}

// judge holds packages against the tables.
func judge(pkgs []pkg) (complaints []string) {
	say := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	for _, p := range pkgs {
		allowed, listed := imports[p.name()]
		if !listed {
			say("%s is in no table: say here what it may import", p.name())
			continue
		}
		if p.Doc == "" {
			say("%s has no package comment", p.name())
		}
		for _, path := range p.Imports {
			if own, ok := strings.CutPrefix(path, module+"/"); ok && !slices.Contains(allowed, own) {
				say("%s imports %s: the import line runs leftwards only", p.name(), own)
			}
			for _, f := range fences {
				if (path == f.prefix || strings.HasPrefix(path, strings.TrimSuffix(f.prefix, "/")+"/")) && !slices.Contains(f.allowed, p.name()) {
					say("%s imports %s: %s", p.name(), path, f.reason)
				}
			}
			if slices.Contains(pure[p.name()].imports, path) {
				say("%s imports %s: it has no clock and does no I/O", p.name(), path)
			}
		}
		rules, isPure := pure[p.name()]
		for _, file := range p.GoFiles {
			source, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				say("%v", err)
				continue
			}
			complaints = append(complaints, judgeSource(p.name()+"/"+file, string(source), rules.calls, isPure)...)
		}
	}
	return complaints
}

// judgeSource parses one file: no init, and in pure packages none of the calls and no goroutine. Imports under another name are seen.
func judgeSource(name, source string, calls []string, isPure bool) (complaints []string) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	say := func(n ast.Node, what string) {
		complaints = append(complaints, fset.Position(n.Pos()).String()+": "+what)
	}
	packages := map[string]string{}
	for _, i := range file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		local := path[strings.LastIndexByte(path, '/')+1:]
		if i.Name != nil {
			local = i.Name.Name
		}
		packages[local] = path
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				say(n, "init(): wiring is done by hand, in cmd")
			}
		case *ast.GoStmt:
			if isPure {
				say(n, "goroutine: one goroutine calls, none is started")
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(calls, packages[x.Name]+"."+n.Sel.Name) {
				say(n, packages[x.Name]+"."+n.Sel.Name+": time is the event time of the input")
			}
		}
		return true
	})
	return complaints
}

// list asks the go command about every package of the module.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,Imports,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 8 {
		t.Fatalf("go list named %d packages only", len(pkgs))
	}
	return pkgs
}

var metricName = regexp.MustCompile(`wharfwatch_[a-z0-9_]+`)

// TestMetricsReference holds docs/reference/metrics.md against the code, both ways: every metric made is explained there, and nothing
// else is.
func TestMetricsReference(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `wharfwatch_") {
			documented[metricName.FindString(line)] = true
		}
	}
	used := map[string]string{}
	for _, p := range list(t) {
		for _, file := range p.GoFiles {
			for name := range metricsIn(t, filepath.Join(p.Dir, file)) {
				used[name] = p.name() + "/" + file
			}
		}
	}
	if len(used) < 10 {
		t.Fatalf("only %d metrics found in the code", len(used))
	}
	// A name that is put together ("wharfwatch_docker_%s") is a prefix here: every page entry below it counts as made.
	for name := range documented {
		for prefix := range used {
			if strings.HasSuffix(prefix, "_") && strings.HasPrefix(name, prefix) {
				used[name] = used[prefix]
			}
		}
	}
	for _, name := range metricName.FindAllString(string(configs.Sample), -1) {
		if !documented[name] {
			t.Errorf("%s is named in wharfwatch.yaml and is not in docs/reference/metrics.md", name)
		}
	}
	for _, name := range slices.Sorted(keys(used)) {
		if !documented[name] && !strings.HasSuffix(name, "_") {
			t.Errorf("%s (%s) is not in docs/reference/metrics.md", name, used[name])
		}
	}
	for _, name := range slices.Sorted(keys(documented)) {
		if used[name] == "" {
			t.Errorf("%s is documented, but no code makes it", name)
		}
	}
}

// metricsIn finds string literals that begin with a metric's name.
func metricsIn(t *testing.T, file string) map[string]bool {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text := strings.Trim(lit.Value, "`\"")
			if strings.HasPrefix(text, "wharfwatch_") {
				out[metricName.FindString(text)] = true
			}
		}
		return true
	})
	return out
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
