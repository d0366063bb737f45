package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// output is the -o flag of a command.
type output struct {
	format string
	g      *globals
}

// outputFlag adds -o to a command.
func (g *globals) outputFlag(cmd *cobra.Command) *output {
	o := &output{g: g}
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "table, json or jsonl")
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		switch o.format {
		case "table", "json", "jsonl":
		default:
			return usage(fmt.Errorf("-o %s: wanted table, json or jsonl", o.format))
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
	return o
}

// print writes items as JSON exactly as the API gave them, or as a table of what row makes of each.
func print[T any](o *output, items []json.RawMessage, empty string, head []string, row func(T) []string) error {
	switch o.format {
	case "json":
		if items == nil {
			items = []json.RawMessage{}
		}
		b, err := json.MarshalIndent(items, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(o.g.stdout, "%s\n", b)
		return err
	case "jsonl":
		for _, item := range items {
			if err := o.line(item); err != nil {
				return err
			}
		}
		return nil
	}
	if len(items) == 0 {
		fmt.Fprintln(o.g.stderr, empty)
		return nil
	}
	t := table{head: head, colored: o.g.colored()}
	for _, item := range items {
		var v T
		if err := json.Unmarshal(item, &v); err != nil {
			return fmt.Errorf("read the monitor's answer: %w", err)
		}
		t.rows = append(t.rows, row(v))
	}
	return t.write(o.g.stdout)
}

// one writes a single item: as JSON, or with show.
func one[T any](o *output, item json.RawMessage, show func(io.Writer, T)) error {
	if o.format == "jsonl" {
		return o.line(item)
	}
	var v T
	if err := json.Unmarshal(item, &v); err != nil {
		return fmt.Errorf("read the monitor's answer: %w", err)
	}
	if o.format == "json" {
		return o.indented(item)
	}
	show(o.g.stdout, v)
	return nil
}

func (o *output) indented(item json.RawMessage) error {
	b, err := json.MarshalIndent(item, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.g.stdout, "%s\n", b)
	return err
}

func (o *output) line(item json.RawMessage) error {
	b, err := json.Marshal(item) // compacts
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.g.stdout, "%s\n", b)
	return err
}

// table is aligned columns. Cells may hold untrusted text.
type table struct {
	head    []string
	rows    [][]string
	colored bool
}

// words that are coloured when a cell is nothing else.
var palette = map[string]string{
	"critical": "1;31", "high": "31", "fail": "31", "medium": "33", "warn": "33", "open": "1", "ok": "32", "off": "2", "closed": "2",
}

func (t *table) write(w io.Writer) error {
	width := make([]int, len(t.head))
	rows := append([][]string{t.head}, t.rows...)
	for i, row := range rows {
		cleaned := make([]string, len(t.head))
		for j := range cleaned {
			if j < len(row) {
				cleaned[j] = clean(row[j], false)
			}
			width[j] = max(width[j], utf8.RuneCountInString(cleaned[j]))
		}
		rows[i] = cleaned
	}
	var b strings.Builder
	for i, row := range rows {
		end := len(row)
		for end > 0 && row[end-1] == "" {
			end--
		}
		for j, cell := range row[:end] {
			pad := width[j] - utf8.RuneCountInString(cell) + 2
			if code, ok := palette[cell]; ok && t.colored && i > 0 {
				cell = "\x1b[" + code + "m" + cell + "\x1b[0m"
			}
			b.WriteString(cell)
			if j < end-1 {
				b.WriteString(strings.Repeat(" ", pad))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// clean takes out of untrusted text what could steer a terminal or reorder what is read: control characters and the Unicode
// direction marks (https://trojansource.codes). Line ends stay where lines is set, and become blanks otherwise.
func clean(s string, lines bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && lines:
			return r
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
			return -1
		}
		return r
	}, s)
}
