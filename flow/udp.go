package flow

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
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

// Collector is a Source of NetFlow v5, v9 and IPFIX from one UDP socket. Reader and decoder are one thread, so that templates
// and data of an exporter keep their order.
type Collector struct {
	socket  *socket
	decoder *exportDecoder
	name    string
	stats   *stats
	log     *slog.Logger
	kernel  *metrics.Counter
	running atomic.Bool
}

// datagram is one received datagram. buf is readable for 8 bytes past n.
type datagram struct {
	buf  []byte
	n    int
	cut  bool // the kernel had more
	from netip.Addr
}

func openCollector(address string, buffer int, p *policy, pool Pool, set *metrics.Set, log *slog.Logger) (*Collector, error) {
	a, err := udpAddress(address)
	if err != nil {
		return nil, err
	}
	s, err := openSocket(a, buffer)
	if err != nil {
		return nil, fmt.Errorf(`listen netflow udp %s: %w (who has it: ss -ulpn "sport = :%d")`, address, err, a.Port)
	}
	c := &Collector{socket: s, name: address, log: log, stats: newStats(set)}
	c.decoder = newExportDecoder(p, pool, c.stats)
	c.kernel = set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_kernel_drops_total{socket=%q}", address))
	set.GetOrCreateGauge(fmt.Sprintf("wharfwatch_flow_receive_buffer_bytes{socket=%q}", address), nil).Set(float64(s.buffer))
	if s.buffer < smallBuffer && log != nil {
		log.Warn("receive buffer is small, bursts will be lost", "socket", address, "bytes", s.buffer, "wanted", buffer,
			"do", fmt.Sprintf("sysctl -w net.core.rmem_max=%d", buffer))
	}
	return c, nil
}

// Addr is the address bound.
func (c *Collector) Addr() netip.AddrPort { return c.socket.addr }

// Buffer is the receive buffer that the kernel granted, bytes; it counts bookkeeping, so half of it holds payload.
func (c *Collector) Buffer() int { return c.socket.buffer }

// Exporters says what is known about everybody who sends, newest first. Safe for concurrent use.
func (c *Collector) Exporters() []ExporterStatus { return c.decoder.exportersStatus() }

// Close is for a Collector that is not run; Run closes it otherwise.
func (c *Collector) Close() error {
	if c.running.Load() {
		return nil
	}
	return c.socket.close()
}

// Run receives until ctx ends. It returns within 250 ms of that, and closes the socket.
func (c *Collector) Run(ctx context.Context, emit func(*Batch)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.running.Store(true)
	defer c.socket.close()
	c.decoder.emit = emit
	defer c.decoder.flush()
	last, polled := time.Now().UnixNano(), int64(0)
	for ctx.Err() == nil {
		slots, err := c.socket.read()
		if err != nil {
			return fmt.Errorf("receive netflow on udp %s: %w", c.name, err)
		}
		now := time.Now().UnixNano()
		drops := c.socket.drops
		if len(slots) == 0 || now-polled > int64(time.Second) {
			drops, polled = c.socket.pollDrops(), now
		}
		if n := drops - c.socket.reported; n != 0 { // 32 bits that wrap
			c.socket.reported = drops
			c.kernel.Add(int(n))
			c.decoder.kernelGap(c.name, last, now, n)
		}
		last = now
		for i := range slots {
			s := &slots[i]
			c.decoder.datagram(s.buf, s.n, s.cut, s.from, now)
		}
		if len(slots) == 0 || now-c.decoder.opened > holdBatch {
			c.decoder.flush()
		}
	}
	return nil
}

// udpAddress reads ":2055", "192.0.2.1:2055", "[::1]:2055" and names; port 0 lets the kernel choose.
func udpAddress(s string) (*net.UDPAddr, error) {
	a, err := net.ResolveUDPAddr("udp", s)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", s, err)
	}
	return a, nil
}
