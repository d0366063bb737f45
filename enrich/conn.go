package enrich

import (
	"math/bits"

	"github.com/wharfwatch/wharfwatch/flow"
)

// conn is one connection: three cache lines without a pointer. Side 0 is the lower endpoint, direction 0 what side 0 sends.
// The first line is all that a record of a connection without a container touches, and a look whether a quiet one is over; the first
// two are all that a record of a connection that goes on touches.
type conn struct {
	ends     [2]flow.Addr
	ports    [2]uint16
	proto    uint8
	state    uint8
	bits     uint8
	class    uint8 // counter that its records move, see class…
	last     int64 // end of its newest record
	due      uint32
	gen      uint32
	reported uint32   // second of the last report
	tcp      [2]uint8 // flags seen
	exporter uint16   // of its first record

	bytes    [2]uint64 // per direction since the last report, scaled
	packets  [2]uint64
	mark     [2]uint32 // fingerprint of the newest record that counted
	heard    [2]uint32 // second of the newest record that counted
	observer [2]uint32 // the observation point that counts
	evidence [2]uint8  // see saw…
	firm     bool      // a later end cannot change the verdict
	checked  uint32    // state of the index when the verdict was reached

	start   int64     // first packet; stands still once the open is reported
	first   [2]int64  // while the open is not reported
	owner   [2]uint32 // slot in the roster, 0 nobody
	total   [2]uint64 // bytes reported so far
	how     [2]Method
	sure    [2]Confidence
	why     [2]Reason
	opener  int8   // side that opened, -1 unknown
	waiting uint32 // records that wait for a verdict
}

// States of a conn.
const (
	connFree    uint8 = iota
	connPending       // its open has not been reported
	connNobody        // neither side has a container
	connOpen          // reported
	connClosed        // reported as closed; stays for the linger to swallow duplicates
)

// Bits of a conn.
const (
	bitDirty    uint8 = 1 << iota // something to report
	bitEnded                      // FIN from both, RST, or the exporter says so
	bitRipe                       // the linger runs
	bitDetached                   // no longer found by its tuple: another connection took it over
	bitCut                        // its newest slice was cut by the active timeout: more will follow
	bitSampled
	bitMoved // its interval changed since the verdict
	bitPackets
)

// Evidence of who opened, per direction.
const (
	sawSYN     uint8 = 1 << iota // SYN without ACK: this direction asks
	sawSYNACK                    // SYN and ACK in one packet: this direction answers
	sawReply                     // the assembler says that this direction answers
	sawFirst                     // the assembler saw the SYN of this direction first
	sawRequest                   // ICMP echo request, or the kernel's word that this direction opened
	sawAny                       // anything at all
)

// seed keys the placement of tuples, so that nobody who chooses tuples chooses collisions. The output does not depend on it.
type seed [4]uint64

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// tuple hashes both directions of a connection alike.
func (s *seed) tuple(src, dst flow.Addr, sp, dp uint16, proto uint8) uint64 {
	a := mix(src.Lo^s[0], src.Hi^s[1]^uint64(sp)<<40)
	b := mix(dst.Lo^s[0], dst.Hi^s[1]^uint64(dp)<<40)
	return mix((a+b)^s[2], s[3]^uint64(proto))
}

// plain is the seed of everything that shows: ids and shards must be the same in every process.
var plain = seed{0x9e3779b97f4a7c15, 0xd6e8feb86659fd93, 0xa0761d6478bd642f, 0xe7037ed1a0b428db}

// id names a connection: the same tuple and start give the same id in every run.
func (c *conn) id() uint64 {
	h := plain.tuple(c.ends[0], c.ends[1], c.ports[0], c.ports[1], c.proto)
	return mix(h^uint64(c.start), 0x8ebc6af09c88c6e3)
}

// place puts a tuple into a new conn and returns the direction of a record with that source.
func (c *conn) place(src, dst flow.Addr, sp, dp uint16, proto uint8) int {
	c.proto = proto
	if d := src.Compare(dst); d < 0 || d == 0 && sp <= dp {
		c.ends[0], c.ends[1], c.ports[0], c.ports[1] = src, dst, sp, dp
		return 0
	}
	c.ends[0], c.ends[1], c.ports[0], c.ports[1] = dst, src, dp, sp
	return 1
}

// direction compares a tuple, both ways round.
func (c *conn) direction(src, dst flow.Addr, sp, dp uint16, proto uint8) (int, bool) {
	if c.proto != proto {
		return 0, false
	}
	if c.ends[0] == src && c.ports[0] == sp {
		if c.ends[1] == dst && c.ports[1] == dp {
			return 0, true
		}
	}
	return 1, c.ends[1] == src && c.ends[0] == dst && c.ports[1] == sp && c.ports[0] == dp
}

// tuplePorts gives ICMP one connection per pair of hosts: its port fields are types and codes.
func tuplePorts(r *flow.Record) (uint16, uint16) {
	if r.Proto == flow.ICMP || r.Proto == flow.ICMPv6 {
		return 0, 0
	}
	return r.SrcPort, r.DstPort
}

// owned says whether a side has a container.
func (c *conn) owned() bool { return c.owner[0]|c.owner[1] != 0 }

// orient decides who opened, once, when the open is reported. Strongest first: a SYN, the packet assembler's order, an echo
// request, which direction's SYN came first, ports that are known to listen, well-known ports, which direction came first.
func (c *conn) orient(listens func(side int) bool) (opener int8, strong bool) {
	for d := range int8(2) {
		if c.evidence[d]&(sawSYN|sawRequest) != 0 && c.evidence[1-d]&(sawSYN|sawRequest) == 0 {
			return d, true
		}
	}
	midstream := c.midstream()
	for d := range int8(2) {
		if (c.evidence[1-d]&(sawReply|sawSYNACK) != 0 || c.evidence[d]&^c.evidence[1-d]&sawFirst != 0) && !midstream {
			return d, true
		}
	}
	a, b := c.first[0], c.first[1]
	if c.proto == flow.TCP && c.tcp[0]&c.tcp[1]&flow.SYN != 0 && a != 0 && b != 0 && a != b {
		if a < b {
			return 0, true
		}
		return 1, true
	}
	if l0, l1 := listens(0), listens(1); l0 != l1 {
		if l0 {
			return 1, false
		}
		return 0, false
	}
	if w0, w1 := c.ports[0] < 1024, c.ports[1] < 1024; w0 != w1 && c.ports[0] != 0 && c.ports[1] != 0 {
		if w0 {
			return 1, false
		}
		return 0, false
	}
	switch {
	case midstream || a == b:
		return -1, false
	case b == 0 || a != 0 && a < b:
		return 0, false
	}
	return 1, false
}

// midstream says that the connection was going on before its first record.
func (c *conn) midstream() bool {
	seen := c.tcp[0] | c.tcp[1]
	return c.proto == flow.TCP && seen&flow.SYN == 0 && (seen != 0 || c.bits&bitPackets != 0)
}
