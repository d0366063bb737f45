package enrich

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/flow"
)

// A container on a user-defined network asks 127.0.0.11, which asks from the host: it is listed as unnamed, and what the host was told
// names its destinations, but is no question of its own. On the default bridge, and with DNS of its own, nothing of that holds.
func TestEmbeddedResolver(t *testing.T) {
	r := newRig(nil)
	put := func(name, mode, ip string) {
		c := box(name)
		c.NetworkMode = mode
		r.Event(&Event{
			Time: t0 - second, Kind: Connected, Engine: c.Engine, Container: c,
			Binding: &Binding{NetworkID: "net1", Network: mode, Addrs: []flow.Addr{ipAddr(ip)}, Bits: []int{16}, Gateways: []flow.Addr{ipAddr("172.18.0.1")}},
		})
	}
	put("web", "shop_default", "172.18.0.5")
	put("own", "shop_default", "172.18.0.6")
	put("old", "bridge", "172.18.0.7")
	answer := func(client, name string) flow.Name {
		return flow.Name{Time: t0 + 1e8, Kind: flow.NameDNS, Client: ipAddr(client), Server: ipAddr("192.0.2.53"), Name: name, Addrs: []flow.Addr{ipAddr("203.0.113.9")}, TTL: 30}
	}
	r.Names([]flow.Name{answer("172.18.0.1", "host.example.com"), answer("172.18.0.6", "own.example.com")})
	var all []flow.Record
	for i := range 4 {
		for _, ip := range []string{"172.18.0.5", "172.18.0.6", "172.18.0.7"} {
			all = append(all, slice(fmt.Sprintf("%s:%d>203.0.113.9:443", ip, 40000+i), .2, .4, 500, asks))
		}
	}
	for i := range all {
		all[i].Flags |= flow.FlagPackets
	}
	r.Records(all)
	r.run(t0 + second)
	want := map[string]string{"web": "host.example.com", "own": "own.example.com", "old": ""}
	if len(r.flows) != len(all) {
		t.Fatalf("%d flows", len(r.flows))
	}
	for _, f := range r.flows {
		if f.PeerName != want[f.Container.Name] {
			t.Errorf("%s calls its peer %q, want %q", f.Container.Name, f.PeerName, want[f.Container.Name])
		}
	}
	if len(r.names) != 1 || r.names[0].Container.Name != "own" {
		t.Errorf("the host's answer was told as a container's: %+v", r.names)
	}
	if diff := cmp.Diff([]Unnamed{{Workload: "name:web", Network: "shop_default", Connections: 4, HostAnswers: 1}}, r.Unnamed()); diff != "" {
		t.Error(diff)
	}
	if n := r.metric("wharfwatch_names_of_host_total"); n != 1 {
		t.Errorf("%d answers of the host", n)
	}
}
