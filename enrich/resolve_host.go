package enrich

import "github.com/wharfwatch/wharfwatch/flow"

// tracked says that a side's verdict rests on the kernel's word about one connection: the tuple may be somebody else's next time.
func (c *conn) tracked() bool {
	return c.how[0] == MethodNAT || c.how[1] == MethodNAT || c.how[0] == MethodSocket || c.how[1] == MethodSocket
}

// match is one track that a query may be about.
type match struct {
	track uint32
	side  uint8 // the end that was asked for: 0 the one that opened
}

// byTrack asks what the kernels told of the connection: whom a translation hides, or whose socket it is. An address of the host whose
// connection is known but not its owner gives the reason instead.
func (t *Table) byTrack(q query, place int) verdict {
	x := &t.tracks
	if x.used == 0 || q.proto == 0 {
		return verdict{}
	}
	var found [8]match
	slack := int64(t.c.Addresses.Tolerance)
	hits := t.tracksOf(q, slack, found[:0])
	if len(hits) == 0 {
		return verdict{}
	}
	for _, widen := range [2]int64{0, slack} {
		n, one := 0, match{}
		for _, h := range hits {
			e := &x.entries[h.track]
			if e.from-widen <= q.first && (e.to == forever || q.last <= e.to+widen) && (n == 0 || !t.sameEnd(h, one)) {
				n, one = n+1, h
			}
		}
		if n == 1 {
			return t.behind(q, one, place)
		}
		if n > 1 {
			break
		}
	}
	best, most, others := hits[0], int64(-1)<<62, false
	for _, h := range hits {
		others = others || !t.sameEnd(h, hits[0])
		if e := &x.entries[h.track]; min(e.to, q.last)-max(e.from, q.first) > most {
			best, most = h, min(e.to, q.last)-max(e.from, q.first)
		}
	}
	v := t.behind(q, best, place)
	if v.holder == 0 {
		return v
	}
	v.ends = true
	if v.confidence = min(v.confidence, Medium); others {
		v.method, v.confidence = MethodReused, Low
	}
	return v
}

// tracksOf collects the tracks of a query's tuple, either way round, that overlap its interval, the exporter's engines only.
func (t *Table) tracksOf(q query, slack int64, hits []match) []match {
	x := &t.tracks
	mask := uint32(len(x.slots) - 1)
	h := x.hash(Tuple{q.addr, q.peer, q.port, q.peerPort}, q.proto)
	for at, n := h&mask, 0; x.slots[at].ref != 0 && n < maxRun; at, n = (at+1)&mask, n+1 {
		s := x.slots[at]
		if s.tag != h {
			continue
		}
		e := &x.entries[s.ref>>1]
		v, side := e.view(s.ref&1), uint8(0)
		if v.Src != q.addr || v.SrcPort != q.port || v.Dst != q.peer || v.DstPort != q.peerPort {
			if v.Src != q.peer || v.SrcPort != q.peerPort || v.Dst != q.addr || v.DstPort != q.port {
				continue
			}
			side = 1
		}
		if e.proto != q.proto || e.from-slack > q.last || e.to != forever && e.to+slack < q.first || !t.watching(q.exporter, e.engine) {
			continue
		}
		if len(hits) == cap(hits) {
			break
		}
		hits = append(hits, match{s.ref >> 1, side})
	}
	return hits
}

// end is what really stands at a match's side, translations undone.
func (t *Table) end(h match) (flow.Addr, uint16) {
	e := &t.tracks.entries[h.track]
	if h.side == 0 {
		return e.orig.Src, e.orig.SrcPort
	}
	return e.reply.Src, e.reply.SrcPort
}

func (t *Table) sameEnd(a, b match) bool {
	ea, eb := &t.tracks.entries[a.track], &t.tracks.entries[b.track]
	aa, _ := t.end(a)
	ab, _ := t.end(b)
	return aa == ab && ea.engine == eb.engine && t.tracks.owners.list[ea.owner[a.side]].ownerKey == t.tracks.owners.list[eb.owner[b.side]].ownerKey
}

// behind says who stands at a match's side: the container at the address before translation, or the owner of the host's socket.
func (t *Table) behind(q query, h match, place int) verdict {
	e := &t.tracks.entries[h.track]
	addr, port := t.end(h)
	var v verdict
	switch {
	case addr != q.addr && e.owner[h.side] == 0:
		v = t.byAddress(query{
			addr: addr, port: port, peer: q.peer, peerPort: q.peerPort, proto: q.proto, engine: e.engine + 1,
			first: max(q.first, e.from), last: max(q.first, e.from, min(q.last, e.to)),
		})
		if v.holder == 0 {
			break
		}
		if v.method == MethodIP {
			v.method = MethodNAT
		}
		if len(t.shared) > 0 && len(t.sharers(q, v.holder, nil)) > 0 {
			v.method, v.confidence = MethodSharedNetns, min(v.confidence, Medium)
		}
	case e.owner[h.side] != 0:
		if v = t.byOwner(e.owner[h.side], place); v.holder != 0 && e.flags&(TrackAsked0<<h.side) == 0 { // no socket of the host: one in a namespace of its own
			v.method = MethodSharedSocket
		}
		if e.flags&(TrackListens0<<h.side) != 0 && v.holder != 0 {
			v.method, v.confidence = MethodListener, High
		}
	case e.flags&(TrackAsked0<<h.side) != 0 && place == placeHost:
		return verdict{reason: ReasonShortSocket}
	}
	if v.holder == 0 {
		return v
	}
	if e.sure > q.first+int64(t.c.Addresses.Tolerance) || t.lost(e.engine, q) {
		v.confidence = min(v.confidence, High)
	}
	v.ends, v.opened = v.ends || e.to != forever, 1+int8(h.side)
	return v
}

// byOwner names the owner of a socket. What a process of the host says from a bridge's address may be docker-proxy's, for somebody else.
func (t *Table) byOwner(owner uint32, place int) verdict {
	o := t.tracks.owners.list[owner]
	if o.Container != "" {
		i, ok := t.roster.slots[memberID{t.engines[o.engine].name, o.Container}]
		if !ok {
			return verdict{}
		}
		return verdict{holder: i, method: MethodSocket, confidence: Exact}
	}
	if place == placeGateway {
		return verdict{reason: ReasonGateway}
	}
	if i := t.hostUnit(o.engine, o.Unit); i != 0 {
		return verdict{holder: i, method: MethodSocket, confidence: Exact}
	}
	return verdict{}
}

// hostUnit finds or makes the member that stands for a unit of an engine's host: workload host:<engine>/<unit>.
func (t *Table) hostUnit(engine uint8, unit string) uint32 {
	name := t.engines[engine].name
	i, ok := t.roster.slots[memberID{name, hostMember + unit}]
	if !ok {
		if i = t.roster.putAs(hostMember+unit, &Container{Name: unit, Engine: name, Workload: "host:" + name + "/" + unit, NetworkMode: "host", Running: true}, engine); i == 0 {
			return 0
		}
	}
	t.roster.members[i].gone = max(t.now, 1) // it is forgotten like the dead, when nothing names it any more
	return i
}

const hostMember = "host:" // before the unit, where containers have their id

// byPort asks for published ports of a host's address: flows that are older than the kernel's word, and docker-proxy's.
func (t *Table) byPort(q query, place int) verdict {
	if place != placeHost || q.port == 0 || q.proto == 0 {
		return verdict{}
	}
	slack := int64(t.c.Addresses.Tolerance)
	v := verdict{}
	for _, p := range t.ports.at[service(q.port, q.proto)] {
		if p.from-slack > q.first || p.to != forever && p.to+slack < q.last || p.addr != q.addr && !p.addr.IsZero() || !t.sees(q, p.holder) {
			continue
		}
		if v.holder != 0 && v.holder != p.holder {
			return verdict{} // two hosts publish the same port, and nothing says which of them has the address
		}
		v = verdict{holder: p.holder, method: MethodPort, confidence: High, ends: p.to != forever}
	}
	return v
}

// byListener asks for sockets of the host that waited at this port.
func (t *Table) byListener(q query, place int) verdict {
	if t.tracks.ears == 0 || place != placeHost || q.proto == 0 {
		return verdict{}
	}
	for i := range t.tracks.kernels {
		k := &t.tracks.kernels[i]
		if !k.heard || !t.watching(q.exporter, uint8(i)) || !k.has(q.addr) {
			continue
		}
		if o := t.tracks.heardAt(uint8(i), q.addr, q.port, q.proto, q.first, q.last, int64(t.c.Addresses.Tolerance)); o != 0 {
			if v := t.byOwner(o, place); v.holder != 0 {
				v.method, v.confidence, v.ends = MethodListener, High, true
				return v
			}
		}
	}
	return verdict{}
}

// byHost says why nobody is known behind an address of a host, and whether that may change: its kernel may not have been heard up to
// the flow.
func (t *Table) byHost(q query) (a verdict) {
	if loopback(q.addr) {
		return verdict{reason: ReasonHost}
	}
	a.reason = ReasonNoNATEntry
	for i := range t.tracks.kernels {
		k := &t.tracks.kernels[i]
		if !k.heard || !t.watching(q.exporter, uint8(i)) {
			continue
		}
		if k.live && k.progress < q.first+int64(t.c.Addresses.Tolerance) {
			a.wait = willBind
		}
		if t.lost(uint8(i), q) {
			a.reason = ReasonGap
		}
	}
	return a
}

func loopback(a flow.Addr) bool { return a.Is4() && uint8(a.Lo>>24) == 127 || a == flow.Addr{Lo: 1} }

// lost says that a kernel's events were lost while a flow went on.
func (t *Table) lost(engine uint8, q query) bool {
	for _, g := range t.tracks.kernels[engine].gaps {
		if g.from <= q.last && q.first <= g.to {
			return true
		}
	}
	return false
}

// has says that an address is the kernel's host's own; until it told them, any is taken for it.
func (k *kernelState) has(a flow.Addr) bool {
	for _, h := range k.host {
		if h == a {
			return true
		}
	}
	return len(k.host) == 0
}
