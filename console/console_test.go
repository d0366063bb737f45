package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// start runs a server until the test ends; d.DataDir is made when empty.
func start(t *testing.T, listen string, d Deps) *Server {
	t.Helper()
	c := Default()
	c.Listen = listen
	return startConfig(t, c, d)
}

func startConfig(t *testing.T, c Config, d Deps) *Server {
	t.Helper()
	if d.DataDir == "" {
		d.DataDir = t.TempDir()
	}
	s := New(c, d, metrics.NewSet(), slog.New(slog.DiscardHandler))
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(d.DataDir, Socket)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the control socket is left behind: %v", err)
		}
	})
	return s
}

// control is a client of the control socket.
func control(s *Server) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, s.deps.DataDir) },
	}}
}

func do(t *testing.T, c *http.Client, method, url, host, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		r.Host = host
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 400 && strings.HasPrefix(r.URL.Path, "/api") {
		var p struct{ Status int }
		if err := json.Unmarshal(b, &p); err != nil || p.Status != resp.StatusCode || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: not problem+json: %d %s", method, url, resp.StatusCode, b)
		}
	}
	return resp.StatusCode, string(b)
}

func inventory() Deps {
	running := &enrich.Container{ID: strings.Repeat("a", 64), Name: "shop-worker-1", Workload: "compose:shop/worker", Running: true}
	ended := &enrich.Container{ID: strings.Repeat("b", 64), Name: "old", Workload: "name:old"}
	return Deps{
		Version:    "v1.2.3",
		Containers: func(context.Context) ([]*enrich.Container, error) { return []*enrich.Container{running, ended}, nil },
		Explain: func(_ context.Context, addr flow.Addr, port uint16, at int64) (enrich.Explanation, error) {
			return enrich.Explanation{Addr: addr, Port: port, At: at, Container: running, Text: "it is the worker"}, nil
		},
		Workloads: func(context.Context) ([]baseline.WorkloadState, error) {
			return []baseline.WorkloadState{{Workload: "compose:shop/worker", LastSeen: 1, Learning: true}}, nil
		},
		Sources: func(context.Context) ([]SourceStatus, error) {
			return []SourceStatus{{Name: "capture:docker0", Kind: "capture", State: "ok", Records: 7, Dropped: 1}}, nil
		},
	}
}

// TestGuard holds what each door lets through.
func TestGuard(t *testing.T) {
	s := start(t, "127.0.0.1:0", inventory())
	tcp, unix := "http://"+s.Addr().String(), "http://localhost"
	f := func(c *http.Client, method, url, host string, want int) {
		t.Helper()
		if got, text := do(t, c, method, url, host, ""); got != want {
			t.Errorf("%s %s (Host %q) = %d, want %d: %s", method, url, host, got, want, text)
		}
	}
	web, ctl := http.DefaultClient, control(s)
	f(web, "GET", tcp+"/metrics", "", 200)
	f(web, "GET", tcp+"/healthz", "", 200)
	f(web, "GET", tcp+"/healthz", "localhost:8470", 200)
	f(web, "GET", tcp+"/healthz", "[::1]:8470", 200)
	f(web, "GET", tcp+"/api/v1/containers", "", 200)
	f(web, "HEAD", tcp+"/api/v1/containers", "", 200)
	// a hostile name server points a browser here
	f(web, "GET", tcp+"/api/v1/containers", "evil.example", 403)
	f(web, "GET", tcp+"/metrics", "127.0.0.1.evil.example", 403)
	f(web, "GET", tcp+"/metrics", "10.0.0.1", 403)
	// a change without an origin
	f(web, "POST", tcp+"/api/v1/incidents/a/ack", "", 403)
	f(web, "POST", tcp+"/api/v1/allow", "", 403)
	f(web, "DELETE", tcp+"/api/v1/allow/1", "", 403)
	// the control socket may everything; what is not there says so
	f(ctl, "GET", unix+"/api/v1/containers", "whatever", 200)
	f(ctl, "POST", unix+"/api/v1/incidents/a/ack", "", 501)
	f(ctl, "GET", unix+"/api/v1/incidents", "", 501)
	f(ctl, "GET", unix+"/api/v1/nothing", "", 404)
	f(ctl, "GET", unix+"/", "", 200)
}

// TestGolden compares whole answers.
func TestGolden(t *testing.T) {
	s := start(t, Off, inventory())
	if s.Addr() != nil {
		t.Error("listens on TCP although it is off")
	}
	c := control(s)
	f := func(path string, status int, want string) {
		t.Helper()
		got, text := do(t, c, "GET", "http://localhost/api/v1"+path, "", "")
		if diff := cmp.Diff(want, strings.TrimSpace(text)); diff != "" || got != status {
			t.Errorf("%s = %d: -want +got\n%s", path, got, diff)
		}
	}
	f("/workloads", 200, `{"items":[{"workload":"compose:shop/worker","first_seen":0,"last_seen":1,"learning":true,"ready_at":0,"containers":null}]}`)
	f("/coverage?gaps=true", 200, `{"items":[`+
		`{"workload":"compose:shop/worker","detector":"host-network","state":"no","reason":"no container engine answers","fix":"give the monitor access to the engine's socket (enrich.docker)"},`+
		`{"workload":"compose:shop/worker","detector":"posture","state":"no","reason":"no container engine answers","fix":"give the monitor access to the engine's socket (enrich.docker)"}]}`)
	f("/doctor", 200, `{"items":[{"state":"ok","what":"capture:docker0","reason":"7 records, 1 dropped"}]}`)
	f("/explain?addr=nowhere", 400, `{"detail":"addr \"nowhere\" is no IP address","status":400,"title":"Bad Request","type":"about:blank"}`)
	f("/explain?addr=10.0.0.1&port=70000", 400, `{"detail":"port \"70000\" is no port","status":400,"title":"Bad Request","type":"about:blank"}`)
	f("/explain?addr=10.0.0.1&at=noon", 400, `{"detail":"at \"noon\" is no time of RFC 3339","status":400,"title":"Bad Request","type":"about:blank"}`)
	if _, text := do(t, c, "GET", "http://localhost/api/v1/containers", "", ""); strings.Count(text, `"id"`) != 1 {
		t.Errorf("ended containers are listed: %s", text)
	}
	if _, text := do(t, c, "GET", "http://localhost/api/v1/containers?all=true", "", ""); strings.Count(text, `"id"`) != 2 {
		t.Errorf("ended containers are not listed: %s", text)
	}
	if _, text := do(t, c, "GET", "http://localhost/metrics", "", ""); !strings.Contains(text, `wharfwatch_build_info{version="v1.2.3"} 1`) {
		t.Error("the build is not in the metrics")
	}
}

func TestHealth(t *testing.T) {
	var broken error
	d := Deps{Health: func() error { return broken }, Sources: func(context.Context) ([]SourceStatus, error) { return nil, nil }}
	s := start(t, "127.0.0.1:0", d)
	get := func(path string) (int, string) {
		return do(t, http.DefaultClient, "GET", "http://"+s.Addr().String()+path, "", "")
	}
	if status, _ := get("/healthz"); status != 200 {
		t.Error(status)
	}
	broken = errors.New("disk is full on /secret/place")
	if status, text := get("/healthz"); status != 503 || strings.Contains(text, "secret") {
		t.Errorf("%d %s", status, text)
	}
	if _, text := get("/api/v1/doctor"); !strings.Contains(text, "disk is full") {
		t.Error(text)
	}
}

// TestSocket holds who may open it, what a leftover does, and that one monitor is enough.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Socket)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close() // as kill -9 leaves it
	start(t, Off, Deps{DataDir: dir})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	second := New(Config{Listen: Off}, Deps{DataDir: dir}, metrics.NewSet(), slog.New(slog.DiscardHandler))
	if err := second.Open(); err == nil || !strings.Contains(err.Error(), "another monitor") {
		t.Errorf("a second monitor took the socket: %v", err)
	}

	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, Socket), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Listen: Off}, Deps{DataDir: other}, metrics.NewSet(), slog.New(slog.DiscardHandler)).Open(); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}

// TestLongPath puts the socket deeper than a socket address can say.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, Off, Deps{DataDir: dir})
	if status, _ := do(t, control(s), "GET", "http://localhost/healthz", "", ""); status != 200 {
		t.Error(status)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	err = New(Config{Listen: l.Addr().String()}, Deps{DataDir: dir}, metrics.NewSet(), slog.New(slog.DiscardHandler)).Open()
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, Socket)); err == nil {
		t.Error("the control socket is left behind")
	}
}

func TestValidate(t *testing.T) {
	f := func(listen string, want int) {
		t.Helper()
		n := 0
		c := Default()
		c.Listen = listen
		c.Validate(func(path, _ string) {
			n++
			if path != "listen" {
				t.Errorf("path %q", path)
			}
		})
		if n != want {
			t.Errorf("%q: %d problems, want %d", listen, n, want)
		}
	}
	f("off", 0)
	f("127.0.0.1:8470", 0)
	f("[::1]:0", 0)
	f("localhost:8470", 0)
	f(":8470", 0)
	f("8470", 1)
	f("", 1)
	f("example.com:80", 1)
	f("127.0.0.1:99999", 1)
	f("127.0.0.1:", 1)
}

// TestBody holds what a body may be.
func TestBody(t *testing.T) {
	f := func(text string, want bool) {
		t.Helper()
		var into struct {
			By string `json:"by"`
		}
		w := &recorder{header: http.Header{}}
		r, _ := http.NewRequest("POST", "/", strings.NewReader(text))
		if got := body(w, r, &into); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	f("", true)
	f(`{"by":"a"}`, true)
	f(`{"buy":"a"}`, false)
	f(`{"by":"a"}{}`, false)
	f(`[]`, false)
	f(`{`, false)
}

type recorder struct {
	header http.Header
	bytes.Buffer
	status int
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }

// TestSlowHeaders holds that a client that never ends its request is dropped.
func TestSlowHeaders(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: waits for the header timeout")
	}
	s := start(t, "127.0.0.1:0", Deps{})
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n")
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if b, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection stays open: %q %v", b, err)
	}
}

// TestUndurable holds that a change that is not durable is the monitor's trouble, not the caller's.
func TestUndurable(t *testing.T) {
	for err, want := range map[error]int{
		alerts.ErrUndurable: http.StatusServiceUnavailable, alerts.ErrNotFound: http.StatusNotFound,
		ErrNoReceiver: http.StatusNotFound, errors.New("no such verdict"): http.StatusUnprocessableEntity,
	} {
		w := httptest.NewRecorder()
		refuse(w, fmt.Errorf("ack: %w", err))
		if w.Code != want {
			t.Errorf("%v: status %d, want %d", err, w.Code, want)
		}
	}
}
