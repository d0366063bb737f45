package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/console"
)

func newCoverageCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "coverage", Short: "Say, per workload, which detections can see it, which cannot, and what to do about it", Args: cobra.NoArgs,
	}
	out := g.outputFlag(cmd)
	gaps := cmd.Flags().Bool("gaps", false, "only what is not seen")
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		return g.with(ctx, reading, func(c *client) error {
			query := map[string][]string{}
			if *gaps {
				query["gaps"] = []string{"true"}
			}
			list, err := c.list(ctx, "/coverage", query)
			if err != nil {
				return err
			}
			return print(out, list, "no workload has been seen yet", []string{"WORKLOAD", "DETECTION", "SEEN", "REASON", "FIX"}, func(c console.Coverage) []string {
				return []string{c.Workload, c.Detector, c.State, c.Reason, c.Fix}
			})
		})
	})
	return cmd
}
