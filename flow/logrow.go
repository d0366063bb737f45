package flow

import (
	"bytes"
	"strconv"
	"time"
)

// What became of one line of a log. The words are label values of wharfwatch_flow_log_rows_ignored_total.
const (
	rowUsed      = ""
	rowOther     = "other"     // a kind of row that is not read, or one without anything to learn
	rowMalformed = "malformed" // not what the format says
	rowLong      = "long"      // longer than a line may be
	rowProtocol  = "protocol"  // a transport without a number
)

var rowReasons = []string{rowOther, rowMalformed, rowLong, rowProtocol}

// rowSink takes what a line says. Neither the record nor the name is kept, but for the Addrs of the name.
type rowSink interface {
	record(*Record)
	sayName(*Name)
}

// rowParser reads the lines of one log, in order. Lines are untrusted and are not kept.
type rowParser interface {
	// line takes one line without its end and says what became of it, and where the log has come (its newest time, ns).
	line(b []byte, out rowSink) (reason string, at int64)
}

// conversation is a connection as logs have it: both directions in one row.
type conversation struct {
	first, last  int64
	src, dst     Addr // src opened
	sport, dport uint16
	proto        uint8
	bytes        [2]uint64 // 0 sent by src
	packets      [2]uint64
	flags        [2]uint8
	spoke        [2]bool
	typecode     [2]uint16 // ICMP
	vlan         uint16
	domain       uint32
	ended        bool
}

// say makes a record for each direction that spoke. They count as assembled from packets: who wrote the log saw the packets.
func (c *conversation) say(out rowSink) {
	r := Record{
		First: c.first, Last: c.last, Src: c.src, Dst: c.dst, SrcPort: c.sport, DstPort: c.dport,
		Sampling: 1, Domain: c.domain, VLAN: c.vlan, Proto: c.proto, Flags: FlagPackets,
	}
	if c.ended {
		r.Flags |= FlagEnd
	}
	for way := range 2 {
		if way == 1 {
			r.Src, r.Dst, r.SrcPort, r.DstPort = c.dst, c.src, c.dport, c.sport
			r.Flags |= FlagReply
		}
		if c.proto == ICMP || c.proto == ICMPv6 {
			r.SrcPort, r.DstPort = 0, c.typecode[way]
		}
		r.Bytes, r.Packets, r.TCPFlags = c.bytes[way], c.packets[way], c.flags[way]
		if c.spoke[way] {
			out.record(&r)
		}
	}
}

// decimalTime reads seconds with a fraction, exactly: 1591367999.305988. At most a hundred years either way are believed.
func decimalTime(b []byte) (ns int64, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	whole, fraction, _ := bytes.Cut(b, []byte{'.'})
	if len(whole) == 0 || len(whole) > 10 {
		return 0, false
	}
	for _, c := range whole {
		if c < '0' || c > '9' {
			return 0, false
		}
		ns = ns*10 + int64(c-'0')
	}
	ns *= sec
	unit := sec
	for _, c := range fraction {
		if c < '0' || c > '9' {
			return 0, false
		}
		unit /= 10
		ns += int64(c-'0') * unit
	}
	if ns > maxLogTime {
		return 0, false
	}
	if negative {
		ns = -ns
	}
	return ns, true
}

// maxLogTime is the year 2200.
const maxLogTime = 7258118400 * sec

// textTime reads the ISO 8601 of logs, with and without a colon in the zone.
func textTime(s string) (int64, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			if y := t.Year(); y < 1970 || y >= 2200 {
				return 0, false
			}
			return t.UnixNano(), true
		}
	}
	return 0, false
}

func decimal(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil
}

func portOf(b []byte) (uint16, bool) {
	n, err := strconv.ParseUint(string(b), 10, 16)
	return uint16(n), err == nil
}

// protocolOf reads the name of a transport as logs write it.
func protocolOf(s string) (uint8, bool) {
	switch s {
	case "tcp", "TCP":
		return TCP, true
	case "udp", "UDP":
		return UDP, true
	case "icmp", "ICMP":
		return ICMP, true
	case "icmp6", "ipv6-icmp", "IPv6-ICMP", "ICMPv6":
		return ICMPv6, true
	case "sctp", "SCTP":
		return sctp, true
	case "gre", "GRE":
		return 47, true
	case "esp", "ESP":
		return 50, true
	case "ah", "AH":
		return 51, true
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil
}

// multicastNames says that a name was asked of everybody on the link (mDNS, LLMNR, NetBIOS): that names no destination.
func multicastNames(port uint16) bool { return port == 5353 || port == 5355 || port == 137 }
