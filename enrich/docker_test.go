package enrich

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"
)

// faulty is an engine that can be made to fail in ways a real one cannot on demand: calls that hang, events that are lost, a stream
// that ends. What a healthy engine does is tested on a real one, in TestLiveDocker.
type faulty struct {
	mu      sync.Mutex
	there   map[string]*fakeContainer
	hang    map[string]bool // inspects of these ids never answer
	deaf    bool            // ping fails
	stream  chan events.Message
	history []events.Message
	ended   chan error
	asked   int
}

type fakeContainer struct {
	id, name, ip string
	running      bool
}

const fakeNet = "n000000000000000000000000000000000000000000000000000000000000000"

func fakeID(name string) string { return fmt.Sprintf("%064x", name) }

func (f *faulty) Ping(context.Context) (types.Ping, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf {
		return types.Ping{}, errors.New("no answer")
	}
	return types.Ping{}, nil
}

func (f *faulty) Info(context.Context) (system.Info, error) {
	return system.Info{CgroupVersion: "2"}, nil
}

func (f *faulty) Close() error { return nil }

func (f *faulty) Events(_ context.Context, o events.ListOptions) (<-chan events.Message, <-chan error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stream, f.ended = make(chan events.Message), make(chan error, 1)
	var sec, nano int64
	if _, err := fmt.Sscanf(o.Since, "%d.%d", &sec, &nano); err != nil {
		f.ended <- err
	}
	stream := f.stream
	for _, m := range f.history {
		if m.TimeNano >= sec*1e9+nano {
			go func() { stream <- m }()
		}
	}
	return f.stream, f.ended
}

func (f *faulty) ContainerList(context.Context, container.ListOptions) ([]container.Summary, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []container.Summary
	for _, c := range f.there {
		s := container.Summary{ID: c.id, Names: []string{"/" + c.name}, State: "exited", NetworkSettings: &container.NetworkSettingsSummary{
			Networks: map[string]*network.EndpointSettings{"net": {NetworkID: fakeNet, IPAddress: c.ip}},
		}}
		if c.running {
			s.State = "running"
		}
		out = append(out, s)
	}
	return out, nil
}

func (f *faulty) ContainerInspectWithRaw(ctx context.Context, id string, _ bool) (container.InspectResponse, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.hang[id] {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return container.InspectResponse{}, nil, ctx.Err()
	}
	c := f.there[id]
	if c == nil {
		return container.InspectResponse{}, nil, errdefs.ErrNotFound
	}
	raw, err := json.Marshal(map[string]any{
		"Id": c.id, "Name": "/" + c.name, "State": map[string]any{"Running": c.running, "StartedAt": "2000-01-01T00:00:00Z"},
		"NetworkSettings": map[string]any{"Networks": map[string]any{"net": map[string]any{"NetworkID": fakeNet, "IPAddress": c.ip}}},
	})
	return container.InspectResponse{}, raw, err
}

func (f *faulty) NetworkInspect(ctx context.Context, id string, _ network.InspectOptions) (network.Inspect, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := network.Inspect{ID: id, Name: "net", Containers: map[string]network.EndpointResource{}}
	for _, c := range f.there {
		n.Containers[c.id] = network.EndpointResource{IPv4Address: c.ip + "/24"}
	}
	return n, nil
}

func (f *faulty) ImageInspect(context.Context, string, ...client.ImageInspectOption) (image.InspectResponse, error) {
	return image.InspectResponse{}, nil
}

// set changes the engine's state without a word.
func (f *faulty) set(name, ip string, running bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.there[fakeID(name)] = &fakeContainer{fakeID(name), name, ip, running}
}

func (f *faulty) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.there, fakeID(name))
}

// say sends a container's event; how long it took shows whether the follower held the engine up.
func (f *faulty) say(action, name string) (took time.Duration) {
	m := events.Message{
		Type: events.ContainerEventType, Action: events.Action(action), TimeNano: time.Now().UnixNano(),
		Actor: events.Actor{ID: fakeID(name), Attributes: map[string]string{"name": name, "image": "i"}},
	}
	if action == "connect" || action == "disconnect" {
		m.Type, m.Actor = events.NetworkEventType, events.Actor{ID: fakeNet, Attributes: map[string]string{"container": fakeID(name), "type": "bridge", "name": "net"}}
	}
	f.mu.Lock()
	f.history = append(f.history, m)
	stream := f.stream
	f.mu.Unlock()
	began := time.Now()
	stream <- m
	return time.Since(began)
}

// scene runs a follower of a faulty engine inside a bubble of fake time, and gives a function that returns what was told since it was
// last called, without Progress.
func scene(t *testing.T, play func(f *faulty, d *Docker, since func() []string)) {
	t.Helper()
	sceneWith(t, func(*faulty) {}, play)
}

// sceneWith is a scene in which something is there before the engine is asked first.
func sceneWith(t *testing.T, there func(f *faulty), play func(f *faulty, d *Docker, since func() []string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{there: map[string]*fakeContainer{}, hang: map[string]bool{}}
		there(f)
		d := NewDocker(EngineConfig{Name: "e", Host: "unix:///nowhere"}, metrics.NewSet(), slog.New(slog.DiscardHandler))
		d.dial = func() (dockerAPI, error) { return f, nil }
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var told []string
		var progress int64
		done := make(chan error)
		go func() {
			done <- d.Run(ctx, func(e Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Kind == Progress {
					if e.Time <= progress {
						t.Errorf("progress from %d to %d", progress, e.Time)
					}
					progress = e.Time
					return
				}
				line := string(e.Kind)
				if e.Container != nil {
					line += " " + e.Container.Name
				}
				if e.Binding != nil {
					line += fmt.Sprintf(" %v", e.Binding.Addrs)
				}
				told = append(told, line)
				if late := e.Kind == Created || e.Kind == Connected && e.Detail == "event"; late && e.Time <= progress {
					t.Errorf("%s at %d was told after progress to %d", line, e.Time, progress)
				}
			})
		}()
		play(f, d, func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			out := told
			told = nil
			return out
		})
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		in := d.m.received.Get()
		if out := d.m.applied.Get() + d.m.ignored.Get() + d.m.duplicate.Get() + d.m.dropped.Get(); in != out {
			t.Errorf("%d events received, %d accounted for", in, out)
		}
	})
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}

func TestDockerReconcile(t *testing.T) {
	there := func(f *faulty) {
		f.set("a", "10.0.0.1", true)
		f.set("b", "10.0.0.2", true)
		f.set("old", "10.0.0.9", false) // a stale address
	}
	sceneWith(t, there, func(f *faulty, d *Docker, since func() []string) {
		expect(t, since(), "listed a", "connected a [10.0.0.1]", "listed b", "connected b [10.0.0.2]", "listed old", "synced")
		time.Sleep(90 * time.Second)
		expect(t, since(), "synced")
		if n := d.m.resyncChanges.Get(); n != 0 {
			t.Errorf("%d changes where nothing happened", n)
		}
		f.set("a", "10.0.0.3", true)
		f.set("b", "", false)
		f.set("c", "10.0.0.2", true)
		f.remove("old")
		f.mu.Lock()
		asked := f.asked
		f.mu.Unlock()
		time.Sleep(time.Minute)
		expect(t, since(), "disconnect a [10.0.0.1]", "connected a [10.0.0.3]", "died b", "disconnect b [10.0.0.2]", "listed c", "connected c [10.0.0.2]",
			"destroyed old", "synced")
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := d.m.resyncChanges.Get(); n != 7 || f.asked != asked+4 {
			t.Errorf("%d changes, want 7, with %d inspects, want 4", n, f.asked-asked)
		}
	})
}

func TestDockerLostEventsAreListed(t *testing.T) {
	scene(t, func(f *faulty, d *Docker, since func() []string) {
		expect(t, since(), "synced")
		f.set("a", "10.0.0.1", true)
		time.Sleep(time.Second)
		f.say("start", "a") // its create was lost
		expect(t, since())
		time.Sleep(2 * time.Second)
		expect(t, since(), "listed a", "connected a [10.0.0.1]", "synced")
		f.remove("a")
		f.say("destroy", "a")
		f.say("die", "a") // an echo of what is gone
		time.Sleep(2 * time.Second)
		expect(t, since(), "disconnect a [10.0.0.1]", "destroyed a", "synced")
	})
}

// TestDockerStalledInspects is A15: the engine is not held up, the loss is known, and the state is right afterwards.
func TestDockerStalledInspects(t *testing.T) {
	scene(t, func(f *faulty, d *Docker, since func() []string) {
		since()
		for i := range 4 {
			name := fmt.Sprintf("slow%d", i)
			f.set(name, fmt.Sprintf("10.0.1.%d", i), true)
			f.hang[fakeID(name)] = true
			f.say("create", name)
		}
		for i := range 2*ringSize + pendingMost {
			name := fmt.Sprintf("c%d", i)
			f.set(name, fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250), true)
			if took := f.say("create", name); took > 0 {
				t.Fatalf("the engine was held up for %v", took)
			}
		}
		synctest.Wait()
		if d.m.dropped.Get() == 0 {
			t.Fatal("nothing was dropped: the test does not test")
		}
		time.Sleep(30 * time.Second)
		f.mu.Lock()
		clear(f.hang)
		f.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if d.m.gaps.Get() == 0 {
			t.Error("the gap was not noticed")
		}
		for id, c := range f.there {
			k := d.known[id]
			if k == nil || !k.facts.Running || len(k.bindings) != 1 || k.bindings[fakeNet].Addrs[0] != addr(c.ip) {
				t.Fatalf("%s is known as %+v", c.name, k)
			}
		}
		if len(d.known) != len(f.there) {
			t.Errorf("%d known, %d there", len(d.known), len(f.there))
		}
	})
}

func TestDockerOrder(t *testing.T) {
	scene(t, func(f *faulty, d *Docker, since func() []string) {
		since()
		f.set("slow", "10.0.0.1", true)
		f.hang[fakeID("slow")] = true
		f.set("quick", "10.0.0.2", true)
		f.say("create", "slow")
		f.say("connect", "slow")
		f.say("start", "slow")
		f.say("create", "quick")
		f.say("connect", "quick")
		expect(t, since(), "created quick") // nothing before it can concern it
		time.Sleep(time.Second)
		expect(t, since(), "connected quick [10.0.0.2]") // overtakes
		time.Sleep(5 * time.Second)
		expect(t, since(), "created slow", "connected slow [10.0.0.1]", "started slow") // in their own order, without posture
		f.say("disconnect", "quick")
		f.say("connect", "quick")
		expect(t, since(), "disconnect quick [10.0.0.2]", "connected quick [10.0.0.2]")
	})
}

func TestDockerReconnect(t *testing.T) {
	scene(t, func(f *faulty, d *Docker, since func() []string) {
		since()
		f.set("a", "10.0.0.1", false)
		f.say("create", "a")
		f.set("a", "10.0.0.1", true)
		f.say("connect", "a")
		f.say("start", "a")
		expect(t, since(), "created a", "connected a [10.0.0.1]", "started a")
		f.ended <- io.ErrUnexpectedEOF
		expect(t, since(), "blind")
		f.set("b", "10.0.0.2", true)
		time.Sleep(time.Second)
		// The stream starts a second back: what it repeats is not told again.
		expect(t, since(), "listed a", "listed b", "connected b [10.0.0.2]", "synced")
		if n := d.m.duplicate.Get(); n != 3 {
			t.Errorf("%d duplicates, want 3", n)
		}
		f.mu.Lock()
		f.deaf = true
		f.mu.Unlock()
		time.Sleep(5 * time.Minute)
		expect(t, slices.DeleteFunc(since(), func(s string) bool { return s == "synced" }), "blind")
		f.mu.Lock()
		f.deaf = false
		f.mu.Unlock()
		time.Sleep(time.Minute)
		if got := strings.Join(since(), ", "); !strings.HasSuffix(got, "synced") {
			t.Errorf("after the engine is back: %s", got)
		}
	})
}

func TestRing(t *testing.T) {
	r := newRing()
	next := 0 // the oldest one inside
	for i := range 2 * ringSize {
		if !r.push(events.Message{TimeNano: int64(i)}) {
			t.Fatalf("no room for %d with %d inside", i, i-next)
		}
		if i%3 > 0 { // two of three leave: it grows while it moves
			if a, ok := r.pop(); !ok || a.TimeNano != int64(next) {
				t.Fatalf("popped %d, %v, want %d", a.TimeNano, ok, next)
			}
			next++
		}
	}
	for r.push(events.Message{}) {
	}
	if inside := len(r.held) - r.next; inside != ringSize || !r.takeGap() || r.takeGap() {
		t.Errorf("full with %d, want %d, and one gap", inside, ringSize)
	}
	n := 0
	for _, ok := r.pop(); ok; _, ok = r.pop() {
		n++
	}
	if n != ringSize {
		t.Errorf("%d came out, want %d", n, ringSize)
	}
}

func TestSeenEvents(t *testing.T) {
	var s seenEvents
	at := func(i int) *events.Message { return &events.Message{Action: "start", TimeNano: int64(i + 1)} }
	for i := range 3 * seenMost {
		if !s.add(at(i)) || s.add(at(i)) {
			t.Fatalf("event %d is not new once", i)
		}
	}
	if s.add(at(2*seenMost + 1)) {
		t.Error("a recent event was forgotten")
	}
	if len(s.keys) > seenMost {
		t.Errorf("%d keys, the bound is %d", len(s.keys), seenMost)
	}
}

func TestEngineConfigValidate(t *testing.T) {
	f := func(c EngineConfig, want ...string) {
		t.Helper()
		var got []string
		c.Validate(func(path, _ string) { got = append(got, path) })
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%+v (-want +got):\n%s", c, d)
		}
	}
	f(DefaultEngine())
	f(EngineConfig{Name: "web1", Host: "tcp://192.0.2.1:2376", TLSDir: "/etc/tls", Scope: "always"})
	f(EngineConfig{}, "name")
	f(EngineConfig{Name: "web 1"}, "name")
	f(EngineConfig{Name: "a", Host: "tcp://192.0.2.1"}, "host")
	f(EngineConfig{Name: "a", Host: "unix://"}, "host")
	f(EngineConfig{Name: "a", Host: "/var/run/docker.sock"}, "host")
	f(EngineConfig{Name: "a", Host: "ssh://host"}, "host")
	f(EngineConfig{Name: "a", Host: "unix:///x", TLSDir: "/y"}, "tls_dir")
	f(EngineConfig{Name: "a", Scope: "sometimes"}, "scope")
}

func TestEngineEndpoint(t *testing.T) {
	f := func(c EngineConfig, env, host, tls string) {
		t.Helper()
		t.Setenv("DOCKER_HOST", env)
		t.Setenv("DOCKER_CERT_PATH", "/certs")
		if c.Endpoint() != host || c.tlsDir() != tls {
			t.Errorf("%+v with DOCKER_HOST=%s: %s, %q, want %s, %q", c, env, c.Endpoint(), c.tlsDir(), host, tls)
		}
	}
	f(EngineConfig{}, "", "unix:///var/run/docker.sock", "")
	f(EngineConfig{}, "tcp://192.0.2.1:2376", "tcp://192.0.2.1:2376", "/certs")
	f(EngineConfig{Host: "unix:///x"}, "tcp://192.0.2.1:2376", "unix:///x", "")
	f(EngineConfig{Host: "tcp://192.0.2.2:2376", TLSDir: "/tls"}, "tcp://192.0.2.1:2376", "tcp://192.0.2.2:2376", "/tls")
}

func TestScopeEngines(t *testing.T) {
	f := func(in, want []EngineConfig) {
		t.Helper()
		var scopes []string
		for _, e := range ScopeEngines(in) {
			scopes = append(scopes, e.scope())
		}
		var wanted []string
		for _, e := range want {
			wanted = append(wanted, e.Scope)
		}
		if d := cmp.Diff(wanted, scopes); d != "" {
			t.Errorf("%+v (-want +got):\n%s", in, d)
		}
	}
	f([]EngineConfig{{Name: "a", Scope: "auto"}}, []EngineConfig{{Scope: ""}})
	f([]EngineConfig{{Name: "a", Scope: "always"}}, []EngineConfig{{Scope: "a"}})
	f([]EngineConfig{{Name: "a"}, {Name: "b", Scope: "auto"}, {Name: "c", Scope: "never"}}, []EngineConfig{{Scope: "a"}, {Scope: "b"}, {Scope: ""}})
}

// TestAdvice tells a socket that may not be opened from an engine that is not there.
func TestAdvice(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		if got := advice(err); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want something of %q", err, got, want)
		}
	}
	f(errors.New("ping unix:///var/run/docker.sock: permission denied while trying to connect to the Docker daemon socket"), "group")
	f(fmt.Errorf("ping: %w", fs.ErrPermission), "group")
	f(errors.New("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"), "--docker off")
}
