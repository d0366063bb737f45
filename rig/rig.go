// Package rig gives a test a private Docker host: an engine in a network namespace of its own, with its own bridges, NAT and
// connection tracking, and behind a veth a second namespace that sees what a router or a mirror port sees.
//
//	container -- docker0 172.29.0.1/16 -- host namespace -- up0 10.99.N.2 ==veth== rt0 10.99.N.1 -- router namespace
//
// It needs root, dockerd, the docker command, iptables and iproute2. Without them a test is skipped with the reason, or fails where
// CI=true. Any number of rigs may run side by side. What a killed test left behind is swept by the next Start.
//
// Control groups are the machine's: a v2 mount, the hybrid layout (v1 controllers with v2 in unified) and pure v1 all do for dockerd
// 20.10 and newer; where there are none, v2 is mounted. iptables is whichever of the default, legacy and nft variants can write NAT rules in the new namespace on the
// running kernel; dockerd finds it through its PATH. So it does a runc that leaves out capabilities that the machine withholds even from root: without
// it no privileged container would start there.
//
// Only tests import it. It drives the engine with the docker command, as a user would.
package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Options change what Start makes. The zero value is a running engine on defaults.
type Options struct {
	DockerdArgs []string // more flags, such as --live-restore or --ipv6
	NoEngine    bool     // the namespaces only: StartEngine follows when the test wants it
}

// Rig is one host with one router. Its methods fail the test when something does not work; those that return an error do not.
// They may be called from several goroutines, but for starting and stopping the engine.
type Rig struct {
	Number     int    // 1 to 250, unique among the rigs of this machine
	DockerHost string // unix:///… of the engine
	Bridge     string // of the default network, in the host namespace
	BridgeNet  netip.Prefix
	HostNS     string // names below /run/netns
	RouterNS   string
	Uplink     string // the veth's end in the host namespace
	RouterLink string // and in the router's
	HostAddr   netip.Addr
	RouterAddr netip.Addr

	t      testing.TB
	o      Options
	dir    string
	path   string // PATH of dockerd, with what shadow put in front
	engine *exec.Cmd
	exited chan struct{} // closed when engine has ended
}

// Start makes a rig, and cleans it up when the test ends. It takes 1 to 3 seconds.
func Start(t testing.TB, o Options) *Rig {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: starts a private docker engine")
	}
	if lacking := lacks(); lacking != "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("rig: %s", lacking)
		}
		t.Skipf("rig: %s", lacking)
	}
	sweep(t)
	r := &Rig{
		t: t, o: o, path: searchPath(), Bridge: "docker0", BridgeNet: netip.MustParsePrefix("172.29.0.1/16"), Uplink: "up0", RouterLink: "rt0",
	}
	t.Cleanup(r.close)
	if err := r.claim(); err != nil {
		t.Fatalf("rig: %v", err)
	}
	if err := r.network(); err != nil {
		t.Fatalf("rig: %v", err)
	}
	if err := r.chooseIptables(); err != nil {
		t.Fatalf("rig: %v", err)
	}
	if err := r.shimRunc(); err != nil {
		t.Fatalf("rig: %v", err)
	}
	if !o.NoEngine {
		r.StartEngine()
	}
	return r
}

// searchPath is where system commands are, whatever the caller's PATH.
func searchPath() string { return os.Getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin" }

func lacks() string {
	if runtime.GOOS != "linux" {
		return "a private docker engine needs Linux"
	}
	if os.Geteuid() != 0 {
		return "a private docker engine needs root"
	}
	for _, command := range []string{"dockerd", "docker", "iptables", "ip", "nsenter"} {
		if which(command) == "" {
			return command + " is not installed (Debian: apt-get install docker.io iptables iproute2 util-linux)"
		}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err == nil && !strings.Contains(string(mounts), " /sys/fs/cgroup") {
		// A machine without systemd. Left mounted: the next rig needs it too.
		err = mountControlGroups()
	}
	if err != nil {
		return fmt.Sprintf("no control groups, and none can be mounted at /sys/fs/cgroup: %v", err)
	}
	return ""
}

func which(command string) string {
	for _, dir := range filepath.SplitList(searchPath()) {
		path := filepath.Join(dir, command)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
			return path
		}
	}
	return ""
}

// claim takes a free number: making the directory is the lock.
func (r *Rig) claim() error {
	for range 500 {
		n := 1 + rand.IntN(250)
		dir := rigDir(n)
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.Number, r.dir = n, dir
		r.HostNS, r.RouterNS = fmt.Sprintf("ww-host-%d", n), fmt.Sprintf("ww-router-%d", n)
		r.HostAddr, r.RouterAddr = netip.AddrFrom4([4]byte{10, 99, byte(n), 2}), netip.AddrFrom4([4]byte{10, 99, byte(n), 1})
		r.DockerHost = "unix://" + filepath.Join(dir, "docker.sock")
		return os.WriteFile(filepath.Join(dir, "owner"), []byte(strconv.Itoa(os.Getpid())), 0o644)
	}
	return errors.New("no free number: 250 rigs below " + os.TempDir())
}

func rigDir(n int) string { return filepath.Join(os.TempDir(), "wharfwatch-rig-"+strconv.Itoa(n)) }

// output runs a command to its end and puts what it said into the error.
func output(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// command is exec.CommandContext with the system's folders on the path.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	path := which(name)
	if path == "" {
		path = name
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PATH="+searchPath())
	return cmd
}

// close ends everything that Start and the test have made here, containers first.
func (r *Rig) close() {
	if r.dir == "" {
		return
	}
	if r.engine != nil {
		if r.t.Failed() {
			r.t.Logf("rig: the end of the engine's log:\n%s", r.logTail())
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if ids, err := output(r.DockerCommand(ctx, "ps", "-aq")); err == nil && ids != "" {
			_, _ = output(r.DockerCommand(ctx, append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...))
		}
		r.stopEngine()
	}
	for _, problem := range remove(r.dir, r.HostNS, r.RouterNS) {
		r.t.Errorf("rig: %v", problem)
	}
}
