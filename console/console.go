// Package console is the HTTP side: the only listener. The same handlers answer on a loopback TCP port (metrics, health, reading) and
// on the control socket in the data directory (everything), which only the user who runs the monitor can open.
//
// It translates HTTP to method calls and decides nothing about detection.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Config is the part of the configuration under console.
type Config struct {
	// Listen is the TCP address of metrics, health and the reading part of the API; "off" for none. There is no login yet: beyond
	// loopback only /metrics and /healthz answer.
	Listen string `yaml:"listen"`
}

// Off as a value of Listen turns the TCP listener off.
const Off = "off"

// Default listens on loopback only.
func Default() Config { return Config{Listen: "127.0.0.1:8470"} }

// Validate reports what cannot work.
func (c Config) Validate(report func(path, message string)) {
	if c.Listen == Off {
		return
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		report("listen", fmt.Sprintf("%q is no address: write HOST:PORT, as in 127.0.0.1:8470, or off", c.Listen))
		return
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		report("listen", fmt.Sprintf("%q is no port", port))
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		report("listen", fmt.Sprintf("%q is no IP address: names are not looked up here", host))
	}
}

// Server answers until the context of Run ends.
type Server struct {
	config Config
	deps   Deps
	set    *metrics.Set
	log    *slog.Logger

	requests, refused *metrics.Counter

	once    sync.Once
	opened  error
	tcp     net.Listener
	control net.Listener
}

// New does no I/O. Parts of deps that are nil answer 501.
func New(c Config, deps Deps, set *metrics.Set, log *slog.Logger) *Server {
	return &Server{
		config: c, deps: deps, set: set, log: log,
		requests: set.NewCounter("wharfwatch_console_requests_total"),
		refused:  set.NewCounter("wharfwatch_console_refused_total"),
	}
}

// Open binds both listeners, so that errors come at start; Run does it otherwise.
func (s *Server) Open() error {
	s.once.Do(func() { s.opened = s.open() })
	return s.opened
}

func (s *Server) open() error {
	if s.deps.DataDir != "" {
		control, err := listenControl(filepath.Join(s.deps.DataDir, Socket))
		if err != nil {
			return err
		}
		s.control = control
	}
	if s.config.Listen == Off {
		return nil
	}
	tcp, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		if s.control != nil {
			s.control.Close()
		}
		return fmt.Errorf("listen console %s: %w", s.config.Listen, err)
	}
	s.tcp = tcp
	return nil
}

// Addr is the TCP address in use, after Open; nil when it is off.
func (s *Server) Addr() net.Addr {
	if s.tcp == nil {
		return nil
	}
	return s.tcp.Addr()
}

// Run serves until ctx ends, then gives requests under way five seconds.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Open(); err != nil {
		return err
	}
	var servers []*http.Server
	failed := make(chan error, 2)
	serve := func(l net.Listener, h http.Handler) {
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      2 * time.Minute,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    32 << 10,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, srv)
		go func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve console on %s: %w", l.Addr(), err)
			}
		}()
	}
	if s.control != nil {
		serve(s.control, s.Handler())
	}
	if s.tcp != nil {
		serve(s.tcp, s.public())
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for _, srv := range servers {
		if srv.Shutdown(last) != nil {
			srv.Close()
		}
	}
	for _, l := range []net.Listener{s.control, s.tcp} {
		if l != nil {
			l.Close() // a server that had not begun to serve does not know its listener
		}
	}
	return err
}

// Handler is the whole API without a guard: what the control socket serves, and what a command runs in process when no monitor does.
func (s *Server) Handler() http.Handler { return s.counted(s.routes(true)) }

// public is what TCP serves: no writing, Host checked.
func (s *Server) public() http.Handler {
	routes := s.routes(false)
	loopback := s.loopback()
	return s.counted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case loopback && !localName(r.Host):
			s.refused.Inc()
			problem(w, http.StatusForbidden, "this address answers only to localhost: Host is "+fmt.Sprintf("%q", r.Host))
		case !loopback && r.URL.Path != "/metrics" && r.URL.Path != "/healthz":
			s.refused.Inc()
			problem(w, http.StatusForbidden, "beyond loopback only /metrics and /healthz are served: there is no login yet")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			s.refused.Inc()
			problem(w, http.StatusForbidden, "changes are made over the control socket (the wharfwatch command): there is no login yet")
		default:
			routes.ServeHTTP(w, r)
		}
	}))
}

func (s *Server) loopback() bool {
	a, ok := s.tcp.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// localName accepts what a browser sends when it was pointed at this machine by the user, and nothing that a hostile name server
// could point here (DNS rebinding).
func localName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Inc()
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		next.ServeHTTP(w, r)
	})
}
