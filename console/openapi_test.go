package console

import (
	"encoding"
	"encoding/json"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/reference/openapi.json")

// TestOpenAPI makes the description of the API (OpenAPI 3.1, https://spec.openapis.org/oas/v3.1.1) from the table of routes and the Go
// types, and holds the committed file against it.
func TestOpenAPI(t *testing.T) {
	path := filepath.Join("..", "docs", "reference", "openapi.json")
	s := New(Default(), Deps{}, metrics.NewSet(), slog.New(slog.DiscardHandler))
	want, err := json.MarshalIndent(describe(s.routes()), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the file is not what the routes say (-routes +file), run go test ./console -update:\n%s", d)
	}
	ids := map[string]bool{}
	for _, r := range s.routes() {
		id := operation(r)
		if ids[id] || r.what == "" || r.reply == nil && r.status == 0 && r.path != "/events" {
			t.Errorf("%s %s: says too little, or %s is there twice", r.method, r.path, id)
		}
		ids[id] = true
	}
	// Every reference leads somewhere.
	var doc struct {
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(want, &doc); err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(want), `"#/components/schemas/`)[1:] {
		if name, _, _ := strings.Cut(part, `"`); doc.Components.Schemas[name] == nil {
			t.Errorf("the schema %s is nowhere", name)
		}
	}
}

type object = map[string]any

func describe(routes []route) object {
	g := schemas{}
	g.of(reflect.TypeFor[problemBody]())
	paths := object{}
	for _, r := range routes {
		item, _ := paths[r.path].(object)
		if item == nil {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = g.operation(r)
	}
	return object{
		"openapi": "3.1.1",
		"info": object{
			"title": "Wharfwatch", "version": "1", "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Made from the routes and types of the console by `go test ./console -update`. On loopback reading needs nothing, and a change the " +
				"Origin of the console; elsewhere both need a login or a token. A parameter that is not listed here is refused. Fields are added, never renamed.",
		},
		"servers":  []object{{"url": "/api/v1"}},
		"security": []object{{"token": []string{}}, {"login": []string{}}, {}},
		"paths":    paths,
		"components": object{
			"schemas": g,
			"securitySchemes": object{
				"token": object{"type": "http", "scheme": "bearer"},
				"login": object{"type": "apiKey", "in": "cookie", "name": cookieName},
			},
			"responses": object{"problem": object{
				"description": "refused, with what to do about it (RFC 9457)",
				"content":     object{"application/problem+json": object{"schema": ref("problemBody")}},
			}},
		},
	}
}

// problemBody is what problem writes.
type problemBody struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// operation names one, as in getIncidentsId.
func operation(r route) string {
	id := strings.ToLower(r.method)
	for _, part := range strings.Split(r.path, "/") {
		if part = strings.Trim(part, "{}"); part != "" {
			id += strings.ToUpper(part[:1]) + part[1:]
		}
	}
	return id
}

// schemas are the named types.
type schemas object

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func (g schemas) operation(r route) object {
	var params []object
	for _, part := range strings.Split(r.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			params = append(params, object{"name": strings.Trim(name, "}"), "in": "path", "required": true, "schema": object{"type": "string"}})
		}
	}
	for _, p := range r.query {
		schema := object{"type": p.kind}
		switch p.kind {
		case "date-time":
			schema = object{"type": "string", "format": p.kind}
		case "integer":
			schema["minimum"] = 0
		}
		params = append(params, object{"name": p.name, "in": "query", "description": p.what, "schema": schema})
	}
	reply := object{"description": "done"}
	switch {
	case r.path == "/events":
		g.of(reflect.TypeFor[Notice]())
		reply["description"] = "events named incident, whose data is a Notice, and resync: read everything again"
		reply["content"] = object{"text/event-stream": object{"schema": object{"type": "string"}}}
	case r.list:
		reply["content"] = content(object{
			"type": "object", "required": []string{"items"},
			"properties": object{"items": object{"type": "array", "items": g.of(reflect.TypeOf(r.reply))}, "next": object{"type": "string"}},
		})
	case r.reply != nil:
		reply["content"] = content(g.of(reflect.TypeOf(r.reply)))
	}
	status := http.StatusOK
	if r.status != 0 {
		status = r.status
	}
	out := object{
		"operationId": operation(r), "summary": r.what, "x-scope": r.scope.String(),
		"responses": object{strconv.Itoa(status): reply, "default": object{"$ref": "#/components/responses/problem"}},
	}
	if len(params) > 0 {
		out["parameters"] = params
	}
	if r.body != nil {
		out["requestBody"] = object{"content": content(g.of(reflect.TypeOf(r.body)))}
	}
	return out
}

func content(schema object) object { return object{"application/json": object{"schema": schema}} }

// of describes a type as encoding/json writes it.
func (g schemas) of(t reflect.Type) object {
	text := reflect.TypeFor[encoding.TextMarshaler]()
	switch {
	case t.Kind() == reflect.Pointer:
		return g.of(t.Elem())
	case t == reflect.TypeFor[json.RawMessage]():
		return object{"type": "object"}
	case t.String() == "alerts.Time":
		return object{"type": "string", "format": "date-time"}
	case t.Implements(text) || reflect.PointerTo(t).Implements(text):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		return object{"type": []string{"array", "null"}, "items": g.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Interface:
		return object{}
	case reflect.Struct:
		if t.Name() == "" {
			return g.fields(t)
		}
		name := t.Name()
		if taken, ok := g[name]; ok && taken.(object)["x-go"] != t.String() {
			name = strings.ReplaceAll(t.String(), ".", "") // two rooms use one word
		}
		if _, known := g[name]; !known {
			g[name] = object{"x-go": t.String()} // for types that hold themselves
			o := g.fields(t)
			o["x-go"] = t.String()
			g[name] = o
		}
		return ref(name)
	}
	return object{"type": "integer"}
}

func (g schemas) fields(t reflect.Type) object {
	properties, required := object{}, []string{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous && tag == "":
				walk(f.Type)
			case !f.IsExported() || tag == "-":
			default:
				if tag == "" {
					tag = f.Name
				}
				properties[tag] = g.of(f.Type)
				if !strings.Contains(options, "omit") {
					required = append(required, tag)
				}
			}
		}
	}
	walk(t)
	out := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}
