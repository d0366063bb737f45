package flow

const variableLength = 0xffff

// element says what an information element becomes in a Record. Of several that give the same value the lowest rank wins, and of
// equals the first in the template. https://www.iana.org/assignments/ipfix/ipfix.xhtml
type element struct {
	value   value
	rank    uint8
	time    timeKind
	address uint8 // 4 or 16 bytes, else an integer of 1 to 8
}

var elements = map[uint16]element{
	8: {value: srcLo, address: 4}, 12: {value: dstLo, address: 4},
	27: {value: srcLo, address: 16}, 28: {value: dstLo, address: 16},
	7: {value: srcPort}, 180: {value: srcPort, rank: 1}, 182: {value: srcPort, rank: 1},
	11: {value: dstPort}, 181: {value: dstPort, rank: 1}, 183: {value: dstPort, rank: 1},
	4: {value: protocol}, 6: {value: tcpFlags},

	1: {value: octets}, 85: {value: octets, rank: 1}, 231: {value: octets, rank: 2}, 352: {value: octets, rank: 3}, 23: {value: octets, rank: 4},
	2: {value: packets}, 86: {value: packets, rank: 1}, 298: {value: packets, rank: 2}, 24: {value: packets, rank: 4},
	232: {value: reverseOctets, rank: 1}, 299: {value: reversePackets, rank: 1},

	152: {value: firstTime, rank: 0, time: timeMillis}, 153: {value: lastTime, rank: 0, time: timeMillis},
	156: {value: firstTime, rank: 1, time: timeNanos}, 157: {value: lastTime, rank: 1, time: timeNanos},
	154: {value: firstTime, rank: 2, time: timeMicros}, 155: {value: lastTime, rank: 2, time: timeMicros},
	150: {value: firstTime, rank: 3, time: timeSeconds}, 151: {value: lastTime, rank: 3, time: timeSeconds},
	158: {value: firstTime, rank: 4, time: timeDelta}, 159: {value: lastTime, rank: 4, time: timeDelta},
	22: {value: firstTime, rank: 5, time: timeUptime}, 21: {value: lastTime, rank: 5, time: timeUptime},
	323: {value: lastTime, rank: 6, time: timeMillis}, 322: {value: lastTime, rank: 7, time: timeSeconds}, // when an event was observed
	161: {value: duration}, 160: {value: initTime},

	10: {value: inIf}, 14: {value: outIf},
	225: {value: natSrcLo, address: 4}, 226: {value: natDstLo, address: 4},
	281: {value: natSrcLo, address: 16}, 282: {value: natDstLo, address: 16},
	227: {value: natSrcPort}, 228: {value: natDstPort},
	40001: {value: natSrcLo, rank: 1, address: 4}, 40002: {value: natDstLo, rank: 1, address: 4}, // Cisco ASA before 8.4, v9 only
	40003: {value: natSrcPort, rank: 1}, 40004: {value: natDstPort, rank: 1},
	58: {value: vlan}, 243: {value: vlan, rank: 1}, 59: {value: vlan, rank: 2}, 254: {value: vlan, rank: 3}, 351: {value: vni},
	234: {value: vrf}, 235: {value: vrf, rank: 1},
	136: {value: endReason},
	32:  {value: icmpTypeCode}, 139: {value: icmpTypeCode, rank: 1},
	176: {value: icmpType}, 178: {value: icmpType, rank: 1}, 177: {value: icmpCode}, 179: {value: icmpCode, rank: 1},
	233: {value: fwEvent}, 40005: {value: fwEvent, rank: 1}, 148: {value: flowID}, 239: {value: biflowDirection},
	34: {value: rateInterval}, 305: {value: ratePackets}, 306: {value: rateSpace},
	48: {value: sampler}, 302: {value: sampler, rank: 1},
}

// reversePEN marks the elements of the other direction of a biflow, RFC 5103.
const reversePEN = 29305

var reverseElements = map[uint16]element{
	1: {value: reverseOctets}, 85: {value: reverseOctets, rank: 1},
	2: {value: reversePackets}, 86: {value: reversePackets, rank: 1},
	6: {value: reverseFlags},
}

// certPEN marks the elements of CERT's YAF: the flags of the first packet and of the others, in both directions.
// https://tools.netsa.cert.org/cert-ipfix-registry/cert_ipfix_formatted.html
const certPEN = 6871

var certElements = map[uint16]element{
	14: {value: tcpFlags, rank: 1}, 15: {value: moreFlags}, 14 | 0x4000: {value: reverseFlags, rank: 1}, 15 | 0x4000: {value: moreReverseFlags},
}

type field struct {
	id, length uint16
	pen        uint32
}

type planField struct {
	length  uint16
	value   value
	address uint8
}

// compile makes the plan of a template. bad counts the fields whose length their element cannot have; they are skipped.
func compile(fields []field) (p *plan, bad int, why reason) {
	if len(fields) == 0 || len(fields) > maxFields {
		return nil, 0, partFields
	}
	p = &plan{}
	var ranks [values]uint8
	var seen [values]bool
	chosen := make([]planField, len(fields))
	off := 0
	for i, f := range fields {
		chosen[i] = planField{length: f.length, value: none}
		n := int(f.length)
		if f.length == variableLength {
			p.variable = true
			n = 1
		}
		if e, known := lookup(f); known {
			if !e.fits(f.length) {
				bad++
			} else {
				v := e.value
				if e.address == 4 && (v == srcLo || v == dstLo) && sixteen(fields, v) {
					p.dual = true
					if v == srcLo {
						v = src4
					} else {
						v = dst4
					}
				}
				if !seen[v] || e.rank < ranks[v] {
					if seen[v] {
						p.unchoose(chosen[:i], v)
					}
					seen[v], ranks[v] = true, e.rank
					chosen[i].value, chosen[i].address = v, e.address
					p.place(v, e.address, off, n)
					switch v {
					case firstTime:
						p.first = e.time
					case lastTime:
						p.last = e.time
					}
				}
			}
		}
		off += n
	}
	if off == 0 || off > maxRecord {
		return nil, bad, partSize
	}
	p.size = off
	p.addressed = seen[srcLo] || seen[dstLo]
	p.event = p.picks[fwEvent].has()
	p.totals = p.event && ranks[octets] > 0
	p.biflow = p.picks[reverseOctets].has() || p.picks[reversePackets].has()
	for v := natSrcHi; v < values; v++ {
		p.extras = p.extras || p.picks[v].has()
	}
	if p.variable {
		p.fields = chosen
	}
	return p, bad, fine
}

func lookup(f field) (element, bool) {
	switch f.pen {
	case 0:
		e, known := elements[f.id]
		return e, known
	case reversePEN:
		e, known := reverseElements[f.id]
		return e, known
	case certPEN:
		e, known := certElements[f.id]
		return e, known
	}
	return element{}, false
}

// fits allows reduced-size encoding, RFC 7011 6.2.
func (e element) fits(length uint16) bool {
	if e.address != 0 {
		return length == uint16(e.address)
	}
	return length >= 1 && length <= 8 || length == variableLength
}

// sixteen reports whether the template has the IPv6 form of an address as well.
func sixteen(fields []field, v value) bool {
	for _, f := range fields {
		if e, known := lookup(f); known && e.value == v && e.address == 16 && e.fits(f.length) {
			return true
		}
	}
	return false
}

func (p *plan) unchoose(chosen []planField, v value) {
	for i := range chosen {
		if chosen[i].value == v {
			chosen[i].value = none
		}
	}
}

// place aims a value at n bytes at off.
func (p *plan) place(v value, address uint8, off, n int) {
	switch address {
	case 4, 16:
		p.aim(v, off, address == 4)
	default:
		p.picks[v] = pick{}
		if n >= 1 && n <= 8 {
			p.picks[v] = pick{mask: ^uint64(0), off: uint16(off), shift: uint8(64 - 8*n)}
		}
	}
}

func (p *plan) aim(lo value, off int, four bool) {
	whole := ^uint64(0)
	if lo == src4 || lo == dst4 {
		p.picks[lo] = pick{mask: whole, off: uint16(off), shift: 32}
		return
	}
	family := uint64(0)
	if four {
		family = mapped
		p.picks[lo-1], p.picks[lo] = pick{}, pick{mask: whole, off: uint16(off), shift: 32}
	} else {
		p.picks[lo-1], p.picks[lo] = pick{mask: whole, off: uint16(off)}, pick{mask: whole, off: uint16(off + 8)}
	}
	switch lo {
	case srcLo:
		p.srcOr = family
	case dstLo:
		p.dstOr = family
	case natSrcLo:
		p.natSrcOr = family
	case natDstLo:
		p.natDstOr = family
	}
}
