package baseline

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

const topPeers = 8

// egressBin is what one workload sent in five minutes. Its first two cache lines are all that a flow to a known destination touches.
type egressBin struct {
	bytes   uint64
	sampled bool
	n       uint8
	marks   [topPeers]uint32 // fingerprints of the destinations
	counts  [topPeers]uint64 // bytes sent to each
	top     [topPeers]egressPeer
}

// ranked lists the destinations, the largest first. It is not empty when bytes is not 0.
func (b *egressBin) ranked() []egressPeer {
	out := slices.Clone(b.top[:b.n])
	for i := range out {
		out[i].bytes = b.counts[i]
	}
	slices.SortFunc(out, func(x, y egressPeer) int {
		return cmp.Or(cmp.Compare(y.bytes, x.bytes), x.addr.Compare(y.addr), cmp.Compare(x.port, y.port))
	})
	return out
}

// egressPeer is one destination. bytes may be too high by at most over (Space-Saving, Metwally, Agrawal, El Abbadi 2005).
type egressPeer struct {
	addr        flow.Addr
	port        uint16
	proto       uint8
	method      enrich.Method
	confidence  enrich.Confidence
	name        string
	container   *enrich.Container
	bytes, over uint64 // bytes is filled in by ranked
}

func (b *egressBin) reset() { *b = egressBin{} }

// add counts a flow. With all places taken, the smallest destination gives its place and its count.
func (b *egressBin) add(f *enrich.Flow) {
	b.bytes += f.Sent
	b.sampled = b.sampled || f.Sampled
	port := egressPort(f)
	mark := peerMark(f.Peer, port)
	at := b.place(mark)
	p := &b.top[at]
	if at < int(b.n) && p.addr == f.Peer && p.port == port {
		b.counts[at] += f.Sent
		if p.container != f.Container {
			p.container = f.Container
		}
		return
	}
	over := b.counts[at]
	if at == int(b.n) {
		b.n++
	}
	b.marks[at], b.counts[at] = mark, over+f.Sent
	*p = egressPeer{
		addr: f.Peer, port: port, proto: f.Proto, method: f.Method, confidence: f.Confidence,
		name: f.PeerName, container: f.Container, over: over,
	}
}

// place is where a destination stands or would go: a free place, else that of the smallest.
func (b *egressBin) place(mark uint32) int {
	for i := range b.marks[:b.n] {
		if b.marks[i] == mark {
			return i
		}
	}
	if b.n < topPeers {
		return int(b.n)
	}
	least := 0
	for i, n := range b.counts {
		if n < b.counts[least] {
			least = i
		}
	}
	return least
}

// egressPort is the port that names a destination: 0 where the peer opened the connection from one that is another each time.
func egressPort(f *enrich.Flow) uint16 {
	if f.Opener == enrich.OpenerRemote {
		return 0
	}
	return f.PeerPort
}

// peerMark is a fingerprint of a destination. Of two with the same mark in one bin the second takes the first one's place and count.
func peerMark(a flow.Addr, port uint16) uint32 {
	return uint32(mix(a.Hi^0x9e3779b97f4a7c15, a.Lo^uint64(port)<<40^0xc2b2ae3d27d4eb4f))
}

// label is the destination for people: the name where one was resolved, else the address.
func (p *egressPeer) label() string {
	to := p.addr.String()
	if p.port != 0 {
		to = fmt.Sprintf("%s:%d/%s", to, p.port, protoName(p.proto))
	}
	if p.name != "" {
		to = fmt.Sprintf("%q (%s)", p.name, to)
	}
	return to
}

func protoName(p uint8) string {
	switch p {
	case flow.TCP:
		return "tcp"
	case flow.UDP:
		return "udp"
	}
	return fmt.Sprint(p)
}

// egressDestination is one row of the evidence.
type egressDestination struct {
	Peer  string  `json:"peer"`
	Port  uint16  `json:"port,omitempty"` // 0: the peer opened the connections
	Name  string  `json:"name,omitempty"`
	Bytes uint64  `json:"bytes"`
	Share float64 `json:"share"` // of all bytes to outside addresses
}

func destinations(top []egressPeer, total uint64) []egressDestination {
	var out []egressDestination
	for _, p := range top[:min(len(top), 3)] {
		out = append(out, egressDestination{p.addr.String(), p.port, p.name, p.bytes, round(float64(p.bytes) / float64(total))})
	}
	return out
}
