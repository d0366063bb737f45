package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// vswitch is an Open vSwitch of the test's own, all in user space: ovs0 between the host and its uplink.
type vswitch struct {
	s          *scene
	dir        string
	database   string
	db, daemon *exec.Cmd
}

// openVSwitch puts a bridge into the way between the host and the router, and switches off what makes packets on a veth differ from those
// on a wire: segments of up to 64 KiB, and checksums that are still to be made.
func (s *scene) openVSwitch() *vswitch {
	s.t.Helper()
	dir := filepath.Join(s.dir, "ovs")
	v := &vswitch{s: s, dir: dir, database: "unix:" + filepath.Join(dir, "db.sock")}
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	conf := filepath.Join(dir, "conf.db")
	v.run(s.HostExec(s.t.Context(), "ovsdb-tool", "create", conf, "/usr/share/openvswitch/vswitch.ovsschema"))
	v.db = s.start("ovsdb-server", v.with(s.HostExec(s.t.Context(), "ovsdb-server", conf, "--remote=p"+v.database, "--no-chdir", "--unixctl="+filepath.Join(dir, "db.ctl"))))
	s.eventually(10*time.Second, "ovsdb-server listens", func() bool {
		_, err := os.Stat(strings.TrimPrefix(v.database, "unix:"))
		return err == nil
	})
	v.vsctl("--no-wait", "init")
	v.daemon = s.start("ovs-vswitchd", v.with(s.HostExec(s.t.Context(), "ovs-vswitchd", v.database, "--no-chdir", "--disable-system", "--unixctl="+filepath.Join(dir, "ctl"))))

	host := func(args ...string) { s.t.Helper(); v.run(s.HostExec(s.t.Context(), args...)) }
	for _, device := range []struct {
		in   func(context.Context, ...string) *exec.Cmd
		name string
	}{{s.HostExec, s.Uplink}, {s.RouterExec, s.RouterLink}} {
		v.run(device.in(s.t.Context(), "ethtool", "-K", device.name, "tx", "off", "tso", "off", "gso", "off", "gro", "off"))
	}
	host("ip", "addr", "flush", "dev", s.Uplink)
	host("sysctl", "-qw", "net.ipv6.conf."+s.Uplink+".disable_ipv6=1")
	v.vsctl("--timeout=20", "add-br", "ovs0", "--", "set", "bridge", "ovs0", "datapath_type=netdev", "--", "add-port", "ovs0", s.Uplink)
	host("ip", "link", "set", "ovs0", "up")
	host("ip", "addr", "add", s.HostAddr.String()+"/24", "dev", "ovs0")
	host("ip", "addr", "add", s.six(2).String()+"/64", "dev", "ovs0", "nodad")
	return v
}

// export makes the bridge export. IPFIX has every packet twice, where it comes in and where it goes out, unless one of the two is switched
// off, and the key that does so works the other way round than its manual says: see docs/howto/exporters.md.
// https://man7.org/linux/man-pages/man5/ovs-vswitchd.conf.db.5.html, tables IPFIX and sFlow
func (v *vswitch) export(ipfix, sflow *tapped) {
	v.vsctl("--", "set", "bridge", "ovs0", "ipfix=@i", "--", "--id=@i", "create", "IPFIX", fmt.Sprintf(`targets="%s"`, ipfix.address()),
		"sampling=1", "cache_active_timeout=8", "cache_max_flows=100000",
		"other_config:enable-output-sampling=true")
	v.vsctl("--", "set", "bridge", "ovs0", "sflow=@s", "--", "--id=@s", "create", "sFlow", "agent=lo", fmt.Sprintf(`targets="%s"`, sflow.address()),
		fmt.Sprintf("sampling=%d", samplingRate), "polling=5", "header=128")
}

// stop sends what is still in the exporters' caches, and ends the switch.
func (v *vswitch) stop() {
	v.vsctl("--timeout=20", "clear", "bridge", "ovs0", "ipfix", "sflow")
	for _, cmd := range []*exec.Cmd{v.daemon, v.db} {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}
}

func (v *vswitch) vsctl(args ...string) {
	v.s.t.Helper()
	v.run(v.s.HostExec(v.s.t.Context(), append([]string{"ovs-vsctl", "--db=" + v.database}, args...)...))
}

func (v *vswitch) run(cmd *exec.Cmd) {
	v.s.t.Helper()
	if out, err := v.with(cmd).CombinedOutput(); err != nil {
		v.s.t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
	}
}

// with keeps a command of Open vSwitch out of the system's folders.
func (v *vswitch) with(cmd *exec.Cmd) *exec.Cmd {
	for _, name := range []string{"OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"} {
		cmd.Env = append(cmd.Env, name+"="+v.dir)
	}
	return cmd
}
