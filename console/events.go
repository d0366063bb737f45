package console

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
)

const (
	maxListeners = 64
	listenerRoom = 64  // events that wait for a slow reader
	eventsKept   = 256 // for those who come back
	heartbeat    = 15 * time.Second
)

// Notice says that an incident changed, on the stream of events.
type Notice struct {
	ID         string            `json:"id"`
	Generation int               `json:"generation"`
	State      alerts.State      `json:"state"`
	Severity   baseline.Severity `json:"severity"`
	Workload   string            `json:"workload"`
	Summary    string            `json:"summary"`
	LastSeen   alerts.Time       `json:"last_seen"`
}

// hub hands changes of incidents to those who listen. It never waits: a listener that does not read is told to read everything again.
// Safe for concurrent use.
type hub struct {
	epoch string // ids of another run mean nothing

	mu        sync.Mutex // protects all below
	last      uint64     // number of the last event; the first is 1
	kept      []event    // the newest, oldest first
	listeners map[*listener]struct{}

	sent, resyncs *metrics.Counter
}

type event struct {
	n    uint64
	data []byte
}

type listener struct {
	queue  chan event
	behind bool // events were dropped; under hub.mu
}

func newHub(set *metrics.Set) *hub {
	h := &hub{
		epoch: rand.Text()[:8], listeners: map[*listener]struct{}{},
		sent: set.NewCounter("wharfwatch_console_events_total"), resyncs: set.NewCounter("wharfwatch_console_event_resyncs_total"),
	}
	set.NewGauge("wharfwatch_console_event_listeners", func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		return float64(len(h.listeners))
	})
	return h
}

// publish is called by the incidents' manager, which does not wait.
func (h *hub) publish(i *alerts.Incident) {
	data, err := json.Marshal(Notice{i.ID, i.Generation, i.State, i.Severity, i.Workload, i.Summary, i.LastSeen})
	if err != nil {
		return // strings and numbers: cannot be
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	e := event{h.last, data}
	if len(h.kept) == eventsKept {
		h.kept = h.kept[:copy(h.kept, h.kept[1:])]
	}
	h.kept = append(h.kept, e)
	h.sent.Inc()
	for l := range h.listeners {
		select {
		case l.queue <- e:
		default: // a slow reader: it is told once that it must read again
			l.behind = true
		}
	}
}

// join begins to listen behind the event with the given id ("" now). It gives what was missed; again says that this is not known.
func (h *hub) join(id string) (l *listener, missed []event, again, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listeners) >= maxListeners {
		return nil, nil, false, false
	}
	l = &listener{queue: make(chan event, listenerRoom)}
	h.listeners[l] = struct{}{}
	if id == "" {
		return l, nil, false, true
	}
	epoch, number, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || epoch != h.epoch || n > h.last || h.last-n > uint64(len(h.kept)) {
		return l, nil, true, true
	}
	return l, append(missed, h.kept[len(h.kept)-int(h.last-n):]...), false, true
}

func (h *hub) leave(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, l)
}

// caughtUp empties the queue of a listener that lost events, and says whether it did.
func (h *hub) caughtUp(l *listener) (upTo uint64, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !l.behind {
		return 0, false
	}
	for len(l.queue) > 0 {
		<-l.queue
	}
	l.behind = false
	return h.last, true
}

// events serves the stream (https://html.spec.whatwg.org/multipage/server-sent-events.html): `incident` for each change, `resync` when
// some were lost and the reader should ask for everything again, a comment as heartbeat.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	l, missed, again, ok := s.hub.join(r.Header.Get("Last-Event-ID"))
	if !ok {
		w.Header().Set("Retry-After", "30")
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d listeners are connected already", maxListeners))
		return
	}
	defer s.hub.leave(l)
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	_ = out.SetReadDeadline(time.Time{}) // the server's would end the stream; in process there is none
	send := func(format string, args ...any) bool {
		_ = out.SetWriteDeadline(time.Now().Add(2 * heartbeat))
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	tell := func(e event) bool { return send("id: %s-%d\nevent: incident\ndata: %s\n\n", s.hub.epoch, e.n, e.data) }
	resync := func(upTo uint64) bool {
		s.hub.resyncs.Inc()
		return send("id: %s-%d\nevent: resync\ndata: {}\n\n", s.hub.epoch, upTo)
	}
	s.hub.mu.Lock()
	upTo := s.hub.last
	s.hub.mu.Unlock()
	if !send("retry: 3000\n: wharfwatch\n\n") || again && !resync(upTo) {
		return
	}
	for _, e := range missed {
		if !tell(e) {
			return
		}
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		if upTo, lost := s.hub.caughtUp(l); lost && !resync(upTo) {
			return
		}
		select {
		case e := <-l.queue:
			if !tell(e) {
				return
			}
		case <-beat.C:
			if callerOf(r).name != "" && !s.still(r) {
				return // logged out, removed or expired since
			}
			if !send(": beat\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		}
	}
}

// still says whether the caller of a long request may still read.
func (s *Server) still(r *http.Request) bool {
	c, _, ok := s.credentials(r)
	return ok && c.scope >= Read
}
