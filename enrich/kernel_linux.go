package enrich

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wharfwatch/wharfwatch/flow"
)

// watch is one run of a Kernel. Its goroutine owns everything here.
type watch struct {
	*Kernel
	emit   func(*Tracks)
	events *netlink
	dumps  *netlink
	socks  *netlink
	groups *groups
	search *search            // where the kernel tells no groups
	local  map[flow.Addr]bool // the host's own, all of its interfaces
	ears   map[ear]Owner      // sockets that listen, as told
	out    []Track
	buf    []byte // of a question
	quiet  bool   // the kernel tells no events: dumps must do
	passed int64  // everything before has been read, ns
	flows  *counting
	shared map[sandbox]inside
}

type ear struct {
	addr  flow.Addr
	port  uint16
	proto uint8
}

const (
	readWait     = 100 * time.Millisecond
	tellProgress = 250 * time.Millisecond
	tellMost     = 512 // tracks told at once
	addrsEvery   = 5 * time.Second
	earsEvery    = time.Second
	pollEvery    = 2 * time.Second // a kernel without events
	countEvery   = 5 * time.Second // at least, and 50 times as long as it takes
	calmEvents   = 2000            // read without a pause before sockets are no longer asked for
)

// Run follows the kernel until ctx ends, and then returns nil; an error says what this process may not do. All calls of emit come from
// one goroutine. emit may block: the kernel's buffer fills meanwhile, and what it then drops is told as MarkLost and dumped again.
func (k *Kernel) Run(ctx context.Context, emit func(*Tracks)) error {
	done := make(chan error, 1)
	go func() {
		if k.namespace != "" {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		}
		done <- k.run(ctx, emit)
	}()
	return <-done
}

func (k *Kernel) run(ctx context.Context, emit func(*Tracks)) error {
	w := &watch{Kernel: k, flows: k.flows, emit: emit, groups: newGroups(), ears: map[ear]Owner{}, shared: map[sandbox]inside{}}
	if err := enter(k.namespace); err != nil {
		return err
	}
	if w.groups.root == "" || k.legacy {
		w.search = newSearch()
	}
	if err := w.open(); err != nil {
		return err
	}
	defer w.close()
	w.quiet, w.passed = readSysctl("nf_conntrack_events") == "0", time.Now().UnixNano()
	w.addresses()
	w.listeners()
	w.dump(0)
	if w.flows != nil && readSysctl("nf_conntrack_acct") != "1" {
		w.flows = nil
	}
	w.loop(ctx)
	w.tell(&Tracks{Mark: MarkBlind})
	return nil
}

// enter moves the thread, which must be locked, into a network namespace.
func enter(namespace string) error {
	if namespace == "" {
		return nil
	}
	fd, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", namespace, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", namespace, err)
	}
	return nil
}

func (w *watch) open() (err error) {
	const created, destroyed = 1, 4 // groups of connections, https://github.com/torvalds/linux/blob/master/include/uapi/linux/netfilter/nfnetlink_compat.h
	if w.events, err = openNetlink(unix.NETLINK_NETFILTER, created|destroyed, w.receive, readWait); err != nil {
		return fmt.Errorf("connection events: %w", err)
	}
	if w.dumps, err = openNetlink(unix.NETLINK_NETFILTER, 0, w.receive, 5*time.Second); err == nil {
		w.socks, err = openNetlink(unix.NETLINK_SOCK_DIAG, 0, 1<<20, time.Second)
	}
	if err != nil {
		w.close()
	}
	return err
}

func (w *watch) close() {
	for _, n := range []*netlink{w.events, w.dumps, w.socks} {
		if n != nil {
			n.close()
		}
	}
	for _, n := range w.shared {
		if n.netlink != nil {
			n.close()
		}
	}
}

// loop reads events; in between it says how far it has come.
func (w *watch) loop(ctx context.Context) {
	told, addrs, ears, polled := time.Now(), time.Now(), time.Now(), time.Now()
	counted, every := time.Time{}, countEvery
	busy := 0 // events read since there was a pause
	for ctx.Err() == nil {
		flags := 0
		if len(w.out) > 0 {
			flags = unix.MSG_DONTWAIT
		}
		b, err := w.events.read(flags)
		switch {
		case err == nil:
			busy += w.take(b, busy > calmEvents)
		case errors.Is(err, errNobody):
			busy = 0
			if !w.quiet {
				w.passed = time.Now().UnixNano() - int64(time.Millisecond)
			}
			w.flush()
		case errors.Is(err, unix.ENOBUFS):
			w.m.overflows.Inc()
			w.flush()
			w.dump(w.passed)
		default:
			w.log.Error("connection events cannot be read", "err", err)
			time.Sleep(readWait)
		}
		if len(w.out) >= tellMost {
			w.flush()
		}
		now := time.Now()
		if now.Sub(told) >= tellProgress {
			told = now
			w.tell(&Tracks{Entries: w.taken()})
		}
		if now.Sub(addrs) >= addrsEvery {
			addrs = now
			w.addresses()
		}
		if now.Sub(ears) >= earsEvery {
			ears = now
			w.listeners()
		}
		if w.flows != nil && now.Sub(counted) >= every {
			counted, every = now, max(countEvery, 50*w.count(now.UnixNano()))
		}
		if w.quiet && now.Sub(polled) >= pollEvery {
			polled = now
			w.dump(0)
		}
	}
	w.flush()
}

// take reads messages of the event socket. Under a flood (shed) sockets are not asked for, and translations are still told.
func (w *watch) take(b []byte, shed bool) (n int) {
	now := time.Now().UnixNano()
	for {
		kind, _, _, payload, rest, ok := netlinkMessage(b)
		if !ok {
			return n
		}
		b = rest
		n++
		w.m.events.Inc()
		c, ok := parseConntrack(payload)
		switch {
		case !ok:
			w.m.malformed.Inc()
		case kind == ctNew:
			w.track(&c, TrackBegin, now, shed)
			if w.flows != nil {
				w.flows.begin(&c, now)
			}
		case kind == ctDelete:
			if w.flows != nil {
				w.flows.take(&c, now, true)
			}
			if c.orig != c.reply.reverse() || w.local[c.orig.Src] || w.local[c.reply.Src] || w.sandboxes != nil {
				w.out = append(w.out, Track{Time: orNow(c.stop, now), Orig: c.orig, Reply: c.reply, Kind: TrackEnd, Proto: c.proto})
			}
		}
	}
}

func orNow(t, now int64) int64 {
	if t == 0 {
		return now
	}
	return t
}

// track tells a connection that is translated or whose ends are the host's.
func (w *watch) track(c *conntrack, kind TrackKind, now int64, shed bool) {
	k := Track{Time: orNow(c.start, now), Orig: c.orig, Reply: c.reply, Kind: kind, Proto: c.proto}
	if kind == TrackFound && c.start != 0 {
		k.Flags |= TrackSince
	}
	translated := k.translated()
	if !translated && loopback(c.orig.Src) && loopback(c.orig.Dst) {
		return
	}
	for side, end := range [2]Tuple{c.orig, c.reply} {
		ask := w.socks
		if w.local[end.Src] {
			k.Flags |= TrackAsked0 << side
		} else if ask = w.sharing(end.Src, shed); ask == nil {
			continue
		}
		if shed {
			w.m.shed.Inc()
			continue
		}
		var waits bool
		if k.Owner[side], waits = w.socket(ask, c.proto, end, side == 1); waits {
			k.Flags |= TrackListens0 << side
		}
	}
	if translated || k.Flags&(TrackAsked0|TrackAsked1) != 0 || k.Owner != [2]Owner{} {
		w.out = append(w.out, k)
	}
}

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

// dump tells all connections; lostSince, when not 0, is when events began to be missing.
func (w *watch) dump(lostSince int64) {
	now := time.Now().UnixNano()
	if lostSince != 0 {
		w.tell(&Tracks{Mark: MarkLost, From: lostSince, Time: now})
	}
	w.tell(&Tracks{Mark: MarkDump, Time: now})
	whole, err := w.dumps.ask(w.dumps.conntrackDump(), true, func(kind, _ uint16, payload []byte) {
		if c, ok := parseConntrack(payload); ok && kind == ctNew {
			w.track(&c, TrackFound, now, false)
		} else {
			w.m.malformed.Inc()
		}
		if len(w.out) >= tellMost {
			w.flush()
		}
	})
	w.flush()
	w.m.dumps.Inc()
	if err != nil {
		w.m.dumpErrors.Inc()
		w.log.Warn("connections could not be dumped: those that were there before are not known", "err", err)
	} else if whole {
		w.tell(&Tracks{Mark: MarkDumped, Time: now})
	}
	if w.quiet {
		w.passed = now
	}
}

// addresses tells the host's own when they changed.
func (w *watch) addresses() {
	links, err := net.Interfaces()
	if err != nil {
		w.log.Warn("this host's addresses cannot be read", "err", err)
		return
	}
	local := map[flow.Addr]bool{}
	var captured []netip.Prefix
	for i := range links {
		found, err := links[i].Addrs()
		if err != nil {
			continue // gone meanwhile
		}
		for _, a := range found {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			local[flow.AddrOf(p.Addr().WithZone(""))] = true
			if w.flows != nil && slices.ContainsFunc(w.flows.patterns, func(pattern string) bool { ok, _ := path.Match(pattern, links[i].Name); return ok }) {
				captured = append(captured, p.Masked())
			}
		}
	}
	if w.flows != nil {
		w.flows.skip = captured
	}
	if maps.Equal(local, w.local) {
		return
	}
	w.local = local
	var list []flow.Addr
	for a := range local {
		if !loopback(a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, flow.Addr.Compare)
	w.flush()
	w.tell(&Tracks{Mark: MarkHost, Host: list})
}

// listeners tells which sockets began and ceased to listen: TCP in state LISTEN, UDP without a peer.
func (w *watch) listeners() {
	now := make(map[ear]Owner, len(w.ears))
	for _, proto := range []uint8{flow.TCP, flow.UDP} {
		states := uint32(1 << tcpListen)
		if proto == flow.UDP {
			states = 1 << udpUnconnected
		}
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			w.socks.seq++
			w.buf = sockRequest(w.buf, w.socks.seq, proto, family, flow.Addr{}, flow.Addr{}, 0, 0, true, states)
			_, err := w.socks.ask(w.buf, true, func(kind, _ uint16, payload []byte) {
				s, ok := parseSocket(payload)
				if !ok || kind != sockDiagByFamily || s.localPort == 0 || s.remotePort != 0 || loopback(s.local) || len(now) >= maxListens {
					return
				}
				if who := w.owner(&s); who != (Owner{}) {
					now[ear{s.local, s.localPort, proto}] = who
				}
			})
			if err != nil {
				w.log.Debug("listening sockets could not be asked for", "err", err)
				return
			}
		}
	}
	at := time.Now().UnixNano()
	changed := func(e ear, who Owner, kind TrackKind) {
		w.out = append(w.out, Track{Time: at, Kind: kind, Proto: e.proto, Orig: Tuple{Dst: e.addr, DstPort: e.port}, Owner: [2]Owner{1: who}})
	}
	for e, who := range w.ears {
		if _, still := now[e]; !still {
			changed(e, who, TrackDeaf)
		}
	}
	for e, who := range now {
		if w.ears[e] != who {
			changed(e, who, TrackListen)
		}
	}
	w.ears = now
}

const udpUnconnected = 7 // TCP_CLOSE stands for it

func (w *watch) taken() []Track {
	out := w.out
	w.out = nil
	return out
}

func (w *watch) flush() {
	if len(w.out) > 0 {
		w.tell(&Tracks{Entries: w.taken()})
	}
}

func (w *watch) tell(b *Tracks) {
	b.Engine = w.engine
	if b.Time == 0 {
		if b.Time = w.passed; b.Mark != MarkNone {
			b.Time = time.Now().UnixNano()
		}
	}
	w.emit(b)
}
