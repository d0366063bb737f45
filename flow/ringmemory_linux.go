package flow

import (
	"fmt"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// ringMemory shares one budget between the rings of all interfaces. A ring begins small, because a host may have sixty bridges of which two
// are busy, and grows four times at a time when it was more than half full. An eighth of the budget is kept for interfaces that come later.
type ringMemory struct {
	mu    sync.Mutex // protects left
	left  int        // blocks
	total int

	used  *metrics.Gauge
	grown *metrics.Counter
}

func newRingMemory(bytes int, set *metrics.Set) *ringMemory {
	n := max(bytes/ringBlock, ringLeast)
	return &ringMemory{
		left: n, total: n,
		used:  set.GetOrCreateGauge("wharfwatch_flow_capture_ring_bytes", nil),
		grown: set.GetOrCreateCounter("wharfwatch_flow_capture_ring_grown_total"),
	}
}

// reserve takes n blocks, and leaves so many.
func (m *ringMemory) reserve(n, leave int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left-n < leave {
		return false
	}
	m.left -= n
	m.used.Set(float64((m.total - m.left) * ringBlock))
	return true
}

func (m *ringMemory) release(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left += n
	m.used.Set(float64((m.total - m.left) * ringBlock))
}

// open makes the first ring of an interface, as large as a new one may be and the budget allows.
func (m *ringMemory) open(n iface, ignore []ignoreRule) (*ring, error) {
	for blocks := ringStart; blocks >= ringLeast; blocks /= 2 {
		if !m.reserve(blocks, 0) {
			continue
		}
		r, err := openRing(n.index, n.bridge, blocks, ignore)
		if err != nil {
			m.release(blocks)
		}
		return r, err
	}
	return nil, fmt.Errorf("flow.ring_bytes, %d MiB for all interfaces, is used up", m.total*ringBlock>>20)
}

// larger makes a ring that can replace old, or returns nil when there is no memory for it.
func (m *ringMemory) larger(old *ring, n iface, ignore []ignoreRule) (*ring, error) {
	blocks := min(old.blocks*4, ringMost)
	if blocks <= old.blocks || !m.reserve(blocks, m.total/8) {
		return nil, nil
	}
	r, err := openRing(n.index, n.bridge, blocks, ignore)
	if err != nil {
		m.release(blocks)
		return nil, err
	}
	m.grown.Inc()
	return r, nil
}

func (m *ringMemory) close(r *ring) error {
	m.release(r.blocks)
	return r.close()
}
