package flow

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"
)

func TestParseIgnore(t *testing.T) {
	p := netip.MustParsePrefix
	for in, want := range map[string]ignoreRule{
		"192.0.2.1": {p("192.0.2.1/32"), 0}, "192.0.2.9/24": {p("192.0.2.0/24"), 0}, "192.0.2.1:80": {p("192.0.2.1/32"), 80},
		"192.0.2.0/24:80": {p("192.0.2.0/24"), 80}, "[2001:db8::1]:80": {p("2001:db8::1/128"), 80}, "[2001:db8::/32]:80": {p("2001:db8::/32"), 80},
		"2001:db8::1": {p("2001:db8::1/128"), 0}, ":80": {port: 80},
	} {
		if got, err := parseIgnore(in); got != want || err != nil {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", ":", ":0", ":65536", "x", "192.0.2.1:", "192.0.2.1:x", "192.0.2.0/33:80", "[192.0.2.1]", "2001:db8::/129", "any:80", "[192.0.2.1]:80"} {
		if got, err := parseIgnore(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}

// says is what a rule means, without a filter.
func (r ignoreRule) says(k *packet, later bool) bool {
	side := func(a Addr, port uint16) bool {
		return (!r.prefix.IsValid() || r.prefix.Contains(a.Netip())) && (r.port == 0 || !later && (k.proto == TCP || k.proto == UDP) && port == r.port)
	}
	return side(k.src, k.sport) || side(k.dst, k.dport)
}

// The kernel's filter drops exactly the packets that the rules name, judged by the parser. It is run here by x/net's machine.
func TestIgnoreProgram(t *testing.T) {
	var rules []ignoreRule
	for _, s := range []string{"10.0.0.1:443", "10.0.1.0/24", "10.2.0.0/15:53", "[2001:db8::7]:443", "2001:db8:0:1::/64", ":8470"} {
		r, err := parseIgnore(s)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	r := rand.New(rand.NewPCG(5, 6))
	dropped, kept := 0, 0
	for _, link := range []uint32{linkEthernet, linkRaw2} {
		raw, err := ignoreProgram(rules, link == linkEthernet, 2048)
		if err != nil {
			t.Fatal(err)
		}
		program, ok := bpf.Disassemble(raw)
		if !ok {
			t.Fatal("not to be disassembled")
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatal(err)
		}
		port := func() uint16 { return []uint16{443, 53, 8470, 80, 50000}[r.IntN(5)] }
		for range 20_000 {
			proto := []layers.IPProtocol{TCP, UDP, ICMP}[r.IntN(3)]
			ls := []gopacket.SerializableLayer{ethernet(typeIPv4)}
			later := false
			if r.IntN(2) == 0 {
				h := ip4(proto)
				h.SrcIP[1], h.SrcIP[2], h.SrcIP[3] = byte(r.IntN(4)), byte(r.IntN(3)), byte(r.IntN(3))
				h.DstIP[1], h.DstIP[2], h.DstIP[3] = byte(r.IntN(4)), byte(r.IntN(3)), byte(r.IntN(3))
				for range r.IntN(2) {
					h.Options = append(h.Options, layers.IPv4Option{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}})
				}
				if later = r.IntN(8) == 0; later {
					h.FragOffset = 100
				}
				ls = append(ls, h)
			} else {
				ls[0] = ethernet(typeIPv6)
				h := ip6(proto)
				h.SrcIP[7], h.SrcIP[15] = byte(r.IntN(2)), byte(6+r.IntN(2))
				h.DstIP[7], h.DstIP[15] = byte(r.IntN(2)), byte(6+r.IntN(2))
				ls = append(ls, h)
			}
			switch proto {
			case TCP:
				ls = append(ls, tcp(port(), port(), "A"))
			case UDP:
				ls = append(ls, udp(port(), port()))
			default:
				ls = append(ls, payload(24))
			}
			if link != linkEthernet {
				ls = ls[1:]
			}
			frame := serialize(t, ls...)
			var p parser
			var k packet
			if v := p.parse(&k, link, frame, 0, 0, 1); v != used {
				t.Fatal(verdictNames[v])
			}
			want := 2048
			for _, rule := range rules {
				if rule.says(&k, later) {
					want = 0
				}
			}
			got, err := vm.Run(frame)
			if err != nil || got != want {
				t.Fatalf("%d bytes kept, want %d, %v: %+v", got, want, err, k.said())
			}
			if want == 0 {
				dropped++
			} else {
				kept++
			}
		}
		if n, err := vm.Run(serialize(t, ethernet(layers.EthernetTypeARP), payload(28))); link == linkEthernet && (n != 2048 || err != nil) {
			t.Errorf("%d bytes of ARP kept, %v", n, err)
		}
	}
	if dropped < 1000 || kept < 1000 {
		t.Errorf("%d dropped, %d kept", dropped, kept)
	}
}

// The most rules fit into what the kernel takes.
func TestIgnoreProgramSize(t *testing.T) {
	rules := make([]ignoreRule, maxIgnore)
	for i := range rules {
		rules[i] = ignoreRule{netip.MustParsePrefix("2001:db8::1/128"), 443}
		if i%2 == 0 {
			rules[i] = ignoreRule{port: 443}
		}
	}
	program, err := ignoreProgram(rules, true, 2048)
	if err != nil || len(program) > 4096 {
		t.Errorf("%d instructions, %v", len(program), err)
	}
}
