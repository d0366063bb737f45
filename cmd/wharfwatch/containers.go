package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/enrich"
)

func newContainersCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "containers", Short: "List the containers that the monitor knows, with their workloads and addresses", Args: cobra.NoArgs}
	out := g.outputFlag(cmd)
	all := cmd.Flags().BoolP("all", "a", false, "also those that ended")
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		return g.with(ctx, reading, func(c *client) error {
			query := map[string][]string{}
			if *all {
				query["all"] = []string{"true"}
			}
			list, err := c.list(ctx, "/containers", query)
			if err != nil {
				return err
			}
			head := []string{"CONTAINER", "WORKLOAD", "NAME", "IMAGE", "STARTED", "ADDRESSES", "POSTURE"}
			return print(out, list, "no containers", head, func(c enrich.Container) []string {
				started := g.ago(alerts.Time(c.Started))
				if !c.Running {
					started = "ended"
				}
				return []string{cut(c.ID, 12), c.Workload, c.Name, c.Image, started, addresses(&c), posture(&c)}
			})
		})
	})
	return cmd
}

func addresses(c *enrich.Container) string {
	if c.HostNetwork() {
		return "host network"
	}
	var out []string
	for _, a := range c.Attachments {
		for _, addr := range a.Addrs {
			out = append(out, addr.String())
		}
	}
	return strings.Join(out, " ")
}

// posture is what stands out; details are in the JSON.
func posture(c *enrich.Container) string {
	var out []string
	if c.Posture.Privileged {
		out = append(out, "privileged")
	}
	if c.HostNetwork() {
		out = append(out, "host-network")
	}
	if n := len(c.Posture.CapAdd); n > 0 {
		out = append(out, "+"+strings.Join(c.Posture.CapAdd[:min(n, 3)], ",+"))
	}
	if c.Posture.PidMode == "host" {
		out = append(out, "host-pid")
	}
	if n := len(c.Posture.Mounts); n > 0 {
		out = append(out, strconv.Itoa(n)+" host paths")
	}
	return strings.Join(out, " ")
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
