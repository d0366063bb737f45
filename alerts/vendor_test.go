package alerts

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// vendor is a server that plays a script for each path; after it, everything is taken. It speaks real HTTP over in-memory connections, so
// that it runs under synctest, where the network would stop the clock.
type vendor struct {
	t      *testing.T
	conns  chan net.Conn
	closed chan struct{}

	mu     sync.Mutex
	script map[string][]http.HandlerFunc
	got    []request
}

type request struct {
	Path   string
	At     time.Time
	Header http.Header
	Body   string
	Status int
}

func newVendor(t *testing.T) *vendor {
	v := &vendor{t: t, conns: make(chan net.Conn), closed: make(chan struct{}), script: map[string][]http.HandlerFunc{}}
	srv := &http.Server{Handler: v}
	go srv.Serve(v)
	t.Cleanup(func() { srv.Close() })
	return v
}

func (v *vendor) Accept() (net.Conn, error) {
	select {
	case c := <-v.conns:
		return c, nil
	case <-v.closed:
		return nil, net.ErrClosed
	}
}

func (v *vendor) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.closed:
	default:
		close(v.closed)
	}
	return nil
}
func (v *vendor) Addr() net.Addr { return &net.TCPAddr{} }

func (v *vendor) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case v.conns <- there:
		return here, nil
	case <-v.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (v *vendor) say(path string, steps ...http.HandlerFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.script[path] = append(v.script[path], steps...)
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(code int) { s.status = code; s.ResponseWriter.WriteHeader(code) }

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	v.mu.Lock()
	step := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/slack"):
			io.WriteString(w, "ok")
		case strings.HasPrefix(r.URL.Path, "/pagerduty"):
			w.WriteHeader(http.StatusAccepted)
		}
	}
	if s := v.script[r.URL.Path]; len(s) > 0 {
		step, v.script[r.URL.Path] = s[0], s[1:]
	}
	i := len(v.got)
	v.got = append(v.got, request{Path: r.URL.Path, At: time.Now(), Header: r.Header, Body: string(body)})
	v.mu.Unlock()
	sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	step(sw, r)
	v.mu.Lock()
	v.got[i].Status = sw.status
	v.mu.Unlock()
}

func (v *vendor) requests(path string) []request {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(v.got), func(r request) bool { return r.Path != path })
}

func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// hang keeps the connection and never answers.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// cutOff ends the connection in the middle of the body.
func cutOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	io.WriteString(w, "half")
	w.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// scene is the whole room on a state file, with a vendor for receivers.
type scene struct {
	*testing.T
	*vendor
	dir    string
	cfg    Config
	m      *Manager
	store  *Store
	d      *Delivery
	set    *metrics.Set
	closed func()
	ended  chan struct{}
	cancel context.CancelFunc
}

func allReceivers() Config {
	c := Default()
	c.Slack = []Slack{{Common: Common{Name: "chat"}, WebhookURL: "http://vendor/slack"}}
	c.PagerDuty = []PagerDuty{{Common: Common{Name: "pager"}, RoutingKey: strings.Repeat("k", 32), URL: "http://vendor/pagerduty"}}
	c.Webhook = []Webhook{{Common: Common{Name: "hook"}, URL: "http://vendor/hook", Secret: "whsec_" + strings.Repeat("QUJD", 10)}}
	return c
}

func newScene(t *testing.T, c Config) *scene {
	s := &scene{T: t, vendor: newVendor(t), dir: t.TempDir(), cfg: c}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *scene) start() {
	s.m, s.store, s.closed = stored(s.T, s.dir, s.cfg)
	s.set = metrics.NewSet()
	d, err := newDelivery(s.cfg, s.store, s.m.Silenced, s.set, quietLog, s.dial)
	if err != nil {
		s.Fatal(err)
	}
	s.d = d
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.ended = cancel, make(chan struct{})
	go func() {
		defer close(s.ended)
		if err := d.Run(ctx); err != nil {
			s.Error(err)
		}
	}()
}

func (s *scene) stop() {
	s.cancel()
	<-s.ended
	s.closed()
}

// actions lists what a PagerDuty receiver got and took, as "trigger KEY".
func (s *scene) actions(path string) (out []string) {
	for _, r := range s.requests(path) {
		var e struct {
			Action string `json:"event_action"`
			Key    string `json:"dedup_key"`
		}
		if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
			s.Error(err)
		}
		if r.Status < 300 {
			out = append(out, e.Action+" "+e.Key)
		}
	}
	return out
}

// conserved holds handed over against what became of it.
func (s *scene) conserved(receiver string, want map[string]int) {
	s.Helper()
	got, err := s.store.Counts(receiver)
	if err != nil {
		s.Fatal(err)
	}
	for state, n := range got {
		if n != want[state] {
			s.Errorf("%s: %d %s, want %d", receiver, n, state, want[state])
		}
	}
}
