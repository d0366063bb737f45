package enrich_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/rig"
)

// outside is a container host of which only the router's exports are seen, with a Table that follows its engine and its kernel.
type outside struct {
	*rig.Rig
	t     *testing.T
	set   *metrics.Set
	image string

	mu    sync.Mutex // protects the rest, the Table too
	table *enrich.Table
	flows []enrich.Flow
	seen  []flow.Record
}

// Flows is called with the lock held.
func (o *outside) Flows(fs []enrich.Flow) { o.flows = append(o.flows, fs...) }

// Name is nothing here.
func (o *outside) Name(*enrich.Name) {}

// watchOutside starts a rig, softflowd in the router's namespace, and everything that a monitor would run.
func watchOutside(t *testing.T, options rig.Options, change func(*enrich.EngineConfig)) *outside {
	o := &outside{Rig: rig.Start(t, options), t: t, set: metrics.NewSet()}
	o.image = o.Actor()
	o.AddRouterAddr("203.0.113.9/32")
	c := enrich.Default()
	c.Docker = []enrich.EngineConfig{{Name: "rig", Host: o.DockerHost, Namespace: "/run/netns/" + o.HostNS}}
	if change != nil {
		change(&c.Docker[0])
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	o.table = enrich.NewTable(c, o.set)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	with := func(f func()) {
		o.mu.Lock()
		defer o.mu.Unlock()
		f()
	}
	run := func(what string, f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	run("engine", func() error {
		return enrich.NewDocker(c.Docker[0], o.set, log).Run(ctx, func(e enrich.Event) { with(func() { o.table.Event(&e) }) })
	})
	run("kernel", func() error {
		return enrich.NewKernel(c.Docker[0], o.set, log).Run(ctx, func(b *enrich.Tracks) {
			again, err := enrich.DecodeTracks(enrich.AppendTracks(nil, b)) // as a replay would get it
			if err != nil {
				t.Errorf("what the kernel told does not survive recording: %v", err)
				return
			}
			with(func() { o.table.Tracks(again) })
		})
	})
	f := flow.Default()
	f.Netflow, f.Interfaces, f.ExplicitNetflow = []string{"127.0.0.1:9995"}, []string{"off"}, true
	var sources []flow.Source
	o.InRouter(func() (err error) {
		sources, _, err = f.Open(flow.NewPool(8), o.set, log)
		return err
	})
	for _, s := range sources {
		run("collector", func() error {
			return s.Run(ctx, func(b *flow.Batch) {
				with(func() {
					o.table.Records(b.Records)
					o.seen = append(o.seen, b.Records...)
				})
				b.Free()
			})
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			with(func() { o.table.Advance(time.Now().Add(-time.Second).UnixNano(), o) })
		}
	})
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	o.export()
	o.chatter()
	return o
}

// chatter keeps packets coming: softflowd is handed blocks of them, and a quiet link fills none.
func (o *outside) chatter() {
	var c net.Conn
	o.InHost(func() (err error) {
		c, err = net.Dial("udp", net.JoinHostPort(o.RouterAddr.String(), "9"))
		return err
	})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		block := make([]byte, 1400)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				_, _ = c.Write(block)
			}
		}
	}()
	o.t.Cleanup(func() {
		close(stop)
		<-done
		c.Close()
	})
}

// export meters the router's link: all that it shows is the host's address.
func (o *outside) export() {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := o.RouterExec(ctx, "softflowd", "-d", "-i", o.RouterLink, "-v", "10", "-A", "milli", "-n", "127.0.0.1:9995",
		"-p", filepath.Join(o.t.TempDir(), "pid"), "-c", "none",
		"-t", "maxlife=60", "-t", "tcp.fin=1", "-t", "tcp.rst=1", "-t", "udp=2", "-t", "tcp=10", "-t", "general=2", "-t", "icmp=2", "-t", "expint=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if o.t.Failed() {
			o.t.Logf("softflowd said:\n%s", said.String())
		}
	})
}

// flow waits for the Flow of a container or unit with a peer.
func (o *outside) flow(name, peer string, port uint16) (found enrich.Flow) {
	o.t.Helper()
	o.until(name+" with "+peer, func() bool {
		for _, f := range o.flows {
			if f.Container.Name == name && f.Peer.String() == peer && (f.PeerPort == port || f.LocalPort == port) {
				found = f
				return true
			}
		}
		return false
	})
	return found
}

func (o *outside) until(what string, done func() bool) {
	o.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		o.mu.Lock()
		ok := done()
		o.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.seen {
		o.t.Logf("the router saw %v:%d > %v:%d/%d %d bytes", r.Src, r.SrcPort, r.Dst, r.DstPort, r.Proto, r.Bytes)
	}
	for _, f := range o.flows {
		o.t.Logf("told %s %v:%d > %v:%d %s %s", f.Container.Name, f.Local, f.LocalPort, f.Peer, f.PeerPort, f.Method, f.Confidence)
	}
	var text strings.Builder
	o.set.WritePrometheus(&text)
	for line := range strings.Lines(text.String()) {
		if !strings.HasSuffix(line, " 0\n") && (strings.Contains(line, "attributed") || strings.Contains(line, "conntrack") || strings.Contains(line, "socket") || strings.Contains(line, "track")) {
			o.t.Log(strings.TrimSpace(line))
		}
	}
	o.t.Fatalf("not within 30 s: %s", what)
}

// from is what a container says of the source of its first beat.
func (o *outside) from(name string) string {
	o.t.Helper()
	var beat struct{ From string }
	o.until(name+" has beaten", func() bool {
		line, _, _ := strings.Cut(o.Docker("logs", name), "\n")
		return json.Unmarshal([]byte(line), &beat) == nil && beat.From != ""
	})
	return beat.From
}

func by(f enrich.Flow, method, confidence string) error {
	if f.Method.String() != method || f.Confidence.String() != confidence {
		return fmt.Errorf("%s with %v:%d was attributed by %s, %s; want %s, %s", f.Container.Name, f.Peer, f.PeerPort, f.Method, f.Confidence, method, confidence)
	}
	return nil
}

// TestLiveMasquerade is A4: two containers use one source port to one destination; the router sees the host's address twice.
func TestLiveMasquerade(t *testing.T) {
	o := watchOutside(t, rig.Options{}, nil)
	serve(t, o.Rig, "203.0.113.9:443")
	for _, name := range []string{"one", "two"} {
		o.Run("--name", name, o.image, "beacon", "--to", "203.0.113.9:443", "--source-port", "40000", "--count", "1", "--reply", map[string]string{"one": "1000", "two": "30000"}[name], "--linger", "1m")
	}
	var ports []uint16
	for _, name := range []string{"one", "two"} {
		f := o.flow(name, "203.0.113.9", 443)
		if err := by(f, "nat", "exact"); err != nil {
			t.Error(err)
		}
		if big := f.Received > 20000; big != (name == "two") {
			t.Errorf("%s received %d bytes, and asked for another number", name, f.Received)
		}
		if from := o.from(name); !strings.HasSuffix(from, ":40000") {
			t.Errorf("%s talked from %s, want port 40000", name, from)
		}
		if f.Local.String() != o.HostAddr.String() || f.Opener != enrich.OpenerLocal {
			t.Errorf("%s: local %v, opener %s; want the host's %v and local", name, f.Local, f.Opener, o.HostAddr)
		}
		ports = append(ports, f.LocalPort)
	}
	if ports[0] == ports[1] {
		t.Errorf("both were seen from port %d", ports[0])
	}
	t.Logf("from outside the ports are %v", ports)
}
