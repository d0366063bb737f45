package enrich

import (
	"testing"

	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	macWeb = flow.MAC(0x0242ac110002)
	macApp = flow.MAC(0x0242ac110003)
)

// plugged binds a container with a hardware address.
func (r *rig) plugged(name, ip string, mac flow.MAC, at int64) *Container {
	c := box(name)
	r.Event(&Event{Time: at, Kind: Connected, Engine: c.Engine, Container: c, Binding: &Binding{
		NetworkID: "net1", Network: "bridge", Addrs: []flow.Addr{ipAddr(ip)}, MAC: mac.String(),
	}})
	return c
}

func seen(mac flow.MAC, ip string, at int64) flow.Sight {
	return flow.Sight{Time: at, Kind: flow.SightSource, MAC: mac, Told: mac, Addr: ipAddr(ip), Peer: ipAddr("203.0.113.9"), Port: 443, Proto: flow.TCP, Bridge: true}
}

// TestForgedSource has app send under web's address between two conversations of web: only the forged one is in doubt.
func TestForgedSource(t *testing.T) {
	r := newRig(nil)
	web := r.plugged("web", "172.17.0.2", macWeb, t0)
	app := r.plugged("app", "172.17.0.3", macApp, t0)
	r.Sights("capture:docker0", []flow.Sight{seen(macWeb, "172.17.0.2", t0+second), seen(macApp, "172.17.0.2", t0+3*second), seen(macWeb, "172.17.0.2", t0+5*second)})
	for i := range int64(3) {
		at := t0 + (1+2*i)*second
		r.Records([]flow.Record{{
			First: at, Last: at + second/2, Src: ipAddr("172.17.0.2"), Dst: ipAddr("203.0.113.9"), SrcPort: uint16(4000 + i), DstPort: 443,
			Proto: flow.TCP, TCPFlags: flow.SYN, Bytes: 60, Packets: 1, Sampling: 1, Flags: flow.FlagPackets,
		}})
		r.Advance(at+2*second, r)
	}
	for at := t0 + 8*second; at < t0+20*second; at += second {
		r.Advance(at, r)
	}
	want := map[uint16]Confidence{4000: Exact, 4001: Low, 4002: Exact}
	got := map[uint16]Confidence{}
	for _, f := range r.flows {
		if f.Kind&Open != 0 && f.Container == web {
			got[f.LocalPort] = f.Confidence
		}
	}
	for port, c := range want {
		if got[port] != c {
			t.Errorf("port %d: confidence %s, want %s", port, got[port], c)
		}
	}
	if len(r.claims) != 1 || r.claims[0].Container != app || r.claims[0].Holder != web || r.claims[0].Kind != ClaimSource {
		t.Fatalf("claims %+v", r.claims)
	}
}

// TestSightsCounted floods the queue and checks that every sight is judged, waits or is counted as dropped; tables keep their bounds.
func TestSightsCounted(t *testing.T) {
	r := newRig(nil)
	r.plugged("web", "172.17.0.2", macWeb, t0)
	for n := range int64(20) {
		var ss []flow.Sight
		for i := range int64(maxSights/2 + 500) {
			s := seen(flow.MAC(0x020000000000+i), "172.17.0.2", t0+n*second+i)
			if i%2 == 0 {
				s.Addr = flow.Addr4(0xac110000 + uint32(i))
			}
			ss = append(ss, s)
		}
		r.Sights("capture:docker0", ss)
		r.Advance(t0+n*second+second, r)
	}
	x := &r.sights
	sum := x.dropped + uint64(len(x.queue))
	for _, n := range x.judged {
		sum += n
	}
	if sum != x.taken || x.dropped == 0 {
		t.Errorf("%d taken, %d dropped, judged or waiting: %d", x.taken, x.dropped, sum)
	}
	if len(x.strangers.at) > maxStrangers || len(x.claimed) > maxClaimed || x.strangers.evicted == 0 {
		t.Errorf("%d strangers, %d evicted, %d claims", len(x.strangers.at), x.strangers.evicted, len(x.claimed))
	}
}

// TestStrangersNeedTheirEngine: while the engine is blind, and for what began before it was read again, nobody is a stranger.
func TestStrangersNeedTheirEngine(t *testing.T) {
	for name, tt := range map[string]struct {
		blind, back int64
		told        int
	}{"read": {0, 0, 1}, "blind": {5, 0, 0}, "back later": {5, 20, 0}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(nil)
			r.plugged("web", "172.17.0.2", macWeb, t0)
			if r.engines[0].progress = t0; tt.blind != 0 {
				r.Event(&Event{Time: t0 + tt.blind*second, Kind: Blind, Engine: "local"})
			}
			r.Sights("capture:docker0", []flow.Sight{seen(0x020000000099, "172.17.0.77", t0+10*second)})
			for s := int64(1); s < 120; s++ {
				if tt.back == s {
					r.Event(&Event{Time: t0 + s*second, Kind: Synced, Engine: "local"})
				}
				if tt.blind == 0 || tt.back != 0 && s > tt.back {
					r.progress(t0 + s*second)
				}
				r.Advance(t0+s*second, r)
			}
			if len(r.claims) != tt.told {
				t.Errorf("%d told, want %d: %+v", len(r.claims), tt.told, r.claims)
			}
		})
	}
}
