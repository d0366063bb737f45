package baseline

import (
	"fmt"
	"path"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// setting is one thing in a container's posture that weakens its isolation.
type setting struct {
	kind    settingKind
	points  int    // 1 odd, 3 serious, 6 as good as root on the host
	subject string // stable
	text    string // for people, untrusted parts quoted
	field   string // of docker inspect
	value   any
	attack  []string
}

type settingKind uint8

const (
	plain settingKind = iota
	allPrivileges
	engineSocket
)

// escape is the points of a setting that alone gives the host away.
const escape = 6

// capabilityPoints are the capabilities worth a word. NET_RAW is one of Docker's defaults, naming it shows a wish at most.
// https://man7.org/linux/man-pages/man7/capabilities.7.html
var capabilityPoints = map[string]int{
	"ALL": escape, "SYS_ADMIN": 5, "SYS_MODULE": escape, "SYS_RAWIO": 5, "SYS_PTRACE": 3, "DAC_READ_SEARCH": 3, "BPF": 3, "PERFMON": 1,
	"NET_ADMIN": 3, "NET_RAW": 1, "SYS_BOOT": 1, "SYS_TIME": 1, "MAC_ADMIN": 3, "MAC_OVERRIDE": 3, "SYSLOG": 1, "CHECKPOINT_RESTORE": 1,
	"AUDIT_CONTROL": 3,
}

var capabilityAttack = map[string][]string{
	"ALL": {"T1611"}, "SYS_ADMIN": {"T1611"}, "SYS_MODULE": {"T1547.006", "T1611"}, "SYS_RAWIO": {"T1611"}, "SYS_PTRACE": {"T1055", "T1611"},
	"DAC_READ_SEARCH": {"T1611"}, "NET_ADMIN": {"T1557", "T1562.004"}, "NET_RAW": {"T1040"},
}

// settingsOf lists what weakens the container, always in the same order. The host's network is host-network's to say.
func settingsOf(c *enrich.Container) []setting {
	var out []setting
	p := &c.Posture
	add := func(points int, subject, text, field string, value any, attack ...string) {
		out = append(out, setting{points: points, subject: subject, text: text, field: field, value: value, attack: attack})
	}
	if p.Privileged {
		add(escape, "privileged", "all privileges", "HostConfig.Privileged", true, "T1611")
		out[len(out)-1].kind = allPrivileges
	}
	for _, name := range p.CapAdd {
		if points := capabilityPoints[name]; points > 0 && !p.Privileged {
			add(points, "cap="+name, "capability "+name, "HostConfig.CapAdd", name, capabilityAttack[name]...)
		}
	}
	if p.PidMode == "host" {
		add(3, "pid=host", "the host's processes", "HostConfig.PidMode", p.PidMode, "T1611")
	}
	if p.IpcMode == "host" {
		add(1, "ipc=host", "the host's shared memory", "HostConfig.IpcMode", p.IpcMode, "T1611")
	}
	if p.UTSMode == "host" {
		add(1, "uts=host", "the host's name", "HostConfig.UTSMode", p.UTSMode)
	}
	if p.UsernsMode == "host" {
		add(1, "userns=host", "no user namespace", "HostConfig.UsernsMode", p.UsernsMode, "T1611")
	}
	if p.CgroupnsMod == "host" {
		add(1, "cgroupns=host", "the host's cgroups", "HostConfig.CgroupnsMode", p.CgroupnsMod, "T1611")
	}
	for _, m := range p.Mounts {
		if s, ok := mountSetting(m); ok {
			out = append(out, s)
		}
	}
	for _, d := range p.Devices {
		add(devicePoints(d), "device="+d, fmt.Sprintf("device %q", d), "HostConfig.Devices", d, "T1611")
	}
	for _, o := range p.SecurityOpt {
		if points := securityPoints(o, p.Privileged); points > 0 {
			add(points, o, fmt.Sprintf("%q", o), "HostConfig.SecurityOpt", o, "T1562.001")
		}
	}
	if strings.HasPrefix(c.NetworkMode, "container:") {
		add(0, "network=container", "the network of another container", "HostConfig.NetworkMode", c.NetworkMode)
	}
	return out
}

// securityPoints: what switches a guard off. `--privileged` adds label=disable by itself, which is no second sign.
func securityPoints(o string, privileged bool) int {
	switch {
	case o == "label=disable":
		if privileged {
			return 0
		}
		return 1
	case o == "seccomp=unconfined", o == "apparmor=unconfined", o == "systempaths=unconfined":
		return 2
	}
	return 0
}

// devicePoints: disks, memory and kernel doors give the host away, the rest is odd.
func devicePoints(d string) int {
	for _, prefix := range []string{
		"/dev/mem", "/dev/kmem", "/dev/port", "/dev/sd", "/dev/nvme", "/dev/vd", "/dev/xvd", "/dev/dm-", "/dev/mapper",
		"/dev/disk", "/dev/mmcblk", "/dev/md", "/dev/loop", "cgroup rule a", "cgroup rule b",
	} {
		if strings.HasPrefix(d, prefix) {
			return 5
		}
	}
	return 1
}

// hostPaths: points for a mount that can be written to, and for one that cannot. A path stands for itself and, with a final /, for
// all below it; the longest that fits counts.
var hostPaths = map[string][2]int{
	"/":           {escape, 2},
	"/etc":        {5, 2},
	"/etc/cron":   {5, 1},
	"/etc/cron.d": {5, 1}, "/etc/passwd": {5, 1}, "/etc/shadow": {5, 3}, "/etc/sudoers": {5, 1}, "/etc/sudoers.d": {5, 1},
	"/etc/ssh/": {5, 3}, "/etc/systemd/": {5, 1}, "/etc/kubernetes/": {5, 3}, "/etc/docker/": {5, 1}, "/etc/ld.so.preload": {5, 1},
	"/proc": {4, 1}, "/proc/": {4, 1},
	"/sys": {3, 1}, "/sys/kernel/": {3, 1}, "/sys/fs/cgroup": {2, 0},
	"/dev":     {5, 2},
	"/var/run": {escape, 5}, "/run": {escape, 5},
	"/root": {4, 3}, "/root/": {1, 0}, "/root/.ssh": {4, 3}, "/root/.docker": {4, 3}, "/root/.kube": {4, 3}, "/root/.aws": {4, 3}, "/home": {4, 3},
	"/boot": {5, 1}, "/boot/": {5, 1},
	"/usr": {4, 0}, "/usr/bin": {4, 0}, "/usr/local/bin": {4, 0}, "/bin": {4, 0}, "/sbin": {4, 0}, "/usr/sbin": {4, 0}, "/lib": {4, 0},
	"/lib/modules": {3, 0}, "/lib/systemd/": {5, 0},
	"/var":            {4, 2},
	"/var/lib/docker": {5, 1}, "/var/lib/docker/": {5, 1}, "/var/lib/containerd": {5, 1}, "/var/lib/kubelet": {5, 3}, "/var/lib/kubelet/": {4, 3},
	"/var/log": {2, 0}, "/var/spool/cron": {5, 1}, "/opt": {1, 0}, "/mnt": {1, 0},
}

// sockets are the doors to engines. Mounting one read-only protects the file, not the engine behind it.
var sockets = []string{"docker.sock", "containerd.sock", "crio.sock", "podman.sock", "cri-dockerd.sock"}

func mountSetting(m enrich.Mount) (setting, bool) {
	source := path.Clean(m.Source)
	mode := "read-only"
	if m.RW {
		mode = "read-write"
	}
	s := setting{field: "Mounts", value: m, subject: "mount=" + source, attack: []string{"T1611"}}
	if !m.RW {
		s.subject += ":ro"
	}
	for _, socket := range sockets {
		if path.Base(source) == socket {
			s.kind, s.points = engineSocket, escape-1
			if m.RW {
				s.points = escape
			}
			s.text = fmt.Sprintf("the engine's socket %q (%s)", source, mode)
			s.attack = []string{"T1609", "T1611"}
			return s, true
		}
	}
	points, ok := pathPoints(source)
	if s.points = points[1]; m.RW {
		s.points = points[0]
	}
	s.text = fmt.Sprintf("host path %q (%s)", source, mode)
	return s, ok && s.points > 0
}

// pathPoints finds the path itself, else the nearest directory above that stands for all below it.
func pathPoints(source string) (points [2]int, ok bool) {
	if points, ok = hostPaths[source]; ok {
		return points, true
	}
	for dir := source; dir != "/"; dir = path.Dir(dir) {
		if points, ok = hostPaths[strings.TrimSuffix(dir, "/")+"/"]; ok && dir != "/" {
			return points, true
		}
	}
	return points, false
}
