package rig_test

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/rig"
)

// TestLiveRig walks the way of a packet: a container behind NAT talks to a server in the router namespace.
func TestLiveRig(t *testing.T) {
	r := rig.Start(t, rig.Options{})
	r.AddRouterAddr("203.0.113.9/32")
	image := r.Actor()

	heard := make(chan netip.AddrPort, 1)
	r.InRouter(func() error {
		l, err := net.Listen("tcp", "203.0.113.9:443")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				heard <- c.RemoteAddr().(*net.TCPAddr).AddrPort()
				c.Close()
			}
		}()
		return nil
	})
	id := r.Run("--name", "caller", image, "beacon", "--to", "203.0.113.9:443", "--count", "1", "--linger", "1m")
	if len(id) != 64 {
		t.Errorf("run returned %q, want an id", id)
	}
	select {
	case from := <-heard:
		if from.Addr() != r.HostAddr {
			t.Errorf("the router saw %v, want the host's %v after NAT", from, r.HostAddr)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the container did not reach the router")
	}
	var beat struct {
		Time time.Time
		From string
	}
	for deadline := time.Now().Add(10 * time.Second); beat.From == "" && time.Now().Before(deadline); {
		if line := r.Docker("logs", "caller"); line != "" {
			if err := json.Unmarshal([]byte(line), &beat); err != nil {
				t.Fatalf("actor printed %q: %v", line, err)
			}
		}
	}
	if state := r.Docker("inspect", "-f", "{{.State.Running}} {{.HostConfig.Privileged}}", r.Run("--privileged", image, "sleep")); state != "true true" {
		t.Errorf("a privileged container: %s, want it running", state)
	}
	if !strings.HasPrefix(beat.From, "172.29.") || time.Since(beat.Time) > time.Minute {
		t.Errorf("the actor told %+v, want a time and its own address", beat)
	}
}

// TestLiveActorServers has every actor client talk to its server, in the router namespace.
func TestLiveActorServers(t *testing.T) {
	r := rig.Start(t, rig.Options{NoEngine: true})
	binary, err := rig.ActorBinary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server := r.RouterExec(ctx, binary, "actor", "serve", "--tcp", "127.0.0.1:7001", "--udp", "127.0.0.1:7002", "--ntp", "127.0.0.1:123", "--http", "127.0.0.1:8080")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = server.Wait()
	}()
	lines := json.NewDecoder(out)
	for range 4 {
		var line struct{ Listening string }
		if err := lines.Decode(&line); err != nil || line.Listening == "" {
			t.Fatalf("server said %+v: %v", line, err)
		}
	}
	for _, args := range []string{
		"beacon --to 127.0.0.1:7001 --period 10ms --jitter 0.3 --count 5",
		"poisson --to 127.0.0.1:7001 --mean 10ms --count 5",
		"hold --to 127.0.0.1:7001 --period 10ms --count 5",
		"ntp --to 127.0.0.1:123 --period 10ms --count 5",
		"http-health --to 127.0.0.1:8080 --period 10ms --count 5",
		"push --to 127.0.0.1:8080 --period 10ms --count 5",
		"upload --to 127.0.0.1:7001 --bytes 1000000",
	} {
		cmd := r.RouterExec(ctx, append([]string{binary, "actor"}, strings.Fields(args)...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		want := 5
		if strings.HasPrefix(args, "upload") {
			want = 1
		}
		if got := strings.Count(string(out), "\n"); err != nil || got != want || strings.Contains(string(out), "error") {
			t.Errorf("actor %s: %v, %d lines, want %d:\n%s", args, err, got, want, out)
		}
	}
}
