package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/console"
)

func newNotifyCommand(g *globals) *cobra.Command {
	return group("notify", "Test receivers, preview what they would get, and see what was not delivered",
		newNotifyReceivers(g), newNotifyTest(g), newNotifyPreview(g), newNotifyFailed(g), newNotifyRetry(g))
}

func newNotifyReceivers(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "receivers", Short: "List the receivers", Args: cobra.NoArgs}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		return g.with(ctx, reading, func(c *client) error {
			list, err := c.list(ctx, "/receivers", nil)
			if err != nil {
				return err
			}
			return print(out, list, "no receivers are configured: nobody is told (alerts.slack and others, see wharfwatch.yaml)",
				[]string{"RECEIVER", "KIND", "FROM SEVERITY", "OF", "NOT TOLD"}, func(r console.Receiver) []string {
					return []string{r.Name, r.Kind, r.MinSeverity, routeOf(r), quietOf(r)}
				})
		})
	})
	return cmd
}

// routeOf says which incidents go to a receiver.
func routeOf(r console.Receiver) string {
	return cmp.Or(strings.Join(append(slices.Clone(r.Workloads), r.Labels...), " "), "all")
}

// quietOf says when a receiver is not told, and whether that is now.
func quietOf(r console.Receiver) string {
	var parts []string
	if r.Disabled != "" {
		parts = append(parts, "disabled: "+r.Disabled)
	}
	if r.MutedUntil != "" {
		parts = append(parts, "now, until "+r.MutedUntil)
	}
	if len(r.Mute) > 0 {
		parts = append(parts, "in "+strings.Join(r.Mute, ", "))
	}
	if len(r.Active) > 0 {
		parts = append(parts, "outside "+strings.Join(r.Active, ", "))
	}
	return strings.Join(parts, "; ")
}

func newNotifyTest(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "test RECEIVER…", Short: "Send a test message now and say what the receiver answered", Args: cobra.MinimumNArgs(1),
		RunE: action(func(ctx context.Context, args []string) error {
			return g.with(ctx, reading, func(c *client) error {
				failed := false
				for _, name := range args {
					var r console.TestResult
					if err := c.call(ctx, http.MethodPost, "/receivers/"+url.PathEscape(name)+"/test", nil, nil, &r); err != nil {
						return err
					}
					failed = failed || !r.OK
					word := "ok"
					if !r.OK {
						word = "refused"
					}
					fmt.Fprintf(g.stdout, "%s %s %s\n", clean(name, false), word, clean(r.Reason, false))
				}
				if failed {
					return &exitError{code: exitFound}
				}
				return nil
			})
		}),
	}
}

func newNotifyPreview(g *globals) *cobra.Command {
	var incident string
	cmd := &cobra.Command{
		Use: "preview RECEIVER", Short: "Print what a receiver would get, without sending it; secrets are masked", Args: cobra.ExactArgs(1),
		RunE: action(func(ctx context.Context, args []string) error {
			return g.with(ctx, reading, func(c *client) error {
				var p console.Preview
				query := url.Values{"incident": {incident}}
				if err := c.call(ctx, http.MethodGet, "/receivers/"+url.PathEscape(args[0])+"/preview", query, nil, &p); err != nil {
					return err
				}
				if p.Untold != "" {
					fmt.Fprintf(g.stderr, "%s is not told of it now: %s\n", clean(args[0], false), clean(p.Untold, false))
				}
				_, err := fmt.Fprintln(g.stdout, clean(p.Body, true))
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&incident, "incident", "", "of this incident; an example if not given")
	return cmd
}

func newNotifyFailed(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "failed", Short: "List deliveries that were given up, with the receiver's reason", Args: cobra.NoArgs}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		return g.with(ctx, reading, func(c *client) error {
			list, err := c.list(ctx, "/deliveries", url.Values{"state": {"dead"}})
			if err != nil {
				return err
			}
			head := []string{"ID", "RECEIVER", "INCIDENT", "WHAT", "ATTEMPTS", "LAST", "REASON"}
			return print(out, list, "nothing was given up", head, func(d alerts.DeliveryRow) []string {
				return []string{d.ID, d.Receiver, short(d.Incident), string(d.Transition), strconv.Itoa(d.Attempts), g.ago(d.Last), d.Reason}
			})
		})
	})
	return cmd
}

func newNotifyRetry(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "retry [ID…]", Short: "Queue given-up deliveries again: all of them, or those named",
		RunE: action(func(ctx context.Context, args []string) error {
			return g.with(ctx, writing, func(c *client) error {
				var done struct {
					Queued int `json:"queued"`
				}
				if err := c.call(ctx, http.MethodPost, "/deliveries/retry", nil, map[string]any{"ids": args}, &done); err != nil {
					return err
				}
				fmt.Fprintf(g.stdout, "%d queued again\n", done.Queued)
				return nil
			})
		}),
	}
}
