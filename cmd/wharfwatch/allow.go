package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/configs"
)

func newAllowCommand(g *globals) *cobra.Command {
	return group("allow", "Allow rules: what people expect opens no incident", newAllowAdd(g), newAllowList(g), newAllowPreview(g), newAllowRemove(g))
}

// ruleFlags are the conditions of an allow rule.
type ruleFlags struct {
	from, expires string
	rule          alerts.AllowRule
}

func (f *ruleFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.rule.Workload, "workload", "", "workload; a * at the end stands for anything")
	fl.StringVar(&f.rule.Detector, "detector", "", "detector")
	fl.StringVar(&f.rule.Destination, "destination", "", "address, CIDR block or name, without the port")
	fl.Uint16Var(&f.rule.Port, "port", 0, "port of the destination")
	fl.StringVar(&f.rule.Direction, "direction", "", "outbound or inbound")
	fl.StringVar(&f.rule.Subject, "subject", "", "subject of the finding as printed; for settings, which have no destination")
	fl.StringVar(&f.expires, "expires", "", "when it ends: RFC 3339, or from now on, as in 30d; never if not given")
	fl.StringVarP(&f.rule.Comment, "comment", "m", "", "why this is expected (required)")
	fl.StringVar(&f.rule.Owner, "owner", "", "who answers for it; you if not given")
}

// body is what the API takes.
func (f *ruleFlags) body(g *globals) (map[string]any, error) {
	if f.rule.Owner == "" {
		f.rule.Owner = g.user()
	}
	if f.expires != "" {
		at, err := until(f.expires, g.now())
		if err != nil {
			return nil, usage(err)
		}
		f.rule.Expires = alerts.Wall(at)
	}
	return map[string]any{"from": f.from, "rule": f.rule, "by": g.user()}, nil
}

func newAllowAdd(g *globals) *cobra.Command {
	var f ruleFlags
	cmd := &cobra.Command{
		Use: "add", Short: "Add a rule; it holds at once, for open incidents too", Args: cobra.NoArgs,
		Example: "  wharfwatch allow add --from 4f1c09ab77 -m 'metrics push of the billing team' --expires 180d\n" +
			"  wharfwatch allow add --workload 'compose:shop/*' --destination 203.0.113.0/24 --port 443 -m 'payment provider'",
	}
	out := g.outputFlag(cmd)
	f.register(cmd)
	cmd.Flags().StringVar(&f.from, "from", "", "take the narrowest conditions that cover an incident, instead of giving them")
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		in, err := f.body(g)
		if err != nil {
			return err
		}
		return g.with(ctx, writing, func(c *client) error {
			var added struct {
				Items     []json.RawMessage `json:"items"`
				Incidents []alerts.Incident `json:"incidents"`
			}
			if err := c.call(ctx, http.MethodPost, "/allow", nil, in, &added); err != nil {
				return err
			}
			for _, i := range added.Incidents {
				fmt.Fprintf(g.stderr, "incident %s of %s is now %s\n", short(i.ID), clean(i.Workload, false), stateOf(&i))
			}
			return printRules(g, out, added.Items)
		})
	})
	return cmd
}

func newAllowList(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the rules, with how often each was used", Args: cobra.NoArgs}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		return g.with(ctx, reading, func(c *client) error {
			list, err := c.list(ctx, "/allow", nil)
			if err != nil {
				return err
			}
			return printRules(g, out, list)
		})
	})
	return cmd
}

func printRules(g *globals, out *output, list []json.RawMessage) error {
	head := []string{"ID", "CONDITIONS", "OWNER", "EXPIRES", "HITS", "LAST HIT", "COMMENT"}
	return print(out, list, "no allow rules", head, func(r alerts.AllowRule) []string {
		return []string{strconv.Itoa(r.ID), conditions(&r), r.Owner, g.ago(r.Expires), strconv.Itoa(r.Hits), g.ago(r.LastHit), r.Comment}
	})
}

func conditions(r *alerts.AllowRule) string {
	var out []string
	add := func(key, value string) {
		if value != "" && value != "0" {
			out = append(out, key+"="+value)
		}
	}
	add("workload", r.Workload)
	add("detector", r.Detector)
	add("destination", r.Destination)
	add("port", strconv.Itoa(int(r.Port)))
	add("direction", r.Direction)
	add("subject", r.Subject)
	return strings.Join(out, " ")
}

func newAllowPreview(g *globals) *cobra.Command {
	var f ruleFlags
	cmd := &cobra.Command{Use: "preview", Short: "Say which incidents a rule would have hidden, without adding it", Args: cobra.NoArgs}
	out := g.outputFlag(cmd)
	f.register(cmd)
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		in, err := f.body(g)
		if err != nil {
			return err
		}
		return g.with(ctx, reading, func(c *client) error {
			var hidden struct {
				Items []json.RawMessage `json:"items"`
			}
			if err := c.call(ctx, http.MethodPost, "/allow/preview", nil, in, &hidden); err != nil {
				return err
			}
			head := []string{"INCIDENT", "SEVERITY", "STATE", "LAST SEEN", "WORKLOAD", "SUMMARY"}
			return print(out, hidden.Items, "it would have hidden nothing", head, func(i alerts.Incident) []string {
				return []string{short(i.ID), i.Severity.String(), stateOf(&i), g.ago(i.LastSeen), i.Workload, i.Summary}
			})
		})
	})
	return cmd
}

func newAllowRemove(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "remove ID…", Aliases: []string{"rm"}, Short: "Remove rules; what they hid opens incidents when it is seen again", Args: cobra.MinimumNArgs(1),
		RunE: action(func(ctx context.Context, args []string) error { return g.each(ctx, args, "/allow/", "removed") }),
	}
}

// each deletes things by number.
func (g *globals) each(ctx context.Context, ids []string, path, done string) error {
	for _, id := range ids {
		if _, err := strconv.Atoi(id); err != nil {
			return usage(fmt.Errorf("%q is no number: see the list for them", id))
		}
	}
	return g.with(ctx, writing, func(c *client) error {
		for _, id := range ids {
			if err := c.call(ctx, http.MethodDelete, path+id, map[string][]string{"by": {g.user()}}, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(g.stdout, "%s %s\n", id, done)
		}
		return nil
	})
}

// until reads RFC 3339, or a duration from now on.
func until(s string, now time.Time) (time.Time, error) {
	if d, err := duration(s); err == nil {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("%q is no time: write 2026-03-01T12:00:00Z, or from now on, as in 8h or 30d", s)
	}
	return t, nil
}

// duration reads 30s, 5m, 12h, 7d; negative ones are no duration here.
func duration(s string) (time.Duration, error) {
	d, err := configs.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", s)
	}
	return d, err
}
