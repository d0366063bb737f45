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
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sys/unix"
)

const (
	captureWatch  = time.Second            // how often interfaces are looked for
	captureMargin = int64(time.Second) / 4 // how far behind the present a silent interface claims to have seen everything
	captureStats  = int64(time.Second)
)

// openCapture watches the interfaces that match one of the patterns (path.Match, separated by commas) and captures on each while
// it exists. The note says on which it begins. Without the permission it fails at once.
//
// A port of a bridge is left out when the bridge matches too: each packet would be seen twice.
func openCapture(patterns string, pool Pool, set *metrics.Set, log *slog.Logger) (Source, string, error) {
	c := &capture{
		patterns: strings.Split(patterns, ","), pool: pool, set: set, log: log,
		list: listInterfaces, running: make(map[int]*reader), failed: make(map[int]string),
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
	pool     Pool
	set      *metrics.Set
	log      *slog.Logger
	list     func() ([]iface, error)
	running  map[int]*reader // by interface index
	failed   map[int]string  // interfaces that cannot be opened, and why: said once

	mu   sync.Mutex // emit is called by one reader at a time
	emit func(*Batch)

	packets, drops, freezes *metrics.Counter
	rings                   *metrics.Gauge
}

// reader is a goroutine that captures on one interface.
type reader struct {
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
		if c.running[n.index] != nil {
			continue
		}
		r, err := openRing(n.index, n.bridge)
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
		c.running[n.index] = &reader{stop, done}
		c.rings.Inc()
		c.log.Info("capturing", "interface", n.name)
		go func() {
			defer close(done)
			defer c.rings.Dec()
			if err := c.read(ctx, r, n.name); err != nil {
				c.log.Warn("the capture ended", "interface", n.name, "err", err)
			}
		}()
	}
}

// read moves packets from a ring to the assembler until ctx ends, and closes the ring.
func (c *capture) read(ctx context.Context, r *ring, name string) (err error) {
	t := newTap("capture:"+name, c.pool, DefaultConversations, c.set, func(b *Batch) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.emit(b)
	})
	a := t.assembler
	a.advance(time.Now().UnixNano() - captureMargin)
	counted := a.newest // until when the kernel's counters were read
	defer func() {
		c.count(r, a, counted)
		t.drain()
		err = errors.Join(err, r.close())
	}()
	var p ringPacket
	for {
		now := time.Now().UnixNano() // before the ring is found empty: what is not in it is younger than this
		for {
			ok, err := r.next(&p)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if p.skip {
				t.skip(outgoing)
			} else {
				t.frame(r.link, p.frame, p.wire, p.vlan, p.time)
			}
			if r.packets == 0 && (ctx.Err() != nil || a.newest-counted >= captureStats) {
				break // between two blocks: a full wire must not hold up the rest
			}
		}
		t.settle()
		if a.newest-counted >= captureStats {
			c.count(r, a, counted)
			counted = a.newest
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
