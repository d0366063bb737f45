package enrich

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// readSysctl reads a setting of the thread's network namespace, "" where there is none.
func readSysctl(name string) string {
	text, err := os.ReadFile("/proc/sys/net/netfilter/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// CheckKernel says whether the kernel of an engine's host can be followed, and how well.
func CheckKernel(c EngineConfig) []KernelCheck {
	done := make(chan []KernelCheck, 1)
	go func() {
		if c.Namespace != "" {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		}
		done <- checkKernel(c.Namespace)
	}()
	return <-done
}

func checkKernel(namespace string) []KernelCheck {
	fail := func(err error, fix string) []KernelCheck {
		return []KernelCheck{{State: "warn", What: "connection tracking", Reason: err.Error(), Fix: fix}}
	}
	if err := enter(namespace); err != nil {
		return fail(err, "run as root, or with CAP_SYS_ADMIN")
	}
	n, err := openNetlink(unix.NETLINK_NETFILTER, 1, 1<<16, time.Second)
	if errors.Is(err, unix.EPERM) {
		return fail(err, "run as root, or setcap cap_net_admin+ep on the binary, or --conntrack off")
	}
	if err != nil {
		return fail(err, "modprobe nf_conntrack_netlink, or --conntrack off")
	}
	n.close()
	return judgeSysctls(readSysctl("nf_conntrack_events"), readSysctl("nf_conntrack_acct"))
}
