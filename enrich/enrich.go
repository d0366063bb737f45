// Package enrich says who: it keeps the inventory of containers, binds addresses to them over time, joins flow records into
// connections and attributes every new connection once.
//
// Two halves meet in the engine: sources of Events (Docker, an inventory file), which do I/O in goroutines of their
// own, and the Table, which does none: Table.Event, Table.Records and Table.Advance are plain calls in one goroutine, and the same
// sequence of calls gives the same output.
package enrich

import "github.com/wharfwatch/wharfwatch/flow"

// Container holds the immutable facts of one instance. A change makes a new value; a pointer may be kept and shared.
// Environment variables are dropped when the engine's answer is decoded: they hold secrets.
type Container struct {
	ID       string `json:"id"` // 64 hex digits; "" for a host process
	Name     string `json:"name"`
	Engine   string `json:"engine"`   // name of the engine in the configuration, or "inventory"
	Workload string `json:"workload"` // identity across redeploys and the key of every baseline, see WorkloadOf
	Image    string `json:"image"`    // as the user wrote it
	ImageID  string `json:"image_id,omitempty"`
	Created  int64  `json:"created,omitempty"`  // ns, 0 unknown
	Started  int64  `json:"started,omitempty"`  // ns, 0 not yet
	Finished int64  `json:"finished,omitempty"` // ns, 0 running
	Running  bool   `json:"running"`

	NetworkMode string       `json:"network_mode,omitempty"` // "host", "none", "container:<id>", else the network's name
	Attachments []Attachment `json:"attachments,omitempty"`
	Posture     Posture      `json:"posture"`
	Command     []string     `json:"command,omitempty"` // path and arguments, bounded
	Labels      []Label      `json:"labels,omitempty"`  // only those named wharfwatch.*, sorted
	Ports       []Port       `json:"ports,omitempty"`   // published
}

// HostNetwork says that the container has the host's network namespace.
func (c *Container) HostNetwork() bool { return c.NetworkMode == "host" }

// Attachment is one network of a container.
type Attachment struct {
	NetworkID string      `json:"network_id"`
	Network   string      `json:"network"`        // its name
	Addrs     []flow.Addr `json:"addrs"`          // IPv4, IPv6
	Bits      []int       `json:"bits,omitempty"` // prefix length of each of Addrs, 0 unknown; nil where the engine told none
	Gateways  []flow.Addr `json:"gateways,omitempty"`
	MAC       string      `json:"mac,omitempty"`
}

// Label is one label.
type Label struct{ Key, Value string }

// Port is a published port.
type Port struct {
	HostIP    flow.Addr `json:"host_ip"`
	Host      uint16    `json:"host"`
	Container uint16    `json:"container"`
	Proto     uint8     `json:"proto"`
}

// Posture is what the create call asked for that weakens isolation. The zero value is Docker's default.
type Posture struct {
	Privileged  bool     `json:"privileged,omitempty"`
	CapAdd      []string `json:"cap_add,omitempty"` // upper case, without CAP_, sorted
	PidMode     string   `json:"pid_mode,omitempty"`
	IpcMode     string   `json:"ipc_mode,omitempty"`
	UTSMode     string   `json:"uts_mode,omitempty"`
	UsernsMode  string   `json:"userns_mode,omitempty"`
	CgroupnsMod string   `json:"cgroupns_mode,omitempty"`
	SecurityOpt []string `json:"security_opt,omitempty"`
	Devices     []string `json:"devices,omitempty"`
	Mounts      []Mount  `json:"mounts,omitempty"` // host paths only
	Runtime     string   `json:"runtime,omitempty"`
	LocalImage  bool     `json:"local_image,omitempty"` // no RepoDigests: built here
}

// Mount is a bind of a host path.
type Mount struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	RW          bool   `json:"rw"`
}

// EventKind says what an Event reports.
type EventKind string

// The kinds of Event. Connect and Disconnect bind addresses; the rest is life cycle.
const (
	Listed     EventKind = "listed"     // it was there when the engine was listed (first start, reconnect, reconcile)
	Created    EventKind = "created"    // before its process runs
	Started    EventKind = "started"    //
	Died       EventKind = "died"       //
	Destroyed  EventKind = "destroyed"  //
	Changed    EventKind = "changed"    // renamed or updated: Container has the facts from Time on
	Connected  EventKind = "connected"  // Binding holds from Time
	Disconnect EventKind = "disconnect" // Binding ends at Time
	Exec       EventKind = "exec"       // Detail is the command
	Synced     EventKind = "synced"     // a full list of the engine has been delivered; no Container
	Blind      EventKind = "blind"      // the engine cannot be reached; no Container; Detail is the reason
	Progress   EventKind = "progress"   // nothing happened up to Time: what waited for the engine may be decided; no Container
)

// Event is one change at an engine. It is complete in itself, so that a recorded stream replays without an engine.
type Event struct {
	Time      int64      `json:"time"` // the engine's clock, ns
	Kind      EventKind  `json:"kind"`
	Engine    string     `json:"engine"`
	Container *Container `json:"container,omitempty"`
	Binding   *Binding   `json:"binding,omitempty"`
	Detail    string     `json:"detail,omitempty"`
}

// Binding says that a container holds addresses on a network. One Event carries one network.
type Binding struct {
	NetworkID string      `json:"network_id"`
	Network   string      `json:"network"`
	Addrs     []flow.Addr `json:"addrs"`              // empty in a Disconnect whose addresses are not known any more
	Bits      []int       `json:"bits,omitempty"`     // prefix length of each of Addrs, 0 unknown: the subnet of the network
	Gateways  []flow.Addr `json:"gateways,omitempty"` // of the network: no container's address
	MAC       string      `json:"mac,omitempty"`
}

// Method says how a side of a connection was attributed.
type Method uint8

// The methods.
const (
	MethodNone         Method = iota
	MethodIP                  // one holder of the address over the whole interval
	MethodReused              // several holders over the interval: the one with most overlap
	MethodNAT                 // the host's translation of this very connection
	MethodSocket              // the host's socket of this very connection
	MethodListener            // a socket of the host that listened at this port
	MethodPort                // a published port
	MethodSharedNetns         // the owner of a namespace that several containers share: any of them
	MethodSharedSocket        // the socket in that namespace
)

// Confidence of an attribution. Baselines learn from High and better only.
type Confidence uint8

// The confidences, least first.
const (
	Unknown Confidence = iota
	Low
	Medium
	High
	Exact
)

// Reason says why a side has no container. It is a label of a counter.
type Reason uint8

// The reasons.
const (
	ReasonNone        Reason = iota
	ReasonExternal           // not an address of any known container network
	ReasonNoEngine           // no engine has been heard yet
	ReasonNotReady           // a container network's address that nobody held; the hold ran out
	ReasonGateway            // a bridge gateway: docker-proxy or the host itself
	ReasonHost               // the host itself, talking to itself
	ReasonNoNATEntry         // an address of the host, and nothing says which container or process is behind it
	ReasonShortSocket        // a socket of the host that was gone before it could be asked for
	ReasonGap                // the kernel's events were lost around that time
)

// FlowKind is a set of bits: a short connection may open and close in one Flow.
type FlowKind uint8

// The kinds of Flow.
const (
	Open   FlowKind = 1 << iota // first sight of the connection; always the first Flow of a side
	Update                      // more was counted; at most one per event-time minute and connection
	Close                       // ended or timed out; the last Flow of a side
)

// Opener says who opened the connection, seen from the Flow's container.
type Opener uint8

// Who opened.
const (
	OpenerUnknown Opener = iota
	OpenerLocal          // the container: outbound
	OpenerRemote         // the peer: inbound
)

// Flow is one side of one connection, seen from one container. Container is never nil. What a Sink gets is valid only during the call. Both ends being containers gives two Flows. Counts are deltas since the last Flow of this side, scaled by
// sampling, and duplicates from other observation points are not in them.
type Flow struct {
	Kind      FlowKind
	Time      int64  // event time of this report, ns: Start for an open, the last record's end otherwise
	Start     int64  // first packet of the connection, ns; late records may move it back before the open is reported, never after
	Conn      uint64 // id of the connection, equal on both sides, deterministic
	Container *Container
	Holder    uint32 // small dense number of the Container while the table knows it, reused afterwards; 0 unknown. No part of any output
	Local     flow.Addr
	LocalPort uint16
	Peer      flow.Addr
	PeerPort  uint16
	Proto     uint8
	PeerIs    *Container // nil unless the peer is a known container
	PeerName  string     // the name this container last resolved to Peer, "" unknown
	Asked     string     // the name that the connection itself asked for (SNI, HTTP host): the client's word, no proof; "" unknown
	JA4       string     // of its ClientHello, "" unknown
	Opener    Opener

	Sent, Received               uint64 // bytes
	PacketsSent, PacketsReceived uint64
	TotalSent, TotalReceived     uint64 // since the open, this report included

	Method     Method
	Confidence Confidence
	Partition  uint8 // hash(workload) mod 64

	Midstream bool  // the first record shows a connection that was already going on: its start is no beat
	Sampled   bool  // a sampled source: timing and counting of connections mean little
	NoReply   bool  // nothing came back so far
	TCPFlags  uint8 // seen so far, both directions
}

// Name is a flow.Name with the container that asked, or that opened the connection.
type Name struct {
	flow.Name
	Container *Container
}

// Sink takes what the Table says, in event-time order within one Advance. baseline.Engine is one. Flows come some at a time, 32 at
// most, so that a sink can load the memory of all before it looks at the first: their cache misses overlap.
type Sink interface {
	Flows([]Flow)
	Name(*Name)
	Claim(*Claim)
}
