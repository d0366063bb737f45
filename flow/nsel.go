package flow

const maxConnections = 65536 // followed for their counters, per decoder

// connection is one connection of a firewall that exports events (Cisco ASA's NSEL): it is told when it is made, now and then while it
// lasts, and when it ends. By the manual an update has what came since the last; there are devices whose updates and ends have the totals,
// and adding those up counts twice. What is less than has been counted cannot be a total; what is not less is taken for one, and only what
// is beyond the count is added.
//
// https://www.cisco.com/c/en/us/td/docs/security/asa/special/netflow/asa_netflow.html
type connection struct {
	domain           *domain
	src, dst         Addr
	id               uint64 // flowId, element 148
	srcPort, dstPort uint16
	proto            uint8
}

type counted struct{ bytes, packets, backBytes, backPackets uint64 }

// firewallEvent, element 233; Cisco's own 40005 has the same values.
const (
	eventCreated = 1
	eventDeleted = 2
	eventDenied  = 3
	eventUpdate  = 5
)

// once leaves in the two directions of an event only what was not counted before.
func (d *exportDecoder) once(p *plan, x []byte, r, back *Record, s *domain) {
	event := p.picks[fwEvent].get(x)
	switch event {
	case eventCreated:
	case eventDeleted:
		r.Flags |= FlagEnd
	case eventDenied:
		r.Flags |= FlagEnd
		return
	case eventUpdate:
		r.Flags |= FlagForced
	default:
		return
	}
	back.Flags |= r.Flags & (FlagEnd | FlagForced)
	if !p.totals {
		return
	}
	k := connection{s, r.Src, r.Dst, p.picks[flowID].get(x), r.SrcPort, r.DstPort, r.Proto}
	c, known := d.connections.get(k)
	now := counted{r.Bytes, r.Packets, back.Bytes, back.Packets}
	if !known {
		if event != eventDeleted && now != (counted{}) {
			kept := now
			d.connections.put(k, &kept, func(connection, *counted) { d.stats.evictedConnections.Inc() })
		}
		return
	}
	if now.bytes >= c.bytes && now.packets >= c.packets && now.backBytes >= c.backBytes && now.backPackets >= c.backPackets {
		r.Bytes, r.Packets = now.bytes-c.bytes, now.packets-c.packets
		back.Bytes, back.Packets = now.backBytes-c.backBytes, now.backPackets-c.backPackets
	}
	c.bytes, c.packets = c.bytes+r.Bytes, c.packets+r.Packets
	c.backBytes, c.backPackets = c.backBytes+back.Bytes, c.backPackets+back.Packets
	if event == eventDeleted {
		d.connections.drop(k)
	}
}
