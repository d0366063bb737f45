package enrich

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// inside is a socket for questions in a sandbox's namespace. It stays bound to it.
type inside struct {
	*netlink // nil: it could not be opened
	tried    time.Time
}

const (
	maxInside  = 256
	retryEvery = 10 * time.Second
)

// within returns the socket for questions in a shared namespace, nil where it cannot be entered.
func (w *watch) within(h sandbox) *netlink {
	n, ok := w.shared[h]
	if ok && (n.netlink != nil || time.Since(n.tried) < retryEvery) {
		return n.netlink
	}
	if !ok && len(w.shared) >= maxInside {
		for old, n := range w.shared { // any of them: it is opened again when it is needed
			if n.netlink != nil {
				n.close()
			}
			delete(w.shared, old)
			break
		}
	}
	n.tried = time.Now()
	var err error
	if n.netlink, err = openInside(w.groups.path(h.container)); err != nil {
		w.log.Warn("a shared network namespace cannot be entered: its containers cannot be told apart", "container", h.container, "err", err)
	}
	w.shared[h] = n
	return n.netlink
}

// openInside opens a socket in the network namespace of a control group's first process. It needs CAP_SYS_ADMIN, and as much access to
// the process as ptrace does.
func openInside(group string) (n *netlink, err error) {
	if group == "" {
		return nil, fmt.Errorf("its control group is not known")
	}
	pids, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	pid, _, _ := strings.Cut(string(pids), "\n")
	if pid == "" {
		return nil, fmt.Errorf("no process in %s", group)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = enter("/proc/" + pid + "/ns/net"); err == nil {
			n, err = openNetlink(unix.NETLINK_SOCK_DIAG, 0, 1<<20, time.Second)
		}
	}()
	<-done
	return n, err
}

// path is the directory of a container's control group, "" where it has none.
func (g *groups) path(container string) string {
	if p := g.paths[container]; p != "" {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	if g.root != "" {
		g.walk()
	}
	return g.paths[container]
}
