package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/docs"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// deps is what the console may ask of a running monitor.
func (m *monitor) deps(store *alerts.Store) (console.Deps, error) {
	notify, err := notifyDeps(m.config, store, m.incidents.Labels)
	if list := notify.Receivers; list != nil {
		notify.Receivers = func() []console.Receiver {
			out, disabled := list(), m.delivery.Disabled()
			for i := range out {
				out[i].Disabled = disabled[out[i].Name]
			}
			return out
		}
	}
	return console.Deps{
		DataDir: m.config.DataDir,
		Version: thisBuild().Version,
		Health:  m.healthy,
		Alerts:  m.incidents,
		Notify:  notify,
		Containers: func(ctx context.Context) (out []*enrich.Container, err error) {
			err = m.ask(ctx, func() { out = m.table.Containers() })
			return out, err
		},
		Explain: func(ctx context.Context, addr flow.Addr, port uint16, at int64) (out enrich.Explanation, err error) {
			err = m.ask(ctx, func() { out = m.table.Explain(addr, port, at) })
			return out, err
		},
		Workloads: func(ctx context.Context) (out []baseline.WorkloadState, err error) {
			err = m.ask(ctx, func() { out = m.detectors.Workloads() })
			return out, err
		},
		Sources: m.statuses,
		Unnamed: func(ctx context.Context) (out []enrich.Unnamed, err error) {
			err = m.ask(ctx, func() { out = m.table.Unnamed() })
			return out, err
		},
		Checks: func(context.Context) (out []console.Check, err error) {
			for _, note := range m.notes {
				out = append(out, console.Check{State: "ok", What: "input", Reason: note})
			}
			return append(append(out, m.disabledReceivers()...), kernelChecks(m.config.Enrich)...), nil
		},
		Detections: detectionPages,
	}, err
}

// disabledReceivers says who is told nothing any more.
func (m *monitor) disabledReceivers() (out []console.Check) {
	for name, why := range m.delivery.Disabled() {
		out = append(out, console.Check{
			State: "fail", What: "receiver " + name, Reason: "it says that it is gone, and is told nothing until the next start: " + why,
			Fix: "give it its new address and restart, then `wharfwatch notify retry` what was given up",
		})
	}
	slices.SortFunc(out, func(a, b console.Check) int { return cmp.Compare(a.What, b.What) })
	return out
}

func detectionPages() (out []console.Detection, err error) {
	pages, err := docs.Detections()
	for _, p := range pages {
		out = append(out, console.Detection{ID: p.ID, Title: p.Title, Text: p.Text})
	}
	return out, err
}

// healthy is nil while everything accepted becomes durable and every receiver may be told.
func (m *monitor) healthy() error {
	err := errors.Join(m.incidents.Healthy(), m.db.Healthy())
	disabled := m.delivery.Disabled()
	for _, r := range m.delivery.Receivers() {
		if why, off := disabled[r.Name]; off {
			err = errors.Join(err, fmt.Errorf("receiver %s is disabled: %s", r.Name, why))
		}
	}
	return err
}

// ask runs f when it has its turn at the engine, which owns everything that f may look at.
func (m *monitor) ask(ctx context.Context, f func()) error {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
		f()
		return nil
	case <-m.ended:
		return errors.New("the monitor is ending")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// statuses says of every input whether it is heard, and what to do if it is not.
func (m *monitor) statuses(ctx context.Context) (out []console.SourceStatus, err error) {
	captures := 0
	for _, s := range m.sources {
		switch s := s.(type) {
		case *flow.Collector:
			out = append(out, collectorStatus(s, time.Now().UnixNano())...)
		case *flow.Tail:
			out = append(out, tailStatus(s.Status()))
		default:
			captures++
		}
	}
	if captures > 0 {
		out = append(out, m.captureStatus())
	}
	err = m.ask(ctx, func() {
		for _, e := range m.table.Engines() {
			out = append(out, engineStatus(e))
		}
	})
	return out, err
}

func (m *monitor) captureStatus() console.SourceStatus {
	packets := m.set.GetOrCreateCounter("wharfwatch_flow_capture_packets_total").Get()
	drops := m.set.GetOrCreateCounter("wharfwatch_flow_capture_drops_total").Get()
	s := console.SourceStatus{
		Name: "capture", Kind: "capture", State: "ok", Records: packets, Dropped: drops,
		Reason: fmt.Sprintf("%d packets, %d dropped by the kernel", packets, drops),
	}
	switch {
	case drops > 0:
		s.State, s.Fix = "warn", "more packets than this host can take: capture fewer interfaces"
	case packets == 0:
		s.State, s.Fix = "warn", "no interface matches, or nothing was sent: see flow.interfaces"
	}
	return s
}

func tailStatus(t flow.TailStatus) console.SourceStatus {
	s := console.SourceStatus{
		Name: t.Source, Kind: "log", State: "ok", Records: t.Rows, LastSeen: t.LastRow, Reason: fmt.Sprintf("%d lines read", t.Rows),
	}
	switch {
	case t.Err != "":
		s.State, s.Reason, s.Fix = "fail", t.Err, "may this user read the file?"
	case !t.Open:
		s.State, s.Reason, s.Fix = "warn", "the file is not there", "does its writer run, and is the path right?"
	case t.Rows == 0:
		s.State, s.Reason, s.Fix = "warn", "nothing was written to it since the start", "does its writer run?"
	}
	return s
}

func engineStatus(e enrich.EngineStatus) console.SourceStatus {
	s := console.SourceStatus{Name: "docker:" + e.Name, Kind: "docker", State: "ok", LastSeen: e.Progress, Reason: "followed"}
	switch {
	case !e.Heard:
		s.State, s.Reason, s.Fix = "fail", "never heard", "is the engine running, and may this user open its socket?"
	case !e.Live:
		s.State, s.Reason, s.Fix = "fail", "not reached since", "is the engine running, and may this user open its socket?"
	}
	return s
}
