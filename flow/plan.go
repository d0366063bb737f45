package flow

import "encoding/binary"

// plan reads data records of one template. For each value a Record needs it holds where the value starts and how far to shift the
// 8 bytes found there: some straight lines per record and no loop over fields.
type plan struct {
	picks     [values]pick
	size      int  // of a record; the least size where variable
	addressed bool // an address is among the fields: others are no flows
	variable  bool // fields state their lengths: resolve first
	biflow    bool // RFC 5103 or initiator and responder counters
	event     bool // a firewall's event
	totals    bool // its counters may be totals of the connection
	dual      bool // IPv4 and IPv6 fields side by side, one of them 0
	extras    bool // anything beyond the common fields
	srcOr     uint64
	dstOr     uint64
	natSrcOr  uint64
	natDstOr  uint64
	first     timeKind
	last      timeKind
	fields    []planField // variable only
}

// pick is one value: be.Uint64(record[off:]) >> shift & mask. An absent value has mask 0.
type pick struct {
	mask  uint64
	off   uint16
	shift uint8
}

func (p *pick) get(x []byte) uint64 {
	return binary.BigEndian.Uint64(x[p.off:]) >> (p.shift & 63) & p.mask
}

func (p *pick) has() bool { return p.mask != 0 }

// Values of a Record, as indices of plan.picks. An address takes two; those of IPv4 have only the low one.
type value uint8

const (
	srcHi value = iota
	srcLo
	dstHi
	dstLo
	srcPort
	dstPort
	protocol
	tcpFlags
	octets
	packets
	firstTime
	lastTime
	inIf
	outIf

	natSrcHi // from here on: extras
	natSrcLo
	natDstHi
	natDstLo
	natSrcPort
	natDstPort
	vlan
	vni
	vrf
	endReason
	icmpTypeCode
	icmpType
	icmpCode
	rateInterval
	ratePackets
	rateSpace
	sampler
	reverseOctets
	reversePackets
	duration
	initTime
	fwEvent
	flowID
	biflowDirection
	reverseFlags
	moreFlags // beside those of the first packet
	moreReverseFlags
	src4
	dst4

	values
	none value = 255
)

// read fills r from the record at x, which is readable for 8 bytes past its end. It writes every field.
func (p *plan) read(x []byte, r *Record, c *reading) {
	g := &p.picks
	r.Src = Addr{g[srcHi].get(x), g[srcLo].get(x) | p.srcOr}
	r.Dst = Addr{g[dstHi].get(x), g[dstLo].get(x) | p.dstOr}
	r.NATSrc, r.NATDst = Addr{}, Addr{}
	r.Bytes, r.Packets = g[octets].get(x), g[packets].get(x)
	r.Exporter, r.Domain = c.exporter, c.domain
	r.Sampling, r.Flags = c.rate, c.flags
	r.InIf, r.OutIf = uint32(g[inIf].get(x)), uint32(g[outIf].get(x))
	r.VNI, r.VRF, r.VLAN, r.NATSrcPort, r.NATDstPort = 0, 0, 0, 0, 0
	r.SrcPort, r.DstPort = uint16(g[srcPort].get(x)), uint16(g[dstPort].get(x))
	r.Proto, r.TCPFlags = uint8(g[protocol].get(x)), uint8(g[tcpFlags].get(x))
	if c.rated != nil {
		c.rateOf(r)
	}
	if p.extras {
		p.readExtras(x, r, c)
	}
	last := c.export
	if p.last != timeNone {
		last = c.time(p.last, g[lastTime].get(x))
	}
	first := last
	switch {
	case p.first != timeNone:
		first = c.time(p.first, g[firstTime].get(x))
		if p.last == timeNone {
			last = first + int64(g[duration].get(x))*milli
		}
	case g[duration].has():
		first = last - int64(g[duration].get(x))*milli
	}
	c.times(r, first, last)
}

func (p *plan) readExtras(x []byte, r *Record, c *reading) {
	g := &p.picks
	if p.dual {
		if a := g[src4].get(x); a != 0 && (r.Src == Addr{}) {
			r.Src = Addr4(uint32(a))
		}
		if a := g[dst4].get(x); a != 0 && (r.Dst == Addr{}) {
			r.Dst = Addr4(uint32(a))
		}
	}
	if g[natSrcLo].has() {
		r.NATSrc = Addr{g[natSrcHi].get(x), g[natSrcLo].get(x) | p.natSrcOr}
	}
	if g[natDstLo].has() {
		r.NATDst = Addr{g[natDstHi].get(x), g[natDstLo].get(x) | p.natDstOr}
	}
	r.NATSrcPort, r.NATDstPort = uint16(g[natSrcPort].get(x)), uint16(g[natDstPort].get(x))
	r.VLAN = uint16(g[vlan].get(x)) & 0xfff
	r.VNI = uint32(g[vni].get(x)) & 0xffffff
	r.VRF = uint32(g[vrf].get(x))
	r.TCPFlags |= uint8(g[moreFlags].get(x))
	// flowEndReason, RFC 5102 5.11.3. Idle says nothing about the connection: it may well go on.
	switch g[endReason].get(x) {
	case 2, 4, 5: // active timeout, forced, lack of resources
		r.Flags |= FlagForced
	case 3: // FIN or RST seen
		r.Flags |= FlagEnd
	}
	if r.DstPort == 0 && (r.Proto == ICMP || r.Proto == ICMPv6) {
		r.DstPort = uint16(g[icmpTypeCode].get(x) | g[icmpType].get(x)<<8 | g[icmpCode].get(x))
	}
	if g[biflowDirection].get(x) == 2 {
		r.Flags |= FlagReply
	}
	if g[initTime].has() {
		c.from.timing.init = int64(g[initTime].get(x)) * milli
		c.hasUptime, c.uptime = true, uint32((c.export-c.offset-c.from.timing.init)/milli)
	}
	if !c.fixedRate {
		p.readRate(x, r, c)
	}
}

func (p *plan) readRate(x []byte, r *Record, c *reading) {
	g := &p.picks
	f := rateFields{interval: g[rateInterval].get(x), packets: g[ratePackets].get(x), space: g[rateSpace].get(x)}
	rate, good := f.rate()
	if !good {
		c.badRates++
	}
	if rate != 0 {
		c.from.sampling.inRecord, c.from.sampling.last = true, rate
	} else if g[sampler].has() {
		rate = c.from.sampling.samplers[g[sampler].get(x)]
	}
	if rate != 0 {
		r.Sampling = rate
		r.Flags &^= FlagSamplingUnknown
	}
}

// reverse makes the record of the other direction of a biflow. Its source answered, unless biflowDirection says that it began (RFC 5103
// 6.3: 2 is reverseInitiator).
func (p *plan) reverse(x []byte, r *Record) Record {
	back := *r
	back.Src, back.Dst, back.SrcPort, back.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
	back.NATSrc, back.NATDst, back.NATSrcPort, back.NATDstPort = r.NATDst, r.NATSrc, r.NATDstPort, r.NATSrcPort
	back.InIf, back.OutIf = r.OutIf, r.InIf
	back.Bytes, back.Packets = p.picks[reverseOctets].get(x), p.picks[reversePackets].get(x)
	back.TCPFlags = uint8(p.picks[reverseFlags].get(x) | p.picks[moreReverseFlags].get(x))
	back.Flags ^= FlagReply
	return back
}

// resolve finds the fields of a variable-length record in x and makes to the plan that reads it. It returns the record's length.
func (p *plan) resolve(x []byte, to *plan) (int, bool) {
	*to = *p
	to.variable = false
	off := 0
	for i := range p.fields {
		f := &p.fields[i]
		at, n, fits := extent(x, off, f.length)
		if !fits {
			return 0, false
		}
		if f.value != none {
			to.place(f.value, f.address, at, n)
		}
		off = at + n
	}
	to.size = off
	return off, true
}

// extent says where in x a field that starts at off has its value, and how long that is. A variable length stands before the value: one
// byte, or 255 and two bytes (RFC 7011 7). fits is false where the field does not end within x.
func extent(x []byte, off int, length uint16) (at, n int, fits bool) {
	at, n = off, int(length)
	if length == variableLength {
		if at >= len(x) {
			return 0, 0, false
		}
		n = int(x[at])
		at++
		if n == 255 {
			if at+2 > len(x) {
				return 0, 0, false
			}
			n = int(binary.BigEndian.Uint16(x[at:]))
			at += 2
		}
	}
	return at, n, at+n <= len(x)
}
