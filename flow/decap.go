package flow

import "encoding/binary"

// Envelopes: what a packet is wrapped in on its way to a mirror or over an overlay. The innermost flow is what is reported, with
// the outermost VLAN and VNI that are known. An envelope whose inside is not IP, or cannot be read, stays the flow that it is
// itself, and is counted by its kind.
//
// Headers behind which nothing else can stand (802.1Q, MPLS, PPPoE) are walked by network; these here stand behind an IP header.
type envelope uint8

const (
	envVXLAN envelope = iota
	envGeneve
	envGRE
	envERSPAN
	envMPLS
	envGTP
	envIPIP
	envTeredo
	envEtherIP
	envelopes = iota
)

// envelopeNames are the label values of wharfwatch_flow_envelopes_total and its kin.
var envelopeNames = [envelopes]string{"vxlan", "geneve", "gre", "erspan", "mpls", "gtp", "ipip", "teredo", "etherip"}

const (
	maxEnvelopes = 8      // one in another; the ninth is not opened
	maxInner     = 0xffff // bytes of a packet whose envelope was fragmented: its own length field says it, not the fragment
)

// IP protocols that carry packets, https://www.iana.org/assignments/protocol-numbers.
const (
	protoIPIP    = 4
	protoIPv6    = 41
	protoGRE     = 47
	protoEtherIP = 97 // RFC 3378
	protoMPLS    = 137
)

// UDP ports that carry packets. VXLAN's envelope goes to the port from any other; GTP-U and Teredo answer from it.
const (
	portGTP      = 2152 // 3GPP TS 29.281
	portTeredo   = 3544 // RFC 4380
	portGRE      = 4754 // RFC 8086
	portVXLAN    = 4789 // RFC 7348
	portVXLANGPE = 4790 // draft-ietf-nvo3-vxlan-gpe
	portGeneve   = 6081 // RFC 8926
	portMPLS     = 6635 // RFC 7510
	portVXLANOld = 8472 // what Linux took before 4789 was assigned; flannel and Cilium still do
)

// tunnelPort tells the ports behind which an envelope is looked for.
func tunnelPort(port uint16) bool {
	switch port {
	case portGTP, portTeredo, portGRE, portVXLAN, portVXLANGPE, portGeneve, portMPLS, portVXLANOld:
		return true
	}
	return false
}

// upper reads the transport header at frame[at:], and looks into it when packets stand behind it.
func (p *parser) upper(k *packet, frame []byte, at, length int, now int64) verdict {
	v := k.transport(frame, at, length)
	if k.proto != TCP && v == used && !p.closed && k.carries() {
		p.unwrap(k, frame, at, at+length, now)
	}
	return v
}

// carries says whether a packet may stand in this one.
func (k *packet) carries() bool {
	switch k.proto {
	case UDP:
		return tunnelPort(k.dport) || tunnelPort(k.sport)
	case protoIPIP, protoIPv6, protoGRE, protoEtherIP, protoMPLS:
		return true
	}
	return false
}

// content is what an envelope says about its inside. Ethertype 0: nothing that can be read here.
type content struct {
	kind            envelope
	ethertype, vlan uint16
	vni             uint32
}

// unwrap replaces k by the packet inside, if there is one: end is where the envelope does.
func (p *parser) unwrap(k *packet, frame []byte, at, end int, now int64) {
	if k.depth == maxEnvelopes {
		p.tooDeep++
		return
	}
	b, c := captured(frame, at, end), content{kind: envIPIP}
	header := 0
	switch k.proto {
	case protoIPIP:
		c.ethertype = typeIPv4
	case protoIPv6:
		c.ethertype = typeIPv6
	case protoGRE:
		header, c = gre(b)
	case protoMPLS:
		c = content{kind: envMPLS, ethertype: typeMPLS}
	case protoEtherIP:
		c.kind, header = envEtherIP, 2
		if len(b) > 0 && b[0]>>4 == 3 {
			c.ethertype = typeEthernet
		}
	default:
		at += 8
		port := k.dport
		if !tunnelPort(port) {
			port = k.sport
		}
		b = captured(frame, at, end)
		header, c = overUDP(b, port)
	}
	if c.ethertype == 0 {
		p.opaque[c.kind]++
		return
	}
	outer := *k
	*k = packet{vlan: k.vlan, vni: k.vni, depth: k.depth + 1}
	if k.vlan == 0 {
		k.vlan = c.vlan
	}
	if k.vni == 0 {
		k.vni = c.vni
	}
	if p.network(k, frame, at+header, end, c.ethertype, now) != used {
		*k = outer
		p.opaque[c.kind]++
		return
	}
	p.unwrapped[c.kind]++
}

// captured is what there is of frame[at:end].
func captured(frame []byte, at, end int) []byte {
	end = min(end, len(frame))
	return frame[min(at, end):end]
}

// overUDP reads the header of an envelope behind a UDP header.
func overUDP(b []byte, port uint16) (header int, c content) {
	switch port {
	case portVXLAN, portVXLANOld, portVXLANGPE:
		c.kind = envVXLAN
		if len(b) < 8 || b[0]&0x08 == 0 { // the VNI is not valid
			return 0, c
		}
		c.vni, c.ethertype = binary.BigEndian.Uint32(b[4:])>>8, typeEthernet
		if port == portVXLANGPE && b[0]&0x04 != 0 {
			c.ethertype = serviceProtocol(b[3])
		}
		return 8, c
	case portGeneve:
		c.kind = envGeneve
		if len(b) < 8 || b[0]>>6 != 0 {
			return 0, c
		}
		c.vni, c.ethertype = binary.BigEndian.Uint32(b[4:])>>8, binary.BigEndian.Uint16(b[2:])
		return 8 + int(b[0]&0x3f)*4, c
	case portGTP:
		c.kind = envGTP
		header, c.ethertype = gtp(b)
	case portTeredo:
		c.kind = envTeredo
		if header = teredo(b); header >= 0 {
			c.ethertype = typeIPv6
		}
	case portGRE:
		return gre(b)
	case portMPLS:
		c = content{kind: envMPLS, ethertype: typeMPLS}
	}
	return header, c
}

// gtp reads a GTP-U header: version 1, a user packet. The header is longer when one of E, S and PN is set.
//
//	0 version 3, PT, -, E, S, PN   1 type   2 length behind byte 8   4 TEID   8 sequence   10 N-PDU   11 next extension
func gtp(b []byte) (header int, ethertype uint16) {
	if len(b) < 9 || b[0]&0xf0 != 0x30 || b[1] != 0xff {
		return 0, 0
	}
	header = 8
	if b[0]&7 != 0 {
		header = 12
		for range maxExtensions {
			if b[0]&4 == 0 || len(b) < header || b[header-1] == 0 {
				break
			}
			if len(b) <= header || b[header] == 0 {
				return 0, 0
			}
			header += int(b[header]) * 4
		}
	}
	if len(b) <= header || b[0]&4 != 0 && b[header-1] != 0 {
		return 0, 0
	}
	return header, ipVersion(b[header])
}

// teredo is the length of what stands before the IPv6 packet: authentication, origin, both or nothing. -1 is no Teredo.
func teredo(b []byte) int {
	at := 0
	if len(b) >= 4 && b[0] == 0 && b[1] == 1 {
		at = 13 + int(b[2]) + int(b[3])
	}
	if len(b) >= at+8 && b[at] == 0 && b[at+1] == 0 {
		at += 8
	}
	if len(b) <= at || b[at]>>4 != 6 {
		return -1
	}
	return at
}

// serviceProtocol maps the next protocol of VXLAN-GPE and NSH (RFC 8300) to an Ethernet type, 0 for none.
func serviceProtocol(next uint8) uint16 {
	switch next {
	case 1:
		return typeIPv4
	case 2:
		return typeIPv6
	case 3:
		return typeEthernet
	case 4:
		return typeNSH
	case 5:
		return typeMPLS
	}
	return 0
}

func ipVersion(first byte) uint16 {
	switch first >> 4 {
	case 4:
		return typeIPv4
	case 6:
		return typeIPv6
	}
	return 0
}
