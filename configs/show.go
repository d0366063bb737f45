package configs

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Setting is one key of the merged configuration.
type Setting struct {
	Path   string `json:"path"`
	Value  string `json:"value"` // as it could be written in the file; secrets are masked
	Origin Origin `json:"origin"`
}

// Show lists every key with its value and where it came from, in the order of the file. Secrets are masked: whatever is printed here
// may be pasted into an issue.
func (c *Config) Show() []Setting { return show(reflect.ValueOf(c).Elem(), c.origins) }

func show(root reflect.Value, origins map[string]Origin) []Setting {
	var out []Setting
	walk(root, "", func(path string, v reflect.Value) {
		o, _ := nearest(origins, path)
		out = append(out, Setting{path, shown(v, path), o})
	})
	return out
}

// walk visits the leaves: whatever is not a set of keys or a list of such.
func walk(v reflect.Value, path string, visit func(string, reflect.Value)) {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Struct && !isText(v.Type()):
		for _, f := range orderedFields(v.Type()) {
			walk(v.FieldByIndex(f.index), join(path, f.name), visit)
		}
	case v.Kind() == reflect.Slice && v.Len() > 0 && deep(v.Type().Elem()):
		for i := range v.Len() {
			walk(v.Index(i), join(path, strconv.Itoa(i)), visit)
		}
	case v.Kind() == reflect.Map && v.Len() > 0:
		for _, k := range sortedKeys(v) {
			walk(v.MapIndex(k), join(path, k.String()), visit)
		}
	default:
		visit(path, v)
	}
}

func deep(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return !isText(t) && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map)
}

func sortedKeys(m reflect.Value) []reflect.Value {
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

func shown(v reflect.Value, path string) string {
	if isSecret(path) && !v.IsZero() {
		return mask
	}
	return Mask(text(v))
}

// text writes a value as YAML would want it.
func text(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		return "null"
	}
	if v.Type() == durationType {
		return formatDuration(time.Duration(v.Int()))
	}
	if m, ok := marshaler(v); ok {
		b, err := m.MarshalText()
		if err != nil {
			return "?"
		}
		return plain(string(b))
	}
	switch v.Kind() {
	case reflect.String:
		return plain(v.String())
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = text(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		return "{}"
	default:
		return fmt.Sprint(v.Interface())
	}
}

func marshaler(v reflect.Value) (encoding.TextMarshaler, bool) {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		return m, true
	}
	if v.CanAddr() {
		m, ok := v.Addr().Interface().(encoding.TextMarshaler)
		return m, ok
	}
	return nil, false
}

// plain quotes text where YAML would otherwise read something else.
func plain(s string) string {
	simple := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("./_-", r)
	})
	if simple && s[0] != '-' && s != "true" && s != "false" && s != "null" {
		return s
	}
	return strconv.Quote(s)
}

// formatDuration writes 30s, 1h30m, 7d.
func formatDuration(d time.Duration) string {
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
