package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sys/unix"
)

const (
	captureWatch  = time.Second            // how often interfaces are looked for
	captureMargin = int64(time.Second) / 4 // how far behind the present a silent interface claims to have seen everything
	captureStats  = int64(time.Second)
)

// captureOptions is what a Config says about captures.
type captureOptions struct {
	patterns  string // of path.Match, separated by commas
	ringBytes int    // of all rings together
	ignore    []ignoreRule
	store     *packetStore // nil: packets are not kept
	unwrap    string       // auto, always or never
}

// openCapture watches the interfaces that match one of the patterns and captures on each while it exists. The note says on which it begins. Without the permission it fails at once.
//
// A port of a bridge is left out when the bridge matches too: each packet would be seen twice.
func openCapture(o captureOptions, pool Pool, set *metrics.Set, log *slog.Logger) (Source, string, error) {
	patterns := o.patterns
	c := &capture{
		ignore: o.ignore, store: o.store, unwrap: o.unwrap, memory: newRingMemory(o.ringBytes, set),
		patterns: strings.Split(patterns, ","), pool: pool, set: set, log: log,
		list: listInterfaces, start: func(f func()) { go f() }, running: make(map[int]*reader), failed: make(map[int]string),
		packets: set.GetOrCreateCounter("wharfwatch_flow_capture_packets_total"),
		drops:   set.GetOrCreateCounter("wharfwatch_flow_capture_drops_total"),
		freezes: set.GetOrCreateCounter("wharfwatch_flow_capture_freezes_total"),
		rings:   set.GetOrCreateGauge("wharfwatch_flow_capture_interfaces", nil),
	}
	for _, p := range c.patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, "", fmt.Errorf("capture on %q: %w", p, err)
		}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return nil, "", fmt.Errorf("no permission to capture on %s: run as root, or give the program CAP_NET_RAW and CAP_NET_ADMIN", patterns)
		}
		return nil, "", fmt.Errorf("capture on %s: %w", patterns, err)
	}
	unix.Close(fd)
	ifs, err := c.list()
	if err != nil {
		return nil, "", fmt.Errorf("capture on %s: %w", patterns, err)
	}
	chosen, notes := c.choose(ifs)
	names := make([]string, len(chosen))
	for i, n := range chosen {
		names[i] = n.name
	}
	note := fmt.Sprintf("capturing on %s: %s", patterns, strings.Join(names, ", "))
	if len(names) == 0 {
		note = fmt.Sprintf("capturing on %s as soon as there is such an interface", patterns)
	}
	return c, strings.Join(append([]string{note}, notes...), "; "), nil
}

// capture runs one ring for each interface that matches. Run's goroutine owns running and failed.
type capture struct {
	patterns []string
	ignore   []ignoreRule
	memory   *ringMemory
	store    *packetStore
	unwrap   string
	pool     Pool
	set      *metrics.Set
	log      *slog.Logger
	list     func() ([]iface, error)
	start    func(func())
	running  map[int]*reader // by interface index
	failed   map[int]string  // interfaces that cannot be opened, and why: said once

	mu   sync.Mutex // emit is called by one reader at a time
	emit func(*Batch)

	packets, drops, freezes *metrics.Counter
	rings                   *metrics.Gauge
}

// reader is a goroutine that captures on one interface.
type reader struct {
	mac  *atomic.Uint64 // of the interface where it is a bridge, else 0; it may change
	stop context.CancelFunc
	done chan struct{}
}

func (c *capture) match(name string) bool {
	return slices.ContainsFunc(c.patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// choose picks the interfaces to capture on.
func (c *capture) choose(ifs []iface) (chosen []iface, notes []string) {
	for _, n := range ifs {
		switch {
		case !c.match(n.name):
		case n.master != "" && c.match(n.master):
			notes = append(notes, fmt.Sprintf("%s is left out: it is a port of %s", n.name, n.master))
		default:
			chosen = append(chosen, n)
		}
	}
	return chosen, notes
}

// Run captures until ctx ends; it returns after all readers have.
func (c *capture) Run(ctx context.Context, emit func(*Batch)) error {
	c.emit = emit
	defer c.store.start()()
	tick := time.NewTicker(captureWatch)
	defer tick.Stop()
	for {
		c.watch(ctx)
		select {
		case <-ctx.Done():
			for _, r := range c.running {
				<-r.done
			}
			return nil
		case <-tick.C:
		}
	}
}

// watch starts readers on new interfaces and stops those whose interface is gone or has become the port of a bridge.
func (c *capture) watch(ctx context.Context) {
	ifs, err := c.list()
	if err != nil {
		c.log.Warn("interfaces cannot be listed", "err", err)
		return
	}
	chosen, _ := c.choose(ifs)
	stays := func(index int) bool {
		return slices.ContainsFunc(chosen, func(n iface) bool { return n.index == index })
	}
	for index, r := range c.running {
		if !stays(index) {
			r.stop()
		}
		select {
		case <-r.done:
			r.stop()
			delete(c.running, index)
		default:
		}
	}
	for index := range c.failed {
		if !stays(index) {
			delete(c.failed, index)
		}
	}
	for _, n := range chosen {
		if running := c.running[n.index]; running != nil {
			running.mac.Store(n.ownMAC())
			continue
		}
		r, err := c.memory.open(n, c.ignore)
		if err != nil {
			if c.failed[n.index] != err.Error() {
				c.failed[n.index] = err.Error()
				c.log.Warn("an interface cannot be captured", "interface", n.name, "err", err)
			}
			continue
		}
		delete(c.failed, n.index)
		ctx, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		mac := &atomic.Uint64{}
		mac.Store(n.ownMAC())
		c.running[n.index] = &reader{mac, stop, done}
		c.rings.Inc()
		c.log.Info("capturing", "interface", n.name)
		c.start(func() {
			defer close(done)
			defer c.rings.Dec()
			if err := c.read(ctx, r, n, mac); err != nil {
				c.log.Warn("the capture ended", "interface", n.name, "err", err)
			}
		})
	}
}

// read moves packets from a ring to the assembler until ctx ends, and closes the ring.
func (c *capture) read(ctx context.Context, r *ring, n iface, mac *atomic.Uint64) (err error) {
	t := newTap("capture:"+n.name, c.pool, DefaultConversations, c.set, func(b *Batch) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.emit(b)
	})
	t.tape, t.parser.closed = c.store.tape(), c.unwrap == "never" || c.unwrap != "always" && n.bridge
	a := t.assembler
	a.advance(time.Now().UnixNano() - captureMargin)
	counted := a.newest // until when the kernel's counters were read
	defer func() {
		c.count(r, a, counted)
		t.drain()
		t.tape.flush()
		err = errors.Join(err, c.memory.close(r))
	}()
	var p ringPacket
	for {
		a.witness.own = MAC(mac.Load())
		a.witness.bridge = a.witness.own != 0
		now := time.Now().UnixNano() // before the ring is found empty: what is not in it is younger than this
		for {
			ok, err := r.next(&p)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			c.take(t, r, &p)
			if r.packets == 0 && (ctx.Err() != nil || a.newest-counted >= captureStats) {
				break // between two blocks: a full wire must not hold up the rest
			}
		}
		t.settle()
		if a.newest-counted >= captureStats {
			c.count(r, a, counted)
			counted = a.newest
			t.tape.flush()
			if r, err = c.grow(r, n, t, counted); err != nil {
				return err
			}
		}
		if r.packets == 0 && r.at == nil {
			t.advance(now - captureMargin)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := r.wait(); err != nil {
			return err
		}
	}
}

// take hands one packet on.
func (c *capture) take(t *tap, r *ring, p *ringPacket) {
	if p.skip {
		t.skip(outgoing)
		return
	}
	t.tape.packet(r.link, p.frame, p.wire, p.vlan, p.time)
	t.frame(r.link, p.frame, p.wire, p.vlan, p.time)
}

// grow replaces a ring that was more than half full by a larger one. The new ring captures before the old one stops, and leaves out what
// both have; what comes in the microsecond between may be seen twice or not at all.
func (c *capture) grow(old *ring, n iface, t *tap, counted int64) (*ring, error) {
	if !old.pressed {
		return old, nil
	}
	old.pressed = false
	r, err := c.memory.larger(old, n, c.ignore)
	if r == nil || err != nil {
		return old, nil // as it is, it works
	}
	if err := old.filter(nil, 0); err != nil {
		return r, errors.Join(err, c.memory.close(old))
	}
	var p ringPacket
	for range 3 { // the kernel gives back the block in hand when its time is over
		for {
			ok, err := old.next(&p)
			if err != nil {
				return r, errors.Join(err, c.memory.close(old))
			}
			if !ok {
				break
			}
			c.take(t, old, &p)
		}
		if err := old.wait(); err != nil {
			break
		}
	}
	c.count(old, t.assembler, counted)
	r.after = old.last
	return r, c.memory.close(old)
}

// count reads the kernel's counters; drops become a gap since the last time.
func (c *capture) count(r *ring, a *assembler, since int64) {
	packets, drops, freezes, err := r.stats()
	if err != nil {
		return
	}
	c.packets.AddInt64(int64(packets))
	c.drops.AddInt64(int64(drops))
	c.freezes.AddInt64(int64(freezes))
	if drops > 0 {
		b := a.batch()
		b.Gaps = append(b.Gaps, Gap{Source: a.name, From: since, To: a.newest, Lost: uint64(drops), Reason: "capture"})
	}
}
