package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/console"
)

func newDoctorCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check what the monitor needs, and what a running one sees; exit code 1 when something fails", Args: cobra.NoArgs,
		Long: "Doctor checks this machine and the configuration, and asks the running monitor, if there is one, what its sources see.\n" +
			"Each line has a state (ok, warn, fail, off), the reason, and what to do. Nothing is sent to any receiver.",
	}
	out := g.outputFlag(cmd)
	cmd.RunE = action(func(ctx context.Context, _ []string) error {
		checks := g.examine(ctx)
		var list []json.RawMessage
		failed := false
		for _, c := range checks {
			failed = failed || c.State == "fail"
			item, err := json.Marshal(c)
			if err != nil {
				return err
			}
			list = append(list, item)
		}
		err := print(out, list, "", []string{"STATE", "WHAT", "REASON", "FIX"}, func(c console.Check) []string {
			return []string{c.State, c.What, c.Reason, c.Fix}
		})
		if err == nil && failed {
			return &exitError{code: exitFound}
		}
		return err
	})
	return cmd
}

// examine runs every check. A wrong configuration is the first finding; the rest is then judged by the defaults. A running monitor
// is asked what its inputs see, instead of trying them from here: it may run as another user and with other flags.
func (g *globals) examine(ctx context.Context) []console.Check {
	c, err := g.load()
	checks := []console.Check{configCheck(g.config, err)}
	if err != nil {
		c = configs.Default()
		c.DataDir = cmp.Or(g.dataDir, c.DataDir)
	}
	live, err := dialMonitor(ctx, c.DataDir)
	checks = append(checks, dataDirCheck(c.DataDir), monitorCheck(live != nil, c.DataDir, err))
	checks = append(checks, bufferCheck(c.Flow))
	if live != nil {
		defer live.close()
		return append(append(checks, liveReceivers(ctx, live, c)...), liveChecks(ctx, live)...)
	}
	for _, e := range c.Enrich.Docker {
		checks = append(checks, engineCheck(ctx, e, c.Explicit("enrich.docker")))
	}
	if len(c.Enrich.Docker) == 0 {
		checks = append(checks, console.Check{State: "off", What: "docker", Reason: "no engine is configured"})
	}
	checks = append(checks, kernelChecks(c.Enrich)...)
	checks = append(checks, captureChecks(c.Flow)...)
	checks = append(checks, portChecks(c)...)
	return append(checks, receiverChecks(ctx, c)...)
}

func configCheck(name string, err error) console.Check {
	c := console.Check{State: "ok", What: "configuration", Reason: "no file: the defaults hold"}
	if name != "" {
		c.Reason = name + " is valid"
	}
	if err != nil {
		c.State, c.Reason, c.Fix = "fail", err.Error(), "see wharfwatch config check"
		var problems configs.Problems
		if errors.As(err, &problems) {
			c.Reason = problems[0].Message
			if n := len(problems); n > 1 {
				c.Reason = fmt.Sprintf("%d problems, the first: %s", n, c.Reason)
			}
		}
	}
	return c
}

func monitorCheck(running bool, dataDir string, err error) console.Check {
	switch {
	case err != nil:
		return console.Check{State: "warn", What: "monitor", Reason: err.Error(), Fix: "run this as the user who runs the monitor"}
	case running:
		return console.Check{State: "ok", What: "monitor", Reason: "answers on " + dataDir}
	}
	return console.Check{State: "off", What: "monitor", Reason: "none runs on " + dataDir, Fix: "wharfwatch run, or name its --data-dir"}
}

// liveChecks asks the monitor what it sees.
func liveChecks(ctx context.Context, live *client) []console.Check {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := live.list(ctx, "/doctor", nil)
	if err != nil {
		return []console.Check{{State: "fail", What: "sources", Reason: err.Error(), Fix: "look into the monitor's log"}}
	}
	var out []console.Check
	for _, item := range list {
		var c console.Check
		if err := json.Unmarshal(item, &c); err != nil {
			return append(out, console.Check{State: "fail", What: "sources", Reason: "the monitor's answer: " + err.Error(), Fix: "use the same version on both sides"})
		}
		out = append(out, c)
	}
	return out
}

// liveReceivers looks up the receivers of the configuration; where it has none, the monitor may have been given some by flags.
func liveReceivers(ctx context.Context, live *client, c *configs.Config) []console.Check {
	list, err := live.list(ctx, "/receivers", nil)
	if err != nil || len(list) == 0 {
		return receiverChecks(ctx, c)
	}
	if receivers, err := c.Alerts.Receivers(); err == nil && len(receivers) == len(list) {
		return receiverChecks(ctx, c)
	}
	return []console.Check{{State: "ok", What: "receivers", Reason: fmt.Sprintf("the monitor has %d", len(list)), Fix: "name its configuration (-c) to have them looked up"}}
}
