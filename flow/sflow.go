package flow

import "encoding/binary"

// sFlow version 5, https://sflow.org/sflow_version_5.txt: XDR, everything in units of four bytes, big endian.
//
//	datagram         version  agent (type, address)  sub-agent  sequence  uptime ms  samples: n (format, length, data)
//	flow sample      sequence  source  rate  pool  drops  input  output  records: n (format, length, data)
//	  expanded       sequence  source 2  rate  pool  drops  input 2  output 2  records
//	sampled header   protocol  frame length  stripped  header length, header
//
// A sample is a record of one packet with its sampling rate; it is as old as its datagram, because nothing says otherwise.

// Formats of samples and of what stands in flow samples; others are skipped by their length.
const (
	sflowFlow             = 1
	sflowCounters         = 2
	sflowFlowExpanded     = 3
	sflowCountersExpanded = 4
	sflowDiscarded        = 5 // https://sflow.org/sflow_drops.txt: packets that were not forwarded, not a sample of anything

	sflowHeader  = 1
	sflowIPv4    = 3
	sflowIPv6    = 4
	sflowSwitch  = 1001
	sflowNAT     = 1007
	sflowNATPort = 1020
)

const (
	sflowSources = 65536   // data sources remembered, of all agents
	sflowFrame   = 1 << 20 // most bytes that a frame is believed to have had
)

// isSFlow tells sFlow from NetFlow, whose version takes two bytes.
func isSFlow(b []byte) bool { return len(b) >= 4 && binary.BigEndian.Uint32(b) == 5 }

// sflowSource is one data source of an agent, an interface as a rule: its samples are numbered, and it says how many it had to drop.
type sflowSource struct {
	next, drops uint32
}

// sflowKey names a data source.
type sflowKey struct {
	agent  uint64 // domain.agentRun: another one after each restart
	source uint64 // type, index
}

// sflowDatagram is the header.
type sflowDatagram struct {
	agent                           Addr
	sub, sequence, uptime, declared uint32
	rest                            []byte
}

func parseSFlow(b []byte) (h sflowDatagram, why reason) {
	x := xdr{b: b}
	x.u32()
	h.agent = x.addr()
	h.sub, h.sequence, h.uptime, h.declared = x.u32(), x.u32(), x.u32(), x.u32()
	if x.bad {
		return h, badShort
	}
	h.rest = x.b
	return h, fine
}

// looksLikeSFlow asks for at least one sample, and that the first one stands whole in the datagram.
func looksLikeSFlow(b []byte) bool {
	h, why := parseSFlow(b)
	x := xdr{b: h.rest}
	x.u32()
	return why == fine && h.declared > 0 && len(x.opaque()) >= 12
}

// sflow decodes one datagram; the lock is held.
func (d *exportDecoder) sflow(h *sflowDatagram, cut bool, e *exporter, arrival int64) {
	if h.agent.IsZero() || h.agent == Addr4(0) { // not set at the agent
		h.agent = e.key
	}
	s := d.domain(e, domainKey{version: 5, id: h.sub, agent: h.agent}, arrival)
	d.stats.decoded.Inc()
	before := s.watermark
	d.open(s, arrival, arrival)
	q := &s.sequence
	if h.uptime < q.uptime && q.uptime-h.uptime > lateUptime && q.uptime-h.uptime < 1<<31 {
		q.restarts++
		d.agentRuns++
		s.agentRun, q.uptime = d.agentRuns, h.uptime
		d.batch.Gaps = append(d.batch.Gaps, Gap{Source: s.source, From: before, To: max(before, arrival), Reason: "restart"})
	}
	if int32(h.uptime-q.uptime) > 0 {
		q.uptime = h.uptime
	}
	lost := int64(0)
	x := xdr{b: h.rest}
	for n := uint32(0); n < h.declared && len(x.b) > 0; n++ {
		format, data := x.u32(), x.opaque()
		if x.bad {
			if cut {
				d.refuse(s, partCut, 1)
			} else {
				d.refuse(s, partSampleLength, 1)
			}
			break
		}
		switch format {
		case sflowFlow, sflowFlowExpanded:
			d.stats.sflow.flows.Inc()
			lost += d.flowSample(data, format == sflowFlowExpanded, s, arrival)
		case sflowCounters, sflowCountersExpanded:
			d.stats.sflow.counters.Inc()
		case sflowDiscarded:
			d.stats.sflow.discarded.Inc()
		default:
			d.stats.sflow.others.Inc()
		}
	}
	if lost > 0 {
		d.account(s, lost, before, arrival)
	}
	s.datagrams++
	s.lastSeen = max(s.lastSeen, arrival)
	s.watermark = max(s.watermark, arrival)
	d.stats.sflow.parser.publish(&d.parser)
}
