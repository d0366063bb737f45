package flow

import "encoding/binary"

// sflowSample is a flow sample without its packet.
type sflowSample struct {
	source             uint64
	sequence           uint32
	rate, drops        uint32
	input, output      uint32
	declared           uint32
	vlan               uint16
	natSrc, natDst     Addr
	natSport, natDport uint16
	link, wire         uint32
	header, ip4, ip6   []byte
}

// flowSample appends the record of a sample. It returns how many samples of the source were lost before it.
func (d *exportDecoder) flowSample(b []byte, expanded bool, s *domain, arrival int64) (lost int64) {
	var m sflowSample
	x := xdr{b: b}
	m.read(&x, expanded)
	if x.bad {
		d.refuse(s, partSampleLength, 1)
		d.stats.sflow.ignored[tooShort].Inc()
		return 0
	}
	lost = d.sampleLoss(s, &m)
	for n := uint32(0); n < m.declared && len(x.b) > 0; n++ {
		format, data := x.u32(), x.opaque()
		if x.bad {
			d.refuse(s, partSampleLength, 1)
			break
		}
		m.record(format, data)
	}
	k, v := packet{}, badLink
	if m.header != nil {
		v = d.parser.parse(&k, m.link, m.header, int(min(m.wire, sflowFrame)), m.vlan, arrival)
	}
	if v != used && (m.ip4 != nil || m.ip6 != nil) {
		k, v = m.fields(), used
	}
	if v != used {
		d.stats.sflow.ignored[v].Inc()
		return lost
	}
	room := d.room(1)
	r := &room[0]
	*r = Record{
		First: arrival, Last: arrival, Src: k.src, Dst: k.dst, SrcPort: k.sport, DstPort: k.dport,
		NATSrc: m.natSrc, NATDst: m.natDst, NATSrcPort: m.natSport, NATDstPort: m.natDport,
		Bytes: k.bytes, Packets: 1, Exporter: s.agent, Domain: s.id, Sampling: m.rate, InIf: m.input, OutIf: m.output,
		VNI: k.vni, VLAN: k.vlan, Proto: k.proto, TCPFlags: k.flags,
	}
	switch {
	case s.override != 0:
		r.Sampling = s.override
	case m.rate < 1 || m.rate > maxRate:
		d.refuse(s, partSampling, 1)
		r.Sampling, r.Flags = 1, FlagSamplingUnknown
	default:
		s.sampling.inRecord, s.sampling.last = true, m.rate
	}
	s.byInterface(room)
	s.records++
	s.lastRecord = max(s.lastRecord, arrival)
	d.stats.sflow.records.Inc()
	return lost
}

// read takes the fixed part.
func (m *sflowSample) read(x *xdr, expanded bool) {
	m.sequence = x.u32()
	if expanded {
		m.source = uint64(x.u32())<<32 | uint64(x.u32())
	} else {
		source := x.u32()
		m.source = uint64(source>>24)<<32 | uint64(source&0xffffff)
	}
	m.rate, _, m.drops = x.u32(), x.u32(), x.u32()
	if expanded {
		m.input, m.output = sflowInterface(x.u32(), x.u32()), sflowInterface(x.u32(), x.u32())
	} else {
		in, out := x.u32(), x.u32()
		m.input, m.output = sflowInterface(in>>30, in&0x3fffffff), sflowInterface(out>>30, out&0x3fffffff)
	}
	m.declared = x.u32()
}

// sflowInterface is the ifIndex, or 0: format 1 is a reason for a drop, 2 a number of interfaces; the largest index is the agent itself.
func sflowInterface(format, value uint32) uint32 {
	if format != 0 || value == 0x3fffffff || value == 0xffffffff {
		return 0
	}
	return value
}

// record takes what is of use of one flow record. One that is shorter than it should be gives nothing.
func (m *sflowSample) record(format uint32, data []byte) {
	x := xdr{b: data}
	switch format {
	case sflowHeader:
		protocol, frame, stripped := x.u32(), x.u32(), x.u32()
		size := int(min(x.u32(), uint32(len(x.b))))
		if x.bad || m.header != nil {
			return
		}
		m.link, m.header = sflowLink(protocol), x.b[:size]
		m.wire = frame - min(stripped, frame)
	case sflowIPv4:
		if len(data) >= 32 {
			m.ip4 = data
		}
	case sflowIPv6:
		if len(data) >= 56 {
			m.ip6 = data
		}
	case sflowSwitch: // source VLAN, its priority, destination VLAN, its priority
		if vlan := x.u32(); vlan < 4095 {
			m.vlan = uint16(vlan)
		}
	case sflowNAT:
		if src, dst := x.addr(), x.addr(); !x.bad {
			m.natSrc, m.natDst = src, dst
		}
	case sflowNATPort:
		if src, dst := x.u32(), x.u32(); !x.bad {
			m.natSport, m.natDport = uint16(src), uint16(dst)
		}
	}
}

// fields reads the packet from the structures of agents that send no header.
//
//	IPv4   length  protocol  source 4   destination 4   ports 2   TCP flags  TOS
//	IPv6   length  protocol  source 16  destination 16  ports 2   TCP flags  priority
func (m *sflowSample) fields() (k packet) {
	be, b, tail := binary.BigEndian, m.ip4, 16
	if b != nil {
		k.src, k.dst = Addr4(be.Uint32(b[8:])), Addr4(be.Uint32(b[12:]))
	} else {
		b, tail = m.ip6, 40
		k.src, k.dst = Addr16(b[8:]), Addr16(b[24:])
	}
	k.bytes, k.proto, k.vlan = uint64(min(be.Uint32(b), sflowFrame)), uint8(be.Uint32(b[4:])), m.vlan
	k.sport, k.dport, k.flags = uint16(be.Uint32(b[tail:])), uint16(be.Uint32(b[tail+4:])), uint8(be.Uint32(b[tail+8:]))
	if k.proto != TCP {
		k.flags = 0
	}
	return k
}

// sflowLink maps header_protocol to a link type; what has none is refused by the parser.
func sflowLink(protocol uint32) uint32 {
	switch protocol {
	case 1:
		return linkEthernet
	case 7, 14: // PPP, and PPP over SONET
		return linkPPP
	case 11:
		return linkIPv4
	case 12:
		return linkIPv6
	case 13:
		return linkMPLS
	}
	return ^uint32(0)
}

// sampleLoss follows the numbers of a data source, and the samples that it says it dropped.
func (d *exportDecoder) sampleLoss(s *domain, m *sflowSample) (lost int64) {
	key := sflowKey{s.agentRun, m.source}
	source, known := d.sources.get(key)
	if !known {
		source = &sflowSource{}
		d.sources.put(key, source, func(sflowKey, *sflowSource) { d.stats.sflow.evicted.Inc() })
	}
	step := int64(int32(m.sequence - source.next))
	switch {
	case !known || step == 0:
	case step > 0 && step <= maxLoss:
		lost = step
		s.sequence.lost += uint64(step)
	case step < 0 && step >= -maxReorder:
		s.sequence.reordered++
		s.sequence.lost -= min(s.sequence.lost, 1)
		return 0
	default:
		s.sequence.restarts++
	}
	if n := m.drops - source.drops; known && n <= maxLoss {
		d.stats.sflow.agentDrops.Add(int(n))
	}
	source.next, source.drops = m.sequence+1, m.drops
	return lost
}
