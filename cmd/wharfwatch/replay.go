package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// afterwards is for how long event time runs on behind the end of the last file, so that what is pending (a bin, a hold) is still judged.
const afterwards = 10 * minute

func newReplayCommand(g *globals) *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Run files through the same engine: the incidents they contain, on stdout",
		Long: `Reads pcap and pcapng files of mirrored traffic, captures of export datagrams, nfcapd files (nfdump 1.7; plain, LZO, LZ4 or bzip2), logs
of Zeek (conn; dns, ssl, quic and http for names) and Suricata's eve.json, and streams recorded by run --record (a directory or a single
file; - is standard input), and prints the incidents they contain as JSON lines; --findings prints single findings, --records the decoded
records. Files may be packed with gzip. They are read in the order given, and must follow each other in time; Zeek logs that stand beside
each other are merged by it, so that the names of a dns log meet the connections of its conn log.

Without --data-dir the engine begins knowing nothing. With it, files are judged by the baselines in that directory, which stay as they
are; only --learn writes them. A recorded stream brings its own.

--learn teaches the baselines from weeks of files before the first live day, and tells nothing. Records older than what the baselines
know already are left out, so that no file counts twice. Settings of containers are not learned: the first live start reports them.`,
		Example: `  wharfwatch replay --inventory inventory.json mirror.pcap
  wharfwatch replay --records export.pcap
  wharfwatch replay --inventory inventory.json conn.log dns.log
  wharfwatch replay --learn --data-dir data --inventory inventory.json weeks/*.pcap
  wharfwatch replay --data-dir data --inventory inventory.json today.pcap
  wharfwatch replay --fail-on high stream/`,
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
			fmt.Fprintf(g.stderr, "records %d\nfindings %d\n", r.taken, r.findings)
			if err == nil && f.failOn != nil && r.worst >= int(*f.failOn) {
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

	taken   uint64 // packets of captures, else records
	worst   int    // severity of the worst that was printed; -1 none
	pending bool   // the last file ended, and event time has not yet run on behind it
	began   bool   // the file in hand has shown its first records

	known   int64   // event time up to which the baselines at the start knew; 0 they knew nothing
	resumed bool    // the gap behind known has been told
	lesson  *lesson // nil: nothing is learned
	bad     *baseline.Indicators
	start   *alerts.Saved // what a recorded monitor knew at its start, while it is read
}

func newReplay(config *configs.Config, f *replayFlags, g *globals) (*replay, error) {
	r := &replay{config: config, flags: f, g: g, pool: flow.NewPool(4), clock: flow.NewClock(0), worst: -1}
	r.clock.SetLimit(config.Flow.ActiveTimeout() + config.Flow.Slack())
	r.out = newPrinter(g.stdout, f)
	var err error
	if r.bad, err = readIndicators(config.Baseline.Intel.Files, g.logger(config.Log)); err != nil {
		return nil, err
	}
	r.begin()
	if err := r.remember(nil); err != nil {
		return nil, err
	}
	if err := r.recall(); err != nil {
		return nil, err
	}
	if config.Enrich.Inventory != "" {
		if _, err := r.inventory(config.Enrich.Inventory); err != nil {
			return nil, errors.Join(err, r.lesson.close())
		}
	}
	return r, nil
}

// recall restores the baselines of the data directory: to go on learning, or because a person named it.
func (r *replay) recall() (err error) {
	var db *state.DB
	switch {
	case r.flags.learn:
		if db, err = state.Open(r.config.DataDir); err != nil {
			return err
		}
		r.lesson = &lesson{db: db}
		r.detectors.SetQuiet(true)
	case r.g.dataDir != "":
		db, err = state.OpenReadOnly(r.config.DataDir)
		if errors.Is(err, fs.ErrNotExist) {
			r.note("%v: judged without baselines; replay --learn makes them", err)
			return nil
		}
		if err != nil {
			return err
		}
		defer db.Close()
	default:
		return nil
	}
	known, skipped, err := r.restore(db)
	if err != nil {
		return errors.Join(err, r.lesson.close())
	}
	for _, s := range skipped {
		r.note("the snapshot of %s for %q cannot be used: %v", s.Detector, s.Key, s.Reason)
	}
	if r.known = known; r.lesson != nil {
		r.lesson.known = known
	}
	return nil
}

// begin makes an engine that knows nothing: at the start, and where a recorded monitor was started.
func (r *replay) begin() {
	r.set, r.now = metrics.NewSet(), 0
	r.table = enrich.NewTable(r.config.Enrich, r.set)
	r.detectors = baseline.New(r.config.Baseline, r.set, r.found)
	r.detectors.SetIndicators(r.bad)
}

// remember makes the incidents go on from saved; nil is nothing. Their wall clock is event time, so that the time of the replay does not
// show: an allow rule expires when it did.
func (r *replay) remember(saved *alerts.Saved) (err error) {
	if r.incidents, err = alerts.NewManager(r.config.Alerts, &alerts.Memory{Start: saved}, r.set, r.g.logger(r.config.Log)); err == nil {
		r.incidents.SetClock(func() time.Time { return time.Unix(0, r.now) })
	}
	return err
}

// found hands a finding on, and prints it where findings are wanted.
func (r *replay) found(f baseline.Finding) {
	if r.flags.findings || r.flags.records {
		r.worst = max(r.worst, int(f.Severity))
	}
	r.out.finding(&f)
	r.tell(f)
}

func (r *replay) run(ctx context.Context, files []string) (err error) {
	defer func() { err = errors.Join(err, r.lesson.close()) }()
	if err := present(files); err != nil {
		return err
	}
	progress := newProgress(r.g, files)
	for len(files) > 0 && err == nil {
		r.began = false
		progress.next()
		var used int
		used, err = r.file(ctx, files, progress)
		files = files[used:]
	}
	progress.done()
	if err == nil {
		r.settle()
		err = r.learned(ctx)
	}
	if r.records > 0 && len(r.table.Containers()) == 0 && !r.flags.records {
		r.note("no container is known, so nothing could be attributed: give --inventory with what docker inspect $(docker ps -aq) printed")
	}
	return errors.Join(err, r.print()) // what was found before an error is printed too
}

// settle lets event time run on behind the end of the input.
func (r *replay) settle() {
	if !r.pending || r.now == 0 {
		return
	}
	r.pending = false
	r.lesson.end(r)
	r.advance(r.now + afterwards)
}

// print ends the output. What people had judged to be no trouble does not count for --fail-on.
func (r *replay) print() error {
	if !r.flags.findings && !r.flags.records {
		for _, i := range r.incidents.Incidents() {
			switch i.Verdict {
			case alerts.Benign, alerts.FalsePositive, alerts.Duplicate:
			default:
				r.worst = max(r.worst, int(i.Severity))
			}
			r.out.incident(&i)
		}
	}
	return r.out.end()
}

func (r *replay) note(format string, args ...any) {
	fmt.Fprintln(r.g.stderr, "note: "+clean(fmt.Sprintf(format, args...), false))
}
