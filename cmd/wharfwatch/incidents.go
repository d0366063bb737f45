package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
)

func newIncidentsCommand(g *globals) *cobra.Command {
	return group("incidents", "List, read and settle incidents",
		newIncidentsList(g), newIncidentsShow(g), newIncidentsAck(g), newIncidentsClose(g), newIncidentsReopen(g))
}

func newIncidentsList(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List incidents, the most severe first, then the newest", Args: cobra.NoArgs,
		Example: "  wharfwatch incidents list\n  wharfwatch incidents list --state all --severity high -o jsonl",
	}
	out := g.outputFlag(cmd)
	status := cmd.Flags().String("state", "active", "open, acknowledged, closed, active (open or acknowledged) or all")
	workload := cmd.Flags().String("workload", "", "only this workload; * and ? stand for anything")
	severity := cmd.Flags().String("severity", "", "this severity and above: info, low, medium, high, critical")
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		query := url.Values{"state": {*status}, "workload": {*workload}, "severity": {*severity}}
		return g.with(ctx, reading, func(c *client) error {
			list, err := c.list(ctx, "/incidents", query)
			if err != nil {
				return err
			}
			head := []string{"ID", "SEVERITY", "STATE", "LAST SEEN", "WORKLOAD", "DETECTORS", "SUMMARY"}
			return print(out, list, "no incidents", head, func(i alerts.Incident) []string {
				return []string{
					short(i.ID), i.Severity.String(), stateOf(&i), g.ago(i.LastSeen), i.Workload, strings.Join(detectorsOf(&i), " "), i.Summary,
				}
			})
		})
	})
	return cmd
}

func newIncidentsShow(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "Show one incident with its evidence, its history and who was told", Args: cobra.ExactArgs(1)}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(ctx context.Context, args []string) error {
		return g.with(ctx, reading, func(c *client) error {
			var item json.RawMessage
			if err := c.call(ctx, http.MethodGet, "/incidents/"+url.PathEscape(args[0]), nil, nil, &item); err != nil {
				return err
			}
			return one(out, item, g.showIncident)
		})
	})
	return cmd
}

// triage makes a command that changes the state of incidents.
func triage(g *globals, use, about, verb string, flags func(*cobra.Command, map[string]any) func() error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: about, Args: cobra.MinimumNArgs(1)}
	in := map[string]any{}
	comment := cmd.Flags().StringP("comment", "m", "", "why; kept in the incident's history")
	ready := flags(cmd, in)
	cmd.RunE = action(func(ctx context.Context, args []string) error {
		if err := ready(); err != nil {
			return usage(err)
		}
		in["comment"], in["by"] = *comment, g.user()
		return g.with(ctx, writing, func(c *client) error {
			for _, id := range args {
				var i alerts.Incident
				if err := c.call(ctx, http.MethodPost, "/incidents/"+url.PathEscape(id)+"/"+verb, nil, in, &i); err != nil {
					return err
				}
				fmt.Fprintf(g.stdout, "%s %s %s\n", short(i.ID), stateOf(&i), clean(i.Workload, false))
			}
			return nil
		})
	})
	return cmd
}

func nothingMore(*cobra.Command, map[string]any) func() error { return func() error { return nil } }

func newIncidentsAck(g *globals) *cobra.Command {
	return triage(g, "ack ID…", "Acknowledge: someone looks into it; repeats are not told", "ack", nothingMore)
}

func newIncidentsReopen(g *globals) *cobra.Command {
	return triage(g, "reopen ID…", "Open incidents again", "reopen", nothingMore)
}

func newIncidentsClose(g *globals) *cobra.Command {
	return triage(g, "close ID…", "Close with a verdict", "close", func(cmd *cobra.Command, in map[string]any) func() error {
		verdict := cmd.Flags().String("as", "", "true-positive, benign, false-positive, duplicate or resolved (required)")
		return func() error {
			if *verdict == "" {
				return fmt.Errorf("incidents close wants --as true-positive, benign, false-positive, duplicate or resolved")
			}
			in["verdict"] = *verdict
			return nil
		}
	})
}

// showIncident writes the card. Everything in it but our own words is untrusted.
func (g *globals) showIncident(w io.Writer, i incidentCard) {
	line := func(key, format string, args ...any) {
		if text := clean(fmt.Sprintf(format, args...), false); text != "" {
			fmt.Fprintf(w, "%-12s %s\n", key, text)
		}
	}
	fmt.Fprintf(w, "%s\n\n", clean(i.Summary, false))
	line("incident", "%s", i.ID)
	line("state", "%s", stateOf(&i.Incident))
	line("severity", "%s, confidence %.2f", i.Severity, i.Confidence)
	line("workload", "%s", i.Workload)
	if i.Container.ID != "" {
		line("container", "%s (%s) %.12s", i.Container.Name, i.Container.Image, i.Container.ID)
	}
	line("attributed", "%s", i.Attribution)
	line("first seen", "%s (%s)", readable(i.FirstSeen), g.ago(i.FirstSeen))
	line("last seen", "%s (%s)", readable(i.LastSeen), g.ago(i.LastSeen))
	line("ATT&CK", "%s", strings.Join(i.Attack, " "))
	for _, f := range i.Findings {
		fmt.Fprintf(w, "\n%s  %s  %s  score %.2f%s\n", readable(f.Time), clean(f.Detector, false), f.Severity, f.Score, learning(f.Learning))
		fmt.Fprintf(w, "  %s\n", clean(f.Summary, false))
		for _, e := range evidence(f.Evidence) {
			fmt.Fprintf(w, "  %s\n", clean(e, false))
		}
	}
	g.showHistory(w, i)
}

func learning(yes bool) string {
	if yes {
		return "  (while learning)"
	}
	return ""
}

// evidence lists the numbers, one per line, long lists cut.
func evidence(raw json.RawMessage) []string {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var out []string
	for d.More() {
		key, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return out
		}
		text := []rune(string(value))
		if string(value) == `""` {
			continue // nothing is known of it
		}
		if len(text) > 120 {
			text = append(text[:120], '…')
		}
		out = append(out, fmt.Sprintf("%-28v %s", key, string(text)))
	}
	return out
}

func stateOf(i *alerts.Incident) string {
	if i.Verdict != "" && i.State == alerts.Closed {
		return string(i.State) + " (" + string(i.Verdict) + ")"
	}
	return string(i.State)
}

func detectorsOf(i *alerts.Incident) []string {
	var out []string
	seen := map[string]bool{}
	for _, f := range i.Findings {
		if !seen[f.Detector] {
			seen[f.Detector] = true
			out = append(out, f.Detector)
		}
	}
	return out
}

// short is enough of an id to type.
func short(id string) string {
	if len(id) > 10 {
		return id[:10]
	}
	return id
}

// ago is a time beside now, for reading; "-" for none.
func (g *globals) ago(t alerts.Time) string {
	if t == 0 {
		return "-"
	}
	d := g.now().Sub(t.Std())
	suffix := " ago"
	if d < 0 {
		d, suffix = -d, " from now"
	}
	unit, name := 24*time.Hour, "d"
	switch {
	case d.Round(time.Second) < time.Minute:
		unit, name = time.Second, "s"
	case d.Round(time.Minute) < time.Hour:
		unit, name = time.Minute, "m"
	case d.Round(time.Hour) < 48*time.Hour:
		unit, name = time.Hour, "h"
	}
	return fmt.Sprintf("%d%s%s", d.Round(unit)/unit, name, suffix)
}

// readable is a time for people: to the millisecond, which is finer than any clock that two machines share.
func readable(t alerts.Time) string { return t.Std().Format("2006-01-02T15:04:05.999Z07:00") }

// user is who the history names: the person behind sudo where there is one.
func (g *globals) user() string {
	for _, key := range []string{"SUDO_USER=", "USER=", "LOGNAME="} {
		for _, pair := range g.environ {
			if name, ok := strings.CutPrefix(pair, key); ok && name != "" {
				return name
			}
		}
	}
	return "command line"
}

// incidentCard is an incident as GET /incidents/{id} gives it.
type incidentCard struct {
	alerts.Incident
	SilencedUntil alerts.Time          `json:"silenced_until"`
	History       []alerts.Audit       `json:"history"`
	Deliveries    []alerts.DeliveryRow `json:"deliveries"`
}

// showHistory writes what people did and who was told.
func (g *globals) showHistory(w io.Writer, i incidentCard) {
	if i.SilencedUntil != 0 {
		fmt.Fprintf(w, "\nsilenced     until %s\n", readable(i.SilencedUntil))
	}
	if len(i.History) > 0 {
		fmt.Fprintln(w, "\nhistory")
	}
	for _, a := range i.History {
		fmt.Fprintln(w, "  "+clean(strings.TrimSpace(fmt.Sprintf("%s  %s  %s  %s", readable(a.At), a.Who, a.What, a.Why)), false))
	}
	if len(i.Deliveries) > 0 {
		fmt.Fprintln(w, "\ntold")
	}
	for _, d := range i.Deliveries {
		fmt.Fprintln(w, "  "+clean(strings.TrimSpace(fmt.Sprintf("%s  %s  %s  %s  %s", readable(d.Created), d.Receiver, d.Transition, d.State, d.Reason)), false))
	}
}
