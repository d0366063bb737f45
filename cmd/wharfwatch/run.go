package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/state"
)

func newRunCommand(g *globals) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Monitor: take in flows and packets, attribute, judge, tell",
		Args:  cobra.NoArgs,
		RunE: action(func(ctx context.Context, _ []string) error {
			config, err := f.load(g)
			if err != nil {
				return err
			}
			m, err := open(ctx, config, g)
			if err != nil {
				return err
			}
			err = m.run(ctx)
			fmt.Fprintf(g.stderr, "records %d\nfindings %d\n", m.records, m.findings)
			return errors.Join(err, m.db.Close())
		}),
	}
	f.register(c.Flags())
	return c
}

// monitor is the running product: the engine, what feeds it, what tells of it, and the queues between their goroutines.
type monitor struct {
	engine
	config *configs.Config
	log    *slog.Logger
	set    *metrics.Set
	db     *state.DB

	clock    *flow.Clock
	sources  []flow.Source
	notes    []string // what the sources said when they were opened
	began    int64    // wall clock, ns
	engines  []*enrich.Docker
	kernels  []*enrich.Kernel
	delivery *alerts.Delivery
	console  *console.Server
	saver    *saver
	ahead    bool // event time is ahead of the clock, and that was said

	batches chan *flow.Batch    // a full queue holds up the source: the kernel's buffer fills, and its drops are counted
	events  chan enrich.Event   // a full queue holds up the sender, which lists the engine again afterwards
	kernel  chan *enrich.Tracks // a full queue holds up the reader: the kernel's buffer fills, and what it drops is told
	asks    chan func()         // from the console
	watched chan struct{}       // closed when nobody answers asks any more
}

// run starts every goroutine of the product, and returns when ctx has ended and everything taken in has been told.
func (m *monitor) run(ctx context.Context) error {
	outputs, stop := context.WithCancel(context.WithoutCancel(ctx))
	var inputs, rest sync.WaitGroup
	for _, s := range m.sources {
		inputs.Go(func() {
			if err := s.Run(ctx, func(b *flow.Batch) { m.batches <- b }); err != nil {
				m.log.Error("a source ended: what it read is missing until a restart", "err", err)
			}
		})
	}
	for _, d := range m.engines {
		inputs.Go(func() {
			if err := d.Run(ctx, func(ev enrich.Event) { m.events <- ev }); err != nil {
				m.log.Error("an engine's inventory ended", "err", err)
			}
		})
	}
	for _, k := range m.kernels {
		inputs.Go(func() {
			if err := k.Run(ctx, func(b *enrich.Tracks) { m.kernel <- b }); err != nil {
				m.log.Warn("a host's connections are not followed: flows behind NAT keep the host's address", "err", err)
			}
		})
	}
	rest.Go(func() { m.serve(outputs, "delivery", m.delivery.Run) })
	rest.Go(func() { m.serve(outputs, "console", m.console.Run) })
	rest.Go(m.saver.run)
	ended := make(chan struct{})
	go func() { <-ctx.Done(); inputs.Wait(); close(ended) }()

	m.watch(ended)
	close(m.watched)
	err := m.finish()
	stop()
	rest.Wait()
	return err
}

// watch is the path of a datagram: a source decoded it into a batch of records; the engine joins them into connections, attributes each
// once, hands them to the detectors when event time has passed them, and what is found becomes an incident and a row of the outbox.
func (m *monitor) watch(ended <-chan struct{}) {
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case b := <-m.batches:
			arrival := b.Arrival
			m.clock.Observe(b.Source, b.Watermark, arrival)
			m.batch(b)
			m.advanceTo(arrival)
		case ev := <-m.events:
			m.event(&ev)
			if ev.Kind == enrich.Synced {
				m.saver.next = time.Now() // what was adopted is known soon: a crash must not adopt again what came meanwhile
			}
		case b := <-m.kernel:
			m.tracks(b)
		case ask := <-m.asks:
			ask()
		case now := <-every.C:
			m.advanceTo(now.UnixNano())
			m.silences()
			m.clockBack(now.UnixNano())
			m.snapshot()
			m.stream.flush()
		case <-ended:
			if len(m.batches)+len(m.events)+len(m.kernel) == 0 {
				return
			}
		}
	}
}

// advanceTo moves event time to what the sources have passed at arrival time now. Sources that were never heard are waited for as long as
// silent ones; then time follows the wall clock at that distance. Without any source it is the wall clock's.
func (m *monitor) advanceTo(now int64) {
	at, ok := m.clock.Watermark(now)
	limit := int64(m.config.Flow.ActiveTimeout() + m.config.Flow.Slack())
	switch {
	case ok:
		m.advance(at)
	case len(m.sources) == 0:
		m.advance(now)
	case now-m.began > limit:
		m.advance(now - limit)
	}
}

// silences says which sources stopped talking: event time no longer waits for them.
func (m *monitor) silences() {
	for _, s := range m.clock.Silences() {
		if s.Behind {
			m.log.Warn("a source lags behind all others and is no longer waited for: look at its clock", "source", s.Source, "heard_up_to", stamp(s.Watermark))
			continue
		}
		m.log.Warn("a source fell silent and is no longer waited for", "source", s.Source, "since", stamp(s.Since))
	}
}

// clockBack says once that event time is ahead of this host's clock: it was wrong, and was set back since. Event time never goes back.
func (m *monitor) clockBack(now int64) {
	ahead := m.now > now+minute
	if ahead && !m.ahead {
		m.log.Error("the clock of this host was set back: nothing is judged until it reaches event time again; restart the monitor",
			"event_time", stamp(m.now), "clock", stamp(now))
	}
	m.ahead = ahead
}

// serve runs a part that talks to the outside; the monitor outlives it.
func (m *monitor) serve(ctx context.Context, part string, run func(context.Context) error) {
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		m.log.Error("part of the monitor ended", "part", part, "err", err)
	}
}
