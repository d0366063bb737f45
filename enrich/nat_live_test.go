package enrich_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"os"
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
	t      *testing.T
	set    *metrics.Set
	image  string
	legacy bool // as with control groups of version 1 alone

	mu    sync.Mutex // protects the rest, the Table too
	table *enrich.Table
	flows []enrich.Flow
	seen  []flow.Record
}

// Flows is called with the lock held.
func (o *outside) Flows(fs []enrich.Flow) { o.flows = append(o.flows, fs...) }

// Name is nothing here.
func (o *outside) Name(*enrich.Name)   {}
func (o *outside) Claim(*enrich.Claim) {}

// watchOutside starts a rig, softflowd in the router's namespace, and everything that a monitor would run.
func watchOutside(t *testing.T, options rig.Options, change func(*enrich.EngineConfig)) *outside {
	o := &outside{Rig: rig.Start(t, options), t: t, set: metrics.NewSet()}
	o.image = o.Actor()
	o.AddRouterAddr("203.0.113.9/32")
	o.watch(change, false)
	o.export()
	o.chatter()
	return o
}

// watch follows the engine and the kernel, which may count, and collects what is exported to 127.0.0.1:9995 in the router's namespace.
func (o *outside) watch(change func(*enrich.EngineConfig), counters bool) {
	t := o.t
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
	kernel := enrich.NewKernel(c.Docker[0], o.set, log)
	kernel.EnterShared()
	if o.legacy {
		kernel.SetLegacy()
	}
	run("engine", func() error {
		return enrich.NewDocker(c.Docker[0], o.set, log).Run(ctx, func(e enrich.Event) {
			kernel.Hear(&e)
			with(func() { o.table.Event(&e) })
		})
	})
	take := func(b *flow.Batch) {
		with(func() {
			o.table.Records(b.Records)
			o.seen = append(o.seen, b.Records...)
		})
		b.Free()
	}
	if counters {
		kernel.Flows(flow.NewPool(8), nil, take)
	}
	run("kernel", func() error {
		return kernel.Run(ctx, func(b *enrich.Tracks) {
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
			return s.Run(ctx, take)
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
	for _, r := range o.seen[max(0, len(o.seen)-20):] {
		o.t.Logf("the router saw %v:%d > %v:%d/%d %d bytes", r.Src, r.SrcPort, r.Dst, r.DstPort, r.Proto, r.Bytes)
	}
	for _, f := range o.flows[max(0, len(o.flows)-20):] {
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

func (o *outside) by(f enrich.Flow, method, confidence string) {
	o.t.Helper()
	if f.Method.String() != method || f.Confidence.String() != confidence {
		o.t.Errorf("%s with %v:%d was attributed by %s, %s; want %s, %s", f.Container.Name, f.Peer, f.PeerPort, f.Method, f.Confidence, method, confidence)
	}
}

// TestLiveOutside watches one host by what its router exports: containers behind masquerade, on the host's network and with published
// ports, and processes of the host.
func TestLiveOutside(t *testing.T) {
	o := watchOutside(t, rig.Options{DockerdArgs: []string{"--ipv6", "--fixed-cidr-v6", "fd00:29::/64"}}, nil)
	o.AddRouterAddr("203.0.113.10/32")
	o.AddRouterAddr("203.0.113.11/32")
	o.AddRouterAddr("fd00:77::9/128")
	o.AddRouterRoute("172.29.0.0/16")
	o.servers("--tcp", "203.0.113.9:443", "--ntp", "203.0.113.9:123", "--tcp", "203.0.113.10:443", "--ntp", "203.0.113.11:123", "--tcp", "[fd00:77::9]:443", "--ntp", "[fd00:77::9]:123")
	for _, test := range []struct {
		name string
		run  func(*outside)
	}{
		{"masquerade", masquerade},
		{"masquerade of UDP", masqueradeUDP},
		{"host network", hostNetwork},
		{"host process", hostProcess},
		{"published port", publishedPort},
		{"shared namespace", sharedNamespace},
		{"macvlan", macvlan},
		{"IPv6", six},
	} {
		t.Run(test.name, func(t *testing.T) {
			sub := o.t
			o.t = t
			test.run(o)
			o.t = sub
		})
	}
}

// servers starts the router's side.
func (o *outside) servers(listen ...string) {
	binary, err := rig.ActorBinary()
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := o.RouterExec(ctx, append([]string{binary, "actor", "serve"}, listen...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	for lines := bufio.NewReader(out); len(listen) > 0; listen = listen[2:] {
		if line, err := lines.ReadString('\n'); err != nil {
			o.t.Fatalf("server said %q: %v", line, err)
		}
	}
}

// actor runs one in the host's namespace, as a process of the host, to its end.
func (o *outside) actor(args ...string) string {
	o.t.Helper()
	binary, err := rig.ActorBinary()
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := o.HostExec(ctx, append([]string{binary, "actor"}, args...)...).Output()
	if err != nil || strings.Contains(string(out), "error") {
		o.t.Fatalf("actor %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// masquerade is A4: two containers use one source port to one destination; the router sees the host's address twice.
func masquerade(o *outside) {
	for _, name := range []string{"one", "two"} {
		reply := map[string]string{"one": "1000", "two": "30000"}[name]
		o.Run("--name", name, o.image, "beacon", "--to", "203.0.113.9:443", "--source-port", "40000", "--count", "1", "--reply", reply, "--linger", "1m")
	}
	var ports []uint16
	for _, name := range []string{"one", "two"} {
		f := o.flow(name, "203.0.113.9", 443)
		o.by(f, "nat", "exact")
		if big := f.Received > 20000; big != (name == "two") {
			o.t.Errorf("%s received %d bytes, and asked for another number", name, f.Received)
		}
		if from := o.from(name); !strings.HasSuffix(from, ":40000") {
			o.t.Errorf("%s talked from %s, want port 40000", name, from)
		}
		if f.Local.String() != o.HostAddr.String() || f.Opener != enrich.OpenerLocal {
			o.t.Errorf("%s: local %v, opener %s; want the host's %v and local", name, f.Local, f.Opener, o.HostAddr)
		}
		ports = append(ports, f.LocalPort)
	}
	if ports[0] == ports[1] {
		o.t.Errorf("both were seen from port %d", ports[0])
	}
	o.t.Logf("from outside the ports are %v", ports)
}

// masqueradeUDP is A5: the same tuple comes again within the 30 s that conntrack keeps it, without a second event.
func masqueradeUDP(o *outside) {
	o.Run("--name", "clock", o.image, "ntp", "--to", "203.0.113.9:123", "--source-port", "50123", "--period", "4s", "--count", "4", "--linger", "1m")
	o.by(o.flow("clock", "203.0.113.9", 123), "nat", "exact")
	o.until("all four questions were exported", func() bool {
		n := uint64(0)
		for _, r := range o.seen {
			if r.Proto == flow.UDP && r.DstPort == 123 && r.Src.String() == o.HostAddr.String() {
				n += r.Packets
			}
		}
		return n == 4
	})
}

// hostNetwork is A7: 100 TCP connections and 100 of UDP, long enough for a busy machine, while a server of the host listens at the remote's port number.
func hostNetwork(o *outside) {
	o.decoy("0.0.0.0:123")
	o.Run("--name", "agent", "--network=host", o.image, "beacon", "--to", "203.0.113.10:443", "--period", "10ms", "--count", "100", "--open", "50ms")
	o.Run("--name", "timer", "--network=host", o.image, "ntp", "--to", "203.0.113.11:123", "--period", "10ms", "--count", "100", "--open", "50ms")
	o.all("agent", "203.0.113.10", 500) // SYN, ACK, question, FIN and its ACK at least
	o.all("timer", "203.0.113.11", 100)
}

// decoy is a wildcard server of the host.
func (o *outside) decoy(addr string) {
	var c net.PacketConn
	o.InHost(func() (err error) {
		c, err = net.ListenPacket("udp4", addr)
		return err
	})
	o.t.Cleanup(func() { c.Close() })
}

// all waits until the router has told of n packets at least from the host to a server, and the container has ended. Every one of those
// connections must be that container's, by its socket.
func (o *outside) all(name, peer string, n uint64) {
	o.t.Helper()
	o.Docker("wait", name)
	ports := map[uint16]bool{}
	o.until("what "+name+" sent was exported and attributed", func() bool {
		clear(ports)
		sent := uint64(0)
		for _, r := range o.seen {
			if r.Dst.String() == peer {
				sent += r.Packets
				ports[r.SrcPort] = true
			}
		}
		told := map[uint16]bool{}
		for _, f := range o.flows {
			if f.Peer.String() == peer && f.Container.Name == name && f.Method == enrich.MethodSocket && f.Confidence == enrich.Exact {
				told[f.LocalPort] = true
			}
		}
		return sent >= n && len(told) == len(ports)
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(ports) < 80 {
		o.t.Errorf("%s used %d source ports only", name, len(ports))
	}
	for _, f := range o.flows {
		if f.Peer.String() == peer && f.Container.Name != name {
			o.t.Errorf("port %d of %s was told as %s, by %s", f.LocalPort, name, f.Container.Name, f.Method)
		}
	}
	o.t.Logf("%s: %d of %d source ports by socket, exact", name, len(ports), len(ports))
}

func hostProcess(o *outside) {
	o.actor("beacon", "--to", "203.0.113.9:443", "--source-port", "41000", "--count", "1", "--open", "50ms")
	var found enrich.Flow
	o.until("a flow of the host's process", func() bool {
		for _, f := range o.flows {
			if f.LocalPort == 41000 && f.Container.ID == "" {
				found = f
				return true
			}
		}
		return false
	})
	o.by(found, "socket", "exact")
	if w := found.Container.Workload; !strings.HasPrefix(w, "host:rig/") || len(w) < 10 {
		o.t.Errorf("the workload is %q", w)
	}
	o.t.Logf("a process of the host is %s", found.Container.Workload)
}

// publishedPort is A6: from outside to the host's port, and to that port from another container.
func publishedPort(o *outside) {
	o.Run("--name", "web", "-p", "8080:80", o.image, "listen", "tcp", ":80")
	o.until("web listens", func() bool { return strings.Contains(o.Docker("logs", "web"), "listening") })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	binary, err := rig.ActorBinary()
	if err != nil {
		o.t.Fatal(err)
	}
	if out, err := o.RouterExec(ctx, binary, "actor", "beacon", "--to", o.HostAddr.String()+":8080", "--source-port", "42000", "--count", "1").CombinedOutput(); err != nil || strings.Contains(string(out), "error") {
		o.t.Fatalf("%v: %s", err, out)
	}
	f := o.flow("web", o.RouterAddr.String(), 42000)
	o.by(f, "nat", "exact")
	if f.LocalPort != 8080 || f.Opener != enrich.OpenerRemote {
		o.t.Errorf("local port %d, opener %s; want 8080 and remote", f.LocalPort, f.Opener)
	}
}

// track has the kernel track connections: any rule that asks for their state does.
func track(t *testing.T, r *rig.Rig, command string) {
	t.Helper()
	for _, variant := range []string{"", "-legacy", "-nft"} {
		if r.HostExec(t.Context(), command+variant, "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW").Run() == nil {
			return
		}
	}
	t.Fatalf("no %s can write a rule that tracks connections", command)
}

// sharedNamespace is A8: two containers talk from one address, and each is told by its socket.
func sharedNamespace(o *outside) {
	o.Run("--name", "owner", o.image, "beacon", "--to", "203.0.113.9:443", "--source-port", "43001", "--delay", "2s", "--count", "1", "--open", "50ms", "--linger", "1m")
	o.Run("--name", "guest", "--network=container:owner", o.image, "beacon", "--to", "203.0.113.9:443", "--source-port", "43002", "--delay", "2s", "--count", "1", "--open", "50ms", "--linger", "1m")
	for _, name := range []string{"owner", "guest"} {
		f := o.flow(name, "203.0.113.9", 443)
		o.by(f, "shared-socket", "exact")
		if f.LocalPort != map[string]uint16{"owner": 43001, "guest": 43002}[name] {
			o.t.Errorf("%s was told with port %d", name, f.LocalPort)
		}
	}
}

// macvlan is A10: the container has an address of the outer network, and the host's kernel tracks nothing.
func macvlan(o *outside) {
	net := o.HostAddr.As4()
	net[3] = 0
	subnet := netip.PrefixFrom(netip.AddrFrom4(net), 24)
	own := subnet.Addr().As4()
	own[3] = 77
	o.Docker("network", "create", "-d", "macvlan", "--subnet", subnet.String(), "--gateway", o.RouterAddr.String(), "-o", "parent="+o.Uplink, "outer")
	o.Run("--name", "lan", "--network", "outer", "--ip", netip.AddrFrom4(own).String(), o.image, "beacon", "--to", "203.0.113.9:443", "--count", "1", "--linger", "1m")
	o.by(o.flow("lan", "203.0.113.9", 443), "ip", "exact")
}

// six is A11: containers are not translated, sockets of the host are IPv6 ones. Without any rule the kernel tracks no IPv6.
func six(o *outside) {
	track(o.t, o.Rig, "ip6tables")
	o.Run("--name", "agent6", "--network=host", o.image, "beacon", "--to", "[fd00:77::9]:443", "--period", "10ms", "--count", "20", "--open", "50ms")
	o.Run("--name", "timer6", "--network=host", o.image, "ntp", "--to", "[fd00:77::9]:123", "--period", "10ms", "--count", "20", "--open", "50ms")
	for _, name := range []string{"agent6", "timer6"} {
		n := 0
		o.until("20 connections of "+name, func() bool {
			n = 0
			for _, f := range o.flows {
				if f.Container.Name == name && f.Kind&enrich.Open != 0 && f.Method == enrich.MethodSocket && f.Confidence == enrich.Exact {
					n++
				}
			}
			return n >= 20
		})
	}
}

// TestLiveCounters has the kernel count: a container's and the host's connections become records with their bytes, opener and end,
// without a packet being seen by us.
func TestLiveCounters(t *testing.T) {
	o := &outside{Rig: rig.Start(t, rig.Options{}), t: t, set: metrics.NewSet()}
	o.image = o.Actor()
	o.AddRouterAddr("203.0.113.9/32")
	o.AddRouterAddr("203.0.113.10/32")
	o.servers("--tcp", "203.0.113.9:443", "--tcp", "203.0.113.10:443")
	if out, err := o.HostExec(t.Context(), "sysctl", "-w", "net.netfilter.nf_conntrack_acct=1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o.watch(func(*enrich.EngineConfig) {}, true)
	o.Run("--name", "loader", o.image, "upload", "--to", "203.0.113.9:443", "--bytes", "1000000", "--reply", "50000", "--linger", "1m")
	o.Run("--name", "agent", "--network=host", o.image, "upload", "--to", "203.0.113.10:443", "--bytes", "300000", "--reply", "20000", "--linger", "1m")
	for _, want := range []struct {
		name, peer, method string
		sent, received     uint64
	}{{"loader", "203.0.113.9", "ip", 1_000_000, 50_000}, {"agent", "203.0.113.10", "socket", 300_000, 20_000}} {
		f := o.flow(want.name, want.peer, 443)
		o.by(f, want.method, "exact")
		if f.Opener != enrich.OpenerLocal || f.Midstream {
			t.Errorf("%s: opener %s, midstream %t", want.name, f.Opener, f.Midstream)
		}
		o.until(want.name+" has sent all", func() bool {
			sent, received := uint64(0), uint64(0)
			for _, f := range o.flows {
				if f.Container.Name == want.name {
					sent, received = sent+f.Sent, received+f.Received
				}
			}
			over := func(got, want uint64) bool { return got >= want && got < want+want/5+2000 } // headers and acknowledgements
			return over(sent, want.sent) && over(received, want.received)
		})
	}
}

// TestLiveFlood is A16: a buffer of 8 KiB is too small for 3,000 connections at once. That is counted, told as a gap, made good by a
// dump, and ends nothing.
func TestLiveFlood(t *testing.T) {
	r := rig.Start(t, rig.Options{NoEngine: true})
	track(t, r, "iptables")
	set := metrics.NewSet()
	k := enrich.NewKernel(enrich.EngineConfig{Name: "rig", Namespace: "/run/netns/" + r.HostNS}, set, slog.New(slog.NewTextHandler(t.Output(), nil)))
	k.SetReceive(8 << 10)
	count := func(name string) uint64 {
		return set.GetOrCreateCounter(`wharfwatch_conntrack_` + name + `{engine="rig"}`).Get()
	}
	busy, flooded, lost, found := make(chan struct{}), make(chan struct{}), make(chan enrich.Tracks, 64), make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	first := true
	go func() {
		done <- k.Run(ctx, func(b *enrich.Tracks) {
			if first && b.Mark == enrich.MarkDumped { // and then the reader is busy elsewhere
				first = false
				close(busy)
				<-flooded
			}
			if b.Mark == enrich.MarkLost {
				select {
				case lost <- *b:
				default: // enough of them
				}
			}
			for i := range b.Entries {
				if e := &b.Entries[i]; e.Kind == enrich.TrackFound && e.Orig.DstPort == 7 && e.Owner[0].Unit != "" {
					select {
					case found <- struct{}{}:
					default: // one is enough
					}
				}
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-busy
	r.InHost(func() error {
		for i := range 3000 {
			c, err := net.Dial("udp", r.RouterAddr.String()+":7")
			if err != nil {
				return err
			}
			if _, err := c.Write([]byte{1}); err != nil && i == 0 {
				return err
			}
			if i < 2990 {
				c.Close()
			} else {
				t.Cleanup(func() { c.Close() })
			}
		}
		return nil
	})
	close(flooded)
	select {
	case b := <-lost:
		if b.From > b.Time || b.Time == 0 {
			t.Errorf("the gap is from %d to %d", b.From, b.Time)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("no loss was told; overflows %d", count("enobufs_total"))
	}
	select {
	case <-found:
	case <-time.After(20 * time.Second):
		t.Fatal("what lives on was not found again")
	}
	for deadline := time.Now().Add(10 * time.Second); count("enobufs_total") == 0 || count("dumps_total") < 2 || count("events_total") == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d overflows, %d dumps, %d events", count("enobufs_total"), count("dumps_total"), count("events_total"))
		}
	}
	t.Logf("%d events read of 3000 connections, %d overflows, %d dumps", count("events_total"), count("enobufs_total"), count("dumps_total"))
}

// TestLiveLegacyGroups has the kernel tell no control group of sockets, as where there is version 1 alone: a container on the host's
// network is found by its processes' files.
func TestLiveLegacyGroups(t *testing.T) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || enrich.LegacyMount(string(mounts)) == "" {
		t.Skip("no control groups of version 1 are mounted here")
	}
	o := &outside{Rig: rig.Start(t, rig.Options{}), t: t, set: metrics.NewSet()}
	o.image = o.Actor()
	o.AddRouterAddr("203.0.113.9/32")
	o.servers("--tcp", "203.0.113.9:443")
	o.legacy = true
	o.watch(nil, false)
	o.export()
	o.chatter()
	o.Run("--name", "agent", "--network=host", o.image, "beacon", "--to", "203.0.113.9:443", "--delay", "2s", "--period", "300ms", "--open", "200ms", "--count", "20", "--linger", "1m")
	o.by(o.flow("agent", "203.0.113.9", 443), "socket", "exact")
}

// TestLiveNoEvents is A17: the kernel tells no events. The check says so with the remedy, and dumps still find what lasts.
func TestLiveNoEvents(t *testing.T) {
	o := &outside{Rig: rig.Start(t, rig.Options{}), t: t, set: metrics.NewSet()}
	o.image = o.Actor()
	o.AddRouterAddr("203.0.113.9/32")
	o.servers("--tcp", "203.0.113.9:443")
	if out, err := o.HostExec(t.Context(), "sysctl", "-w", "net.netfilter.nf_conntrack_events=0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	checks := enrich.CheckKernel(enrich.EngineConfig{Name: "rig", Namespace: "/run/netns/" + o.HostNS})
	if len(checks) != 1 || checks[0].State != "warn" || checks[0].Fix != "sysctl -w net.netfilter.nf_conntrack_events=2" {
		t.Errorf("checks %+v", checks)
	}
	o.watch(nil, false)
	o.export()
	o.chatter()
	o.Run("--name", "holder", o.image, "hold", "--to", "203.0.113.9:443", "--period", "100ms", "--count", "60", "--linger", "1m")
	o.by(o.flow("holder", "203.0.113.9", 443), "nat", "high")
}
