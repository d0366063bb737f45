package enrich

import (
	"fmt"
	"log/slog"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/flow"
)

// Kernel follows the connections of the host that an engine runs on: what is translated, and whose sockets the host's own connections
// are. It only listens and asks; it never changes anything. It needs CAP_NET_ADMIN, and CAP_SYS_ADMIN for another network namespace.
type Kernel struct {
	engine    string
	namespace string // path, "" for our own
	receive   int    // bytes of the socket's buffer
	legacy    bool   // control groups of version 2 are not used
	flows     *counting
	sandboxes *sandboxes
	log       *slog.Logger
	m         kernelMetrics
}

type kernelMetrics struct {
	events, malformed, overflows, dumps, dumpErrors *metrics.Counter
	asked, missed, shed, uncounted                  *metrics.Counter // asked = found + missed
}

// NewKernel prepares; nothing is opened before Run.
func NewKernel(c EngineConfig, set *metrics.Set, log *slog.Logger) *Kernel {
	counter := func(name string) *metrics.Counter {
		return set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_conntrack_%s{engine=%q}", name, c.Name))
	}
	return &Kernel{
		engine: c.Name, namespace: c.Namespace, receive: netlinkReceive, log: log.With("engine", c.Name),
		m: kernelMetrics{
			events: counter("events_total"), malformed: counter("malformed_total"),
			overflows: counter("enobufs_total"), dumps: counter("dumps_total"), dumpErrors: counter("dump_errors_total"),
			asked: counter("sockets_asked_total"), missed: counter("sockets_missed_total"), shed: counter("sockets_shed_total"),
			uncounted: counter("uncounted_total"),
		},
	}
}

// EnterShared has sockets asked for inside of network namespaces that several containers share, which tells them apart. It needs
// CAP_SYS_ADMIN and access to their processes. It must be called before Run.
func (k *Kernel) EnterShared() { k.sandboxes = newSandboxes() }

// Hear takes an event of the engine, for EnterShared. It may be called from any goroutine.
func (k *Kernel) Hear(e *Event) {
	if k.sandboxes != nil && e.Engine == k.engine {
		k.sandboxes.hear(e)
	}
}

// Flows has the kernel's counters told as records too, if it counts (net.netfilter.nf_conntrack_acct). The networks of interfaces that
// are captured, patterns of path.Match, are left out: their packets are counted already. It must be called before Run, and emit takes
// each batch over.
func (k *Kernel) Flows(pool flow.Pool, captured []string, emit func(*flow.Batch)) {
	k.flows = &counting{source: "conntrack:" + k.engine, pool: pool, emit: emit, seen: map[countKey]counted{}, patterns: captured, untold: k.m.uncounted}
}

// netlinkReceive is what the kernel may hold for us, bytes. A flood of 9,000 connections lost none with 1 MiB.
const netlinkReceive = 4 << 20
