package enrich

import (
	"net/netip"

	"github.com/wharfwatch/wharfwatch/flow"
)

// query asks who had an address over an interval; the other end and the ports matter for addresses of a host.
type query struct {
	addr, peer     flow.Addr
	first, last    int64
	port, peerPort uint16
	exporter       uint16
	proto          uint8
	engine         uint8 // 1 + the only engine that is meant, 0 any
}

// query asks for a side of a conn over an interval.
func (c *conn) query(side int, first, last int64) query {
	return query{
		addr: c.ends[side], peer: c.ends[1-side], port: c.ports[side], peerPort: c.ports[1-side], proto: c.proto,
		first: first, last: last, exporter: c.exporter,
	}
}

// verdict is what is known of one side of a connection.
type verdict struct {
	holder     uint32 // slot in the roster, 0 nobody
	method     Method
	confidence Confidence
	reason     Reason
	wait       patience
	ends       bool // the binding does: a longer flow may get another answer
	opened     int8 // the kernel saw who opened: 1 this side, 2 the other one, 0 it did not
}

// patience says whether an answer may become better when the engine's events have passed the flow.
type patience uint8

const (
	final    patience = iota
	mayBind           // a private address: wait if the other side has no container either
	willBind          // an address of a container network
)

// resolve asks the tiers in order; the first answer counts: the address index, what the host's kernel told of the connection
// (translations and sockets), published ports, listeners. Direct calls, because a list of functions would put every query on the heap.
func (t *Table) resolve(q query) verdict {
	if v := t.byAddress(q); v.holder != 0 {
		if len(t.shared) > 0 {
			v = t.share(q, v)
		}
		return v
	}
	place := t.nets.place(q.addr)
	if place == placeElsewhere {
		return t.byLabel(q, place)
	}
	v := t.byTrack(q, place)
	if v.holder != 0 || v.reason != ReasonNone {
		return v
	}
	if v := t.byPort(q, place); v.holder != 0 {
		return v
	}
	if v := t.byListener(q, place); v.holder != 0 {
		return v
	}
	return t.byLabel(q, place)
}

// byAddress asks the index. One holder over the whole interval is exact: first without, then with the tolerance for clocks that
// differ. One that held the address for a part only is likely; of several the one with most overlap is a guess.
func (t *Table) byAddress(q query) verdict {
	s := t.index.newest(q.addr)
	if s == nil {
		return verdict{}
	}
	if s.from <= q.first && q.last < s.to && t.sees(q, s.holder) {
		return verdict{holder: s.holder, method: MethodIP, confidence: Exact, ends: s.to != forever}
	}
	slack := int64(t.c.Addresses.Tolerance)
	hits := t.seen(q, t.index.find(q.addr, q.first, q.last, slack, t.hits[:0]))
	if len(hits) == 0 {
		return verdict{}
	}
	for _, widen := range [2]int64{0, slack} {
		n, one := 0, hit{}
		for _, h := range hits {
			if h.from-widen <= q.first && (h.to == forever || q.last <= h.to+widen) && (n == 0 || h.holder != one.holder) {
				n, one = n+1, h
			}
		}
		if n == 1 {
			return verdict{holder: one.holder, method: MethodIP, confidence: Exact, ends: one.to != forever}
		}
		if n > 1 {
			break
		}
	}
	best, most, others := hits[0].holder, int64(-1)<<62, false
	for _, h := range hits {
		others = others || h.holder != best
	}
	for _, h := range hits {
		if o := min(h.to, q.last) - max(h.from, q.first); o > most {
			best, most = h.holder, o
		}
	}
	if others {
		return verdict{holder: best, method: MethodReused, confidence: Low, ends: true}
	}
	return verdict{holder: best, method: MethodIP, confidence: Medium, ends: true}
}

// seen drops holders that the exporter does not see.
func (t *Table) seen(q query, hits []hit) []hit {
	kept := hits[:0]
	for _, h := range hits {
		if t.sees(q, h.holder) {
			kept = append(kept, h)
		}
	}
	return kept
}

// sees says whether an exporter sees the networks of the holder's engine.
func (t *Table) sees(q query, holder uint32) bool {
	if q.exporter < 2 && q.engine == 0 {
		return true
	}
	e := t.roster.members[holder].engine
	return (q.engine == 0 || q.engine == e+1) && t.watching(q.exporter, e)
}

// watching says whether an exporter sees an engine's host and networks.
func (t *Table) watching(x uint16, engine uint8) bool {
	return x < 2 || t.exporter.list[x].engines[engine/64]&(1<<(engine%64)) != 0
}

// byLabel says why there is nobody, and whether that may change.
func (t *Table) byLabel(q query, place int) (a verdict) {
	heard, behind := false, false
	for i := range t.engines {
		e := &t.engines[i]
		heard = heard || e.heard
		behind = behind || e.live && e.progress < q.first
	}
	switch {
	case place == placeHost:
		return t.byHost(q)
	case !heard:
		a.reason = ReasonNoEngine
	case place == placeGateway:
		a.reason = ReasonGateway
	case place == placeNetwork:
		a.reason = ReasonNotReady
		if behind {
			a.wait = willBind
		}
	default:
		a.reason = ReasonExternal
		if behind && place == placePrivate {
			a.wait = mayBind
		}
	}
	return a
}

// attribute decides both sides of a conn over its interval so far. It reports whether a better answer may be had by waiting.
func (t *Table) attribute(c *conn) bool {
	var wait [2]patience
	c.firm = true
	for side := range c.ends {
		a := t.resolve(c.query(side, c.start, c.last))
		t.give(c, side, a.holder)
		c.firm = c.firm && !a.ends
		if a.opened != 0 {
			c.evidence[side^int(a.opened-1)] |= sawRequest
		}
		if len(t.sights.doubts) > 0 && a.method == MethodIP && c.exporter == 0 && t.sights.doubted(c.ends[side], max(c.start, c.first[side])) {
			a.confidence = Low
		}
		c.how[side], c.sure[side], c.why[side], wait[side] = a.method, a.confidence, a.reason, a.wait
	}
	c.checked = t.index.moved
	c.class = c.classOf()
	c.bits &^= bitMoved
	if t.twin(c) {
		t.give(c, 0, 0)
		t.give(c, 1, 0)
		c.class = classTwin
		return false
	}
	if wait[0] == willBind || wait[1] == willBind || !c.owned() && wait[0]|wait[1] != final {
		c.bits |= bitMoved
		return true
	}
	return false
}

// give hands a side to a member and counts its connections.
func (t *Table) give(c *conn, side int, holder uint32) {
	if old := c.owner[side]; old != 0 {
		t.roster.members[old].conns--
	}
	if c.owner[side] = holder; holder != 0 {
		t.roster.members[holder].conns++
	}
}

// networks knows which addresses belong to container networks. An engine's bindings carry addresses and no masks, so that what is
// learned is the /24 (IPv4) or /64 (IPv6) around each address ever bound; Docker fills its networks from below. The first address
// there is taken for the bridge's unless a container has it. Larger or other networks can be configured.
type networks struct {
	host     addrMap // configured, or told by a kernel
	blocks   addrMap
	gateways addrMap // told with bindings: a bridge's own address, which is the host's too
	configs  []configured
}

// configured is a network named in the configuration, with the address that is taken for its gateway's.
type configured struct {
	net     flow.Prefix
	gateway flow.Addr
}

const maxBlocks = 1 << 16

// Where an address belongs.
const (
	placeElsewhere = iota
	placePrivate
	placeNetwork
	placeGateway
	placeHost
)

func newNetworks(c Addresses) (n networks) {
	for _, s := range c.Host {
		if a, err := flow.ParseAddr(s); err == nil {
			n.host.put(a, 0)
		}
	}
	for _, s := range c.Networks {
		if p, err := netip.ParsePrefix(s); err == nil {
			n.configs = append(n.configs, configured{flow.PrefixOf(p), flow.AddrOf(p.Masked().Addr().Next())})
		}
	}
	return n
}

// block is the network around an address, and the address's place in it.
func block(a flow.Addr) (flow.Addr, uint64) {
	if a.Is4() {
		return flow.Addr{Lo: a.Lo &^ 0xff}, a.Lo & 0xff
	}
	return flow.Addr{Hi: a.Hi}, a.Lo
}

func (n *networks) learn(a flow.Addr) {
	if b, _ := block(a); n.blocks.n < maxBlocks {
		n.blocks.put(b, 0)
	}
}

func (n *networks) place(a flow.Addr) int {
	if _, ok := n.gateways.get(a); ok {
		return placeGateway
	}
	if _, ok := n.host.get(a); ok {
		return placeHost
	}
	switch {
	case a.Is4() && uint8(a.Lo>>24) == 127, a == flow.Addr{Lo: 1}:
		return placeHost
	case a.Is4() && uint8(a.Lo>>24) >= 224, a.Hi>>56 == 0xff:
		return placeElsewhere // multicast and broadcast
	}
	b, at := block(a)
	if _, ok := n.blocks.get(b); ok {
		switch {
		case at == 1:
			return placeGateway
		case a.Is4() && at == 255:
			return placeElsewhere
		}
		return placeNetwork
	}
	for i := range n.configs {
		switch c := &n.configs[i]; {
		case a == c.gateway:
			return placeGateway
		case c.net.Contains(a):
			return placeNetwork
		}
	}
	if private(a) {
		return placePrivate
	}
	return placeElsewhere
}

// private says that an address is none of the public internet (RFC 1918, 6598, 4193, and link-local).
func private(a flow.Addr) bool {
	if !a.Is4() {
		return a.Hi>>57 == 0xfc>>1 || a.Hi>>54 == 0xfe80>>6
	}
	v := uint32(a.Lo)
	return v>>24 == 10 || v>>20 == 0xac1 || v>>16 == 0xc0a8 || v>>22 == 0x64400000>>22 || v>>16 == 0xa9fe
}
