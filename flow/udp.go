package flow

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

const (
	smallBuffer  = 4 << 20                // below this a burst of one busy router overflows
	idle         = 200 * time.Millisecond // how long a read waits: shutdown and statistics hang on it
	datagramSize = 1 << 16                // no UDP payload is larger

	// holdBatch is how long a batch that is not full waits for more datagrams; with none at all it goes after the idle time. A
	// batch for every read would wake the engine for one datagram at a time.
	holdBatch = int64(20 * time.Millisecond)
)

// Collector is a Source of NetFlow v5, v9, IPFIX and sFlow from one UDP address. Each of its workers has a socket, a thread and a decoder of its
// own; the kernel gives all datagrams of one sender to the same worker (steer), so that templates and data keep their order and nothing is
// shared between workers but the way out.
type Collector struct {
	kind    string // netflow or sflow: what the address was meant for; each takes all
	name    string
	workers []*worker
	running atomic.Bool
	kernel  *metrics.Counter
	keeper  *keeper
}

func openCollector(kind, address string, buffer, workers int, p *policy, k *keeper, pool Pool, set *metrics.Set, log *slog.Logger) (*Collector, error) {
	a, err := udpAddress(address)
	if err != nil {
		return nil, err
	}
	c := &Collector{kind: kind, name: address, keeper: k, kernel: set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_kernel_drops_total{socket=%q}", address))}
	stats := newStats(set)
	for range workers {
		s, err := openSocket(a, buffer, workers > 1)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf(`listen %s udp %s: %w (who has it: ss -ulpn "sport = :%d")`, kind, address, err, a.Port)
		}
		a.Port = int(s.addr.Port()) // the kernel chooses once
		w := &worker{socket: s, decoder: newExportDecoder(p, pool, stats), name: kind + ":" + address, kernel: c.kernel}
		w.decoder.orphanLimit /= workers
		if k != nil {
			k.add(w.decoder)
		}
		c.workers = append(c.workers, w)
	}
	if workers > 1 {
		if err := c.workers[0].socket.steer(workers); err != nil {
			c.Close()
			return nil, fmt.Errorf("share udp %s between %d workers: %w (flow.workers: 1 does without)", address, workers, err)
		}
	}
	set.GetOrCreateGauge(fmt.Sprintf("wharfwatch_flow_receive_buffer_bytes{socket=%q}", address), nil).Set(float64(c.Buffer()))
	if c.Buffer() < smallBuffer && log != nil {
		log.Warn("receive buffer is small, bursts will be lost", "socket", address, "bytes", c.Buffer(), "wanted", buffer,
			"do", fmt.Sprintf("sysctl -w net.core.rmem_max=%d", buffer))
	}
	return c, nil
}

// Kind says which list of the configuration named the address: "netflow" or "sflow".
func (c *Collector) Kind() string { return c.kind }

// Addr is the address bound.
func (c *Collector) Addr() netip.AddrPort { return c.workers[0].socket.addr }

// Buffer is the receive buffer that the kernel granted each worker, bytes; it counts bookkeeping, so half of it holds payload.
func (c *Collector) Buffer() int { return c.workers[0].socket.buffer }

// Workers is how many sockets and threads share the address.
func (c *Collector) Workers() int { return len(c.workers) }

// KernelDrops is how many datagrams the kernel dropped because the buffer was full, since the start.
func (c *Collector) KernelDrops() uint64 { return c.kernel.Get() }

// Exporters says what is known about everybody who sends, newest first per worker. Safe for concurrent use.
func (c *Collector) Exporters() (all []ExporterStatus) {
	for _, w := range c.workers {
		all = append(all, w.decoder.exportersStatus()...)
	}
	return all
}

// Close is for a Collector that is not run; Run closes it otherwise.
func (c *Collector) Close() (err error) {
	if c.running.Load() {
		return nil
	}
	for _, w := range c.workers {
		if e := w.socket.close(); e != nil {
			err = e
		}
	}
	return err
}

// Run receives until ctx ends. It returns within 250 ms of that, and closes the sockets. emit is called by one worker at a time.
func (c *Collector) Run(ctx context.Context, emit func(*Batch)) error {
	c.running.Store(true)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var one sync.Mutex // in emit and in failed
	var failed error
	var all sync.WaitGroup
	for _, w := range c.workers {
		all.Go(func() {
			err := w.run(ctx, func(b *Batch) {
				one.Lock()
				defer one.Unlock()
				emit(b)
			})
			if err != nil {
				one.Lock()
				failed = fmt.Errorf("receive %s on udp %s: %w", c.kind, c.name, err)
				one.Unlock()
				cancel()
			}
		})
	}
	if c.keeper != nil {
		defer c.keeper.finish()
		done := make(chan struct{})
		defer close(done)
		go c.keeper.run(done)
	}
	all.Wait()
	return failed
}

// udpAddress reads ":2055", "192.0.2.1:2055", "[::1]:2055" and names; port 0 lets the kernel choose.
func udpAddress(s string) (*net.UDPAddr, error) {
	a, err := net.ResolveUDPAddr("udp", s)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", s, err)
	}
	return a, nil
}
