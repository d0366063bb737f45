package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/enrich"
)

func newExplainCommand(g *globals) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use: "explain IP[:PORT]", Short: "Say who holds or held an address, and how that is known", Args: cobra.ExactArgs(1),
		Example: "  wharfwatch explain 172.18.0.5\n  wharfwatch explain 172.18.0.5:443 --at 2026-03-01T12:00:00Z\n  wharfwatch explain '[fd00::5]:443' --at 10m",
	}
	out := g.outputFlag(cmd)
	cmd.Flags().StringVar(&at, "at", "", "when: RFC 3339, or how long ago (10m); now if not given")
	cmd.RunE = action(func(ctx context.Context, args []string) error {
		addr, port, err := hostPort(args[0])
		if err != nil {
			return usage(err)
		}
		when, err := moment(at, g.now())
		if err != nil {
			return usage(err)
		}
		query := url.Values{"addr": {addr.String()}, "port": {strconv.Itoa(int(port))}, "at": {when.Format(time.RFC3339Nano)}}
		return g.with(ctx, reading, func(c *client) error {
			var item json.RawMessage
			if err := c.call(ctx, http.MethodGet, "/explain", query, nil, &item); err != nil {
				return err
			}
			return one(out, item, showExplanation)
		})
	})
	return cmd
}

// hostPort reads IP, IPv4:PORT or [IPv6]:PORT.
func hostPort(s string) (netip.Addr, uint16, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a, 0, nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q is no address: write IP, IP:PORT or [IPv6]:PORT", s)
	}
	return ap.Addr(), ap.Port(), nil
}

// moment reads RFC 3339, or a duration before now.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return now, nil
	}
	if d, err := duration(s); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("%q is no time: write 2026-03-01T12:00:00Z, or how long ago, as in 10m", s)
	}
	return t, nil
}

// showExplanation writes the sentence, and everybody who is remembered for the address.
func showExplanation(w io.Writer, e enrich.Explanation) {
	fmt.Fprintln(w, clean(e.Text, false))
	for _, h := range e.Holders {
		until := "now"
		if h.To != 0 {
			until = readable(alerts.Time(h.To))
		}
		name := ""
		if h.Container != nil {
			name = h.Container.Name + " (" + h.Container.Workload + ")"
		}
		fmt.Fprintln(w, "  "+clean(fmt.Sprintf("%s to %s  %s  engine %s", readable(alerts.Time(h.From)), until, name, h.Engine), false))
	}
}
