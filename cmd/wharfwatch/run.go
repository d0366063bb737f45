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

// monitor is the running product: the engine, what feeds it, what tells of it, and their order.
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

	indicatorsAt string // of which time the lists of indicators are

	turn  chan struct{} // who puts something in has the engine, until he takes it out; the others wait in line
	ended chan struct{} // closed when nobody gets a turn any more
}

// run starts every goroutine of the product, and returns when ctx has ended and everything taken in has been told.
func (m *monitor) run(ctx context.Context) error {
	outputs, stop := context.WithCancel(context.WithoutCancel(ctx))
	var inputs, rest sync.WaitGroup
	for _, s := range m.sources {
		inputs.Go(func() {
			if err := s.Run(ctx, m.take); err != nil {
				m.log.Error("a source ended: what it read is missing until a restart", "err", err)
			}
		})
	}
	for _, d := range m.engines {
		inputs.Go(func() {
			if err := d.Run(ctx, m.hear); err != nil {
				m.log.Error("an engine's inventory ended", "err", err)
			}
		})
	}
	for _, k := range m.kernels {
		inputs.Go(func() {
			if err := k.Run(ctx, m.follow); err != nil {
				m.log.Warn("a host's connections are not followed: flows behind NAT keep the host's address", "err", err)
			}
		})
	}
	rest.Go(func() { m.serve(outputs, "delivery", m.delivery.Run) })
	rest.Go(func() { m.serve(outputs, "console", m.console.Run) })
	rest.Go(m.saver.run)
	rest.Go(func() { m.followIndicators(outputs) })
	silent := make(chan struct{})
	go func() { <-ctx.Done(); inputs.Wait(); close(silent) }()

	m.watch(silent)
	m.turn <- struct{}{}
	close(m.ended)
	err := m.finish()
	stop()
	rest.Wait()
	return err
}

// take is the path of a datagram. A source, in its own goroutine, decoded it into a batch of records. The engine joins them into
// connections, attributes each once, hands them to the detectors when event time has passed them, and what is found becomes an
// incident and a row of the outbox. Meanwhile the source does not read: the kernel's buffer fills, and its drops are counted.
func (m *monitor) take(b *flow.Batch) {
	m.turn <- struct{}{}
	arrival := b.Arrival
	m.clock.Observe(b.Source, b.Watermark, arrival)
	m.batch(b)
	m.advanceTo(arrival)
	<-m.turn
}

// hear is the path of a change at a container engine.
func (m *monitor) hear(ev enrich.Event) {
	for _, k := range m.kernels {
		k.Hear(&ev)
	}
	m.turn <- struct{}{}
	m.event(&ev)
	if ev.Kind == enrich.Synced {
		m.saver.next = time.Now() // what was adopted is known soon: a crash must not adopt again what came meanwhile
	}
	<-m.turn
}

// follow is the path of what a host's kernel says about connections and their translations.
func (m *monitor) follow(b *enrich.Tracks) {
	m.turn <- struct{}{}
	m.tracks(b)
	<-m.turn
}

// watch lets time pass where no input does it, and does what is due, until the inputs have ended.
func (m *monitor) watch(silent <-chan struct{}) {
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case now := <-every.C:
			m.turn <- struct{}{}
			m.advanceTo(now.UnixNano())
			m.silences()
			m.clockBack(now.UnixNano())
			m.snapshot()
			m.stream.flush()
			<-m.turn
		case <-silent:
			return
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

// silences says which sources stopped talking: event time no longer waits for them. Of many at once it names some.
func (m *monitor) silences() {
	const named = 8
	all := m.clock.Silences()
	for _, s := range all[:min(len(all), named)] {
		if s.Behind {
			m.log.Warn("a source lags behind all others and is no longer waited for: look at its clock", "source", s.Source, "heard_up_to", stamp(s.Watermark))
			continue
		}
		m.log.Warn("a source fell silent and is no longer waited for", "source", s.Source, "since", stamp(s.Since))
	}
	if more := len(all) - named; more > 0 {
		m.log.Warn("more sources fell silent or lag behind: wharfwatch doctor lists them", "sources", more)
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
