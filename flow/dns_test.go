package flow

import (
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func question(name string, kind layers.DNSType) layers.DNSQuestion {
	return layers.DNSQuestion{Name: []byte(name), Type: kind, Class: layers.DNSClassIN}
}

func answerA(name string, ttl uint32, ip ...byte) layers.DNSResourceRecord {
	return layers.DNSResourceRecord{Name: []byte(name), Type: layers.DNSTypeA, Class: layers.DNSClassIN, TTL: ttl, IP: ip}
}

func dnsMessage(t testing.TB, code layers.DNSResponseCode, q layers.DNSQuestion, answers ...layers.DNSResourceRecord) []byte {
	return serialize(t, &layers.DNS{ID: 7, QR: true, RD: true, RA: true, ResponseCode: code, Questions: []layers.DNSQuestion{q}, Answers: answers})
}

// compressed is an answer as servers send it: names are pointers, and an alias stands before the address.
const compressed = "\x00\x07\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00" +
	"\x03WWW\x07example\x03com\x00\x00\x01\x00\x01" +
	"\xc0\x0c\x00\x05\x00\x01\x00\x00\x01\x2c\x00\x06\x03cdn\xc0\x10" +
	"\xc0\x2d\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01" +
	"\xc0\x2d\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\xc0\x00\x02\x02"

func TestDNS(t *testing.T) {
	head := func(s string) string { return "\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + s }
	many := func(n int) []byte {
		var as []layers.DNSResourceRecord
		for i := range n {
			as = append(as, answerA("a.example", 5, 192, 0, 2, byte(i)))
		}
		return dnsMessage(t, 0, question("a.example", layers.DNSTypeA), as...)
	}
	long := strings.TrimSuffix(strings.Repeat(strings.Repeat("a", 62)+".", 4), ".") // 251 bytes
	for name, c := range map[string]struct {
		b    string
		cut  bool
		kind int
		want Name
	}{
		"compressed chain": {b: compressed, kind: dnsAnswer, want: Name{Name: "www.example.com", QType: 1, TTL: 30, Addrs: []Addr{Addr4(0xc0000201), Addr4(0xc0000202)}}},
		"no such name":     {b: string(dnsMessage(t, 3, question("x.example", layers.DNSTypeAAAA))), kind: dnsAnswer, want: Name{Name: "x.example", QType: 28, RCode: 3}},
		"ipv6": {
			b:    string(dnsMessage(t, 0, question("x.example", layers.DNSTypeAAAA), layers.DNSResourceRecord{Name: []byte("x.example"), Type: layers.DNSTypeAAAA, Class: 1, TTL: 9, IP: net.ParseIP("2001:db8::5")})),
			kind: dnsAnswer, want: Name{Name: "x.example", QType: 28, TTL: 9, Addrs: []Addr{{0x20010db800000000, 5}}},
		},
		"the root":              {b: compressed[:6] + "\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01", kind: dnsAnswer, want: Name{QType: 2}},
		"other class":           {b: head("\x01x\x00\x00\x01\x00\x03\xc0\x0c\x00\x01\x00\x03\x00\x00\x00\x01\x00\x04\x01\x02\x03\x04"), kind: dnsAnswer, want: Name{Name: "x", QType: 1}},
		"the longest name":      {b: string(dnsMessage(t, 0, question(long, layers.DNSTypeA))), kind: dnsAnswer, want: Name{Name: long, QType: 1}},
		"unprintable":           {b: head("\x04a.\x00\xff\x01b\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x01\x02\x03\x04"), kind: dnsAnswer, want: Name{Name: `a\046\000\255.b`, QType: 1, TTL: 1, Addrs: []Addr{Addr4(0x01020304)}}},
		"cut in the answers":    {b: compressed[:len(compressed)-3], cut: true, kind: dnsAnswer, want: Name{Name: "www.example.com", QType: 1, TTL: 60, Addrs: []Addr{Addr4(0xc0000201)}}},
		"short without a cut":   {b: compressed[:len(compressed)-3], kind: dnsMalformed},
		"a question":            {b: "\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01", kind: dnsOther},
		"an update":             {b: "\x00\x07\xa8\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01", kind: dnsOther},
		"two questions":         {b: "\x00\x07\x81\x80\x00\x02\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01\x01y\x00\x00\x01\x00\x01", kind: dnsMalformed},
		"no header":             {b: compressed[:11], kind: dnsMalformed},
		"no question":           {b: compressed[:12], kind: dnsMalformed},
		"name without end":      {b: head("\x03www"), kind: dnsMalformed},
		"pointer to itself":     {b: head("\xc0\x0c\x00\x01\x00\x01"), kind: dnsMalformed},
		"pointer forwards":      {b: head("\x01a\xc0\x20\x00\x01\x00\x01") + strings.Repeat("\x01b\x00", 20), kind: dnsMalformed},
		"pointer to the header": {b: head("\x01a\xc0\x00\x00\x01\x00\x01"), kind: dnsMalformed},
		"pointer cut":           {b: head("\x01a\xc0"), kind: dnsMalformed},
		"label of 64":           {b: head("\x40" + strings.Repeat("a", 64) + "\x00\x00\x01\x00\x01"), kind: dnsMalformed},
		"name of 256":           {b: head(strings.Repeat("\x3f"+strings.Repeat("a", 63), 4) + "\x00\x00\x01\x00\x01"), kind: dnsMalformed},
		"address of 3 bytes":    {b: head("\x01x\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x03\x01\x02\x03"), kind: dnsMalformed},
	} {
		var n Name
		if kind := parseAnswer([]byte(c.b), c.cut, &n); kind != c.kind {
			t.Errorf("%s: kind %d, want %d", name, kind, c.kind)
		} else if kind == dnsAnswer {
			if diff := cmp.Diff(c.want, n); diff != "" {
				t.Errorf("%s: -want +got\n%s", name, diff)
			}
		}
	}
	var n Name
	if kind := parseAnswer(many(40), false, &n); kind != dnsAnswer || len(n.Addrs) != dnsAddrs {
		t.Errorf("40 addresses: kind %d, %d kept", kind, len(n.Addrs))
	}
	n = Name{}
	escaped := head("\x3f" + strings.Repeat("\xff", 63) + "\x3f" + strings.Repeat("\xff", 63) + "\x07example\x03com\x00\x00\x01\x00\x01")
	if parseAnswer([]byte(escaped), true, &n) != dnsAnswer || len(n.Name) != dnsNameLength || !strings.HasSuffix(n.Name, `\255.example.com`) {
		t.Errorf("a name that escapes made too long: %d %q", len(n.Name), n.Name)
	}
}

// On valid answers the parser says what gopacket says.
func TestDNSOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	label := func() string {
		b := make([]byte, 1+r.IntN(20))
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyz0123456789-_ABC"[r.IntN(41)]
		}
		return string(b)
	}
	for range 3000 {
		name := label()
		for range r.IntN(5) {
			name += "." + label()
		}
		var answers []layers.DNSResourceRecord
		for range r.IntN(8) {
			a := layers.DNSResourceRecord{Name: []byte(name), Class: layers.DNSClassIN, TTL: r.Uint32() >> 8}
			switch r.IntN(4) {
			case 0:
				a.Type, a.CNAME = layers.DNSTypeCNAME, []byte(label()+"."+label())
			case 1:
				a.Type, a.IP = layers.DNSTypeAAAA, net.ParseIP("2001:db8::1")
				a.IP[15] = byte(r.Uint32())
			case 2:
				a.Type, a.TXT = layers.DNSTypeTXT, []byte(label())
				a.TXTs = [][]byte{a.TXT}
			default:
				a.Type, a.IP = layers.DNSTypeA, net.IP{10, byte(r.Uint32()), 1, 2}
			}
			answers = append(answers, a)
		}
		b := dnsMessage(t, layers.DNSResponseCode(r.IntN(6)), question(name, layers.DNSTypeA), answers...)
		var o layers.DNS
		if err := o.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			t.Fatal(err)
		}
		want := Name{Name: strings.ToLower(string(o.Questions[0].Name)), QType: uint16(o.Questions[0].Type), RCode: uint8(o.ResponseCode)}
		for i, a := range o.Answers {
			if i == 0 || a.TTL < want.TTL {
				want.TTL = a.TTL
			}
			if a.Type == layers.DNSTypeA || a.Type == layers.DNSTypeAAAA {
				want.Addrs = append(want.Addrs, Addr16(a.IP.To16()))
			}
		}
		var got Name
		if kind := parseAnswer(b, false, &got); kind != dnsAnswer {
			t.Fatalf("kind %d of %x", kind, b)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-gopacket +ours\n%s\n%x", diff, b)
		}
	}
}

// An answer in a frame becomes a Name of the batch; a question does not, and neither does one that was cut off whole.
func TestTapNames(t *testing.T) {
	set := metrics.NewSet()
	c := &collected{}
	p := newTap("test", NewPool(4), 100, set, c.take)
	frame := serialize(t, ethernet(typeIPv4), ip4(UDP), udp(53, 4000), gopacket.Payload(compressed))
	p.frame(linkEthernet, frame, 0, 0, base)
	p.frame(linkEthernet, frame[:len(frame)-3], len(frame), 0, base+1)
	p.frame(linkEthernet, frame[:42], len(frame), 0, base+2)
	p.frame(linkEthernet, serialize(t, ethernet(typeIPv4), ip4(UDP), udp(53, 4000), gopacket.Payload(strings.Repeat("\x80", 20))), 0, 0, base+3)
	p.frame(linkEthernet, serialize(t, ethernet(typeIPv4), ip4(UDP), udp(4000, 53), gopacket.Payload(compressed)), 0, 0, base+4)
	p.drain()
	want := Name{Time: base, Kind: NameDNS, Client: Addr4(0x0a000002), Server: Addr4(0x0a000001), ClientPort: 4000, Port: 53, Proto: UDP, QType: 1, Name: "www.example.com", TTL: 30, Addrs: []Addr{Addr4(0xc0000201), Addr4(0xc0000202)}}
	half := want
	half.Time, half.TTL, half.Addrs = base+1, 60, want.Addrs[:1]
	if diff := cmp.Diff([]Name{want, half}, c.names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if a, m := p.meter.names.answers.Get(), p.meter.names.dnsMalformed.Get(); a != 2 || m != 1 {
		t.Errorf("%d answers, %d malformed", a, m)
	}
}

// Whatever the bytes, what comes out keeps the bounds that Name promises.
func FuzzDNS(f *testing.F) {
	f.Add([]byte(compressed), false)
	f.Add(dnsMessage(f, 3, question("x.example", layers.DNSTypeAAAA)), true)
	f.Add([]byte("\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), false)
	f.Fuzz(func(t *testing.T, b []byte, cut bool) {
		var n Name
		if parseAnswer(b, cut, &n) != dnsAnswer {
			return
		}
		if len(n.Name) > dnsNameLength || len(n.Addrs) > dnsAddrs || strings.HasSuffix(n.Name, ".") {
			t.Fatalf("%d addresses for %q", len(n.Addrs), n.Name)
		}
		for _, c := range []byte(n.Name) {
			if c <= ' ' || c > '~' || c >= 'A' && c <= 'Z' {
				t.Fatalf("byte %#x in %q", c, n.Name)
			}
		}
	})
}
