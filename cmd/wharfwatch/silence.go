package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
)

func newSilenceCommand(g *globals) *cobra.Command {
	return group("silence", "Silences: incidents open and are shown, nobody is told", newSilenceAdd(g), newSilenceList(g), newSilenceExpire(g))
}

func newSilenceAdd(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "add MATCHER…", Short: "Stop notification for a time; all matchers must match", Args: cobra.MinimumNArgs(1),
		Long: "A matcher is label=value, label!=value, label=~pattern or label!~pattern; patterns are regular expressions anchored at both ends.\n" +
			"Labels: workload, container, image, detector, subject, severity, incident.",
		Example: "  wharfwatch silence add 'workload=~compose:shop/.*' --for 2h -m 'release of the shop'",
	}
	out := g.outputFlag(cmd)
	length := cmd.Flags().String("for", "", "until when: RFC 3339, or how long from now on, as in 2h (required)")
	comment := cmd.Flags().StringP("comment", "m", "", "why (required)")
	cmd.RunE = action(func(ctx context.Context, args []string) error {
		now := g.now()
		end, err := until(*length, now)
		if err != nil {
			return usage(err)
		}
		s := alerts.Silence{Starts: alerts.Wall(now), Ends: alerts.Wall(end), Author: g.user(), Comment: *comment}
		for _, arg := range args {
			m, err := alerts.ParseMatcher(arg)
			if err != nil {
				return usage(err)
			}
			s.Matchers = append(s.Matchers, m)
		}
		return g.with(ctx, writing, func(c *client) error {
			var item json.RawMessage
			if err := c.call(ctx, http.MethodPost, "/silences", nil, s, &item); err != nil {
				return err
			}
			return printSilences(g, out, []json.RawMessage{item})
		})
	})
	return cmd
}

func newSilenceList(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List silences that hold or will", Args: cobra.NoArgs}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		return g.with(ctx, reading, func(c *client) error {
			list, err := c.list(ctx, "/silences", nil)
			if err != nil {
				return err
			}
			return printSilences(g, out, list)
		})
	})
	return cmd
}

func printSilences(g *globals, out *output, list []json.RawMessage) error {
	return print(out, list, "no silences", []string{"ID", "MATCHERS", "ENDS", "AUTHOR", "COMMENT"}, func(s alerts.Silence) []string {
		var matchers []string
		for _, m := range s.Matchers {
			matchers = append(matchers, m.Label+m.Op+strconv.Quote(m.Value))
		}
		return []string{strconv.Itoa(s.ID), strings.Join(matchers, " "), g.ago(s.Ends), s.Author, s.Comment}
	})
}

func newSilenceExpire(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "expire ID…", Short: "End silences now", Args: cobra.MinimumNArgs(1),
		RunE: action(func(ctx context.Context, args []string) error { return g.each(ctx, args, "/silences/", "expired") }),
	}
}
