package configs

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

// level is text of its own form.
type level int

func (l *level) UnmarshalText(b []byte) error {
	if string(b) != "high" {
		return errors.New("known is high")
	}
	*l = 3
	return nil
}

type Common struct {
	Name string `yaml:"name"`
}

type receiver struct {
	Common   `yaml:",inline"`
	Least    *level        `yaml:"least"`
	Token    string        `yaml:"token"`
	TokenFil string        `yaml:"token_file"`
	Every    time.Duration `yaml:"every"`
}

// every kind of value that a room's Config may have.
type everything struct {
	Text     string             `yaml:"text"`
	Flag     bool               `yaml:"flag"`
	Small    uint8              `yaml:"small"`
	Number   int                `yaml:"number"`
	Ratio    float64            `yaml:"ratio"`
	Wait     time.Duration      `yaml:"wait"`
	List     []string           `yaml:"list"`
	Ports    []uint16           `yaml:"ports"`
	Map      map[string]string  `yaml:"map"`
	Deep     struct{ A, B int } `yaml:"deep"`
	Optional *receiver          `yaml:"optional"`
	Several  []receiver         `yaml:"several"`
	Webhook  string             `yaml:"webhook_url"`
}

func read(t *testing.T, text string, sets, environ []string) (everything, map[string]Origin, Problems) {
	t.Helper()
	v := everything{Text: "default", Number: 7, List: []string{"x"}}
	origins := map[string]Origin{}
	_, problems := overlay(reflect.ValueOf(&v).Elem(), "t.yaml", []byte(text), sets, environ, origins)
	return v, origins, problems
}

func TestDecode(t *testing.T) {
	high := level(3)
	f := func(text string, want everything) {
		t.Helper()
		got, _, problems := read(t, text, nil, nil)
		if problems != nil {
			t.Fatalf("%s: %v", text, problems)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(everything{}, receiver{})); diff != "" {
			t.Fatalf("%s: -want +got\n%s", text, diff)
		}
	}
	with := func(change func(*everything)) everything {
		v := everything{Text: "default", Number: 7, List: []string{"x"}}
		change(&v)
		return v
	}
	f("", with(func(*everything) {}))
	f("# only a comment\n", with(func(*everything) {}))
	f("---\ntext: a\n", with(func(v *everything) { v.Text = "a" }))
	f("\xef\xbb\xbftext: a\r\nflag: true\r\n", with(func(v *everything) { v.Text, v.Flag = "a", true }))
	f("text:\nnumber: ~\n", with(func(*everything) {}))
	f("text: 0123\nsmall: 255\nnumber: 1_000\nratio: 1e-3\n", with(func(v *everything) { v.Text, v.Small, v.Number, v.Ratio = "0123", 255, 1000, .001 }))
	f("text: 'true'\nratio: 3\nflag: \"true\"", with(func(v *everything) { v.Text, v.Ratio, v.Flag = "true", 3, true }))
	f("text: |\n  two\n  lines\n", with(func(v *everything) { v.Text = "two\nlines\n" }))
	f("wait: 1d12h", with(func(v *everything) { v.Wait = 36 * time.Hour }))
	f("wait: 1h30m", with(func(v *everything) { v.Wait = 90 * time.Minute }))
	f("list: off", with(func(v *everything) { v.List = []string{"off"} }))
	f("several: off", with(func(v *everything) { v.Several = []receiver{} }))
	f("list: []", with(func(v *everything) { v.List = []string{} }))
	f("list: [a, 'b']\nports: [1, 65535]", with(func(v *everything) { v.List, v.Ports = []string{"a", "b"}, []uint16{1, 65535} }))
	f("map: {b: 1, a: x}", with(func(v *everything) { v.Map = map[string]string{"b": "1", "a": "x"} }))
	f("deep: {a: 1}\n", with(func(v *everything) { v.Deep.A = 1 }))
	f("deep:\n  b: 2", with(func(v *everything) { v.Deep.B = 2 }))
	f("optional: {name: n, least: high}", with(func(v *everything) { v.Optional = &receiver{Common: Common{"n"}, Least: &high} }))
	f("several:\n- name: a\n  every: 5s\n- name: b\n", with(func(v *everything) {
		v.Several = []receiver{{Common: Common{"a"}, Every: 5 * time.Second}, {Common: Common{"b"}}}
	}))
}

func TestOverlay(t *testing.T) {
	f := func(sets, environ []string, want func(*everything)) {
		t.Helper()
		got, _, problems := read(t, "text: file\nseveral: [{name: a}]\n", sets, environ)
		if problems != nil {
			t.Fatal(problems)
		}
		v := everything{Text: "file", Number: 7, List: []string{"x"}, Several: []receiver{{Common: Common{"a"}}}}
		want(&v)
		if diff := cmp.Diff(v, got, cmp.AllowUnexported(everything{}, receiver{})); diff != "" {
			t.Fatalf("%v %v: -want +got\n%s", sets, environ, diff)
		}
	}
	f(nil, []string{"WHARFWATCH_TEXT=env", "HOME=/", "WHARFWATCH_SERVICE_HOST=10.0.0.1"}, func(v *everything) { v.Text = "env" })
	f([]string{"text=set"}, []string{"WHARFWATCH_TEXT=env"}, func(v *everything) { v.Text = "set" })
	f([]string{"text=#{*&!"}, nil, func(v *everything) { v.Text = "#{*&!" })
	f([]string{"text=a=b"}, nil, func(v *everything) { v.Text = "a=b" })
	f([]string{"text="}, nil, func(v *everything) { v.Text = "" })
	f([]string{"list=a, b"}, nil, func(v *everything) { v.List = []string{"a", "b"} })
	f([]string{"list=[a, b]"}, nil, func(v *everything) { v.List = []string{"a", "b"} })
	f([]string{"list="}, nil, func(v *everything) { v.List = []string{} })
	f([]string{"deep={a: 1, b: 2}"}, nil, func(v *everything) { v.Deep.A, v.Deep.B = 1, 2 })
	f(nil, []string{"WHARFWATCH_DEEP__B=3"}, func(v *everything) { v.Deep.B = 3 })
	f([]string{"several.0.every=5m", "several.1.name=b"}, nil, func(v *everything) {
		v.Several = []receiver{{Common: Common{"a"}, Every: 5 * time.Minute}, {Common: Common{"b"}}}
	})
	f([]string{"map.a=1", "map.b=2"}, nil, func(v *everything) { v.Map = map[string]string{"a": "1", "b": "2"} })
	f([]string{"optional.token=#t"}, nil, func(v *everything) { v.Optional = &receiver{Token: "#t"} })
}

// TestProblems compares the report of each testdata/NAME.yaml with NAME.want. The first lines "#set KEY=VALUE" and "#env NAME=VALUE"
// of a file are its overrides.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var sets, environ []string
		for line := range strings.Lines(string(text)) {
			if s, ok := strings.CutPrefix(line, "#set "); ok {
				sets = append(sets, strings.TrimSpace(s))
			}
			if s, ok := strings.CutPrefix(line, "#env "); ok {
				environ = append(environ, strings.TrimSpace(s))
			}
		}
		v := everything{}
		_, problems := overlay(reflect.ValueOf(&v).Elem(), filepath.Base(file), text, sets, environ, map[string]Origin{})
		problems.sort()
		golden(t, strings.TrimSuffix(file, ".yaml")+".want", problems.Error()+"\n")
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (rewrite with -update): -want +got\n%s", file, diff)
	}
}

func TestSuggest(t *testing.T) {
	f := func(word, want string) {
		t.Helper()
		if got := suggest(word, []string{"min_score", "mode", "gap", "webhook_url"}); got != want {
			t.Errorf("suggest(%q) = %q, want %q", word, got, want)
		}
	}
	f("min_scor", "min_score")
	f("minscore", "min_score")
	f("mdoe", "mode")
	f("webhok_url", "webhook_url")
	f("entirely", "")
	f("x", "")
}

func TestOrigins(t *testing.T) {
	_, origins, problems := read(t, "text: a\ndeep:\n  b: 1\n", []string{"number=3"}, []string{"WHARFWATCH_FLAG=true"})
	if problems != nil {
		t.Fatal(problems)
	}
	got := map[string]string{}
	for path, o := range origins {
		got[path] = o.String()
	}
	want := map[string]string{"text": "t.yaml:1", "deep": "t.yaml:2", "deep.b": "t.yaml:3", "number": "--set number", "flag": "WHARFWATCH_FLAG"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	c := Config{origins: origins}
	for path, want := range map[string]bool{"text": true, "deep": true, "deep.b": true, "deep.a": false, "list": false} {
		if got := c.Explicit(path); got != want {
			t.Errorf("Explicit(%s) = %v", path, got)
		}
	}
}

// TestHostile holds what a hostile file could do to the reader: none may take long, recurse away or be believed.
func TestHostile(t *testing.T) {
	for name, text := range map[string]string{
		"brackets":  strings.Repeat("[", 1<<19),
		"braces":    strings.Repeat("{a: ", 1<<17),
		"dashes":    strings.Repeat("- ", 1<<19),
		"indent":    indented(1200),
		"size":      strings.Repeat("#", maxBytes+1),
		"zero":      "text: a\x00b",
		"bomb":      "text: &a [x,x,x,x,x,x,x,x]\nlist: &b [*a,*a,*a,*a,*a,*a,*a]\nmap: [*b,*b,*b,*b,*b,*b,*b,*b]\n",
		"documents": "text: a\n---\ntext: b\n",
	} {
		start := time.Now()
		_, _, problems := read(t, text, nil, nil)
		if problems == nil {
			t.Errorf("%s: accepted", name)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		if len(problems.Error()) > 4000 {
			t.Errorf("%s: the report has %d bytes", name, len(problems.Error()))
		}
	}
}

func indented(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
