package flow

// Records of a block, and extensions of a flow record, by their numbers in nfdump 1.7 (id.h, nfxV3.h).
const (
	nfExporterInfo = 7
	nfSamplerOld   = 9
	nfFlow         = 11
	nfSampler      = 15

	nfGeneric  = 1 // times, counts, ports, protocol, flags
	nfIPv4     = 2
	nfIPv6     = 3
	nfMisc     = 4 // interfaces, why the flow ended
	nfOut      = 5 // the counts of the other direction, where the exporter sends both
	nfVLAN     = 6
	nfFrom4    = 12 // exporter
	nfFrom6    = 13
	nfNAT4     = 20
	nfNAT6     = 21
	nfNATPorts = 22

	nfEvent   = 1 // flags of a flow record: no flow, but an event of a firewall
	nfSampled = 2 // the counts were multiplied by the sampling rate
)

func (f *nfcapd) row(kind uint16, b []byte) {
	u16, u32 := f.bytes.Uint16, f.bytes.Uint32
	switch {
	case kind == nfFlow && len(b) >= 12:
		f.rows.Inc()
		f.flow(b)
	case kind == nfExporterInfo && len(b) >= 32:
		id := u16(b[26:])
		e := nfExporter{addr: f.addr6(b[8:]), domain: u32(b[28:]), rate: f.exporter[id].rate}
		if u16(b[24:]) == 2 { // AF_INET
			e.addr = Addr4(uint32(f.bytes.Uint64(b[16:])))
		}
		f.exporter[id] = e
	case kind == nfSampler && len(b) >= 24:
		f.sampler(u16(b[4:]), uint64(u32(b[16:])), uint64(u32(b[20:])))
	case kind == nfSamplerOld && len(b) >= 16:
		f.sampler(u16(b[14:]), 1, uint64(max(u32(b[8:]), 1))-1)
	case kind == nfFlow:
		f.rows.Inc()
		f.malformed.Inc()
	default:
		f.rows.Inc()
		f.other.Inc() // statistics, names of interfaces and applications
	}
}

// sampler notes the rate of an exporter: interval packets are taken, then space are left out. Older versions swapped the two.
func (f *nfcapd) sampler(id uint16, interval, space uint64) {
	e := f.exporter[id]
	switch {
	case interval == 0:
		return
	case min(interval, space) <= 1:
		e.rate = interval + space
	default:
		e.rate = (interval + space) / interval
	}
	if e.rate > maxRate {
		return
	}
	f.exporter[id] = e
}

// addr6 is an address as nfdump keeps it: two numbers of 64 bits.
func (f *nfcapd) addr6(b []byte) Addr { return Addr{f.bytes.Uint64(b), f.bytes.Uint64(b[8:])} }

// flow takes one flow record; the counts of the other direction become a record of their own.
func (f *nfcapd) flow(b []byte) {
	u16, u32, u64 := f.bytes.Uint16, f.bytes.Uint32, f.bytes.Uint64
	from := f.exporter[u16(b[8:])]
	flags := b[10]
	r := Record{Sampling: 1, Exporter: from.addr, Domain: from.domain}
	var seen, back bool
	var outBytes, outPackets uint64
	for at := 12; at+4 <= len(b); {
		kind, size := u16(b[at:]), int(u16(b[at+2:]))
		if size < 4 || size > len(b)-at {
			f.malformed.Inc()
			return
		}
		x := b[at+4 : at+size]
		at += size
		switch {
		case kind == nfGeneric && len(x) >= 48:
			seen = true
			r.First, r.Last = nfTime(u64(x)), nfTime(u64(x[8:]))
			r.Packets, r.Bytes = u64(x[24:]), u64(x[32:])
			r.SrcPort, r.DstPort, r.Proto, r.TCPFlags = u16(x[40:]), u16(x[42:]), x[44], x[45]
		case kind == nfIPv4 && len(x) >= 8:
			r.Src, r.Dst = Addr4(u32(x)), Addr4(u32(x[4:]))
		case kind == nfIPv6 && len(x) >= 32:
			r.Src, r.Dst = f.addr6(x), f.addr6(x[16:])
		case kind == nfMisc && len(x) >= 14:
			r.InIf, r.OutIf = u32(x), u32(x[4:])
			switch x[13] { // flowEndReason, RFC 5102
			case 2:
				r.Flags |= FlagForced
			case 3:
				r.Flags |= FlagEnd
			}
		case kind == nfOut && len(x) >= 24:
			outPackets, outBytes, back = u64(x[8:]), u64(x[16:]), true
		case kind == nfVLAN && len(x) >= 4:
			r.VLAN = uint16(u32(x)) & 0xfff
		case kind == nfFrom4 && len(x) >= 4:
			r.Exporter = Addr4(u32(x))
		case kind == nfFrom6 && len(x) >= 16:
			r.Exporter = f.addr6(x)
		case kind == nfNAT4 && len(x) >= 8:
			r.NATSrc, r.NATDst = nonzero4(u32(x)), nonzero4(u32(x[4:]))
		case kind == nfNAT6 && len(x) >= 32:
			r.NATSrc, r.NATDst = f.addr6(x), f.addr6(x[16:])
		case kind == nfNATPorts && len(x) >= 4:
			r.NATSrcPort, r.NATDstPort = u16(x), u16(x[2:])
		}
	}
	if !seen || r.Src.IsZero() {
		f.malformed.Inc()
		return
	}
	if flags&nfEvent != 0 && r.Packets|r.Bytes|outPackets|outBytes == 0 {
		f.other.Inc()
		return
	}
	if r.First > r.Last || r.First <= 0 {
		r.First = r.Last
	}
	if r.Proto == ICMP || r.Proto == ICMPv6 {
		r.SrcPort = 0
	}
	if flags&nfSampled != 0 {
		r.Flags |= FlagSamplingUnknown
		if n := from.rate; n > 1 && (r.Packets|outPackets) > 0 && r.Packets%n+r.Bytes%n+outPackets%n+outBytes%n == 0 {
			r.Flags &^= FlagSamplingUnknown
			r.Sampling = uint32(n)
			r.Packets, r.Bytes, outPackets, outBytes = r.Packets/n, r.Bytes/n, outPackets/n, outBytes/n
		}
	}
	f.records.Inc()
	f.order.record(&r)
	if back && outPackets > 0 {
		r.Src, r.Dst, r.SrcPort, r.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
		r.NATSrc, r.NATDst, r.NATSrcPort, r.NATDstPort = r.NATDst, r.NATSrc, r.NATDstPort, r.NATSrcPort
		r.InIf, r.OutIf = r.OutIf, r.InIf
		if r.Proto == ICMP || r.Proto == ICMPv6 {
			r.SrcPort, r.DstPort = 0, icmpAnswer(r.Proto, r.SrcPort)
		}
		r.Packets, r.Bytes, r.TCPFlags = outPackets, outBytes, 0
		r.Flags |= FlagReply
		f.records.Inc()
		f.order.record(&r)
	}
}

// nfTime turns milliseconds into ns; what does not fit, or is before 1970, is 0.
func nfTime(ms uint64) int64 {
	if ms > 1<<63/uint64(milli) {
		return 0
	}
	return int64(ms) * milli
}

func nonzero4(v uint32) Addr {
	if v == 0 {
		return Addr{}
	}
	return Addr4(v)
}

// icmpAnswer is the type and code of the answer to a question; everything else is its own.
func icmpAnswer(proto uint8, typecode uint16) uint16 {
	switch t := typecode >> 8; {
	case proto == ICMPv6 && t == 128:
		return 129 << 8
	case proto == ICMP && t == 8:
		return 0
	case proto == ICMP && (t == 13 || t == 15 || t == 17):
		return typecode + 1<<8
	}
	return typecode
}
