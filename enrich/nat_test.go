package enrich

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wharfwatch/wharfwatch/flow"
)

// kernel is a rig whose kernel is heard: host 198.51.100.1, container web at 172.18.0.5 and db at 172.18.0.6.
func kernel(change func(*Config)) *rig {
	r := newRig(change)
	r.connect("web", "172.18.0.5", t0-second)
	r.connect("db", "172.18.0.6", t0-second)
	r.Tracks(&Tracks{Engine: "local", Time: t0 - second, Mark: MarkHost, Host: []flow.Addr{ipAddr("198.51.100.1")}})
	r.Tracks(&Tracks{Engine: "local", Time: forever})
	return r
}

// told makes a track: "orig | reply's reverse", both as tuples from the opener's end.
func toldTrack(kind TrackKind, at float64, orig, outside string, proto uint8) Track {
	o, x := slice(orig, 0, 0, 0, 0), slice(outside, 0, 0, 0, 0)
	return Track{
		Time: t0 + int64(at*second), Kind: kind, Proto: proto,
		Orig:  Tuple{o.Src, o.Dst, o.SrcPort, o.DstPort},
		Reply: Tuple{x.Src, x.Dst, x.SrcPort, x.DstPort}.reverse(),
	}
}

func (r *rig) tracks(list ...Track) {
	r.Tracks(&Tracks{Engine: "local", Time: forever, Entries: list})
}

const (
	natWeb = "172.18.0.5:40000>203.0.113.9:443"
	natDB  = "172.18.0.6:40000>203.0.113.9:443"
	outer  = "198.51.100.1:40000>203.0.113.9:443"
)

// asked is how a query of one instant is answered, in short.
func (r *rig) asked(tuple string, at float64) string {
	x := slice(tuple, at, at, 0, 0)
	v := r.resolve(query{addr: x.Src, peer: x.Dst, port: x.SrcPort, peerPort: x.DstPort, proto: flow.TCP, first: x.First, last: x.Last})
	if v.holder == 0 {
		return v.reason.String()
	}
	return fmt.Sprintf("%s %s %s", r.roster.members[v.holder].c.Name, v.method, v.confidence)
}

func (r *rig) answers(t *testing.T, tuple string, at float64, want string) {
	t.Helper()
	if got := r.asked(tuple, at); got != want {
		t.Errorf("%s at %v: %s, want %s", tuple, at, got, want)
	}
}

func TestTranslations(t *testing.T) {
	r := kernel(nil)
	r.tracks(
		toldTrack(TrackBegin, 0, natWeb, outer, flow.TCP), toldTrack(TrackEnd, 10, natWeb, outer, flow.TCP),
		toldTrack(TrackBegin, 20, natDB, outer, flow.TCP), // the port outside is used again
		toldTrack(TrackBegin, 0, "203.0.113.7:5000>198.51.100.1:8080", "203.0.113.7:5000>172.18.0.5:80", flow.TCP),
		toldTrack(TrackBegin, 0, "172.18.0.6:5001>198.51.100.1:8080", "172.18.0.1:5001>172.18.0.5:80", flow.TCP),
	)
	r.answers(t, "198.51.100.1:8080>172.18.0.6:5001", 1, "web nat exact") // from another container by the host's address
	r.answers(t, "172.18.0.1:5001>172.18.0.5:80", 1, "db nat exact")      // and how that looks at the server's end
	r.answers(t, outer, 5, "web nat exact")
	r.answers(t, outer, 10.4, "web nat exact") // within the tolerance of clocks
	r.answers(t, outer, 15, "no-nat-entry")
	r.answers(t, outer, 19.6, "db nat exact")
	r.answers(t, outer, 500, "db nat exact")
	r.answers(t, "198.51.100.1:8080>203.0.113.7:5000", 1, "web nat exact") // a published port
	r.answers(t, "198.51.100.1:40001>203.0.113.9:443", 5, "no-nat-entry")
	if got := r.asked("203.0.113.9:443>198.51.100.1:40000", 5); got != "external" {
		t.Errorf("the far end is %s", got)
	}

	x := slice(outer, 4, 22, 0, 0) // over both
	v := r.resolve(query{addr: x.Src, peer: x.Dst, port: x.SrcPort, peerPort: x.DstPort, proto: flow.TCP, first: x.First, last: x.Last})
	if v.method != MethodReused || v.confidence != Low {
		t.Errorf("a flow over both is %s %s, want reused low", v.method, v.confidence)
	}
}

// TestTupleTakenOver has another container use the same tuple outside while UDP, which has no end, is not idle long enough to close.
func TestTupleTakenOver(t *testing.T) {
	r := kernel(nil)
	udp := func(at float64) flow.Record {
		x := slice(outer, at, at+.1, 100, 0)
		x.Proto = flow.UDP
		return x
	}
	r.tracks(toldTrack(TrackBegin, 0, natWeb, outer, flow.UDP))
	r.Records([]flow.Record{udp(0)})
	r.run(t0 + 10*second)
	r.tracks(toldTrack(TrackEnd, 12, natWeb, outer, flow.UDP), toldTrack(TrackBegin, 20, natDB, outer, flow.UDP))
	r.Records([]flow.Record{udp(20)})
	r.run(t0 + 200*second)
	sent := map[string]uint64{}
	for _, f := range r.flows {
		sent[f.Container.Name] += f.Sent
		if f.Method != MethodNAT || f.Confidence != Exact {
			t.Errorf("%s by %s, %s", f.Container.Name, f.Method, f.Confidence)
		}
	}
	if sent["web"] != 100 || sent["db"] != 100 {
		t.Errorf("sent %v, want 100 each", sent)
	}
	r.conserved(t)
}

// TestSockets is what the kernel says of the host's own connections.
func TestSockets(t *testing.T) {
	r := kernel(nil)
	agent := box("agent")
	agent.NetworkMode = "host"
	r.Event(&Event{Time: t0 - second, Kind: Started, Engine: "local", Container: agent})
	own := func(tuple string, side int, who Owner, flags uint8) Track {
		k := toldTrack(TrackBegin, 0, tuple, tuple, flow.TCP)
		k.Owner[side], k.Flags = who, flags
		return k
	}
	r.tracks(
		own("198.51.100.1:1001>203.0.113.9:443", 0, Owner{Container: agent.ID}, TrackAsked0),
		own("198.51.100.1:1002>203.0.113.9:443", 0, Owner{Unit: "sshd.service"}, TrackAsked0),
		own("198.51.100.1:1003>203.0.113.9:443", 0, Owner{}, TrackAsked0),
		own("203.0.113.9:5000>198.51.100.1:22", 1, Owner{Unit: "sshd.service"}, TrackAsked1|TrackListens1),
		own("172.18.0.1:1004>172.18.0.5:80", 0, Owner{Unit: "docker.service"}, TrackAsked0), // docker-proxy
		own("172.18.0.1:1005>172.18.0.5:80", 0, Owner{Container: agent.ID}, TrackAsked0),
		Track{Time: t0, Kind: TrackListen, Proto: flow.TCP, Orig: Tuple{DstPort: 9100}, Owner: [2]Owner{1: {Container: agent.ID}}},
		Track{Time: t0 + 60*second, Kind: TrackDeaf, Proto: flow.TCP, Orig: Tuple{DstPort: 9100}},
	)
	r.answers(t, "198.51.100.1:1001>203.0.113.9:443", 1, "agent socket exact")
	r.answers(t, "198.51.100.1:1002>203.0.113.9:443", 1, "sshd.service socket exact")
	r.answers(t, "198.51.100.1:1003>203.0.113.9:443", 1, "short-socket")
	r.answers(t, "198.51.100.1:22>203.0.113.9:5000", 1, "sshd.service listener high")
	r.answers(t, "172.18.0.1:1004>172.18.0.5:80", 1, "proxied")
	r.answers(t, "172.18.0.1:1005>172.18.0.5:80", 1, "agent socket exact")
	r.answers(t, "198.51.100.1:9100>203.0.113.9:6000", 1, "agent listener high")
	r.answers(t, "198.51.100.1:9100>203.0.113.9:6000", 90, "no-nat-entry")
	for _, c := range r.Containers() {
		if c.ID == "" {
			t.Errorf("the host's unit %s is listed as a container", c.Name)
		}
	}
	if i := r.roster.slots[memberID{"local", hostMember + "sshd.service"}]; r.roster.members[i].c.Workload != "host:local/sshd.service" {
		t.Errorf("sshd is %+v", r.roster.members[i].c)
	}
}

// TestPublishedPorts is what the engine says when the kernel says nothing.
func TestPublishedPorts(t *testing.T) {
	r := kernel(nil)
	web := *box("web")
	web.Started, web.Ports = t0, []Port{{Host: 8080, Container: 80, Proto: flow.TCP}}
	r.Event(&Event{Time: t0, Kind: Started, Engine: "local", Container: &web})
	r.Event(&Event{Time: t0 + 20*second, Kind: Died, Engine: "local", Container: &web})
	next := *box("next")
	next.Started, next.Ports = t0+30*second, web.Ports
	r.Event(&Event{Time: t0 + 30*second, Kind: Started, Engine: "local", Container: &next})
	const in = "198.51.100.1:8080>203.0.113.7:5000"
	r.answers(t, in, 10, "web port high")
	r.answers(t, in, 25, "no-nat-entry")
	r.answers(t, in, 40, "next port high")
	r.answers(t, "203.0.113.7:8080>198.51.100.1:5000", 40, "external")
}

func TestKernelDoubts(t *testing.T) {
	r := kernel(nil)
	found := toldTrack(TrackFound, 5, natWeb, outer, flow.TCP)
	r.tracks(found)
	r.answers(t, outer, 1, "web nat high") // it was there before, but since when nobody knows
	r.answers(t, outer, 6, "web nat exact")

	r.Tracks(&Tracks{Engine: "local", Time: t0 + 20*second, From: t0 + 10*second, Mark: MarkLost})
	r.answers(t, outer, 15, "web nat high")
	r.answers(t, "198.51.100.1:2>203.0.113.9:443", 15, "gap")
	r.answers(t, "198.51.100.1:2>203.0.113.9:443", 30, "no-nat-entry")

	// A dump after the loss does not show the connection any more: its end was among what was lost.
	r.Tracks(&Tracks{Engine: "local", Time: t0 + 20*second, Mark: MarkDump})
	r.tracks(toldTrack(TrackFound, 20, natDB, "198.51.100.1:40007>203.0.113.9:443", flow.TCP))
	r.Tracks(&Tracks{Engine: "local", Time: t0 + 20*second, Mark: MarkDumped})
	r.answers(t, outer, 30, "no-nat-entry")
	r.answers(t, "198.51.100.1:40007>203.0.113.9:443", 30, "db nat exact")

	// What the kernel has not been heard up to may still be told.
	r = kernel(nil)
	r.tracks0(t0)
	r.Records([]flow.Record{slice(outer, 3, 4, 100, done)})
	r.tracks(toldTrack(TrackBegin, 3, natWeb, outer, flow.TCP))
	r.run(t0 + 60*second)
	if len(r.flows) == 0 || r.flows[0].Container.Name != "web" || r.flows[0].Opener != OpenerLocal {
		t.Errorf("a flow ahead of its translation is not attributed: %v", r.flows)
	}
	r.conserved(t)
}

// tracks0 is a kernel that was heard up to a time.
func (r *rig) tracks0(at int64) {
	r.Table.tracks.kernels[0].progress = at
}

// TestTranslationEngines has the same address behind two hosts.
func TestTranslationEngines(t *testing.T) {
	r := kernel(nil)
	far := box("far")
	far.Engine = "b"
	r.bind(Connected, far, "172.18.0.5", t0-second)
	r.Tracks(&Tracks{Engine: "b", Time: t0, Mark: MarkHost, Host: []flow.Addr{ipAddr("198.51.100.2")}})
	r.tracks(toldTrack(TrackBegin, 0, natWeb, outer, flow.TCP))
	r.Tracks(&Tracks{Engine: "b", Time: forever, Entries: []Track{toldTrack(TrackBegin, 0, natWeb, "198.51.100.2:40000>203.0.113.9:443", flow.TCP)}})
	r.answers(t, outer, 1, "web nat exact")
	r.answers(t, "198.51.100.2:40000>203.0.113.9:443", 1, "far nat exact")
}

// TestTracksAgainstNaive compares the table with a list that is searched from end to end.
func TestTracksAgainstNaive(t *testing.T) {
	r := newRig(nil)
	r.Tracks(&Tracks{Engine: "local", Time: t0})
	x := &r.Table.tracks
	random := rand.New(rand.NewPCG(5, 6))
	var naive []track
	now := int64(0)
	for range 20000 {
		now += random.Int64N(5)
		k := Track{Time: now, Proto: []uint8{flow.TCP, flow.UDP}[random.IntN(2)], Kind: TrackBegin}
		k.Orig = Tuple{flow.Addr4(0x0a000000 + random.Uint32N(4)), flow.Addr4(0xcb007100 + random.Uint32N(2)), uint16(random.UintN(4)), 443}
		k.Reply = k.Orig.reverse()
		if random.IntN(4) != 0 {
			k.Reply.Dst, k.Reply.DstPort = flow.Addr4(0xc0000201), uint16(random.UintN(8))
		}
		lasting := slices.IndexFunc(naive, func(e track) bool { return e.to == forever && e.orig == k.Orig && e.proto == k.Proto })
		switch random.IntN(5) {
		case 0, 1:
			if lasting >= 0 {
				naive[lasting].to = now
			}
			naive = append(naive, track{orig: k.Orig, reply: k.Reply, from: now, to: forever, proto: k.Proto})
			x.begin(0, &k)
		case 2:
			if lasting >= 0 {
				naive[lasting].to = now
			}
			x.end(0, &k)
		case 3:
			old := now - 200
			naive = slices.DeleteFunc(naive, func(e track) bool { return e.to < old })
			x.prune(old)
		}
		at := now - random.Int64N(100)
		q := query{addr: k.Reply.Dst, port: k.Reply.DstPort, peer: k.Reply.Src, peerPort: k.Reply.SrcPort, proto: k.Proto, first: at, last: at}
		var want, got []string
		for _, e := range naive {
			out := e.reply
			if e.proto == q.proto && e.from <= at && (e.to == forever || e.to >= at) &&
				(out.Dst == q.addr && out.DstPort == q.port && out.Src == q.peer && out.SrcPort == q.peerPort ||
					e.orig.Src == q.addr && e.orig.SrcPort == q.port && e.orig.Dst == q.peer && e.orig.DstPort == q.peerPort) {
				want = append(want, fmt.Sprint(e.orig.Src, e.from))
			}
		}
		if x.used > 0 {
			for _, h := range r.tracksOf(q, 0, make([]match, 0, 64)) {
				e := &x.entries[h.track]
				got = append(got, fmt.Sprint(e.orig.Src, e.from))
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(slices.Compact(want), slices.Compact(got)) {
			t.Fatalf("at %d of %d: found %v, want %v", at, now, got, want)
		}
	}
	x.prune(forever)
	live := 0
	for _, e := range naive {
		if e.to == forever {
			live++
		}
	}
	if x.live != live || len(x.entries)-1-len(x.free) != live {
		t.Errorf("%d live, %d taken, want %d", x.live, len(x.entries)-1-len(x.free), live)
	}
}

// TestTracksBounded floods the table: memory stays at its bound, and what is forgotten is counted.
func TestTracksBounded(t *testing.T) {
	const most, flood = 2048, 100_000
	r := kernel(func(c *Config) { c.Conntrack.Entries = most })
	x := &r.Table.tracks
	for i := range flood {
		k := toldTrack(TrackBegin, float64(i)/1000, natWeb, outer, flow.TCP)
		k.Orig.SrcPort, k.Reply.DstPort, k.Orig.Dst = uint16(i), uint16(i), flow.Addr4(0xcb000000+uint32(i>>16))
		k.Reply.Src = k.Orig.Dst
		k.Owner[0] = Owner{Unit: fmt.Sprint("unit", i)}
		r.tracks(k)
		if i%3 == 0 {
			k.Kind = TrackEnd
			r.tracks(k)
		}
	}
	if len(x.entries) != most+1 || x.evicted != flood-most || len(x.slots) > 4*2*most || x.used != 2*most || len(x.owners.at) != most || len(x.owners.list) > most+2 {
		t.Errorf("%d entries, %d evicted, %d slots of which %d used, %d owners in %d", len(x.entries), x.evicted, len(x.slots), x.used, len(x.owners.at), len(x.owners.list))
	}
	if n := r.metric("wharfwatch_tracks_evicted_total"); n != flood-most {
		t.Errorf("the counter says %d evicted, want %d", n, flood-most)
	}
}

func TestTrackLookupsDoNotAllocate(t *testing.T) {
	r := kernel(nil)
	r.tracks(toldTrack(TrackBegin, 0, natWeb, outer, flow.TCP))
	x := slice(outer, 1, 1, 0, 0)
	q := query{addr: x.Src, peer: x.Dst, port: x.SrcPort, peerPort: x.DstPort, proto: flow.TCP, first: x.First, last: x.Last}
	if n := testing.AllocsPerRun(1000, func() {
		if r.resolve(q).method != MethodNAT {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations per lookup", n)
	}
}

// BenchmarkTrackLookup asks for one of a million translations.
func BenchmarkTrackLookup(b *testing.B) {
	r := kernel(func(c *Config) { c.Conntrack.Entries = 1 << 20 })
	list := make([]query, 1<<20)
	for i := range list {
		k := toldTrack(TrackBegin, 0, natWeb, outer, flow.TCP)
		k.Orig.SrcPort, k.Reply.DstPort, k.Orig.Dst = uint16(i), uint16(i), flow.Addr4(0xcb000000+uint32(i>>16))
		k.Reply.Src = k.Orig.Dst
		r.Table.tracks.begin(0, &k)
		list[i] = query{addr: k.Reply.Dst, port: k.Reply.DstPort, peer: k.Orig.Dst, peerPort: 443, proto: flow.TCP, first: t0 + second, last: t0 + second}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if r.resolve(list[i&(1<<20-1)]).method != MethodNAT {
			b.Fatal("not found")
		}
	}
}

// TestSharedNamespace is A8 as far as the engine's word goes: the sandbox's owner is named, with doubt, while somebody shares it.
func TestSharedNamespace(t *testing.T) {
	r := kernel(nil)
	web := *r.roster.members[r.roster.slots[memberID{"local", box("web").ID}]].c
	web.Started = t0 - 5*second
	r.Event(&Event{Time: t0 - 5*second, Kind: Listed, Engine: "local", Container: &web})
	side := *box("sidecar")
	side.NetworkMode, side.Started = "container:"+web.ID, t0+10*second
	nested := *box("nested")
	nested.NetworkMode, nested.Started = "container:"+side.ID, t0+20*second
	r.Event(&Event{Time: side.Started, Kind: Started, Engine: "local", Container: &side})
	r.Event(&Event{Time: nested.Started, Kind: Started, Engine: "local", Container: &nested})
	side.Running, side.Finished = false, t0+30*second
	nested.Running, nested.Finished = false, t0+30*second
	r.Event(&Event{Time: side.Finished, Kind: Died, Engine: "local", Container: &side})
	r.Event(&Event{Time: nested.Finished, Kind: Died, Engine: "local", Container: &nested})

	r.answers(t, natWeb, 5, "web ip exact")
	r.answers(t, natWeb, 15, "web shared-netns medium")
	r.answers(t, natWeb, 40, "web ip exact")
	r.answers(t, natDB, 15, "db ip exact")
	r.tracks(toldTrack(TrackBegin, 0, natWeb, outer, flow.TCP))
	r.answers(t, outer, 5, "web nat exact")
	r.answers(t, outer, 15, "web shared-netns medium")
	if got := r.Explain(ipAddr("172.18.0.5"), 0, t0+25*second).Candidates; !slices.Equal(got, []string{"sidecar", "nested"}) {
		t.Errorf("candidates %q", got)
	}
	k := toldTrack(TrackBegin, 12, "172.18.0.5:40001>203.0.113.9:443", "198.51.100.1:40001>203.0.113.9:443", flow.TCP)
	k.Owner[0] = Owner{Container: side.ID}
	r.tracks(k)
	r.answers(t, "172.18.0.5:40001>203.0.113.9:443", 15, "sidecar shared-socket exact")
	r.answers(t, "198.51.100.1:40001>203.0.113.9:443", 15, "sidecar shared-socket exact")
}

// TestCountedOnce sees one connection before and behind its host's translation, in both orders.
func TestCountedOnce(t *testing.T) {
	for _, order := range [][2]string{{natWeb, outer}, {outer, natWeb}} {
		r := kernel(nil)
		r.tracks(toldTrack(TrackBegin, 0, natWeb, outer, flow.TCP))
		for i, tuple := range order {
			for at := range 3 {
				x := slice(tuple, float64(20*at+i), float64(20*at+i+15), 1000, []uint8{asks, flow.ACK, flow.ACK}[at])
				x.InIf = uint32(i + 1)
				r.Records([]flow.Record{x})
			}
		}
		r.run(t0 + 600*second)
		sent, closes := uint64(0), 0
		for _, f := range r.flows {
			sent += f.Sent
			if f.Kind&Close != 0 {
				closes++
			}
		}
		if sent != 3000 || closes != 1 {
			t.Errorf("%v: %d bytes in %d connections, want 3000 in 1", order, sent, closes)
		}
		if n := r.metric("wharfwatch_flows_duplicates_total"); n != 3 {
			t.Errorf("%v: %d duplicates, want 3", order, n)
		}
		r.conserved(t)
	}
}

func TestExplainOutside(t *testing.T) {
	r := kernel(nil)
	r.tracks(toldTrack(TrackBegin, 0, natWeb, outer, flow.TCP), toldTrack(TrackBegin, 5, natDB, "198.51.100.1:40000>203.0.113.10:443", flow.TCP))
	f := func(port uint16, at int64, name string, candidates ...string) {
		t.Helper()
		e := r.Explain(ipAddr("198.51.100.1"), port, t0+at*second)
		if e.Container == nil || e.Container.Name != name || e.Method != MethodNAT || !slices.Equal(e.Candidates, candidates) {
			t.Errorf("port %d at %d: %s %v", port, at, e.Text, e.Candidates)
		}
	}
	f(40000, 2, "web")
	f(40000, 9, "db", "web") // two peers, one port
	if got := r.Explain(ipAddr("198.51.100.1"), 40000, t0+9*second).Text; got != `port 40000 of 198.51.100.1 was "db" (name:db) at 2026-09-21T14:14:09Z, by nat, confidence exact, and with other peers: web` {
		t.Error(got)
	}
	if e := r.Explain(ipAddr("198.51.100.1"), 40001, t0+2*second); e.Container != nil || e.Reason != "no-nat-entry" {
		t.Errorf("a port that nobody used: %s", e.Text)
	}
}
