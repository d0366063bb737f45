// Package docs holds the pages that the binary shows: one per detection, in the form of the Alerting and Detection Strategy framework
// (https://github.com/palantir/alerting-detection-strategy-framework).
package docs

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed detections/*.md
var pages embed.FS

// Page is one detection.
type Page struct {
	ID    string // the detector's
	Title string // the first heading, less the id
	Text  string // Markdown, whole
}

// Detections lists the pages by id.
func Detections() ([]Page, error) {
	entries, err := pages.ReadDir("detections")
	if err != nil {
		return nil, fmt.Errorf("read the pages of the detections: %w", err)
	}
	var out []Page
	for _, e := range entries {
		text, err := pages.ReadFile("detections/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read the page %s: %w", e.Name(), err)
		}
		page := Page{ID: strings.TrimSuffix(e.Name(), ".md"), Text: string(text)}
		for line := range strings.Lines(page.Text) {
			if title, ok := strings.CutPrefix(line, "# "); ok {
				page.Title = strings.TrimSpace(strings.TrimPrefix(title, page.ID+":"))
				break
			}
		}
		out = append(out, page)
	}
	return out, nil
}

// Section is the text below a second-level heading, without the heading; "" where there is none.
func (p Page) Section(heading string) string {
	var b strings.Builder
	in := false
	for line := range strings.Lines(p.Text) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			in = strings.EqualFold(strings.TrimSpace(title), heading)
			continue
		}
		if in {
			b.WriteString(line)
		}
	}
	return strings.TrimSpace(b.String())
}
