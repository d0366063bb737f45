package enrich_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/rig"
)

// told collects what an engine's follower emits.
type told struct {
	t    *testing.T
	mu   sync.Mutex
	cond *sync.Cond
	all  []heard
}

type heard struct {
	enrich.Event
	at time.Time // when it was emitted
}

func (l *told) emit(e enrich.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, heard{e, time.Now()})
	l.cond.Broadcast()
}

func (l *told) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

// wait returns the first event at or behind place from that fits.
func (l *told) wait(from int, what string, fits func(e *heard) bool) heard {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	wake := time.AfterFunc(time.Until(deadline), l.cond.Broadcast)
	defer wake.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := from; ; {
		for ; i < len(l.all); i++ {
			if fits(&l.all[i]) {
				return l.all[i]
			}
		}
		if time.Now().After(deadline) {
			for _, e := range l.all[from:] {
				if e.Kind != enrich.Progress {
					l.t.Logf("heard %s %s %s %v", time.Unix(0, e.Time).UTC().Format("15:04:05.000"), e.Kind, nameOf(&e), e.Binding)
				}
			}
			l.t.Fatalf("not heard within 20 s: %s", what)
		}
		l.cond.Wait()
	}
}

func nameOf(e *heard) string {
	if e.Container == nil {
		return ""
	}
	return e.Container.Name
}

func is(kind enrich.EventKind, name string) func(e *heard) bool {
	return func(e *heard) bool { return e.Kind == kind && nameOf(e) == name }
}

// follow starts a follower and stops it at the end of the test.
func follow(t *testing.T, r *rig.Rig) (*told, *metrics.Set) {
	set, l := metrics.NewSet(), &told{t: t}
	l.cond = sync.NewCond(&l.mu)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	d := enrich.NewDocker(enrich.EngineConfig{Name: "rig", Host: r.DockerHost}, set, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, l.emit) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v at the end of its context", err)
		}
	})
	return l, set
}

// TestLiveDocker follows one real engine through a day of its life.
func TestLiveDocker(t *testing.T) {
	r := rig.Start(t, rig.Options{NoEngine: true, DockerdArgs: []string{"--live-restore", "--ipv6", "--fixed-cidr-v6", "fd00:29::/64"}})
	l, set := follow(t, r)
	var image string
	t.Run("absent at start", func(t *testing.T) {
		l.t = t
		blind := l.wait(0, "blind", is(enrich.Blind, ""))
		if blind.Detail == "" || blind.Engine != "rig" {
			t.Errorf("blind is %+v, want a reason and the engine", blind.Event)
		}
		r.StartEngine()
		synced := l.wait(0, "synced", is(enrich.Synced, ""))
		l.wait(0, "progress past the list", func(e *heard) bool { return e.Kind == enrich.Progress && e.Time > synced.Time })
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(slices.DeleteFunc(slices.Clone(l.all), func(e heard) bool { return e.Kind != enrich.Blind })); n != 1 {
			t.Errorf("blind was told %d times, want once", n)
		}
	})
	image = r.Actor()
	r.AddRouterAddr("203.0.113.9/32")
	serve(t, r, "203.0.113.9:443")
	t.Run("posture before start", func(t *testing.T) { l.t = t; posture(t, r, l, image) })
	t.Run("short containers", func(t *testing.T) { l.t = t; short(t, r, l, image) })
	t.Run("life", func(t *testing.T) { l.t = t; life(t, r, l, image) })
	t.Run("networks at run time", func(t *testing.T) { l.t = t; networks(t, r, l, image) })
	t.Run("engine restart", func(t *testing.T) { l.t = t; restart(t, r, l, image) })
	t.Run("order", func(t *testing.T) { order(t, l) })
	t.Run("conservation", func(t *testing.T) { conservation(t, set) })
}

func serve(t *testing.T, r *rig.Rig, addr string) {
	binary, err := rig.ActorBinary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := r.RouterExec(ctx, binary, "actor", "listen", "tcp", addr)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("server said %q: %v", line, err)
	}
}

// posture compares with an independent subscription to the engine's events (A23).
func posture(t *testing.T, r *rig.Rig, l *told, image string) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	other := r.DockerCommand(ctx, "events", "--format", "{{json .}}", "--filter", "container=sniffer")
	out, err := other.StdoutPipe()
	if err == nil {
		err = other.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = other.Wait()
	}()
	from := l.len()
	r.Run("--name", "sniffer", "--network=host", "--cap-add=NET_ADMIN", "--cap-add=cap_sys_ptrace", "--security-opt", "seccomp=unconfined",
		"--pid=host", "-v", "/var/run:/r:ro", "--label", "wharfwatch.owner=a\x1b[31mb", "-e", "SECRET=hunter2", image, "sleep")
	created := l.wait(from, "created", is(enrich.Created, "sniffer"))
	started := l.wait(from, "started", is(enrich.Started, "sniffer"))

	c := created.Container
	want := enrich.Posture{
		CapAdd: []string{"NET_ADMIN", "SYS_PTRACE"}, PidMode: "host", SecurityOpt: []string{"seccomp=unconfined"}, LocalImage: true,
		Mounts: []enrich.Mount{{Source: "/var/run", Destination: "/r"}},
	}
	if got, want := fmt.Sprintf("%+v", c.Posture), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("posture\n got %s\nwant %s", got, want)
	}
	if !c.HostNetwork() || c.Running || c.Started != 0 || c.Workload != "name:sniffer/wharfwatch/actor" || c.Image != image || !slices.Equal(c.Command, []string{"/wharfwatch", "actor", "sleep"}) {
		t.Errorf("created tells %+v", c)
	}
	if want := []enrich.Label{{Key: "wharfwatch.owner", Value: "a[31mb"}}; !slices.Equal(c.Labels, want) {
		t.Errorf("labels are %q, want %q", c.Labels, want)
	}
	if text, _ := enrich.EncodeEvent(&created.Event); strings.Contains(string(text), "hunter2") {
		t.Error("the environment is in the event")
	}

	r.Run("--name", "mighty", "--privileged", image, "sleep")
	if p := l.wait(from, "created", is(enrich.Created, "mighty")).Container.Posture; !p.Privileged || p.SecurityOpt != nil {
		t.Errorf("the posture of a privileged container is %+v", p)
	}

	lines := json.NewDecoder(out)
	for {
		var e struct {
			Action   string
			TimeNano int64
		}
		if err := lines.Decode(&e); err != nil {
			t.Fatalf("docker events: %v", err)
		}
		switch e.Action {
		case "create":
			t.Logf("created told %v after the engine's event", created.at.Sub(time.Unix(0, e.TimeNano)))
		case "start":
			if lead := time.Unix(0, e.TimeNano).Sub(created.at); lead <= 0 {
				t.Errorf("created was told %v after the engine's start event", -lead)
			} else {
				t.Logf("created told %v before the engine's start event", lead)
			}
			if started.Time != e.TimeNano || !started.Container.Running || started.Container.Started != e.TimeNano {
				t.Errorf("started at %d with %+v, the engine says %d", started.Time, started.Container, e.TimeNano)
			}
			return
		}
	}
}

// short runs 8 containers of one beat each, 4 at a time: what each said of its own address is the oracle (A2).
func short(t *testing.T, r *rig.Rig, l *told, image string) {
	from := l.len()
	said := make([]flow.Addr, 8)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for lane := range 4 {
		wg.Go(func() {
			for i := lane; i < 8; i += 4 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				out, err := r.DockerCommand(ctx, "run", "--rm", "--name", "short"+strconv.Itoa(i), image, "beacon", "--to", "203.0.113.9:443", "--count", "1").Output()
				cancel()
				var beat struct{ From string }
				if err == nil {
					err = json.Unmarshal(out, &beat)
				}
				if err == nil {
					said[i], err = flow.ParseAddr(beat.From[:strings.LastIndexByte(beat.From, ':')])
				}
				errs[i] = err
			}
		})
	}
	wg.Wait()
	for i := range said {
		name := "short" + strconv.Itoa(i)
		if errs[i] != nil {
			t.Fatalf("%s: %v", name, errs[i])
		}
		bound := l.wait(from, name+" connected", is(enrich.Connected, name))
		started := l.wait(from, name+" started", is(enrich.Started, name))
		freed := l.wait(from, name+" disconnected", is(enrich.Disconnect, name))
		l.wait(from, name+" destroyed", is(enrich.Destroyed, name))
		b := bound.Binding
		if !slices.Contains(b.Addrs, said[i]) || b.Network != "bridge" || b.Bits[0] != 16 || len(b.Addrs) != 2 {
			t.Errorf("%s was bound to %+v, it had %v", name, b, said[i])
		}
		if gateway, _ := flow.ParseAddr("172.29.0.1"); !slices.Contains(b.Gateways, gateway) {
			t.Errorf("%s: gateways %v lack %v", name, b.Gateways, gateway)
		}
		if bound.Time >= started.Time || freed.Time <= started.Time || !slices.Equal(freed.Binding.Addrs, b.Addrs) {
			t.Errorf("%s: bound %d, started %d, freed %d with %v", name, bound.Time, started.Time, freed.Time, freed.Binding.Addrs)
		}
	}
}

func life(t *testing.T, r *rig.Rig, l *told, image string) {
	from := l.len()
	id := r.Run("--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=worker", "--name", "shop-worker-1", "-p", "8081:80", image, "sleep")
	created := l.wait(from, "created", is(enrich.Created, "shop-worker-1"))
	if c := created.Container; c.ID != id || c.Workload != "compose:shop/worker" || len(c.Ports) != 1 || c.Ports[0] != (enrich.Port{Host: 8081, Container: 80, Proto: 6}) {
		t.Errorf("created tells %+v", c)
	}
	r.Docker("exec", "shop-worker-1", "/wharfwatch", "actor", "sleep", "1ms")
	if e := l.wait(from, "exec", is(enrich.Exec, "shop-worker-1")); e.Detail != "/wharfwatch actor sleep 1ms" {
		t.Errorf("exec tells %q", e.Detail)
	}
	r.Docker("rename", "shop-worker-1", "renamed")
	if e := l.wait(from, "changed", is(enrich.Changed, "renamed")); !e.Container.Running || len(e.Container.Attachments) != 1 {
		t.Errorf("changed tells %+v", e.Container)
	}
	r.Docker("kill", "renamed")
	if e := l.wait(from, "died", is(enrich.Died, "renamed")); e.Detail != "exit 137" || e.Container.Running || e.Container.Finished != e.Time {
		t.Errorf("died tells %q and %+v", e.Detail, e.Container)
	}
	l.wait(from, "disconnected", is(enrich.Disconnect, "renamed"))
}

// networks is A9.
func networks(t *testing.T, r *rig.Rig, l *told, image string) {
	r.Docker("network", "create", "second")
	id := r.Run("--name", "two-homed", image, "sleep")
	from := l.len()
	r.Docker("network", "connect", "second", "two-homed")
	on := func(kind enrich.EventKind) func(*heard) bool {
		return func(e *heard) bool {
			return e.Kind == kind && nameOf(e) == "two-homed" && e.Binding.Network == "second"
		}
	}
	bound := l.wait(from, "connected", on(enrich.Connected))
	want := r.Docker("inspect", "-f", "{{.NetworkSettings.Networks.second.IPAddress}}", id)
	if bound.Binding.Addrs[0].String() != want || len(bound.Container.Attachments) != 2 || bound.Detail != "event" {
		t.Errorf("bound to %+v (%s) with %+v, the engine says %s", bound.Binding, bound.Detail, bound.Container.Attachments, want)
	}
	r.Docker("network", "disconnect", "second", "two-homed")
	freed := l.wait(from, "disconnected", on(enrich.Disconnect))
	if freed.Binding.Addrs[0].String() != want || len(freed.Container.Attachments) != 1 {
		t.Errorf("freed %+v with %+v, want %s", freed.Binding, freed.Container.Attachments, want)
	}
}

// restart is A13: one container dies while the engine is away, the other one lives on.
func restart(t *testing.T, r *rig.Rig, l *told, image string) {
	r.Run("--name", "survivor", image, "sleep")
	r.Run("--name", "casualty", image, "sleep")
	pid := r.Docker("inspect", "-f", "{{.State.Pid}}", "casualty")
	l.wait(0, "started", is(enrich.Started, "casualty"))
	from := l.len()
	r.StopEngine()
	l.wait(from, "blind", is(enrich.Blind, ""))
	if out, err := r.HostExec(t.Context(), "kill", "-9", pid).CombinedOutput(); err != nil {
		t.Fatalf("kill: %v: %s", err, out)
	}
	r.StartEngine()
	synced := l.wait(from, "synced", is(enrich.Synced, ""))
	died := l.wait(from, "died", is(enrich.Died, "casualty"))
	freed := l.wait(from, "disconnected", is(enrich.Disconnect, "casualty"))
	if died.Time > synced.Time || freed.Time != died.Time || len(freed.Binding.Addrs) == 0 {
		t.Errorf("died at %d, freed %v at %d, synced at %d", died.Time, freed.Binding, freed.Time, synced.Time)
	}
	listed := l.wait(from, "listed", is(enrich.Listed, "survivor"))
	if !listed.Container.Running || len(listed.Container.Attachments) != 1 {
		t.Errorf("the survivor is listed as %+v", listed.Container)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.all[from:] {
		if nameOf(&e) == "survivor" && e.Kind != enrich.Listed {
			t.Errorf("the survivor was told as %s at %d", e.Kind, e.Time)
		}
		if nameOf(&e) == "casualty" && e.Kind == enrich.Connected {
			t.Errorf("a stale address of a dead container was bound: %v", e.Binding)
		}
	}
}

// order holds all that was told against the promises of Run.
func order(t *testing.T, l *told) {
	last := map[string]int64{}
	var progress int64
	for _, e := range l.all {
		switch {
		case e.Kind == enrich.Progress:
			if e.Time <= progress {
				t.Errorf("progress went from %d to %d", progress, e.Time)
			}
			progress = e.Time
		case e.Container != nil && e.Kind != enrich.Listed && e.Detail != "list" && e.Detail != "seen in a list" && e.Kind != enrich.Disconnect:
			if e.Time < last[e.Container.ID] {
				t.Errorf("%s of %s at %d is older than what was told before it", e.Kind, e.Container.Name, e.Time)
			}
			last[e.Container.ID] = e.Time
			if e.Time <= progress {
				t.Errorf("%s of %s at %d came after progress to %d", e.Kind, e.Container.Name, e.Time, progress)
			}
		}
	}
}

func conservation(t *testing.T, set *metrics.Set) {
	get := func(name string) uint64 {
		return set.GetOrCreateCounter(fmt.Sprintf(`wharfwatch_docker_%s{engine="rig"}`, name)).Get()
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		in := get("events_total")
		out := get("events_applied_total") + get("events_ignored_total") + get("events_duplicate_total") + get("events_dropped_total")
		if in == out && in > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events received, %d accounted for", in, out)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, name := range []string{"events_dropped_total", "gaps_total", "inspect_errors_total", "unbound_total", "containers_overflow_total"} {
		if n := get(name); n != 0 {
			t.Errorf("%s is %d, want 0", name, n)
		}
	}
}
