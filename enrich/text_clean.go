package enrich

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text of a container (names, labels, arguments: the attacker's own words) fit for logs, terminals and pages: valid
// UTF-8, no control, format or line-separating characters, at most limit bytes.
func clean(s string, limit int) string {
	if len(s) <= limit && printable(s) {
		return s
	}
	if len(s) > 4*limit {
		s = s[:4*limit] // no more than this can matter; a rune cut here becomes one replacement character at most
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// printable reports whether a text is printable ASCII, as nearly all are.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// cleanAll cleans up to count entries, and leaves out those with nothing left.
func cleanAll(in []string, count, limit int) []string {
	var out []string
	for _, s := range in {
		if len(out) == count {
			break
		}
		if s = clean(s, limit); s != "" {
			out = append(out, s)
		}
	}
	return out
}
