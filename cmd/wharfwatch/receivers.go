package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/enrich"
)

const maxFailed = 1000 // dead letters listed, and queued again at once

// notifyDeps is what the console can do with receivers, in the monitor and without one. labels are those of an incident's container.
func notifyDeps(c *configs.Config, store *alerts.Store, labels func(*alerts.Incident) []enrich.Label) (console.Notify, error) {
	receivers, err := c.Alerts.Receivers()
	if err != nil {
		return console.Notify{}, err
	}
	find := func(name string) (*alerts.Receiver, error) {
		var known []string
		for _, r := range receivers {
			if r.Name == name {
				return r, nil
			}
			known = append(known, r.Name)
		}
		if known == nil {
			return nil, fmt.Errorf("%w: %q; none is configured", console.ErrNoReceiver, name)
		}
		return nil, fmt.Errorf("%w: %q; known here are %s", console.ErrNoReceiver, name, strings.Join(known, ", "))
	}
	return console.Notify{
		Receivers: func() (out []console.Receiver) {
			for _, r := range receivers {
				one := console.Receiver{
					Name: r.Name, Kind: r.Kind, MinSeverity: r.MinSeverity.String(), Workloads: r.Workloads, Labels: r.Labels, Mute: r.Mute, Active: r.Active,
				}
				if until, quiet := r.QuietUntil(time.Now(), baseline.High); quiet {
					one.MutedUntil = until.UTC().Format(time.RFC3339)
				}
				out = append(out, one)
			}
			return out
		},
		Test: func(ctx context.Context, name string) (console.TestResult, error) {
			r, err := find(name)
			if err != nil {
				return console.TestResult{}, err
			}
			o := alerts.Test(ctx, r)
			return console.TestResult{OK: o.Verdict == alerts.OK, Status: o.Status, Reason: o.Reason}, nil
		},
		Preview: func(name string, in *alerts.Incident) (console.Preview, error) {
			r, err := find(name)
			if err != nil {
				return console.Preview{}, err
			}
			if in == nil {
				sample := alerts.Sample()
				in = &sample
			}
			q, err := alerts.Preview(r, *in)
			return console.Preview{ContentType: q.Header.Get("Content-Type"), Body: string(q.Body), Untold: untold(r, in, labels(in))}, err
		},
		Failed: func(context.Context) ([]alerts.DeliveryRow, error) { return store.Failed(maxFailed) },
		Retry: func(ctx context.Context, ids []string) (n int, err error) {
			if len(ids) == 0 {
				failed, err := store.Failed(maxFailed)
				if err != nil {
					return 0, err
				}
				for _, d := range failed {
					ids = append(ids, d.ID)
				}
			}
			var refused []error
			for _, id := range ids { // one that cannot go again does not keep the rest
				if err := store.Retry(ctx, id, time.Now()); err != nil {
					refused = append(refused, err)
					continue
				}
				n++
			}
			if refused != nil {
				return n, fmt.Errorf("%d queued again, %d not: %w", n, len(refused), errors.Join(refused...))
			}
			return n, nil
		},
	}, nil
}

// untold says why a receiver would not hear of an incident now; "" when it would.
func untold(r *alerts.Receiver, in *alerts.Incident, labels []enrich.Label) string {
	if why, hears := r.Hears(in, labels); !hears {
		return why
	}
	if until, quiet := r.QuietUntil(time.Now(), in.Severity); quiet {
		return "muted until " + until.UTC().Format(time.RFC3339)
	}
	return ""
}

// receiverChecks builds the receivers, which reads their secrets, and looks their hosts up. Nothing is sent to them.
func receiverChecks(ctx context.Context, c *configs.Config) []console.Check {
	receivers, err := c.Alerts.Receivers()
	if err != nil {
		return []console.Check{{State: "fail", What: "receivers", Reason: err.Error(), Fix: "see whether this user may read the file"}}
	}
	if len(receivers) == 0 {
		return []console.Check{{State: "warn", What: "receivers", Reason: "none is configured: nobody is told", Fix: "add one below alerts, or use --webhook URL"}}
	}
	var out []console.Check
	for _, r := range receivers {
		check := console.Check{State: "ok", What: "receiver " + r.Name}
		host, err := receiverHost(ctx, r)
		check.Reason = host
		if err != nil {
			check.State, check.Reason, check.Fix = "fail", err.Error(), "see whether the name is right and this machine can look it up"
		}
		out = append(out, check)
	}
	return out
}

// receiverHost says where a receiver is, in words.
func receiverHost(ctx context.Context, r *alerts.Receiver) (string, error) {
	if r.Kind == "jsonl" {
		return "a file", nil
	}
	q, err := alerts.Preview(r, alerts.Sample())
	if err != nil {
		return "", err
	}
	u, err := url.Parse(q.URL)
	if err != nil || u.Hostname() == "" {
		return "", errors.New("its address names no host")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, u.Hostname()); err != nil {
		return "", fmt.Errorf("look up %s: %w", u.Hostname(), err)
	}
	return u.Hostname() + " can be looked up", nil
}
