package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	fewBytes   = 1 << 30  // free space below which doctor warns
	leastBytes = 64 << 20 // and fails
)

// dataDirCheck wants the directory to be there or makeable, private, writable and on a disk with room.
func dataDirCheck(dir string) console.Check {
	c := console.Check{State: "ok", What: "data directory"}
	at := dir
	info, err := os.Stat(dir)
	for errors.Is(err, fs.ErrNotExist) && at != "/" && at != "." {
		at = filepath.Dir(at)
		_, err = os.Stat(at)
	}
	var disk unix.Statfs_t
	switch {
	case err != nil:
		c.State, c.Reason, c.Fix = "fail", err.Error(), "name another --data-dir"
	case info != nil && !info.IsDir():
		c.State, c.Reason, c.Fix = "fail", dir+" is no directory", "name another --data-dir"
	case unix.Access(at, unix.W_OK) != nil:
		c.State, c.Reason, c.Fix = "fail", at+" is not writable for this user", "run as its owner, or name another --data-dir"
	case info != nil && info.Mode().Perm()&0o077 != 0:
		c.State, c.Reason, c.Fix = "warn", fmt.Sprintf("%s is open to others (mode %04o)", dir, info.Mode().Perm()), "chmod 700 "+dir
	case unix.Statfs(at, &disk) != nil:
		c.State, c.Reason = "warn", "cannot read the free space of "+at
	default:
		free := int64(disk.Bavail) * int64(disk.Bsize)
		c.Reason = fmt.Sprintf("%s, %d MiB free", dir, free>>20)
		if free < fewBytes {
			c.State, c.Fix = "warn", "make room"
		}
		if free < leastBytes {
			c.State = "fail"
		}
	}
	return c
}

// engineCheck asks a Docker engine for its version over plain HTTP: _ping and version need no API version and change nothing.
func engineCheck(ctx context.Context, e enrich.EngineConfig, explicit bool) console.Check {
	c := console.Check{State: "ok", What: "docker " + e.Name}
	endpoint := e.Endpoint()
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme == "tcp" && e.TLSDir != "" {
		c.State, c.Reason = "off", endpoint+" is not checked here"
		return c
	}
	network, address := u.Scheme, u.Host
	if network == "unix" {
		address = u.Path
	}
	version, err := engineVersion(ctx, network, address)
	if err == nil {
		c.Reason = fmt.Sprintf("%s answers: Docker %s, API %s", endpoint, version.Version, version.APIVersion)
		return c
	}
	c.State, c.Reason = "warn", err.Error()
	if explicit {
		c.State = "fail"
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.Fix = "start Docker, or say where its socket is (enrich.docker), or turn it off: --docker off"
	case errors.Is(err, fs.ErrPermission):
		c.Fix = "run as root or in the group of the socket (that group can become root)"
	default:
		c.Fix = "see whether the engine is up and listens there"
	}
	return c
}

type dockerVersion struct{ Version, APIVersion string }

func engineVersion(ctx context.Context, network, address string) (v dockerVersion, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	for _, path := range []string{"/_ping", "/version"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
		if err != nil {
			return v, err
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return v, err
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return v, fmt.Errorf("%s answers %s to GET %s", address, resp.Status, path)
		}
		if path == "/version" {
			err = json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 1<<20)).Decode(&v)
		}
		resp.Body.Close()
		if err != nil {
			return v, fmt.Errorf("%s: the answer to GET %s: %w", address, path, err)
		}
	}
	return v, nil
}

// kernelChecks says of each engine on this machine whether its host's connections can be followed.
func kernelChecks(c enrich.Config) (checks []console.Check) {
	if c.Conntrack.Mode == off {
		return []console.Check{{State: "off", What: "connection tracking", Reason: "enrich.conntrack.mode is off"}}
	}
	for _, e := range c.Docker {
		if !e.Local() {
			checks = append(checks, console.Check{State: "off", What: "connection tracking " + e.Name, Reason: "the engine is elsewhere: flows behind its NAT need a monitor there"})
			continue
		}
		for _, k := range enrich.CheckKernel(e) {
			checks = append(checks, console.Check{State: k.State, What: k.What + " " + e.Name, Reason: k.Reason, Fix: k.Fix})
		}
	}
	return checks
}

// captureChecks says whether this process may capture, and which interfaces the patterns name now.
func captureChecks(c flow.Config) []console.Check {
	if turnedOff(c.Interfaces) {
		return []console.Check{{State: "off", What: "capture", Reason: "flow.interfaces is off"}}
	}
	missing := "warn"
	if c.ExplicitInterfaces {
		missing = "fail"
	}
	out := console.Check{State: "ok", What: "capture", Reason: "CAP_NET_RAW is there"}
	if !capable(capNetRaw) {
		out = console.Check{
			State: missing, What: "capture", Reason: "this user may not capture: CAP_NET_RAW is missing",
			Fix: "run as root, or setcap cap_net_raw+ep on the binary, or --interface off",
		}
	}
	checks := []console.Check{out}
	present, err := net.Interfaces()
	if err != nil {
		return append(checks, console.Check{State: "warn", What: "interfaces", Reason: err.Error()})
	}
	for _, pattern := range c.Interfaces {
		var found []string
		for _, i := range present {
			if ok, err := path.Match(pattern, i.Name); err == nil && ok {
				found = append(found, i.Name)
			}
		}
		check := console.Check{State: "ok", What: "interface " + pattern, Reason: strings.Join(found, " ")}
		if len(found) == 0 {
			check.State, check.Reason, check.Fix = "off", "none has that name now", "it is captured once it appears; see `ip link` for the names"
			if !strings.ContainsAny(pattern, "*?[") && c.ExplicitInterfaces {
				check.State = "warn"
			}
		}
		checks = append(checks, check)
	}
	return checks
}

// Numbers of https://github.com/torvalds/linux/blob/master/include/uapi/linux/capability.h.
const (
	capNetAdmin = 12
	capNetRaw   = 13
)

// capable reads the effective capabilities of this process (proc_pid_status(5), CapEff).
func capable(bit uint) bool {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return os.Geteuid() == 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err == nil && caps&(1<<bit) != 0
		}
	}
	return false
}

// bufferCheck holds the wanted receive buffer against what the kernel gives. CAP_NET_ADMIN may exceed rmem_max.
func bufferCheck(c flow.Config) console.Check {
	check := console.Check{State: "ok", What: "receive buffer"}
	if turnedOff(c.Netflow) && turnedOff(c.SFlow) {
		return console.Check{State: "off", What: "receive buffer", Reason: "flow.netflow and flow.sflow are off"}
	}
	if capable(capNetAdmin) {
		check.Reason = fmt.Sprintf("%d KiB can be forced: CAP_NET_ADMIN is there", c.ReceiveBufferBytes>>10)
		return check
	}
	const file = "/proc/sys/net/core/rmem_max"
	text, err := os.ReadFile(file)
	most, parse := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil || parse != nil:
		check.State, check.Reason = "warn", "cannot read net.core.rmem_max here"
	case most < c.ReceiveBufferBytes:
		check.State, check.Fix = "warn", fmt.Sprintf("sysctl -w net.core.rmem_max=%d", c.ReceiveBufferBytes)
		check.Reason = fmt.Sprintf("net.core.rmem_max is %d KiB, %d KiB are wanted: bursts may be lost", most>>10, c.ReceiveBufferBytes>>10)
	default:
		check.Reason = fmt.Sprintf("net.core.rmem_max allows %d KiB", c.ReceiveBufferBytes>>10)
	}
	return check
}

// portChecks tries the addresses that run would bind; only without a running monitor.
func portChecks(c *configs.Config) []console.Check {
	var checks []console.Check
	try := func(what, address string, explicit bool, bind func() (interface{ Close() error }, error)) {
		check := console.Check{State: "ok", What: what + " " + address, Reason: "free"}
		l, err := bind()
		if err == nil {
			l.Close()
		} else {
			check.State, check.Reason, check.Fix = "warn", err.Error(), "see `ss -lnup` and `ss -lntp` for who has it, or choose another"
			if explicit {
				check.State = "fail"
			}
		}
		checks = append(checks, check)
	}
	udp := func(key string, list []string) {
		for _, address := range list {
			if address == off {
				continue
			}
			try("udp", address, c.Explicit(key), func() (interface{ Close() error }, error) { return net.ListenPacket("udp", address) })
		}
	}
	udp("flow.netflow", c.Flow.Netflow)
	udp("flow.sflow", c.Flow.SFlow)
	if c.Console.Listen != console.Off {
		try("tcp", c.Console.Listen, true, func() (interface{ Close() error }, error) { return net.Listen("tcp", c.Console.Listen) })
	}
	return checks
}

// turnedOff says whether a list turns its part off.
func turnedOff(list []string) bool { return len(list) == 0 || len(list) == 1 && list[0] == off }
