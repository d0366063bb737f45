package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/configs"
)

func newConfigCommand(g *globals) *cobra.Command {
	return group("config", "Check, show and describe the configuration", newConfigCheck(g), newConfigShow(g), newConfigSchema(g))
}

func newConfigCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Read the configuration as run would, and report everything that is wrong", Args: cobra.MaximumNArgs(1),
		RunE: action(func(_ context.Context, args []string) error {
			if len(args) == 1 {
				g.config = args[0]
			}
			if _, err := g.load(); err != nil {
				return err
			}
			name := g.config
			if name == "" {
				name = "no file: the defaults"
			}
			fmt.Fprintln(g.stdout, clean(name, false)+": ok")
			return nil
		}),
	}
}

func newConfigShow(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show", Short: "Show every key, its value and where that came from; secrets are masked", Args: cobra.NoArgs,
	}
	out := g.outputFlag(cmd)
	changed := cmd.Flags().Bool("changed", false, "only keys that were set")
	cmd.RunE = action(func(context.Context, []string) error {
		c, err := g.load()
		if err != nil {
			return err
		}
		var items []json.RawMessage
		for _, s := range c.Show() {
			if *changed && s.Origin.Kind == "default" {
				continue
			}
			item, err := json.Marshal(s)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		type row struct{ Path, Value, Origin string }
		return print(out, items, "nothing was set: the defaults hold", []string{"KEY", "VALUE", "FROM"}, func(s row) []string {
			return []string{s.Path, s.Value, s.Origin}
		})
	})
	return cmd
}

func newConfigSchema(g *globals) *cobra.Command {
	var sample bool
	cmd := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the configuration, or the commented sample", Args: cobra.NoArgs,
		RunE: action(func(context.Context, []string) error {
			text := configs.Schema
			if sample {
				text = configs.Sample
			}
			_, err := g.stdout.Write(text)
			return err
		}),
	}
	cmd.Flags().BoolVar(&sample, "sample", false, "print the shipped wharfwatch.yaml instead: every key at its default, explained")
	return cmd
}
