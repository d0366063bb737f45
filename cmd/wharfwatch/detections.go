package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/docs"
)

func newDetectionsCommand(g *globals) *cobra.Command {
	return group("detections", "The detections: what each looks for, its blind spots, and how to stage it",
		newDetectionsList(g), newDetectionsShow(g), newDetectionsValidate(g))
}

// detection is a page with what the configuration says about it.
type detection struct {
	ID    string `json:"id"`
	Mode  string `json:"mode"` // on, shadow, off
	Title string `json:"title"`
	Text  string `json:"text,omitempty"`
}

func newDetectionsList(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the detections and their modes", Args: cobra.NoArgs}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(context.Context, []string) error {
		c, err := g.load()
		if err != nil {
			return err
		}
		modes := map[string]string{}
		for _, s := range c.Show() {
			if id, ok := strings.CutPrefix(s.Path, "baseline."); ok && strings.HasSuffix(id, ".mode") {
				modes[strings.ReplaceAll(strings.TrimSuffix(id, ".mode"), "_", "-")] = s.Value
			}
		}
		pages, err := docs.Detections()
		if err != nil {
			return err
		}
		var list []json.RawMessage
		for _, p := range pages {
			item, err := json.Marshal(detection{ID: p.ID, Mode: modes[p.ID], Title: p.Title})
			if err != nil {
				return err
			}
			list = append(list, item)
		}
		return print(out, list, "no detections", []string{"DETECTION", "MODE", "LOOKS FOR"}, func(d detection) []string {
			return []string{d.ID, d.Mode, d.Title}
		})
	})
	return cmd
}

func newDetectionsShow(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "Print the page of a detection (Markdown)", Args: cobra.ExactArgs(1)}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(_ context.Context, args []string) error {
		p, err := page(args[0])
		if err != nil {
			return err
		}
		item, err := json.Marshal(detection{ID: p.ID, Title: p.Title, Text: p.Text})
		if err != nil {
			return err
		}
		return one(out, item, func(w io.Writer, d detection) { io.WriteString(w, d.Text) })
	})
	return cmd
}

func newDetectionsValidate(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "validate [ID…]", Short: "Say how to stage a detection and what must come out, from its page",
		RunE: action(func(_ context.Context, args []string) error {
			pages, err := docs.Detections()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				pages = nil
				for _, id := range args {
					p, err := page(id)
					if err != nil {
						return err
					}
					pages = append(pages, p)
				}
			}
			for _, p := range pages {
				fmt.Fprintf(g.stdout, "# %s\n\n%s\n\n", p.ID, p.Section("Validation"))
			}
			return nil
		}),
	}
}

func page(id string) (docs.Page, error) {
	pages, err := docs.Detections()
	if err != nil {
		return docs.Page{}, err
	}
	var known []string
	for _, p := range pages {
		if p.ID == id {
			return p, nil
		}
		known = append(known, p.ID)
	}
	return docs.Page{}, usage(fmt.Errorf("no detection %q; known are %s", id, strings.Join(known, ", ")))
}
