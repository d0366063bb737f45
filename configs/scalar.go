package configs

import (
	"encoding"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

var (
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	durationType = reflect.TypeFor[time.Duration]()
)

func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// hint is an error that reads on after "… is no number".
type hint string

func (h hint) Error() string { return string(h) }

func setScalar(v reflect.Value, text string) error {
	if isText(v.Type()) {
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	if v.Type() == durationType {
		t, err := ParseDuration(text)
		if err != nil {
			return hint(": write a number with a unit, as in 500ms, 30s, 5m, 12h or 7d")
		}
		v.SetInt(int64(t))
		return nil
	}
	if len(text) > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9' && v.Kind() != reflect.String {
		return hint(": write it without the leading zero")
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return hint(": write true or false")
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 0, v.Type().Bits())
		if err != nil {
			return numberHint(err)
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, err := strconv.ParseUint(text, 0, v.Type().Bits())
		if err != nil {
			return numberHint(err)
		}
		v.SetUint(i)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return hint("")
		}
		v.SetFloat(f)
	default:
		return hint("")
	}
	return nil
}

func numberHint(err error) error {
	if strings.HasSuffix(err.Error(), strconv.ErrRange.Error()) {
		return hint(": it is out of range")
	}
	return hint("")
}

// ParseDuration reads what time.ParseDuration reads, and days: 7d, 1d12h.
func ParseDuration(text string) (time.Duration, error) {
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, err
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	t, err := time.ParseDuration(rest)
	if err == nil && t < 0 {
		err = strconv.ErrSyntax
	}
	return d + t, err
}

func kindName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == durationType:
		return "duration"
	case isText(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "set of keys"
	case reflect.Slice:
		return "list"
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "number"
	default:
		return "whole number"
	}
}

func article(kind string) string {
	if kind == "text" {
		return kind
	}
	return "a " + kind
}
