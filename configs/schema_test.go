package configs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	syntax "github.com/goccy/go-yaml/ast"
	yaml "github.com/goccy/go-yaml/parser"
	gocmp "github.com/google/go-cmp/cmp"
)

// TestSchema makes the JSON Schema from the Go types and their comments, and holds the committed file against it.
func TestSchema(t *testing.T) {
	g := generator{sample: sampleComments(t), comments: map[string]map[string]string{}}
	s := g.of(t, reflect.ValueOf(Default()).Elem(), "")
	s.Schema, s.ID, s.Title = "https://json-schema.org/draft/2020-12/schema", "https://raw.githubusercontent.com/wharfwatch/wharfwatch/main/configs/schema.json", "wharfwatch.yaml"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.json", b.String())
	if !*update {
		if diff := gocmp.Diff(b.String(), string(Schema)); diff != "" {
			t.Errorf("the embedded schema: %s", diff)
		}
	}
}

// schema is the part of JSON Schema that is used here; the order of the fields is the order in the file.
type schema struct {
	Schema      string     `json:"$schema,omitempty"`
	ID          string     `json:"$id,omitempty"`
	Title       string     `json:"title,omitempty"`
	Description string     `json:"description,omitempty"`
	Type        any        `json:"type,omitempty"`
	Pattern     string     `json:"pattern,omitempty"`
	Enum        []string   `json:"enum,omitempty"`
	Default     any        `json:"default,omitempty"`
	Items       *schema    `json:"items,omitempty"`
	Properties  properties `json:"properties,omitempty"`
	Additional  any        `json:"additionalProperties,omitempty"`
	AnyOf       []*schema  `json:"anyOf,omitempty"`
}

type property struct {
	name  string
	value *schema
}

// properties keep the order of the fields.
type properties []property

func (p properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

type generator struct {
	sample   map[string]string            // what the shipped file says above a key, by path
	comments map[string]map[string]string // what the Go field says: package path, then Type.Field
}

// of describes a value: its type, and what it is by default.
func (g *generator) of(t *testing.T, v reflect.Value, path string) *schema {
	typ := v.Type()
	if typ.Kind() == reflect.Pointer {
		return g.of(t, reflect.New(typ.Elem()).Elem(), path)
	}
	s := &schema{}
	switch {
	case typ == durationType:
		s.Type, s.Pattern, s.Default = "string", `^-?([0-9]+d)?([0-9.]+(ns|us|µs|ms|s|m|h))*$`, formatDuration(timeOf(v))
	case typ.Name() == "Mode":
		s.Enum, s.Default = []string{"on", "shadow", "off"}, v.String()
	case typ.Name() == "Severity":
		s.Enum = []string{"info", "low", "medium", "high", "critical"}
	case isText(typ):
		s.Type = "string"
	case typ.Kind() == reflect.Struct:
		s.Type, s.Additional = []string{"object", "null"}, false
		g.fields(t, v, path, s)
	case typ.Kind() == reflect.Slice:
		elem := reflect.New(typ.Elem()).Elem()
		list := &schema{Type: "array", Items: g.of(t, elem, path)}
		list.Items.Default = nil
		s.AnyOf = []*schema{list, {Enum: []string{"off"}}}
	case typ.Kind() == reflect.Map:
		s.Type, s.Additional = "object", g.of(t, reflect.New(typ.Elem()).Elem(), path)
	case typ.Kind() == reflect.Bool:
		s.Type, s.Default = "boolean", v.Bool()
	case typ.Kind() == reflect.String:
		s.Type, s.Default = []string{"string", "number", "boolean"}, v.String()
	case v.CanFloat():
		s.Type, s.Default = "number", v.Float()
	case v.CanInt():
		s.Type, s.Default = "integer", v.Int()
	case v.CanUint():
		s.Type, s.Default = "integer", v.Uint()
	default:
		t.Fatalf("no schema for %v", typ)
	}
	return s
}

func (g *generator) fields(t *testing.T, v reflect.Value, path string, s *schema) {
	for _, f := range orderedFields(v.Type()) {
		p := g.of(t, v.FieldByIndex(f.index), join(path, f.name))
		owner := v.Type()
		for _, i := range f.index[:len(f.index)-1] {
			owner = owner.Field(i).Type
		}
		p.Description = cmp.Or(g.sample[join(path, f.name)], g.comment(t, owner, owner.Field(f.index[len(f.index)-1]).Name))
		s.Properties = append(s.Properties, property{f.name, p})
	}
}

// comment reads what stands above or behind a field.
func (g *generator) comment(t *testing.T, owner reflect.Type, name string) string {
	path := owner.PkgPath()
	if g.comments[path] == nil {
		g.comments[path] = fieldComments(t, filepath.Join("..", strings.TrimPrefix(path, "github.com/wharfwatch/wharfwatch")))
	}
	return g.comments[path][owner.Name()+"."+name]
}

// sampleComments is what the shipped file says above each key.
func sampleComments(t *testing.T) map[string]string {
	file, err := yaml.ParseBytes(Sample, yaml.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(Sample), "\n")
	out := map[string]string{}
	var visit func(n syntax.Node, path string)
	visit = func(n syntax.Node, path string) {
		switch n := n.(type) {
		case *syntax.MappingNode:
			for _, pair := range n.Values {
				key := join(path, pair.Key.String())
				if text := prose(lines, pair.Key.GetToken().Position.Line-1); text != "" {
					out[key] = text
				}
				visit(pair.Value, key)
			}
		case *syntax.SequenceNode:
			for _, v := range n.Values {
				visit(v, path)
			}
		}
	}
	visit(file.Docs[0].Body, "")
	return out
}

// prose is the comment that ends right above a line; examples and what stands above an empty comment line are left out.
func prose(lines []string, key int) string {
	var words []string
	for i := key - 1; i >= 0; i-- {
		text, ok := strings.CutPrefix(strings.TrimSpace(lines[i]), "#")
		if !ok || text == "" {
			break
		}
		if strings.HasPrefix(text, "   ") || strings.HasSuffix(text, ":") && !strings.Contains(strings.TrimSpace(text), " ") {
			continue
		}
		words = append(strings.Fields(text), words...)
	}
	return strings.Join(words, " ")
}

func fieldComments(t *testing.T, dir string) map[string]string {
	out := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if st, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range st.Fields.List {
					for _, name := range f.Names {
						out[spec.Name.Name+"."+name.Name] = said(f)
					}
				}
			}
			return true
		})
	}
	return out
}

func said(f *ast.Field) string {
	text := f.Doc.Text()
	if c := f.Comment.Text(); c != "" {
		text = c // what stands behind the field is about it; what stands above may head a group
	}
	return strings.Join(strings.Fields(text), " ")
}

// TestSchemaKnowsTheSample walks the shipped file's keys through the schema.
func TestSchemaKnowsTheSample(t *testing.T) {
	var s map[string]any
	if err := json.Unmarshal(Schema, &s); err != nil {
		t.Fatal(err)
	}
	keys := 0
	walk(reflect.ValueOf(Default()).Elem(), "", func(path string, _ reflect.Value) {
		at := s
		for name := range strings.SplitSeq(path, ".") {
			if list, ok := at["anyOf"].([]any); ok { // an index
				at = list[0].(map[string]any)["items"].(map[string]any)
				continue
			}
			below, ok := at["properties"].(map[string]any)[name].(map[string]any)
			if !ok {
				t.Errorf("%s is not in the schema", path)
				return
			}
			at = below
		}
		keys++
	})
	if keys < 30 {
		t.Errorf("%d keys found", keys)
	}
}

func timeOf(v reflect.Value) time.Duration { return time.Duration(v.Int()) }
