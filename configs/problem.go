package configs

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is one thing wrong with the configuration, where it stands and what to do about it.
type Problem struct {
	Where        string // name of the file, of the environment variable, or "--set KEY"; "" where only a default is to blame
	Line, Column int    // 1-based, in the file; 0 outside a file
	Path         string // the key, dots between levels; "" when the text as a whole is meant
	Message      string // what is wrong, and what would be right
	Source       string // the line of the file, with everything that may be secret masked; "" outside a file
}

// String is the problem in one line, or in three with its source line and a caret.
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.Where, p.Line, p.Column)
	case p.Where != "":
		fmt.Fprintf(&b, "%s: ", p.Where)
	}
	b.WriteString(p.Message)
	if p.Source == "" {
		return b.String()
	}
	column := min(p.Column, utf8.RuneCountInString(p.Source)+1)
	number := fmt.Sprint(p.Line)
	fmt.Fprintf(&b, "\n  %s | %s\n  %s | %s^", number, p.Source, strings.Repeat(" ", len(number)), strings.Repeat(" ", column-1))
	return b.String()
}

// Problems is every problem of one configuration, in the order in which a reader meets them. It is the error of Load.
type Problems []Problem

// Error is all of them, one after the other.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		if (a.Line > 0) != (b.Line > 0) { // the file first
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// secretKey matches the names of keys whose values are never printed. "webhook" and "url" are in it: a webhook's address is all
// that is needed to post to it.
var secretKey = regexp.MustCompile(`(?i)(secret|token|passw|routing_?key|api_?key|auth|webhook|url|credential|headers)`)

var (
	secretPair = regexp.MustCompile(`(?i)([\w.-]*(?:secret|token|passw|routing_?key|api_?key|auth|webhook|url|credential|headers)[\w.-]*["']?\s*[:=]\s*)\S.*$`)
	webURL     = regexp.MustCompile(`(?i)\b(https?://)[^\s"']+`)
	userInfo   = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@"']+@`)
	signingKey = regexp.MustCompile(`whsec_\S+`)
)

const mask = "********"

// Mask replaces what may be secret in a line of text: web addresses, user names in any address, signing keys, and whatever follows
// a key whose name says secret. It rather hides too much.
func Mask(line string) string {
	line = secretPair.ReplaceAllString(line, "${1}"+mask)
	line = webURL.ReplaceAllString(line, "${1}"+mask)
	line = userInfo.ReplaceAllString(line, "${1}"+mask+"@")
	return signingKey.ReplaceAllString(line, mask)
}

// isSecret says whether the value of a key must never be printed: its name, or that of a level above, says so. A path to a file
// that holds the secret is none.
func isSecret(path string) bool {
	last := path[strings.LastIndexByte(path, '.')+1:]
	if strings.HasSuffix(last, "_file") {
		return false
	}
	for level := range strings.SplitSeq(path, ".") {
		if secretKey.MatchString(level) && level != "webhook" && level != "webhooks" {
			return true
		}
	}
	return last == "webhook"
}
