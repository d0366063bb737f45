package configs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of what is read. The parser recurses per level and the text may come from anywhere, so both are checked before it runs.
const (
	maxBytes = 1 << 20
	maxDepth = 32
)

// source is one text with its place: the file, an environment variable, a --set.
type source struct {
	name  string
	file  bool // positions and source lines are shown for files only
	lines []string
}

// problem is a Problem at a token of the source. secret hides the line from the token on.
func (s *source) problem(at *token.Token, path, message string, secret bool) Problem {
	p := Problem{Where: s.name, Path: path, Message: message}
	if !s.file || at == nil || at.Position == nil {
		return p
	}
	p.Line, p.Column = max(1, at.Position.Line), max(1, at.Position.Column)
	if p.Line <= len(s.lines) {
		p.Source = s.lines[p.Line-1]
		if runes := []rune(p.Source); secret && p.Column <= len(runes) {
			p.Source = string(runes[:p.Column-1]) + mask
		}
		p.Source = printable(Mask(p.Source))
	}
	return p
}

// printable keeps a hostile or binary file from steering the terminal that shows its errors, and one long line from flooding it.
func printable(line string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, line))
	if len(runes) > 160 {
		runes = append(runes[:160], '…')
	}
	return string(runes)
}

// parse reads YAML text into its one document; nil when there is nothing but comments.
func parse(name string, text []byte, file bool) (*source, ast.Node, Problems) {
	s := &source{name: name, file: file}
	whole := func(format string, args ...any) Problems {
		return Problems{{Where: name, Message: fmt.Sprintf(format, args...)}}
	}
	if len(text) > maxBytes {
		return s, nil, whole("larger than the limit of 1 MiB")
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return s, nil, whole("byte %d is zero: this is not text", i)
	}
	s.lines = strings.Split(string(text), "\n")
	tokens := lexer.Tokenize(string(text))
	if at := tooDeep(tokens); at != nil {
		return s, nil, Problems{s.problem(at, "", fmt.Sprintf("nested deeper than %d levels", maxDepth), false)}
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			return s, nil, Problems{s.problem(syntax.GetToken(), "", Mask(syntax.GetMessage()), false)}
		}
		return s, nil, whole("not YAML: %s", Mask(err.Error()))
	}
	var root ast.Node
	for _, doc := range parsed.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			return s, nil, Problems{s.problem(doc.Body.GetToken(), "", "a second document: only one is read", false)}
		}
		root = doc.Body
	}
	return s, root, nil
}

// tooDeep returns the first token that nests deeper than maxDepth: brackets, or entries opened on one line ("- - - -"), or
// indentation.
func tooDeep(tokens token.Tokens) *token.Token {
	brackets, entries, line := 0, 0, 0
	var indents []int
	for _, t := range tokens {
		if t.Position.Line != line {
			entries, line = 0, t.Position.Line
			for len(indents) > 0 && indents[len(indents)-1] >= t.Position.Column {
				indents = indents[:len(indents)-1]
			}
			indents = append(indents, t.Position.Column)
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.AnchorType, token.TagType:
			entries++
		}
		if brackets > maxDepth || entries > 4*maxDepth || len(indents) > maxDepth {
			return t
		}
	}
	return nil
}
