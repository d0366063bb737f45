package configs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder writes parsed YAML into Go values. Unlike a library's strict mode it goes on after a problem, so that a user sees all of
// them at once, and it remembers where each value came from.
type decoder struct {
	src      *source
	kind     string            // of the origins it records
	origins  map[string]Origin // by path
	problems Problems
}

func (d *decoder) fail(at *token.Token, path, format string, args ...any) {
	d.problems = append(d.problems, d.src.problem(at, path, fmt.Sprintf(format, args...), isSecret(path)))
}

// misplaced is fail for a whole part of the file: what is in it belongs elsewhere, so nobody knows whether it is secret.
func (d *decoder) misplaced(at *token.Token, path, format string, args ...any) {
	p := d.src.problem(at, path, fmt.Sprintf(format, args...), isSecret(path))
	if at != nil && !isSecret(path) {
		p.Source = cutValue(p.Source, p.Column, at.Value)
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) note(at *token.Token, path string) {
	o := Origin{Kind: d.kind, Where: d.src.name}
	if d.src.file && at != nil && at.Position != nil {
		o.Line, o.Column = at.Position.Line, at.Position.Column
		o.at = at
	}
	d.origins[path] = o
}

// value decodes n into v. key is the token to point at when the value as a whole is meant.
func (d *decoder) value(n ast.Node, v reflect.Value, path string, key *token.Token) {
	switch n := n.(type) {
	case nil:
		return
	case *ast.NullNode:
		return // "key:" with nothing, or with comments only: the default stays
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.fail(n.GetToken(), path, "anchors, aliases and tags are not read here: write the value out")
		return
	case *ast.MappingValueNode:
		d.mapping([]*ast.MappingValueNode{n}, n.Key.GetToken(), v, path)
		return
	case *ast.MappingNode:
		d.mapping(n.Values, key, v, path)
		return
	case *ast.SequenceNode:
		d.sequence(n, v, path, key)
		return
	}
	text, at, ok := scalarText(n)
	if !ok {
		d.fail(n.GetToken(), path, "%s cannot be used here", strings.ToLower(n.Type().String()))
		return
	}
	d.scalar(text, at, v, path)
}

// scalarText is the text of a scalar as the user wrote it, quotes and block markers resolved.
func scalarText(n ast.Node) (string, *token.Token, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, n.Token, true
	case *ast.LiteralNode:
		return n.Value.Value, n.Start, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, n.GetToken(), true
	}
	return "", nil, false
}

func (d *decoder) mapping(pairs []*ast.MappingValueNode, at *token.Token, v reflect.Value, path string) {
	v = reach(v)
	if v.Kind() == reflect.Map {
		d.dictionary(pairs, v, path)
		return
	}
	if v.Kind() != reflect.Struct || isText(v.Type()) {
		if v.Kind() == reflect.Slice {
			d.misplaced(at, path, "%s is a list: begin each entry with \"- \"", label(path))
			return
		}
		d.misplaced(at, path, "%s is %s, not a set of keys", label(path), article(kindName(v.Type())))
		return
	}
	if path != "" {
		d.note(at, path)
	}
	fields := fieldsOf(v.Type())
	seen := map[string]int{}
	for _, pair := range pairs {
		name, ok := d.name(pair, path, seen)
		if !ok {
			continue
		}
		f, known := fields[name]
		if !known {
			p := d.src.problem(pair.Key.GetToken(), join(path, name), unknown(name, path, slices.Sorted(maps.Keys(fields))), false)
			p.Source = cutValue(p.Source, p.Column, name)
			d.problems = append(d.problems, p)
			continue
		}
		d.value(pair.Value, v.FieldByIndex(f.index), join(path, name), pair.Key.GetToken())
	}
}

func (d *decoder) dictionary(pairs []*ast.MappingValueNode, v reflect.Value, path string) {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	seen := map[string]int{}
	for _, pair := range pairs {
		name, ok := d.name(pair, path, seen)
		if !ok {
			continue
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		key := reflect.ValueOf(name).Convert(v.Type().Key())
		if old := v.MapIndex(key); old.IsValid() {
			elem.Set(old)
		}
		d.value(pair.Value, elem, join(path, name), pair.Key.GetToken())
		v.SetMapIndex(key, elem)
	}
}

// name reads the key of a pair and reports keys that are no text, or there twice.
func (d *decoder) name(pair *ast.MappingValueNode, path string, seen map[string]int) (string, bool) {
	at := pair.Key.GetToken()
	text, _, ok := scalarText(pair.Key)
	if !ok {
		d.fail(at, path, "a key must be plain text: anchors, aliases, merge keys and tags are not read here")
		return "", false
	}
	if line, twice := seen[text]; twice {
		d.fail(at, join(path, text), "key %q is there twice: first on line %d", text, line)
		return "", false
	}
	seen[text] = at.Position.Line
	return text, true
}

func (d *decoder) sequence(n *ast.SequenceNode, v reflect.Value, path string, key *token.Token) {
	v = reach(v)
	if v.Kind() != reflect.Slice || isText(v.Type()) {
		d.misplaced(n.GetToken(), path, "%s is %s, not a list", label(path), article(kindName(v.Type())))
		return
	}
	d.note(key, path)
	list := reflect.MakeSlice(v.Type(), len(n.Values), len(n.Values))
	for i, item := range n.Values {
		at := item.GetToken()
		if m, ok := item.(*ast.MappingNode); ok && len(m.Values) > 0 {
			at = m.Values[0].Key.GetToken()
		}
		d.value(item, list.Index(i), join(path, strconv.Itoa(i)), at)
	}
	v.Set(list)
}

// scalar sets v from text, whatever its type: what counts is what the key wants.
func (d *decoder) scalar(text string, at *token.Token, v reflect.Value, path string) {
	v = reach(v)
	if v.Kind() == reflect.Slice && !isText(v.Type()) {
		if text == "off" && deep(v.Type().Elem()) {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			d.note(at, path)
			return
		}
		if d.src.file && text != "off" { // "off" alone turns a part off, whatever it is a list of
			d.fail(at, path, "%s is a list: write [%s]", label(path), quote(text, path))
			return
		}
		d.list(text, v, path)
		return
	}
	if err := setScalar(v, text); err != nil {
		if isText(v.Type()) {
			d.fail(at, path, "%s: %s", label(path), Mask(printable(err.Error())))
			return
		}
		d.fail(at, path, "%s: %s is no %s%s", label(path), quote(text, path), kindName(v.Type()), err)
		return
	}
	d.note(at, path)
}

// list reads "a,b" of an environment variable or --set.
func (d *decoder) list(text string, v reflect.Value, path string) {
	d.note(nil, path)
	var parts []string
	if text != "" {
		parts = strings.Split(text, ",")
	}
	list := reflect.MakeSlice(v.Type(), len(parts), len(parts))
	for i, part := range parts {
		d.scalar(strings.TrimSpace(part), nil, list.Index(i), join(path, strconv.Itoa(i)))
	}
	v.Set(list)
}

// reach follows pointers, making what is not there.
func reach(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	return v
}

// quote shows a value in a message, unless it is secret.
func quote(text, path string) string {
	if isSecret(path) {
		return "the value"
	}
	return strconv.Quote(printable(Mask(text)))
}

// cutValue hides what follows a token: a misspelt key may hold a secret.
func cutValue(line string, column int, token string) string {
	runes := []rune(line)
	if end := column - 1 + len([]rune(token)); column > 0 && end < len(runes) {
		if runes[end] == ':' {
			end++
		}
		return string(runes[:end]) + " …"
	}
	return line
}

func label(path string) string {
	if path == "" {
		return "the configuration"
	}
	return path
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func unknown(name, path string, known []string) string {
	where := ""
	if path != "" {
		where = " in " + path
	}
	message := fmt.Sprintf("unknown key %q%s", printable(name), where)
	if s := suggest(name, known); s != "" {
		return fmt.Sprintf("%s: did you mean %q?", message, s)
	}
	return message + "; known are " + strings.Join(known, ", ")
}
