package configs

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// Origin says where a value came from.
type Origin struct {
	Kind         string `json:"kind"`            // default, file, env, --set
	Where        string `json:"where,omitempty"` // the file, the variable, "--set KEY"
	Line, Column int    `json:"-"`               // in the file, 1-based

	at *token.Token
}

// String is short enough to stand behind a value.
func (o Origin) String() string {
	switch o.Kind {
	case "":
		return "default"
	case "file":
		return fmt.Sprintf("%s:%d", o.Where, o.Line)
	default:
		return o.Where
	}
}

// MarshalText is String.
func (o Origin) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Explicit says whether the user named the key, or one below it. What was named must work: its absence is an error, where the
// absence of a default is only said.
func (c *Config) Explicit(path string) bool {
	path = dotted(path)
	if _, ok := c.origins[path]; ok {
		return true
	}
	for named := range c.origins {
		if strings.HasPrefix(named, path+".") {
			return true
		}
	}
	return false
}

// Origin says where the value of a key came from.
func (c *Config) Origin(path string) Origin {
	o, _ := nearest(c.origins, dotted(path))
	return o
}

// nearest finds the origin of a key, or of the list it stands in. A set of keys does not count: a key left out of it is a default.
func nearest(origins map[string]Origin, path string) (Origin, bool) {
	if o, ok := origins[path]; ok {
		return o, true
	}
	return Origin{Kind: "default"}, false
}

// dotted writes a[0].b as a.0.b.
func dotted(path string) string {
	return strings.ReplaceAll(strings.ReplaceAll(path, "[", "."), "]", "")
}

// semantic makes the problem of a room's Validate, at the place of the key or of the nearest level above that was written. Keys that
// could not be read are not judged again.
func semantic(src *source, origins map[string]Origin, path, message string, found Problems) Problems {
	path = dotted(path)
	for _, p := range found {
		if p.Path == path {
			return nil
		}
	}
	message = path + ": " + Mask(meant(message))
	for at := path; at != ""; at = parent(at) {
		o, ok := origins[at]
		switch {
		case !ok:
			continue
		case o.Kind == "file":
			return Problems{src.problem(o.at, path, message, isSecret(path) && at == path)}
		default:
			return Problems{{Where: o.Where, Path: path, Message: message}}
		}
	}
	return Problems{{Path: path, Message: message}}
}

var wordAndKnown = regexp.MustCompile(`^[^"]*"([^"]+)".* known are ([^:;]+)$`)

// meant adds the nearest word to a message that names what is unknown and what is known.
func meant(message string) string {
	m := wordAndKnown.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	if s := suggest(m[1], strings.Split(m[2], ", ")); s != "" {
		return fmt.Sprintf("%s: did you mean %q?", message, s)
	}
	return message
}

func parent(path string) string {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i]
	}
	return ""
}
