package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/state"
)

// Notes in the state file: when the last run began, and when it ended by itself (0: it did not), ns of the wall clock.
const (
	lastBegan = "monitor.began"
	lastEnded = "monitor.ended"
)

// open builds a monitor: state first, then what was known, then everything that binds a socket, so that what is wrong is said at the start.
func open(ctx context.Context, c *configs.Config, g *globals) (*monitor, error) {
	m := &monitor{
		config: c, log: g.logger(c.Log), set: metrics.NewSet(),
		clock: flow.NewClock(time.Second), turn: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	m.clock.SetLimit(c.Flow.ActiveTimeout() + c.Flow.Slack())
	var err error
	if m.db, err = state.Open(c.DataDir); err != nil {
		return nil, err
	}
	if err := m.assemble(ctx, g); err != nil {
		return nil, errors.Join(err, m.giveUp(ctx))
	}
	return m, nil
}

// assemble fills the monitor. Only when all of it stands a run has begun.
func (m *monitor) assemble(ctx context.Context, g *globals) error {
	c := m.config
	m.db.Metrics(m.set)
	m.saver = newSaver(m.db, c.SnapshotInterval, m.log)
	store, err := alerts.OpenStore(m.db, c.Alerts)
	if err != nil {
		return err
	}
	if m.incidents, err = alerts.NewManager(c.Alerts, store, m.set, m.log); err != nil {
		return err
	}
	if m.delivery, err = alerts.NewDelivery(c.Alerts, store, m.incidents.Silenced, m.set, m.log); err != nil {
		return err
	}
	m.table = enrich.NewTable(c.Enrich, m.set)
	m.detectors = baseline.New(c.Baseline, m.set, m.tell)
	m.indicatorsAt = changedAt(c.Baseline.Intel.Files)
	indicators, err := readIndicators(c.Baseline.Intel.Files, m.log)
	if err != nil {
		return err
	}
	m.detectors.SetIndicators(indicators)
	if c.Record != "" {
		w, err := flow.NewStreamWriter(c.Record, recordLimit, m.set, m.log)
		if err != nil {
			return err
		}
		m.stream = &recorder{w: w, log: m.log}
	}
	if err := m.recall(store); err != nil {
		return err
	}
	if err := m.openInputs(g); err != nil {
		return err
	}
	deps, err := m.deps(store)
	if err != nil {
		return err
	}
	if deps.Access, err = console.OpenAccess(m.db); err != nil {
		return err
	}
	m.console = console.New(c.Console, deps, m.set, m.log)
	if err := m.console.Open(); err != nil {
		return err
	}
	m.sayConsole(g)
	return errors.Join(m.db.Set(ctx, lastBegan, strconv.FormatInt(time.Now().UnixNano(), 10)), m.db.Set(ctx, lastEnded, "0"))
}

// giveUp ends what assemble had begun before it failed.
func (m *monitor) giveUp(ctx context.Context) error {
	m.stream.close()
	var err error
	if m.incidents != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = m.incidents.Stop(ctx)
	}
	for _, s := range m.sources {
		if c, ok := s.(io.Closer); ok {
			err = errors.Join(err, c.Close())
		}
	}
	return errors.Join(err, m.db.Close())
}

const recordLimit = 16 << 30 // bytes

// openInputs opens the flow sources and names the engines, and says what is there and what is lacking.
func (m *monitor) openInputs(g *globals) error {
	c := m.config
	c.Flow.TemplateFile, c.Flow.PacketDir = filepath.Join(c.DataDir, "templates.json"), packetDir(c.DataDir)
	sources, notes, err := c.Flow.Open(flow.NewPool(8), m.set, m.log)
	if err != nil {
		return err
	}
	m.sources, m.notes, m.began = sources, notes, time.Now().UnixNano()
	for _, note := range notes {
		m.say(g, "flow", note)
	}
	for _, e := range enrich.ScopeEngines(c.Enrich.Docker) {
		m.engines = append(m.engines, enrich.NewDocker(e, m.set, m.log))
		m.say(g, "engine", e.Name+" at "+e.Endpoint())
		m.openKernel(g, e)
	}
	if c.Enrich.Inventory == "" {
		if len(m.sources)+len(m.engines) == 0 {
			m.say(g, "flow", "nothing is watched: everything is off or could not be opened; see wharfwatch doctor")
		}
		return nil
	}
	n, err := m.inventory(c.Enrich.Inventory)
	if err == nil {
		m.say(g, "engine", fmt.Sprintf("inventory %s: %d containers", c.Enrich.Inventory, n))
	}
	return err
}

// openKernel follows the connections of an engine's host where that is this machine, and says what it lacks.
func (m *monitor) openKernel(g *globals, e enrich.EngineConfig) {
	if m.config.Enrich.Conntrack.Mode == off || !e.Local() {
		return
	}
	for _, c := range enrich.CheckKernel(e) {
		text := c.What + ": " + c.Reason
		if c.Fix != "" {
			text += " (" + c.Fix + ")"
		}
		m.say(g, "kernel", text)
	}
	k := enrich.NewKernel(e, m.set, m.log)
	if m.config.Enrich.Conntrack.Flows != off {
		k.Flows(flow.NewPool(8), m.captured(), m.take)
	}
	if m.config.Enrich.Conntrack.Enter {
		k.EnterShared()
	}
	m.kernels = append(m.kernels, k)
}

// captured are the interfaces whose packets are counted, as patterns; none where nothing may be captured.
func (m *monitor) captured() []string {
	for _, s := range m.sources {
		switch s.(type) {
		case *flow.Collector, *flow.Tail:
		default:
			return m.config.Flow.Interfaces
		}
	}
	return nil
}

// sayConsole says where the console is and, this once, who may log in.
func (m *monitor) sayConsole(g *globals) {
	if url := m.console.URL(); url != "" {
		m.say(g, "console", url)
	}
	if sum := m.console.Fingerprint(); sum != "" {
		m.say(g, "console", "certificate SHA-256 "+sum)
	}
	if user, made := m.console.First(); made {
		m.say(g, "console", fmt.Sprintf("first login: %s, password %s (shown this once; wharfwatch access password %s makes another)", user.Name, user.Secret, user.Name))
	}
}

func (m *monitor) say(g *globals, part, text string) {
	fmt.Fprintf(g.stderr, "%-8s %s\n", part, clean(text, true))
}

// inventory feeds what docker inspect printed.
func (e *engine) inventory(path string) (containers int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("inventory: %w", err)
	}
	defer file.Close()
	events, err := enrich.ReadInventory(file, "inventory")
	if err != nil {
		return 0, fmt.Errorf("inventory %s: %w", path, err)
	}
	for i := range events {
		if events[i].Kind == enrich.Listed {
			containers++
		}
		e.event(&events[i])
	}
	return containers, nil
}

// recall restores the baselines, and says for how long nobody watched. What the last run learned after its last snapshot is lost if it did
// not end by itself: at most the snapshot interval. All of it is a gap: a beat missed in it is no evidence.
func (m *monitor) recall(store *alerts.Store) error {
	if m.stream != nil {
		saved, err := store.Load(m.config.Alerts.MaxIncidents)
		if err != nil {
			return err
		}
		m.stream.start()
		m.stream.alerts(saved)
	}
	known, skipped, err := m.restore(m.db)
	if err != nil {
		return err
	}
	for _, s := range skipped {
		m.log.Warn("a snapshot cannot be used: what it knew is learned again", "detector", s.Detector, "key", s.Key, "err", s.Reason)
	}
	now := time.Now().UnixNano()
	began, err := m.note(lastBegan)
	if err != nil {
		return err
	}
	ended, err := m.note(lastEnded)
	if err != nil {
		return err
	}
	switch from := max(known, began); {
	case began == 0:
	case ended != 0:
		m.log.Info("nobody watched since the last run ended", "from", stamp(ended), "seconds", (now-ended)/second)
	default:
		m.log.Warn("the last run did not end by itself: what it learned after its last snapshot is lost",
			"from", stamp(from), "seconds", (now-from)/second, "snapshot_interval", m.config.SnapshotInterval.String())
	}
	if known != 0 {
		m.batch(&flow.Batch{Source: "wharfwatch", Gaps: []flow.Gap{{Source: "wharfwatch", From: known, To: now, Reason: "restart"}}})
	}
	return nil
}

// note reads a number from the notes of the state file; 0 where there is none.
func (m *monitor) note(name string) (int64, error) {
	text, ok, err := m.db.Get(name)
	if err != nil || !ok {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("state file: %s: %w", name, err)
	}
	return n, nil
}

// restore gives every detector what it knew, and returns the event time up to which that is.
func (e *engine) restore(db *state.DB) (known int64, skipped []state.Skipped, err error) {
	skipped, err = db.LoadSnapshots(func(s state.Snapshot) error {
		if s.Detector == roundMark {
			known = s.Time
			return nil
		}
		e.stream.state(s.Detector, s.Key, s.Blob)
		return e.detectors.Restore(s.Detector, s.Key, s.Blob)
	})
	return known, skipped, err
}

// finish makes durable what was found and what was learned. Delivery still runs: what it cannot send in time waits in the outbox.
func (m *monitor) finish() error {
	m.stream.close()
	m.saver.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := m.incidents.Stop(ctx)
	if saved := m.saveAll(ctx, m.db); saved != nil {
		return errors.Join(err, fmt.Errorf("save baselines at the end: %w", saved))
	}
	return errors.Join(err, m.db.Set(ctx, lastEnded, strconv.FormatInt(time.Now().UnixNano(), 10)))
}
