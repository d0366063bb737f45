package enrich

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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
