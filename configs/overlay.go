package configs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "WHARFWATCH_"

// environment applies WHARFWATCH_ALERTS__RATE__BURST=5: two underscores go one level down. Variables of one level (no double
// underscore) that name no key are left alone: container platforms set such variables for every service of that name.
func environment(root reflect.Value, environ []string, origins map[string]Origin) Problems {
	var problems Problems
	for _, pair := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(pair, "=")
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok || rest == "" {
			continue
		}
		path := strings.ToLower(strings.ReplaceAll(rest, "__", "."))
		if _, known := fieldsOf(root.Type())[path]; !known && !strings.Contains(path, ".") {
			continue
		}
		problems = append(problems, override(root, path, value, &source{name: name}, "env", origins)...)
	}
	return problems
}

// settings applies --set KEY=VALUE in the order given.
func settings(root reflect.Value, sets []string, origins map[string]Origin) Problems {
	var problems Problems
	for _, set := range sets {
		path, value, ok := strings.Cut(set, "=")
		if !ok || path == "" {
			problems = append(problems, Problem{Where: "--set " + printable(Mask(set)), Message: "wanted KEY=VALUE"})
			continue
		}
		problems = append(problems, override(root, path, value, &source{name: "--set " + printable(path)}, "--set", origins)...)
	}
	return problems
}

// override sets one key. Where the key holds text, a number or the like, the value is taken as it stands (a password may begin with
// any character); lists are written a,b or as YAML; sets of keys as YAML.
func override(root reflect.Value, path, value string, src *source, kind string, origins map[string]Origin) Problems {
	d := &decoder{src: src, kind: kind, origins: origins}
	target, problem := locate(root, path)
	if problem != "" {
		return Problems{src.problem(nil, path, problem, false)}
	}
	t := target.v.Type()
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	structured := !isText(t) && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map || t.Kind() == reflect.Slice && strings.HasPrefix(strings.TrimSpace(value), "["))
	if !structured {
		d.scalar(value, nil, target.v, path)
	} else {
		_, node, problems := parse(src.name, []byte(value), false)
		if problems != nil {
			return problems
		}
		d.value(node, target.v, path, nil)
	}
	target.done()
	return d.problems
}

// place is a value that can be set, with what must be done afterwards (values in maps are copies).
type place struct {
	v    reflect.Value
	done func()
}

// locate walks to a key. An index of a list names an entry that is there, or the one behind the last.
func locate(v reflect.Value, path string) (place, string) {
	done := func() {}
	at := ""
	for name := range strings.SplitSeq(path, ".") {
		v = reach(v)
		switch {
		case v.Kind() == reflect.Struct && !isText(v.Type()):
			fields := fieldsOf(v.Type())
			f, ok := fields[name]
			if !ok {
				return place{}, unknown(name, at, slices.Sorted(maps.Keys(fields)))
			}
			v = v.FieldByIndex(f.index)
		case v.Kind() == reflect.Slice && !isText(v.Type()):
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i > v.Len() {
				return place{}, fmt.Sprintf("%s is a list of %d: %q is not a place in it", at, v.Len(), printable(name))
			}
			if i == v.Len() {
				v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			}
			v = v.Index(i)
		case v.Kind() == reflect.Map:
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			m, key := v, reflect.ValueOf(name).Convert(v.Type().Key())
			elem := reflect.New(m.Type().Elem()).Elem()
			if old := m.MapIndex(key); old.IsValid() {
				elem.Set(old)
			}
			before := done
			done = func() { m.SetMapIndex(key, elem); before() }
			v = elem
		default:
			return place{}, fmt.Sprintf("%s has no keys below it", at)
		}
		at = join(at, name)
	}
	return place{v, done}, ""
}
