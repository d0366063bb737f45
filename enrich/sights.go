package enrich

import (
	"strings"

	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	maxSights  = 4096 // that wait for their engine
	maxDoubts  = 4096 // addresses that somebody else spoke for
	maxSpeaks  = 16   // changes of the speaker that are remembered for one
	maxRouters = 4096
	maxBridges = 1024
	maxClaimed = 4096

	sightHold  = 2 * second   // before a contradiction counts: the engine's events may be on their way
	sightWait  = 20 * second  // the longest for an engine that does not say how far it is
	claimAgain = 600 * second // the same contradiction is said again after so long
)

// What a sight turned out to be.
const (
	sightAgrees   = iota // the address is the sender's, or it is none of a container network
	sightClaims          // it contradicts the inventory
	sightStranger        // nobody's address from nobody's hardware
	sightUnknown         // an engine was not heard in time: nothing is said
	numSights
)

var sightText = [numSights]string{"agrees", "claim", "stranger", "unknown"}

// sights are what packets said about who speaks for which address, and what came of it.
type sights struct {
	queue     []sighting
	doubts    map[flow.Addr]*doubt
	routers   map[flow.MAC]bool // hardware addresses that send for addresses outside: not of a container
	bridges   map[string]bool   // sources at which a container was seen with its own address
	claimed   map[claimKey]int64
	strangers strangers

	taken, dropped, claims, refused uint64
	judged                          [numSights]uint64
}

type sighting struct {
	s       flow.Sight
	source  string
	settled bool // doubt was noted already
}

type claimKey struct {
	kind ClaimKind
	mac  flow.MAC
	addr flow.Addr
}

// doubt is who spoke for an address lately: its holder, or somebody else.
type doubt struct {
	n      int // changes so far
	speaks [maxSpeaks]struct {
		at    int64
		wrong bool
	}
}

// Sights takes what a batch says of who spoke for which address. Nothing is said before Advance.
func (t *Table) Sights(source string, ss []flow.Sight) {
	x := &t.sights
	for i := range ss {
		x.taken++
		if len(x.queue) == maxSights {
			x.dropped++
			continue
		}
		x.queue = append(x.queue, sighting{s: ss[i], source: source})
	}
}

// answerSights judges what can be judged. A contradiction is doubted at once and said when the engine's events have passed it.
func (t *Table) answerSights(now int64, out Sink) {
	x, kept := &t.sights, 0
	for i := range x.queue {
		q := &x.queue[i]
		if q.s.Time >= now {
			x.queue[kept] = *q
			kept++
			continue
		}
		c, verdict := t.judge(q)
		if verdict == sightClaims {
			if !q.settled {
				q.settled = true
				t.doubt(q.s.Addr, q.s.Time, true)
			}
			heard := t.caughtUp(q.s.Time)
			if now < q.s.Time+sightHold || !heard && now < q.s.Time+sightWait {
				x.queue[kept] = *q
				kept++
				continue
			}
			if !heard {
				verdict = sightUnknown
			}
		}
		x.judged[verdict]++
		switch verdict {
		case sightClaims:
			t.claim(&c, out)
		case sightStranger:
			t.stranger(&q.s)
		case sightAgrees:
			if q.settled || x.doubts[q.s.Addr] != nil {
				t.doubt(q.s.Addr, q.s.Time, false)
			}
		}
	}
	clear(x.queue[kept:])
	x.queue = x.queue[:kept]
	t.answerStrangers(now, out)
}

// judge compares a sight with the inventory.
func (t *Table) judge(q *sighting) (c Claim, verdict int) {
	s, x := &q.s, &t.sights
	slack := int64(t.c.Addresses.Tolerance)
	c = Claim{Kind: ClaimSource, Time: s.Time, Addr: s.Addr, MAC: s.MAC, Told: s.Told, Peer: s.Peer, PeerPort: s.Port, Proto: s.Proto}
	if s.Kind == flow.SightARP {
		c.Kind = ClaimARP
	}
	sender, known := t.macs.holder(s.MAC, "", s.Time, slack)
	if known {
		c.Container, c.Engine = t.roster.members[sender.holder].c, t.engines[sender.engine].name
	}
	watched := s.Bridge && (x.bridges[q.source] || dockerBridge(q.source))
	switch s.Kind {
	case flow.SightOutside:
		if !known && !s.Bridge && len(x.routers) < maxRouters {
			if x.routers == nil {
				x.routers = map[flow.MAC]bool{}
			}
			x.routers[s.MAC] = true
		}
		return c, sightAgrees
	case flow.SightRouter, flow.SightDHCP:
		if c.Kind = ClaimRouter; s.Kind == flow.SightDHCP {
			c.Kind = ClaimDHCP
		}
		if !watched {
			return c, sightAgrees
		}
		return c, sightClaims
	}
	hits := t.index.find(s.Addr, s.Time, s.Time, slack, t.hits[:0])
	for _, h := range hits {
		if t.macs.has(s.MAC, h.holder, s.Time, slack) && (s.Told == s.MAC || t.macs.has(s.Told, h.holder, s.Time, slack)) {
			if s.Bridge && len(x.bridges) < maxBridges {
				if x.bridges == nil {
					x.bridges = map[string]bool{}
				}
				x.bridges[q.source] = true
			}
			return c, sightAgrees
		}
	}
	place := t.nets.place(s.Addr)
	switch {
	case len(hits) > 0:
		m := &t.roster.members[hits[0].holder]
		network := m.network(s.Addr)
		if len(m.macs) == 0 || !known && (!s.Bridge || x.routers[s.MAC]) {
			return c, sightAgrees // nothing to compare with, or the holder is behind a router
		}
		if _, same := t.macs.holder(s.MAC, network, s.Time, slack); known && !same {
			return c, sightAgrees // a container that routes between networks
		}
		c.Holder, c.Engine = m.c, t.engines[m.engine].name
		return c, sightClaims
	case (place == placeGateway || place == placeHost) && known: // a bridge takes another hardware address when ports come and go: nobody's is its own
		c.Kind = ClaimGateway
		return c, sightClaims
	case known && place == placeNetwork:
		return c, sightClaims
	case !known && watched && place != placeHost && place != placeGateway:
		return c, sightStranger
	}
	return c, sightAgrees
}

// network is where a member has, or had, an address.
func (m *member) network(addr flow.Addr) string {
	for _, k := range m.keys {
		if k.Addr == addr {
			return k.Network
		}
	}
	return ""
}

// dockerBridge tells the bridges that Docker makes and names itself: docker0, and br- with twelve digits of the network's id.
func dockerBridge(source string) bool {
	name, ok := strings.CutPrefix(source, "capture:")
	if id, own := strings.CutPrefix(name, "br-"); ok && own && len(id) == 12 {
		return strings.Trim(id, "0123456789abcdef") == ""
	}
	return ok && name == "docker0"
}

// caughtUp says whether every engine that is heard told everything up to at, and at least one is.
func (t *Table) caughtUp(at int64) bool {
	live := false
	for i := range t.engines {
		e := &t.engines[i]
		if e.live {
			live = true
			if e.progress < at {
				return false
			}
		}
	}
	return live
}

// claim says a contradiction, unless it was said lately.
func (t *Table) claim(c *Claim, out Sink) {
	x := &t.sights
	k := claimKey{c.Kind, c.MAC, c.Addr}
	if at, ok := x.claimed[k]; ok && c.Time < at+claimAgain {
		return
	}
	if x.claimed == nil {
		x.claimed = map[claimKey]int64{}
	}
	if len(x.claimed) >= maxClaimed {
		x.refused++
		return
	}
	x.claimed[k] = c.Time
	if c.Engine == "" {
		c.Engine = t.liveEngine()
	}
	x.claims++
	out.Claim(c)
}

// liveEngine is the name of the first engine that is heard.
func (t *Table) liveEngine() string {
	for i := range t.engines {
		if t.engines[i].live {
			return t.engines[i].name
		}
	}
	return ""
}

// doubt notes who speaks for an address from at on.
func (t *Table) doubt(addr flow.Addr, at int64, wrong bool) {
	x := &t.sights
	d := x.doubts[addr]
	if d == nil {
		if len(x.doubts) >= maxDoubts {
			return
		}
		if x.doubts == nil {
			x.doubts = map[flow.Addr]*doubt{}
		}
		d = &doubt{}
		x.doubts[addr] = d
	}
	if d.n > 0 {
		if last := &d.speaks[(d.n-1)%maxSpeaks]; last.wrong == wrong && at >= last.at {
			return
		}
	}
	d.speaks[d.n%maxSpeaks].at, d.speaks[d.n%maxSpeaks].wrong = at, wrong
	d.n++
	t.index.moved++ // verdicts may change
}

// doubted says whether somebody else spoke for the address when a conversation began.
func (x *sights) doubted(addr flow.Addr, at int64) bool {
	d := x.doubts[addr]
	if d == nil {
		return false
	}
	wrong, newest := false, int64(-1)<<62
	for i := range min(d.n, maxSpeaks) {
		if e := d.speaks[i]; e.at <= at && e.at >= newest {
			wrong, newest = e.wrong, e.at
		}
	}
	return wrong
}

// prune forgets, once a minute, what nobody asks for any more.
func (x *sights) prune(now int64) {
	for k, at := range x.claimed {
		if now > at+claimAgain {
			delete(x.claimed, k)
		}
	}
	for a, d := range x.doubts {
		if d.speaks[(d.n-1)%maxSpeaks].at < now-3600*second {
			delete(x.doubts, a)
		}
	}
	x.strangers.prune(now)
}
