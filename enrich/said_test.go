package enrich

import (
	"fmt"
	"slices"
	"testing"

	"github.com/wharfwatch/wharfwatch/flow"
)

// A connection's own word is of that connection: another one to the same address, a later one on the same ports, or the answer of a
// resolver do not get it, and it does not become the answer of a resolver.
func TestAskedName(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	hello := func(at float64, port uint16, name string) flow.Name {
		return flow.Name{
			Time: t0 + int64(at*1e9), Kind: flow.NameTLS, Client: ipAddr("172.18.0.5"), Server: ipAddr("203.0.113.9"), ClientPort: port, Port: 443, Proto: flow.TCP,
			Name: name, JA4: "t13d1516h2_8daaf6152771_e5627efa2ab1",
		}
	}
	r.Names([]flow.Name{
		hello(.3, 40000, "api.example.com"), hello(.3, 40001, "www.example.com"),
		{Time: t0 + 1e8, Kind: flow.NameDNS, Client: ipAddr("172.18.0.5"), Name: "cdn.example.net", Addrs: []flow.Addr{ipAddr("203.0.113.9")}, TTL: 30},
	})
	r.Records([]flow.Record{
		slice("172.18.0.5:40000>203.0.113.9:443", .2, .4, 500, asks), slice("172.18.0.5:40001>203.0.113.9:443", .2, .4, 500, asks),
		slice("172.18.0.5:40002>203.0.113.9:443", .2, .4, 500, asks),
	})
	r.run(t0 + second)
	want := map[uint16]string{40000: "api.example.com", 40001: "www.example.com", 40002: ""}
	if len(r.flows) != 3 || len(r.names) != 3 {
		t.Fatalf("%d flows, %d names", len(r.flows), len(r.names))
	}
	for _, f := range r.flows {
		if f.Asked != want[f.LocalPort] || f.PeerName != "cdn.example.net" || (f.JA4 != "") != (f.Asked != "") {
			t.Errorf("port %d asked for %q (%s), the peer is %q", f.LocalPort, f.Asked, f.JA4, f.PeerName)
		}
	}
	r.Records([]flow.Record{slice("172.18.0.5:40000>203.0.113.9:443", 1000, 1000, 500, asks)})
	r.run(t0 + 1001*second)
	if f := r.flows[len(r.flows)-1]; f.Asked != "" {
		t.Errorf("a later connection of the same ports asked for %q", f.Asked)
	}
	r.Names([]flow.Name{hello(1120, 40003, "late.example.com")}) // the log of a whole connection, which asked long after it began
	r.Records([]flow.Record{slice("172.18.0.5:40003>203.0.113.9:443", 1100, 1130, 500, asks)})
	r.run(t0 + 1131*second)
	if f := r.flows[len(r.flows)-1]; f.LocalPort != 40003 || f.Asked != "late.example.com" {
		t.Errorf("port %d asked for %q", f.LocalPort, f.Asked)
	}
	e := r.Explain(ipAddr("203.0.113.9"), 443, t0+second)
	if !slices.Equal(e.Names, []string{"api.example.com", "cdn.example.net", "late.example.com", "www.example.com"}) {
		t.Errorf("explained by %v: %s", e.Names, e.Text)
	}
}

func TestSayingsAreBounded(t *testing.T) {
	var s sayings
	for i := range maxSaid + 10 {
		n := flow.Name{Time: t0, Kind: flow.NameHTTP, Client: flow.Addr4(uint32(i)), Name: fmt.Sprint(i)}
		if kept := s.keep(&n); kept != (i < maxSaid) {
			t.Fatalf("name %d: %v", i, kept)
		}
		if len(s.ring) > maxSaid || len(s.at) != len(s.ring) {
			t.Fatalf("%d names, %d found", len(s.ring), len(s.at))
		}
	}
	if again := (flow.Name{Time: t0 + 2*saidFor, Client: flow.Addr4(1 << 30)}); !s.keep(&again) {
		t.Error("an old one is missed")
	}
}
