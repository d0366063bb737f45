package flow

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// Sight is who was seen to speak for an address on an Ethernet: a frame's source beside the address that it claims. A bridge forwards
// what a port sends, whatever source that writes into it, so that an address alone proves nobody.
type Sight struct {
	Time int64     // ns
	Kind SightKind //
	MAC  MAC       // source of the frame
	Told MAC       // the hardware address that an ARP packet claims for Addr; else MAC
	Addr Addr      // claimed, or an address of no private network
	Peer Addr      // to whom; zero for ARP

	Port   uint16 // of the peer
	Proto  uint8
	Bridge bool // seen at a bridge of this host, by another than the bridge itself: the sender is one of its ports
}

// SightKind says what the frame was.
type SightKind uint8

// The kinds of Sight.
const (
	SightSource  SightKind = iota + 1 // the first packet of a conversation, or of a slice of it, from an address of a private network
	SightOutside                      // the same from any other address: what routers do. Addr is one of them
	SightARP                          // an ARP packet (RFC 826): its sender's claim
	SightRouter                       // an IPv6 router advertisement (RFC 4861)
	SightDHCP                         // a DHCP server's answer (RFC 2131, RFC 8415)
)

// MAC is an Ethernet address, its first byte the highest of six. 0 is none.
type MAC uint64

// String is the usual form, 02:42:ac:11:00:02.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", byte(m>>40), byte(m>>32), byte(m>>24), byte(m>>16), byte(m>>8), byte(m))
}

// ParseMAC reads six hexadecimal bytes with colons; ok is false for anything else.
func ParseMAC(s string) (m MAC, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 6 {
		return 0, false
	}
	for _, p := range parts {
		b, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(p) != 2 {
			return 0, false
		}
		m = m<<8 | MAC(b)
	}
	return m, true
}

// macAt reads six bytes, and looks at the two behind them: b has eight.
func macAt(b []byte) MAC {
	_ = b[7]
	return MAC(uint64(b[0])<<40 | uint64(b[1])<<32 | uint64(b[2])<<24 | uint64(b[3])<<16 | uint64(b[4])<<8 | uint64(b[5]))
}

const (
	sightPlaces = 2048     // addresses whose last speaker is remembered, per tap
	sightAgain  = 60 * sec // the same speaker of an address is said again after so long
	sightRate   = 500      // said in a second of packet time
	typeARP     = 0x0806
	arpLength   = 28
)

// witness notices who speaks for which address. It is asked once per slice of a conversation and direction, not per packet, and says a
// pair again only when the speaker of an address changed or a minute passed. One tap uses it; its output depends on the packets only.
type witness struct {
	own    MAC  // of the bridge that is captured: what it sends itself is the host's
	bridge bool // own is known
	said   []spoken

	second                int64
	spent                 int
	told, again, overflow uint64 // said; not said again; beyond the rate
}

// spoken is the last speaker of an address.
type spoken struct {
	addr Addr
	mac  MAC
	at   int64
	kind SightKind
}

// packet looks at the first packet of a slice.
func (w *witness) packet(k *packet, now int64) (s Sight, say bool) {
	if k.mac == w.own {
		return s, false
	}
	s = Sight{Time: now, Kind: SightSource, MAC: k.mac, Told: k.mac, Addr: k.src, Peer: k.dst, Port: k.dport, Proto: k.proto, Bridge: w.bridge}
	switch {
	case k.proto == ICMPv6 && k.dport>>8 == 134:
		s.Kind = SightRouter
	case k.proto == UDP && (k.sport == 67 && k.dport == 68 || k.sport == 547 && k.dport == 546):
		s.Kind = SightDHCP
	case nobodysAddress(k.src):
		return s, false
	case !privateAddress(k.src):
		s.Kind = SightOutside
	}
	return s, w.news(&s)
}

// arp looks at a frame that is not IP.
func (w *witness) arp(frame []byte, now int64) (s Sight, say bool) {
	if len(frame) < 14+arpLength {
		return s, false
	}
	at, kind := 14, uint16(frame[12])<<8|uint16(frame[13])
	if kind == typeVLAN && len(frame) >= 18+arpLength {
		at, kind = 18, uint16(frame[16])<<8|uint16(frame[17])
	}
	b := frame[at:]
	if kind != typeARP || b[0] != 0 || b[1] != 1 || b[2] != 8 || b[3] != 0 || b[4] != 6 || b[5] != 4 { // Ethernet and IPv4
		return s, false
	}
	s = Sight{Time: now, Kind: SightARP, MAC: macAt(frame[6:]), Told: macAt(b[8:]), Bridge: w.bridge}
	s.Addr = Addr4(uint32(b[14])<<24 | uint32(b[15])<<16 | uint32(b[16])<<8 | uint32(b[17]))
	if s.MAC == 0 || s.MAC == w.own || nobodysAddress(s.Addr) { // a probe claims nothing (RFC 5227)
		return s, false
	}
	return s, w.news(&s)
}

// news says whether a sight is worth a word, and remembers it.
func (w *witness) news(s *Sight) bool {
	if w.said == nil {
		w.said = make([]spoken, sightPlaces)
	}
	key, mac := s.Addr, s.MAC
	switch s.Kind {
	case SightOutside, SightRouter, SightDHCP: // once per speaker, however many addresses it sends from
		key = Addr{Lo: uint64(s.MAC)}
	case SightARP:
		mac ^= s.Told << 8 // both matter
	}
	h := (key.Lo ^ key.Hi*0xd6e8feb86659fd93 ^ uint64(s.Kind)<<56) * 0x9e3779b97f4a7c15
	p := &w.said[h>>53]
	if p.addr == key && p.kind == s.Kind && p.mac == mac && s.Time-p.at < sightAgain && s.Time >= p.at-sightAgain {
		w.again++
		return false
	}
	if s.Time/sec != w.second {
		w.second, w.spent = s.Time/sec, 0
	}
	if w.spent++; w.spent > sightRate {
		w.overflow++
		return false
	}
	*p = spoken{key, mac, s.Time, s.Kind}
	w.told++
	return true
}

// privateAddress tells addresses of private networks (RFC 1918, 6598, 4193), which container networks have.
func privateAddress(a Addr) bool {
	if !a.Is4() {
		return a.Hi>>57 == 0xfc>>1
	}
	v := uint32(a.Lo)
	return v>>24 == 10 || v>>20 == 0xac1 || v>>16 == 0xc0a8 || v>>22 == 0x64400000>>22
}

// nobodysAddress tells sources that name nobody: unspecified, loopback, link-local, multicast.
func nobodysAddress(a Addr) bool {
	if !a.Is4() {
		return a.Hi == 0 && a.Lo <= 1 || a.Hi>>54 == 0xfe80>>6 || a.Hi>>56 == 0xff
	}
	v := uint32(a.Lo)
	return v>>24 == 0 || v>>24 == 127 || v>>16 == 0xa9fe || v>>28 >= 0xe
}

// sightMeter are the counters of all witnesses of one metrics.Set.
type sightMeter struct{ told, again, overflow *metrics.Counter }

func newSightMeter(set *metrics.Set) sightMeter {
	return sightMeter{
		told:     set.GetOrCreateCounter("wharfwatch_flow_sights_total"),
		again:    set.GetOrCreateCounter("wharfwatch_flow_sights_repeated_total"),
		overflow: set.GetOrCreateCounter("wharfwatch_flow_sights_dropped_total"),
	}
}

func (m *sightMeter) publish(w *witness) {
	m.told.AddInt64(int64(w.told))
	m.again.AddInt64(int64(w.again))
	m.overflow.AddInt64(int64(w.overflow))
	w.told, w.again, w.overflow = 0, 0, 0
}
