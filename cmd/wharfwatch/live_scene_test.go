package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/rig"
)

const (
	beaconPeriod = 5 * time.Second
	beaconTo     = "203.0.113.9:443"
	sceneBridge  = "br-scene"
	hookSecret   = "whsec_c2NlbmUtc2VjcmV0LXNjZW5lLXNlY3JldC0wMQ=="
)

// scene is one private container host that several monitors watch at once, each in its own way.
type scene struct {
	*rig.Rig
	t      *testing.T
	dir    string
	binary string
	as     []string // command in front of a monitor's own
	inbox  *inbox
}

// newScene starts an engine, the servers outside, and real HTTP receivers inside the host's namespace.
func newScene(t *testing.T) *scene {
	s := &scene{Rig: rig.Start(t, rig.Options{}), t: t, dir: t.TempDir(), inbox: newInbox()}
	s.Actor()
	binary, err := rig.ActorBinary()
	if err != nil {
		t.Fatal(err)
	}
	s.binary = binary
	for _, a := range []string{"203.0.113.9/32", "198.51.100.10/32", "198.51.100.20/32", "198.51.100.30/32", "198.51.100.40/32"} {
		s.AddRouterAddr(a)
	}
	s.start("serve", s.RouterExec(t.Context(), binary, "actor", "serve", "--tcp", beaconTo, "--ntp", "198.51.100.10:123",
		"--http", "198.51.100.20:8086", "--tcp", "198.51.100.30:443", "--tcp", "198.51.100.40:443"))
	s.InHost(func() (err error) {
		s.inbox.listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	server := &http.Server{Handler: s.inbox}
	go server.Serve(s.inbox.listener)
	t.Cleanup(func() { server.Close() })
	s.Docker("network", "create", "-o", "com.docker.network.bridge.name="+sceneBridge, "--subnet", "172.31.7.0/24", "scene")
	return s
}

// start runs a command until the test ends; its output is in a file of that name.
func (s *scene) start(name string, cmd *exec.Cmd) *exec.Cmd {
	s.t.Helper()
	out, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start %s: %v", name, err)
	}
	s.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
		out.Close()
		if s.t.Failed() {
			text, _ := os.ReadFile(out.Name())
			s.t.Logf("%s said:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return cmd
}

// container starts an actor in the compose project shop, on the scene's network, and returns its id.
func (s *scene) container(service string, command ...string) string {
	args := []string{
		"-d", "--name", "shop-" + service + "-1", "--network", "scene",
		"--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=" + service, rig.ActorImage,
	}
	return strings.TrimSpace(s.Run(append(args, command...)...))
}

// watcher is one monitor with a configuration, a data directory and receivers of its own.
type watcher struct {
	name, config, data, record string
	cmd                        *exec.Cmd
}

// watch starts a monitor whose flow section is given and waits until it answers.
func (s *scene) watch(name, flow string) *watcher {
	w := &watcher{
		name: name, config: filepath.Join(s.dir, name+".yaml"), data: filepath.Join(s.dir, name), record: filepath.Join(s.dir, name+"-stream"),
	}
	url := "http://" + s.inbox.listener.Addr().String() + "/" + name
	text := fmt.Sprintf(`
data_dir: %s
snapshot_interval: 2s
flow: %s
enrich:
  docker: [{name: local, host: "%s"}]
console: {listen: "off"}
alerts:
  group_wait: 1s
  slack: [{name: slack, webhook_url: "%s/slack"}]
  pagerduty: [{name: pagerduty, routing_key: 0123456789abcdef0123456789abcdef, url: "%s/pagerduty"}]
  webhook: [{name: webhook, url: "%s/webhook", secret: %s}]
`, w.data, flow, s.DockerHost, url, url, url, hookSecret)
	err := os.WriteFile(w.config, []byte(text), 0o600)
	if err == nil && s.as != nil {
		err = os.Chown(w.config, nobody, nobody)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.resume(w)
	return w
}

// resume starts the monitor, again after a kill.
func (s *scene) resume(w *watcher) {
	s.t.Helper()
	w.cmd = s.start(w.name, s.HostExec(s.t.Context(), append(s.as, s.binary, "run", "-c", w.config, "--record", w.record)...))
	s.eventually(20*time.Second, w.name+" answers on its control socket", func() bool {
		_, err := s.command("containers", "-c", w.config, "-o", "json")
		return err == nil
	})
}

// stop ends a monitor with a signal and waits for it.
func (w *watcher) stop(sig os.Signal) {
	w.cmd.Process.Signal(sig)
	w.cmd.Wait()
}

// command runs the product's command line and returns its standard output.
func (s *scene) command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("wharfwatch %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func (s *scene) must(args ...string) string {
	s.t.Helper()
	out, err := s.command(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// eventually polls until ok, and fails the test when the time is over.
func (s *scene) eventually(limit time.Duration, what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %s: %s", limit, what)
		}
		select {
		case <-s.inbox.changed:
		case <-time.After(200 * time.Millisecond):
		case <-s.t.Context().Done():
			s.t.FailNow()
		}
	}
}

// beats are the times at which the beacon really beat, as its container printed them.
func (s *scene) beats(id string) (times []time.Time) {
	lines := bufio.NewScanner(strings.NewReader(s.Docker("logs", id)))
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), `"time":"`); ok {
			text, _, _ := strings.Cut(rest, `"`)
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
				times = append(times, at)
			}
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// inbox is what the receivers got: a real HTTP server that answers as the vendors do.
type inbox struct {
	listener net.Listener
	changed  chan struct{}
	mu       sync.Mutex
	got      []letter // guarded by mu
}

type letter struct {
	path   string // /<monitor>/<receiver>
	at     time.Time
	header http.Header
	body   []byte
}

func newInbox() *inbox { return &inbox{changed: make(chan struct{}, 1)} }

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	b.got = append(b.got, letter{strings.TrimSuffix(r.URL.Path, "/v2/enqueue"), time.Now(), r.Header.Clone(), body})
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
	switch {
	case strings.Contains(r.URL.Path, "/pagerduty"):
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, `{"status":"success","message":"Event processed"}`)
	default:
		io.WriteString(w, "ok")
	}
}

// letters returns what came to a monitor's receiver.
func (b *inbox) letters(monitor, receiver string) (out []letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.got {
		if l.path == "/"+monitor+"/"+receiver {
			out = append(out, l)
		}
	}
	return out
}
