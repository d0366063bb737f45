package enrich

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	maxStrangers  = 1024
	maxCalls      = 8             // peers listed of one
	strangerGrace = 20 * second   // an engine's list may still tell of it
	strangerPast  = 10 * second   // who held the address so lately leaves packets behind
	strangerKeep  = 3600 * second // without a sight
	aDay          = 86400 * second
)

// strangers are addresses of container networks that nobody holds and that send all the same: made past the engines, by ctr, nerdctl,
// unshare or an engine that nobody reads.
type strangers struct {
	at      map[flow.Addr]*stranger
	evicted uint64
}

type stranger struct {
	first, last int64 // sights, event time
	mac         flow.MAC
	told        int64 // day of the last word + 1, 0 none
	peers       []string
	sight       flow.Sight
}

// bridged says that an address belongs to a network whose gateway is one of a host's own addresses: a bridge of that host, and no
// network outside that containers have joined (macvlan).
func (t *Table) bridged(a flow.Addr) bool {
	b, _ := block(a)
	for i := range t.tracks.kernels {
		for _, h := range t.tracks.kernels[i].host {
			if hb, _ := block(h); hb == b && h != a {
				if _, ok := t.nets.gateways.get(h); ok {
					return true
				}
			}
		}
	}
	return false
}

// stranger notes one sight of an address that nobody holds.
func (t *Table) stranger(s *flow.Sight) {
	x := &t.sights.strangers
	g := x.at[s.Addr]
	if g == nil {
		if len(x.at) >= maxStrangers {
			x.evicted++
			return
		}
		if x.at == nil {
			x.at = map[flow.Addr]*stranger{}
		}
		g = &stranger{first: s.Time, last: s.Time}
		x.at[s.Addr] = g
	}
	g.first, g.last, g.sight = min(g.first, s.Time), max(g.last, s.Time), *s
	if s.MAC != 0 {
		g.mac = s.MAC
	}
	if s.Peer.IsZero() || len(g.peers) == maxCalls {
		return
	}
	if p := fmt.Sprintf("%s/%d", netip.AddrPortFrom(s.Peer.Netip(), s.Port), s.Proto); !slices.Contains(g.peers, p) {
		g.peers = append(g.peers, p)
	}
}

// answerStrangers says those whom no engine named in time, and forgets those whom one did.
func (t *Table) answerStrangers(now int64, out Sink) {
	x := &t.sights.strangers
	var due []flow.Addr
	for a, g := range x.at {
		if now >= g.first+strangerGrace && g.told <= g.last/aDay {
			due = append(due, a)
		}
	}
	slices.SortFunc(due, flow.Addr.Compare) // maps have no order, what is said has
	for _, a := range due {
		g := x.at[a]
		switch engine, ok := t.watcher(g.first); {
		case len(t.index.find(a, g.first, g.last, strangerPast, t.hits[:0])) > 0:
			delete(x.at, a)
		case !ok && now < g.first+3*strangerGrace: // an engine that comes back may know it
		case !ok:
			delete(x.at, a)
		default:
			g.told = g.last/aDay + 1
			t.sights.claims++
			out.Claim(&Claim{
				Kind: ClaimStranger, Time: now, Engine: engine, Addr: a, MAC: g.mac, Told: g.mac, First: g.first, Last: g.last,
				Peer: g.sight.Peer, PeerPort: g.sight.Port, Proto: g.sight.Proto, Peers: slices.Clone(g.peers),
			})
		}
	}
}

// watcher is an engine that was read without a break since at and has told everything up to the grace's end; all that are live must have.
// One from a file names only what was there when the file was written.
func (t *Table) watcher(at int64) (name string, ok bool) {
	for i := range t.engines {
		e := &t.engines[i]
		switch {
		case e.progress == forever || !e.heard:
		case !e.live || e.since > at || e.progress < at+strangerGrace/2:
			return "", false
		case name == "":
			name = e.name
		}
	}
	return name, name != ""
}

// prune forgets those that have been silent, and makes room where it is full.
func (x *strangers) prune(now int64) {
	for a, g := range x.at {
		if now > g.last+strangerKeep && (g.told == 0 || now/aDay >= g.told) {
			delete(x.at, a)
		}
	}
}
