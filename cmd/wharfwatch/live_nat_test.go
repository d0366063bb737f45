package main

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/rig"
)

// TestLiveBehindNAT is what only the host's address shows: softflowd in the router's namespace exports IPFIX, two containers behind
// masquerade use one source port to one server, and one of them beacons. So do a container on the host's network and a process of the
// host. Each incident must name the one it is about.
func TestLiveBehindNAT(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the scene takes minutes")
	}
	s := newScene(t)
	s.unprivileged()
	w := s.watch("outside", `{netflow: [":9910"], sflow: ["off"], interfaces: ["off"]}`)
	s.start("softflowd", s.RouterExec(t.Context(), "softflowd", "-d", "-i", s.RouterLink, "-v", "10", "-A", "milli", "-n", s.HostAddr.String()+":9910",
		"-p", filepath.Join(s.dir, "softflowd.pid"), "-c", "none",
		"-t", "maxlife=60", "-t", "tcp.fin=1", "-t", "tcp.rst=1", "-t", "udp=20", "-t", "tcp=20", "-t", "general=20", "-t", "expint=1"))
	s.chatter()

	beats := func(to string, seed string) []string {
		return []string{"beacon", "--to", to, "--period", beaconPeriod.String(), "--jitter", "0.1", "--seed", seed}
	}
	s.container("twin", "poisson", "--to", beaconTo, "--mean", "5s", "--seed", "11", "--source-port", "40000")
	worker := s.container("worker", append(beats(beaconTo, "7"), "--source-port", "40000")...)
	agent := strings.TrimSpace(s.Run(append([]string{"-d", "--name", "agent", "--network=host", rig.ActorImage}, beats("198.51.100.30:443", "8")...)...))
	s.start("host-process", s.HostExec(t.Context(), append([]string{s.binary, "actor"}, beats("198.51.100.40:443", "9")...)...))

	for _, want := range []struct{ workload, container, subject, method string }{
		{"compose:shop/worker", worker, beaconTo + "/tcp", "nat"},
		{"name:agent/wharfwatch/actor", agent, "198.51.100.30:443/tcp", "socket"},
		{"host:local/", "", "198.51.100.40:443/tcp", "socket"},
	} {
		var told alerts.Incident
		s.eventually(4*time.Minute, "a beacon of "+want.workload, func() bool {
			told = s.beaconOf(w, want.workload)
			return told.ID != ""
		})
		f := told.Findings[slices.IndexFunc(told.Findings, func(f alerts.Finding) bool { return f.Detector == "beacon" })]
		if told.Container.ID != want.container || f.Subject != want.subject || told.Attribution.Method.String() != want.method || told.Attribution.Confidence.String() != "exact" {
			t.Errorf("%s: container %s, subject %s, %s %s; want %s, %s, %s exact", told.Workload, told.Container.ID, f.Subject,
				told.Attribution.Method, told.Attribution.Confidence, want.container, want.subject, want.method)
		}
		t.Logf("%s: %s", told.Workload, told.Summary)
	}
	if i := s.beaconOf(w, "compose:shop/twin"); i.ID != "" {
		t.Errorf("the container that does not beacon was told: %s", i.Summary)
	}
	w.stop(syscall.SIGTERM)
	live := lines(s.must("incidents", "list", "-c", w.config, "-o", "jsonl"))
	if got := lines(s.must("replay", "-c", w.config, w.record)); !slices.Equal(got, live) {
		t.Errorf("the stream gives\n%s\nthe live run told\n%s", strings.Join(got, "\n"), strings.Join(live, "\n"))
	}
	for _, l := range live {
		var i alerts.Incident
		if err := json.Unmarshal([]byte(l), &i); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s %s %s %s", i.Workload, i.Attribution.Method, i.Attribution.Confidence, i.Summary)
	}
}

// beaconOf finds the incident of a workload that has a beacon in it.
func (s *scene) beaconOf(w *watcher, workload string) (none alerts.Incident) {
	for _, l := range lines(s.must("incidents", "list", "-c", w.config, "-o", "jsonl")) {
		var i alerts.Incident
		if err := json.Unmarshal([]byte(l), &i); err != nil {
			s.t.Fatalf("%v in %s", err, l)
		}
		if strings.HasPrefix(i.Workload, workload) && slices.ContainsFunc(i.Findings, func(f alerts.Finding) bool { return f.Detector == "beacon" }) {
			return i
		}
	}
	return none
}

const nobody = 65534 // uid and gid

// unprivileged has monitors run as uid 65534 with CAP_NET_ADMIN alone, and the group of the engine's socket.
func (s *scene) unprivileged() {
	program, err := os.ReadFile(s.binary)
	if err == nil {
		s.binary = filepath.Join(s.dir, "wharfwatch")
		err = os.WriteFile(s.binary, program, 0o755)
	}
	if err == nil {
		err = errors.Join(os.Chown(s.dir, nobody, nobody), os.Chmod(filepath.Dir(s.dir), 0o755))
	}
	var socket os.FileInfo
	if err == nil {
		socket, err = os.Stat(strings.TrimPrefix(s.DockerHost, "unix://"))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	group := strconv.Itoa(int(socket.Sys().(*syscall.Stat_t).Gid))
	s.as = []string{
		"setpriv", "--reuid", "65534", "--regid", "65534", "--groups", group, "--inh-caps", "-all,+net_admin", "--ambient-caps", "-all,+net_admin",
		"--bounding-set", "-all,+net_admin", "--no-new-privs",
	}
}

// chatter keeps packets coming on the router's link: softflowd is handed blocks of them, and a quiet link fills none.
func (s *scene) chatter() {
	var c net.Conn
	s.InHost(func() (err error) {
		c, err = net.Dial("udp", net.JoinHostPort(s.RouterAddr.String(), "9"))
		return err
	})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				_, _ = c.Write(make([]byte, 1400))
			}
		}
	}()
	s.t.Cleanup(func() {
		close(stop)
		<-done
		c.Close()
	})
}
