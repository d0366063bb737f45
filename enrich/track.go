package enrich

import "github.com/wharfwatch/wharfwatch/flow"

// Tuple is one direction of a connection. ICMP has no ports.
type Tuple struct {
	Src, Dst         flow.Addr
	SrcPort, DstPort uint16
}

// reverse is what the answer to a tuple carries.
func (t Tuple) reverse() Tuple { return Tuple{t.Dst, t.Src, t.DstPort, t.SrcPort} }

// TrackKind says what a Track reports.
type TrackKind uint8

// The kinds of Track.
const (
	TrackBegin  TrackKind = 1 + iota // a connection began at Time
	TrackEnd                         // it ended at Time
	TrackFound                       // a dump shows it: it began at Time or, with FlagSince unset, at an unknown time before
	TrackListen                      // a socket listens at Orig.Dst since Time; Orig.Dst zero means every address
	TrackDeaf                        // it does so no more
)

// Flags of a Track.
const (
	TrackSince    uint8 = 1 << iota // of a TrackFound: Time is when it began, the kernel's own word
	TrackAsked0                     // the client's end is an address of the host, and its socket was asked for
	TrackAsked1                     // the same for the server's end
	TrackListens0                   // the client's Owner was found as a listener, not as the exact tuple
	TrackListens1                   // the same for the server's
)

// Owner is whose socket an end is: a container by its id, or a unit of the host by its name. The zero value is nobody known.
type Owner struct {
	Container string // 64 hex digits
	Unit      string // systemd unit or control group
}

// Track is what the kernel of an engine's host says of one connection: how it was translated, and whose sockets its ends are where they
// are the host's. Reply is as the answer's packets look; where nothing was translated it is the reverse of Orig.
type Track struct {
	Time        int64 // ns
	Orig, Reply Tuple
	Owner       [2]Owner // of the end that opened, and of the other one
	Kind        TrackKind
	Proto       uint8
	Flags       uint8
}

// translated says that addresses or ports changed on the way.
func (t *Track) translated() bool { return t.Orig != t.Reply.reverse() }

// Tracks is what one kernel told at once, in the order in which it did. It is complete in itself, so that a recorded stream replays
// without a kernel.
type Tracks struct {
	Engine  string
	Time    int64       // ns: without a mark everything up to here has been told, else when the mark holds
	From    int64       // of a Lost: when the loss began, ns
	Mark    TracksMark  // what happens before the list
	Host    []flow.Addr // with MarkHost: the host's own addresses from Time on
	Entries []Track
}

// TracksMark is what a Tracks says beside its entries.
type TracksMark uint8

// The marks. A dump is told in several Tracks between MarkDump and MarkDumped: what was known and is not in it has ended.
const (
	MarkNone   TracksMark = iota
	MarkDump              // a dump of all connections follows
	MarkDumped            // it is complete
	MarkLost              // the kernel lost events between From and Time; a dump follows
	MarkBlind             // nobody listens from now on
	MarkHost              // Host is known
)
