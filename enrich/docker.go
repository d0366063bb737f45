package enrich

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// Docker follows one engine and tells what its containers do. It only asks; it never changes anything at the engine.
type Docker struct {
	c    EngineConfig
	log  *slog.Logger
	m    dockerMetrics
	dial func() (dockerAPI, error)

	// What has been told so far. It outlives a connection, so that a reconnect can say what changed. Run's goroutine owns it.
	known  map[string]*knownContainer
	seen   seenEvents
	last   int64 // the newest event or list, engine clock, ns
	images localImages
}

// dockerAPI is what we use of the client, and all that a read-only proxy must let through (attribution.md 12).
type dockerAPI interface {
	Ping(context.Context) (types.Ping, error)
	Info(context.Context) (system.Info, error)
	Events(context.Context, events.ListOptions) (<-chan events.Message, <-chan error)
	ContainerList(context.Context, container.ListOptions) ([]container.Summary, error)
	ContainerInspectWithRaw(ctx context.Context, id string, size bool) (container.InspectResponse, []byte, error)
	NetworkInspect(context.Context, string, network.InspectOptions) (network.Inspect, error)
	ImageInspect(context.Context, string, ...client.ImageInspectOption) (image.InspectResponse, error)
	Close() error
}

// knownContainer is what has been told of a container.
type knownContainer struct {
	facts    *Container
	bindings map[string]Binding // by network id
	changed  int64              // time of the newest event applied to it, engine clock, ns
}

type dockerMetrics struct {
	received, applied, ignored, duplicate, dropped *metrics.Counter // received = applied + ignored + duplicate + dropped + waiting

	gaps, resyncChanges, reconnects, inspectErrors, unbound, overflow *metrics.Counter
	lag                                                               *metrics.Histogram
}

// NewDocker prepares; nothing is contacted before Run.
func NewDocker(c EngineConfig, set *metrics.Set, log *slog.Logger) *Docker {
	if c.Name == "" {
		c.Name = DefaultEngine().Name
	}
	counter := func(name string) *metrics.Counter {
		return set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_docker_%s{engine=%q}", name, c.Name))
	}
	d := &Docker{
		c: c, log: log.With("engine", c.Name, "host", c.Endpoint()), known: map[string]*knownContainer{},
		m: dockerMetrics{
			received:      counter("events_total"),
			applied:       counter("events_applied_total"),
			ignored:       counter("events_ignored_total"),
			duplicate:     counter("events_duplicate_total"),
			dropped:       counter("events_dropped_total"),
			gaps:          counter("gaps_total"),
			resyncChanges: counter("resync_changes_total"),
			reconnects:    counter("reconnects_total"),
			inspectErrors: counter("inspect_errors_total"),
			unbound:       counter("unbound_total"),
			overflow:      counter("containers_overflow_total"),
			lag:           set.GetOrCreateHistogram(fmt.Sprintf("wharfwatch_docker_event_lag_seconds{engine=%q}", c.Name)),
		},
	}
	d.dial = d.client
	return d
}

func (d *Docker) client() (dockerAPI, error) {
	options := []client.Opt{client.WithHost(d.c.Endpoint()), client.WithAPIVersionNegotiation()}
	if dir := d.c.tlsDir(); dir != "" {
		options = append(options, client.WithTLSClientConfig(
			filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")))
	}
	return client.NewClientWithOpts(options...)
}

// Waiting before the next attempt to reach the engine: doubled from least to most, each time times .5 to 1.5.
const (
	backoffLeast = 250 * time.Millisecond
	backoffMost  = 30 * time.Second
	steadyAfter  = 10 * time.Second // a connection that lasted this long starts the backoff anew
)

// Run follows the engine until ctx ends, and then returns nil. An engine that is absent or goes away is told once as Blind and tried
// again; the next Synced says that it is back. All calls of emit come from one goroutine. emit may block for a while: events wait in
// a bounded ring, and when that overflows what was missed is told from a new list.
//
// Events of one container come in the order of their times. Across containers they do too, except that Created goes ahead of what
// waits for an inspect, that an inspect of more than 50 ms is overtaken, and that Connected with Detail "list" has a time in the past.
// Progress keeps the promise it makes all the same.
func (d *Docker) Run(ctx context.Context, emit func(Event)) error {
	blind, wait := false, backoffLeast
	for ctx.Err() == nil {
		began := time.Now()
		s := &session{Docker: d, emit: emit}
		err := s.run(ctx)
		if ctx.Err() != nil {
			break
		}
		if s.synced {
			blind = false
		}
		if time.Since(began) > steadyAfter {
			wait = backoffLeast
		}
		if !blind {
			blind = true
			d.log.Warn("docker engine out of reach: its containers are not watched until it is back", "error", err, "do", advice(err))
			emit(Event{Time: max(s.now(), d.last), Kind: Blind, Engine: d.c.Name, Detail: clean(blindReason(err), maxText)})
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration((.5 + rand.Float64()) * float64(wait))):
		}
		wait = min(2*wait, backoffMost)
		d.m.reconnects.Inc()
	}
	return nil
}

// advice is what to do about an engine that cannot be reached. The client hides the cause of a refused socket in its text.
func advice(err error) string {
	if errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
		return "run as root, or as a member of the group that owns the socket (usually docker)"
	}
	return "start the engine, name another one (--docker HOST), or watch none (--docker off)"
}

func blindReason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the engine ended its event stream: it was stopped or restarted"
	}
	return err.Error()
}

// localImages remembers which images have no digest from a registry. Workers share it.
type localImages struct {
	mu   sync.Mutex
	byID map[string]bool
}

const maxImages = 4096

func (l *localImages) get(id string) (local, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	local, known = l.byID[id]
	return local, known
}

func (l *localImages) put(id string, local bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil || len(l.byID) >= maxImages {
		l.byID = map[string]bool{} // asking again is cheap
	}
	l.byID[id] = local
}
