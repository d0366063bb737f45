package enrich

import (
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wharfwatch/wharfwatch/flow"
)

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
