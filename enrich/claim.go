package enrich

import "github.com/wharfwatch/wharfwatch/flow"

// ClaimKind says what a Claim is about.
type ClaimKind string

// The kinds of Claim.
const (
	ClaimSource   ClaimKind = "source"   // packets from an address that is another's, or that nobody gave to the sender
	ClaimARP      ClaimKind = "arp"      // an ARP packet that claims such an address
	ClaimGateway  ClaimKind = "gateway"  // an ARP packet, or a source, that claims the address of the network's gateway
	ClaimRouter   ClaimKind = "router"   // an IPv6 router advertisement from a port of a bridge
	ClaimDHCP     ClaimKind = "dhcp"     // a DHCP server's answer from a port of a bridge
	ClaimStranger ClaimKind = "stranger" // an address of a container network that no engine gave to anybody, from hardware that is nobody's either
)

// Claim is what was seen on a container network and contradicts what the engines say. The same one is said once in ten minutes, a
// stranger once a day.
type Claim struct {
	Kind      ClaimKind
	Time      int64      // of the packet that showed it, ns; of a stranger the time of saying
	Engine    string     // whose network it is
	Container *Container // who really sent, by its hardware address; nil: no container has that
	Holder    *Container // who has the address, nil nobody
	Addr      flow.Addr  // claimed
	MAC       flow.MAC   // of the sender; 0 where no packet showed it
	Told      flow.MAC   // the hardware address that an ARP packet gave for Addr, else MAC
	Peer      flow.Addr  // of the packet
	PeerPort  uint16
	Proto     uint8
	First     int64    // of a stranger: first and last sight of it, ns
	Last      int64    //
	Peers     []string // of a stranger: whom it spoke to, at most 8, address:port/protocol number
}
