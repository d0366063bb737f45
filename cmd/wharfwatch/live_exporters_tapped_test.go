package main

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/flow"
)

// tapped is one exporter's collector: a monitor's own socket, and what came out of it.
type tapped struct {
	name     string
	sflow    bool
	sampling uint32
	ipv4     bool     // the format has no IPv6
	known    []string // counters of losses and refusals that this exporter moves, and why that is right
	// pieces says that of datagrams in fragments it may count too little: pmacct hands what came before the first fragment to the first of its
	// plugins alone (tshark reads the same of its datagrams).
	pieces bool

	set       *metrics.Set
	collector *flow.Collector
	done      chan error
	cancel    context.CancelFunc
	marked    map[uint16]bool // ports of marks that came out
	mu        sync.Mutex      // protects what follows
	records   []flow.Record
	seen      map[uint16]bool // destination ports
}

// open binds the socket in the host's namespace, as `run` would.
func (w *tapped) open(s *scene) {
	s.t.Helper()
	c := flow.Default()
	c.Netflow, c.SFlow, c.Interfaces, c.ExplicitNetflow, c.ExplicitSFlow = []string{"127.0.0.1:0"}, []string{"off"}, []string{"off"}, true, true
	if w.sflow {
		c.Netflow, c.SFlow = c.SFlow, c.Netflow
	}
	w.set = metrics.NewSet()
	s.InHost(func() error {
		sources, _, err := c.Open(flow.NewPool(8), w.set, nil)
		if err == nil {
			w.collector = sources[0].(*flow.Collector)
		}
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.done = cancel, make(chan error, 1)
	s.t.Cleanup(cancel)
	go func() {
		w.done <- w.collector.Run(ctx, func(b *flow.Batch) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records = append(w.records, b.Records...)
			for i := range b.Records {
				w.seen[b.Records[i].DstPort] = true
			}
			b.Free()
		})
	}()
}

func (w *tapped) address() string { return w.collector.Addr().String() }

func (w *tapped) port() string { return strconv.Itoa(int(w.collector.Addr().Port())) }

func (w *tapped) has(port uint16) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[port]
}

// counters returns the counters above 0 whose names begin so, a line each.
func (w *tapped) counters(prefix string) (out []string) {
	var text strings.Builder
	w.set.WritePrometheus(&text)
	for line := range strings.Lines(text.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, prefix) && !strings.HasSuffix(line, " 0") {
			out = append(out, line)
		}
	}
	return out
}

// stop ends the collector when it has read all: a datagram that is none is the last in the socket.
func (w *tapped) stop(s *scene) {
	s.t.Helper()
	s.InHost(func() error {
		c, err := net.Dial("udp", w.address())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte{0})
		return err
	})
	s.eventually(10*time.Second, w.name+" has read all", func() bool { return len(w.counters("wharfwatch_flow_datagrams_malformed_total")) > 0 })
	w.cancel()
	if err := <-w.done; err != nil {
		s.t.Error(err)
	}
}
