package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/state"
)

// afterwards is for how long event time runs on behind the end of a file, so that what is pending (a bin, a hold) is still judged.
const afterwards = 10 * minute

func newReplayCommand(g *globals) *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Run files through the same engine: the incidents they contain, on stdout",
		Long: `Reads pcap and pcapng files of mirrored traffic, captures of export datagrams, and streams recorded by run --record
(- is standard input), and prints the incidents they contain as JSON lines; --findings prints single findings, --records the decoded
records. Files are read in the order given, and must follow each other in time.`,
		Args: cobra.MinimumNArgs(1),
		RunE: action(func(ctx context.Context, files []string) error {
			config, err := f.load(g)
			if err != nil {
				return err
			}
			r, err := newReplay(config, &f, g)
			if err != nil {
				return err
			}
			err = r.run(ctx, files)
			fmt.Fprintf(g.stderr, "records %d\nfindings %d\n", max(r.records, r.packets()), r.findings)
			if err == nil && r.worst >= 0 && f.failOn != nil && baseline.Severity(r.worst) >= *f.failOn {
				err = &exitError{code: exitFound}
			}
			return err
		}),
	}
	f.register(c.Flags())
	return c
}

// replay feeds files to an engine and prints what comes out.
type replay struct {
	engine
	config *configs.Config
	flags  *replayFlags
	g      *globals
	set    *metrics.Set
	pool   flow.Pool
	clock  *flow.Clock
	out    *printer
	db     *state.DB // only when learning
	worst  int       // severity of the worst incident; -1 none
}

func newReplay(config *configs.Config, f *replayFlags, g *globals) (*replay, error) {
	r := &replay{config: config, flags: f, set: metrics.NewSet(), g: g, pool: flow.NewPool(4), clock: flow.NewClock(0), worst: -1}
	r.out = newPrinter(g.stdout, f)
	var err error
	if r.incidents, err = alerts.NewManager(config.Alerts, &alerts.Memory{}, r.set, g.logger(config.Log)); err != nil {
		return nil, err
	}
	r.begin()
	if f.learn {
		r.detectors.SetQuiet(true)
		if r.db, err = state.Open(config.DataDir); err != nil {
			return nil, err
		}
		if _, _, err = r.restore(r.db); err != nil {
			return nil, errors.Join(err, r.db.Close())
		}
	}
	if config.Enrich.Inventory != "" {
		_, err = r.inventory(config.Enrich.Inventory)
	}
	return r, err
}

// begin makes an engine that knows nothing: at the start, and where a recorded monitor was started again. Incidents stay.
func (r *replay) begin() {
	r.set = metrics.NewSet()
	r.table = enrich.NewTable(r.config.Enrich, r.set)
	r.detectors = baseline.New(r.config.Baseline, r.set, r.found)
}

// found hands a finding on, and prints it where findings are wanted.
func (r *replay) found(f baseline.Finding) {
	r.worst = max(r.worst, int(f.Severity))
	r.out.finding(&f)
	r.tell(f)
}

func (r *replay) run(ctx context.Context, files []string) error {
	progress := newProgress(r.g, files)
	for _, name := range files {
		if err := r.file(ctx, name, progress); err != nil {
			return err
		}
	}
	progress.done()
	if r.db != nil {
		if err := errors.Join(r.saveAll(ctx, r.db), r.db.Close()); err != nil {
			return err
		}
		fmt.Fprintf(r.g.stderr, "learned up to %s\n", time.Unix(0, r.now).UTC().Format(time.RFC3339))
	}
	return r.out.incidents(r.incidents)
}

// file reads one input in the format that was given or that its first bytes show.
func (r *replay) file(ctx context.Context, name string, progress *progress) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		stream, err := flow.OpenStream(name)
		if err != nil {
			return err
		}
		return r.recorded(stream, progress)
	}
	in := io.Reader(r.g.stdin)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		defer file.Close()
		in = file
	}
	buffered := bufio.NewReaderSize(progress.reader(in), 1<<20)
	format, err := formatOf(r.flags.format, name, buffered)
	if err != nil {
		return err
	}
	var source flow.Source
	switch format {
	case "stream":
		stream, err := flow.NewStreamReader(name, buffered)
		if err != nil {
			return err
		}
		return r.recorded(stream, progress)
	case "netflow":
		source = flow.OpenDatagrams(name, buffered, r.pool, r.set)
	default:
		source = flow.OpenPcap(name, buffered, r.pool, r.set)
	}
	err = source.Run(ctx, func(b *flow.Batch) {
		r.take(b)
		progress.show(r.now)
	})
	if err != nil {
		return err
	}
	r.advance(r.now + afterwards)
	return ctx.Err()
}

// packets is how many packets were read, where the input is packets.
func (r *replay) packets() uint64 {
	return r.set.GetOrCreateCounter("wharfwatch_flow_packets_total").Get()
}

// take is the way of one batch: what run does with it, with the file's own clock.
func (r *replay) take(b *flow.Batch) {
	arrival := b.Arrival
	r.clock.Observe(b.Source, b.Watermark, arrival)
	r.out.records(b.Records)
	r.batch(b)
	if at, ok := r.clock.Watermark(arrival); ok {
		r.advance(at)
	}
}

// recorded replays a stream: everything that entered an engine, in the order in which it did.
func (r *replay) recorded(stream *flow.StreamReader, progress *progress) error {
	defer stream.Close()
	for {
		tag, payload, err := stream.Next()
		if errors.Is(err, io.EOF) {
			for _, note := range stream.Notes() {
				fmt.Fprintln(r.g.stderr, "note: "+note)
			}
			return nil
		}
		if err == nil {
			err = r.frame(stream, tag, payload)
		}
		if err != nil {
			return err
		}
		progress.at(stream.Progress())
		progress.show(r.now)
	}
}

func (r *replay) frame(stream *flow.StreamReader, tag byte, payload []byte) error {
	switch tag {
	case flow.TagBatch:
		b := r.pool.Get()
		if err := stream.DecodeBatch(payload, b); err != nil {
			return err
		}
		r.out.records(b.Records)
		r.batch(b)
	case flow.TagWatermark:
		at, err := flow.DecodeWatermark(payload)
		if err != nil {
			return err
		}
		r.advance(at)
	case tagEvent:
		ev, err := enrich.DecodeEvent(payload)
		if err != nil {
			return err
		}
		r.event(&ev)
	case tagStart:
		r.begin()
	case tagState:
		detector, key, blob, ok := splitState(payload)
		if !ok {
			return errors.New("a state frame of the stream is torn")
		}
		return r.detectors.Restore(detector, key, blob)
	}
	return nil
}
