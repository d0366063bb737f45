package enrich

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wharfwatch/wharfwatch/flow"
)

// sharing returns where to ask for sockets of an address whose namespace several containers share; nil for all others.
func (w *watch) sharing(a flow.Addr, shed bool) *netlink {
	if w.sandboxes == nil || shed {
		return nil
	}
	h, ok := w.sandboxes.at(a)
	if !ok {
		return nil
	}
	return w.within(h)
}

// socket asks whose socket has this end; at the answering side it may be one that listens.
func (w *watch) socket(n *netlink, proto uint8, end Tuple, server bool) (who Owner, waits bool) {
	if proto != flow.TCP && proto != flow.UDP {
		return Owner{}, false
	}
	family := uint8(unix.AF_INET)
	if !end.Src.Is4() {
		family = unix.AF_INET6
	}
	w.m.asked.Inc()
	n.seq++
	w.buf = sockRequest(w.buf, n.seq, proto, family, end.Src, end.Dst, end.SrcPort, end.DstPort, false, ^uint32(0))
	_, err := n.ask(w.buf, false, func(kind, _ uint16, payload []byte) {
		s, ok := parseSocket(payload)
		if !ok || kind != sockDiagByFamily || !s.owns(end.Src, end.SrcPort) || s.state == tcpListen && !server {
			return
		}
		who, waits = w.owner(&s), s.state == tcpListen
	})
	if err != nil && !errors.Is(err, errGone) {
		w.log.Debug("a socket could not be asked for", "err", err)
	}
	if who == (Owner{}) {
		w.m.missed.Inc()
	}
	return who, waits
}

// count reads the counters of all connections, and returns how long that took.
func (w *watch) count(now int64) time.Duration {
	began := time.Now()
	w.flows.sweep++
	whole, err := w.dumps.ask(w.dumps.conntrackDump(), true, func(kind, _ uint16, payload []byte) {
		if c, ok := parseConntrack(payload); ok && kind == ctNew {
			w.flows.take(&c, now, false)
		}
	})
	if err != nil {
		w.m.dumpErrors.Inc()
		w.log.Warn("the counters of connections could not be read", "err", err)
	} else if whole {
		w.flows.swept()
	}
	w.flows.send(now)
	return time.Since(began)
}

// owner names who has a socket.
func (w *watch) owner(s *socket) Owner {
	if w.search != nil {
		return w.search.owner(s.inode)
	}
	return w.groups.owner(s.cgroup)
}
