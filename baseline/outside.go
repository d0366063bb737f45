package baseline

import (
	"fmt"
	"net/netip"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// outside reports whether a flow goes to or comes from a public address that is no container's and is not what keeps the network
// going: name resolution, time, discovery.
func (e *env) outside(f *enrich.Flow) bool {
	return f.PeerIs == nil && !within(e.site, f.Peer) && !isPlumbing(f) && (f.Proto != flow.UDP || f.PeerPort != 123)
}

// calledOut reports whether a flow is the first of a connection that the container itself opened to an outside address, well
// attributed.
func (e *env) calledOut(f *enrich.Flow) bool {
	return f.Kind&enrich.Open != 0 && f.Opener == enrich.OpenerLocal && f.Confidence >= enrich.High && e.outside(f)
}

// subjectOfPeer is the other side of a flow as the subject of a finding: address, port and protocol.
func subjectOfPeer(f *enrich.Flow) string {
	return fmt.Sprintf("%s/%s", addrPort(f.Peer, f.PeerPort), protoName(f.Proto))
}

func addrPort(a flow.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Netip(), port) }

// calledName is the name under which a connection was made: what it asked for, else what was resolved.
func calledName(f *enrich.Flow) string {
	if f.Asked != "" {
		return f.Asked
	}
	return f.PeerName
}

// labelOfPeer is the other side for people: the name where there is one, and the address.
func labelOfPeer(f *enrich.Flow) string {
	if name := calledName(f); name != "" {
		return fmt.Sprintf("%q (%s)", name, subjectOfPeer(f))
	}
	return subjectOfPeer(f)
}

// addrHash is a hash of an address and a port.
func addrHash(a flow.Addr, port uint16) uint64 {
	return mix(a.Hi^0x9e3779b97f4a7c15, a.Lo^uint64(port)<<48^0xc2b2ae3d27d4eb4f)
}
