package baseline

import (
	"fmt"
	"slices"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/enrich"
)

func TestMountSetting(t *testing.T) {
	f := func(source string, rw bool, want int) {
		t.Helper()
		s, ok := mountSetting(enrich.Mount{Source: source, Destination: "/x", RW: rw})
		if got := s.points; got != want || ok != (want > 0) {
			t.Errorf("%s rw=%v: %d points, %v; want %d", source, rw, got, ok, want)
		}
	}
	f("/", true, 6)
	f("/", false, 2)
	f("/var/run/docker.sock", true, 6)
	f("/run/user/1000/docker.sock", true, 6)
	f("/var/run/docker.sock", false, 5)
	f("/run/containerd/containerd.sock", true, 6)
	f("/var/run", false, 5)
	f("/etc", true, 5)
	f("/etc/", true, 5)
	f("/etc/../etc/passwd", true, 5)
	f("/etc/localtime", false, 0)
	f("/etc/ssl/certs", false, 0)
	f("/etc/ssh/sshd_config", true, 5)
	f("/proc/sys/kernel", true, 4)
	f("/sys", false, 1)
	f("/sys/fs/cgroup", false, 0)
	f("/root/.ssh", true, 4)
	f("/root/work/shop", true, 1)
	f("/home/build/shop", true, 0)
	f("/home", true, 4)
	f("/var/lib/docker/containers", false, 1)
	f("/var/lib/kubelet/pods/1/volumes/x", true, 4)
	f("/srv/data", true, 0)
	f("/data", true, 0)
}

func TestSettingsOf(t *testing.T) {
	f := func(p enrich.Posture, subject string, points int, severity Severity) {
		t.Helper()
		s := settingsOf(&enrich.Container{Posture: p})
		if got := subjectOf(s); got != subject {
			t.Errorf("subject %q, want %q", got, subject)
		}
		if got := pointsOf(s); got != points {
			t.Errorf("%s: %d points, want %d", subject, got, points)
		}
		if got := postureSeverity(s, points, true); got != severity {
			t.Errorf("%s: %v, want %v", subject, got, severity)
		}
	}
	f(enrich.Posture{}, "", 0, Info)
	f(enrich.Posture{Privileged: true, CapAdd: []string{"NET_ADMIN"}, SecurityOpt: []string{"label=disable"}}, "privileged", 6, Critical)
	f(enrich.Posture{CapAdd: []string{"CHOWN", "NET_RAW", "SYS_PTRACE"}}, "cap=NET_RAW cap=SYS_PTRACE", 4, Medium)
	f(enrich.Posture{CapAdd: []string{"ALL"}}, "cap=ALL", 6, High)
	f(enrich.Posture{PidMode: "host", IpcMode: "host", UTSMode: "host"}, "pid=host ipc=host uts=host", 5, Medium)
	f(enrich.Posture{PidMode: "container:x"}, "", 0, Info)
	f(enrich.Posture{SecurityOpt: []string{"apparmor=unconfined", "label=disable", "seccomp=custom", "seccomp=unconfined"}},
		"apparmor=unconfined label=disable seccomp=unconfined", 5, Medium)
	f(enrich.Posture{Devices: []string{"/dev/fuse", "/dev/sda"}}, "device=/dev/fuse device=/dev/sda", 6, High)
	f(enrich.Posture{Devices: []string{"/dev/snd"}}, "device=/dev/snd", 1, Low)
	f(enrich.Posture{CapAdd: []string{"ALL"}, Mounts: []enrich.Mount{{Source: "/", RW: true}}}, "cap=ALL mount=/", 12, Critical)
}

func TestSharedNetworkIsInformation(t *testing.T) {
	s := settingsOf(&enrich.Container{NetworkMode: "container:abc"})
	if got := postureSeverity(s, pointsOf(s), true); got != Info || subjectOf(s) != "network=container" {
		t.Errorf("%v %q", got, subjectOf(s))
	}
}

func TestSubjectIsBounded(t *testing.T) {
	many := func(last string) string {
		var p enrich.Posture
		for i := range 60 {
			p.Devices = append(p.Devices, fmt.Sprintf("/dev/é%d", i))
		}
		p.Devices = append(p.Devices, last)
		return subjectOf(settingsOf(&enrich.Container{Posture: p}))
	}
	a, b := many("/dev/a"), many("/dev/b")
	if len(a) > 340 || a == b {
		t.Errorf("%d bytes; equal %v", len(a), a == b)
	}
}

// The id of a finding is the instance's: the same however often it is read, another one for the next instance.
func TestPostureIDs(t *testing.T) {
	run := func(created, at int64) (ids []string) {
		e := New(Default(), metrics.NewSet(), func(f Finding) { ids = append(ids, f.ID) })
		e.Event(&enrich.Event{Time: 1, Kind: enrich.Synced, Engine: "local"})
		c := &enrich.Container{ID: "1", Workload: "w", Image: "i", NetworkMode: "host", Created: created, Posture: enrich.Posture{Privileged: true}}
		e.Event(&enrich.Event{Time: at, Kind: enrich.Created, Engine: "local", Container: c})
		return ids
	}
	a, b, c := run(100, 200), run(100, 300), run(101, 200)
	if len(a) != 2 || !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Errorf("%v, read later %v, next instance %v", a, b, c)
	}
}

func TestPosturesAreBounded(t *testing.T) {
	e := New(Default(), metrics.NewSet(), func(Finding) {})
	p := newPostures("test", &e.env)
	event := enrich.Event{Kind: enrich.Created, Engine: "e"}
	for i := range maxPostures + 10 {
		event.Container = &enrich.Container{Workload: fmt.Sprint(i)}
		p.see(&event, 1)
	}
	for i := range uint64(maxHashes + 10) {
		p.see(&event, i)
	}
	if len(p.known) != maxPostures || len(p.order) != maxPostures || p.evicted.Get() != 10 {
		t.Errorf("%d known, %d in order, %d evicted", len(p.known), len(p.order), p.evicted.Get())
	}
	if k := p.known[event.Container.Workload]; len(k.hashes) != maxHashes {
		t.Errorf("%d postures of one workload", len(k.hashes))
	}
	gone := 0
	p.Dirty(func(_ string, blob []byte) bool {
		if len(blob) == 0 {
			gone++
		}
		return true
	})
	if gone != 10 {
		t.Errorf("%d keys are gone, want 10", gone)
	}
}

func TestPosturesRestore(t *testing.T) {
	e := New(Default(), metrics.NewSet(), func(Finding) {})
	p, q := newPostures("a", &e.env), newPostures("b", &e.env)
	c := &enrich.Container{Workload: "w", Image: "i:1"}
	created := &enrich.Event{Time: 5, Kind: enrich.Created, Engine: "e", Container: c}
	p.adopt("e")
	p.image("e", c)
	p.see(created, 42)
	p.see(created, 42)
	refused := ""
	p.Dirty(func(key string, _ []byte) bool { refused = key; return false })
	if refused != "w" {
		t.Errorf("first offered %q, want w", refused)
	}
	p.Dirty(func(key string, blob []byte) bool {
		if err := q.Restore(key, blob); err != nil {
			t.Fatal(err)
		}
		for n := range blob {
			if r := newPostures("c", &env{set: metrics.NewSet()}); r.Restore(key, blob[:n]) == nil {
				t.Errorf("the first %d bytes of %q were taken", n, key)
			}
		}
		return true
	})
	if diff := cmp.Diff(p.known["w"].hashes, q.known["w"].hashes, cmp.AllowUnexported(postureSeen{})); diff != "" {
		t.Error(diff)
	}
	if q.adopt("e") || !q.image("e", c) {
		t.Error("the engine is new after a restart")
	}
}
