// Package console is the HTTP side: the only listener. The same handlers answer on TCP, for the web console and programs, and on the
// control socket in the data directory, which only the user who runs the monitor can open. access.go says who may what on TCP.
//
// It translates HTTP to method calls and decides nothing about detection.
package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Config is the part of the configuration under console.
type Config struct {
	// Listen is the TCP address of the web console, the API, metrics and health; "off" for none. Beyond loopback it speaks TLS, and all but
	// health and the login page want a login or a token.
	Listen string `yaml:"listen"`
	// Login says where one has to log in: auto is beyond loopback, always is there, too.
	Login string `yaml:"login"`
	// TLS is the certificate.
	TLS TLS `yaml:"tls"`
}

// TLS is the console's certificate.
type TLS struct {
	// Mode is auto or off. Auto is TLS beyond loopback, and wherever a certificate is named; off is refused beyond loopback.
	Mode string `yaml:"mode"`
	// CertFile and KeyFile are PEM. Without them the console makes its own certificate and keeps it in data_dir.
	CertFile string `yaml:"cert_file"`
	// KeyFile belongs to CertFile.
	KeyFile string `yaml:"key_file"`
}

// Values of the configuration.
const (
	Off    = "off"    // of Listen: no TCP listener; of TLS.Mode: plain HTTP
	Auto   = "auto"   // of Login and TLS.Mode
	Always = "always" // of Login
)

// Default listens on loopback only.
func Default() Config { return Config{Listen: "127.0.0.1:8470", Login: Auto, TLS: TLS{Mode: Auto}} }

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
	addr, err := netip.ParseAddr(host)
	if err != nil && host != "" && host != "localhost" {
		report("listen", fmt.Sprintf("%q is no IP address: names are not looked up here", host))
	}
	if c.Login != Auto && c.Login != Always {
		report("login", fmt.Sprintf("%q is none of %s, %s", c.Login, Auto, Always))
	}
	switch loopback := host == "localhost" || addr.IsLoopback(); {
	case c.TLS.Mode != Auto && c.TLS.Mode != Off:
		report("tls.mode", fmt.Sprintf("%q is none of %s, %s", c.TLS.Mode, Auto, Off))
	case c.TLS.Mode == Off && !loopback:
		report("tls.mode", "passwords would pass "+c.Listen+" in the clear: leave it at auto (the console makes a certificate of its own where "+
			"none is named), or listen on 127.0.0.1 behind a proxy that does TLS")
	case c.TLS.Mode == Off && c.TLS.CertFile != "":
		report("tls.mode", "a certificate is named and TLS is off: leave out one of them")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		report("tls", "cert_file and key_file belong together: name both, or neither for a certificate of the console's own")
	}
}

// Server answers until the context of Run ends.
type Server struct {
	config Config
	deps   Deps
	set    *metrics.Set
	log    *slog.Logger

	requests, refused *metrics.Counter
	logins            map[string]*metrics.Counter // by result
	sessions          *sessions
	hub               *hub
	assets            *assets

	once    sync.Once
	opened  error
	tcp     net.Listener
	control net.Listener
	cert    *tls.Certificate // nil: plain HTTP
	first   Secret           // of the first user, when one was made
	closing chan struct{}    // closed when long answers must end
}

// New does no I/O. Parts of deps that are nil answer 501.
func New(c Config, deps Deps, set *metrics.Set, log *slog.Logger) *Server {
	s := &Server{
		config: c, deps: deps, set: set, log: log,
		requests: set.NewCounter("wharfwatch_console_requests_total"),
		refused:  set.NewCounter("wharfwatch_console_refused_total"),
		logins:   map[string]*metrics.Counter{},
		sessions: newSessions(), hub: newHub(set), assets: loadAssets(), closing: make(chan struct{}),
	}
	for _, result := range []string{"ok", "refused", "limited"} {
		s.logins[result] = set.NewCounter(fmt.Sprintf("wharfwatch_console_logins_total{result=%q}", result))
	}
	if deps.Alerts != nil {
		deps.Alerts.OnChange(s.hub.publish)
	}
	return s
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
	if err := s.secure(); err != nil {
		tcp.Close()
		if s.control != nil {
			s.control.Close()
		}
		return fmt.Errorf("console %s: %w", s.config.Listen, err)
	}
	return nil
}

// secure sees to it that what has to be protected is: a certificate, and somebody who can log in.
func (s *Server) secure() error {
	var err error
	if s.cert, err = s.certificate(s.loopback()); err != nil || !s.needsLogin() {
		return err
	}
	if s.deps.Access == nil {
		return errors.New("nobody could log in without a state file: listen on 127.0.0.1")
	}
	if !s.deps.Access.users() {
		s.first, err = s.deps.Access.Add(context.Background(), User, "admin", Admin)
	}
	return err
}

// First is the user that Open made because there was none, with the password, to be shown this once; false when there was one.
func (s *Server) First() (Secret, bool) { return s.first, s.first.Name != "" }

// URL is where a browser finds the console, after Open; "" when it is off.
func (s *Server) URL() string {
	if s.tcp == nil {
		return ""
	}
	scheme, addr := "http", s.tcp.Addr().(*net.TCPAddr)
	if s.cert != nil {
		scheme = "https"
	}
	host := addr.IP.String()
	if name, err := os.Hostname(); addr.IP.IsUnspecified() && err == nil {
		host = name
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(addr.Port)) + "/"
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
	serve := func(l net.Listener, h http.Handler, cert *tls.Certificate) {
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      2 * time.Minute,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    32 << 10,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		if cert != nil {
			srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
		}
		servers = append(servers, srv)
		go func() {
			start := srv.Serve
			if cert != nil {
				start = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
			}
			if err := start(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve console on %s: %w", l.Addr(), err)
			}
		}()
	}
	if s.control != nil {
		serve(s.control, s.Handler(), nil)
	}
	if s.tcp != nil {
		serve(s.tcp, s.counted(s.guard(s.mux())), s.cert)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	close(s.closing)
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
func (s *Server) Handler() http.Handler { return s.counted(trusted(s.mux())) }

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
