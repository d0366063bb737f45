package enrich

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/flow"
)

// delivery is a record and when it comes, in seconds after t0.
type delivery struct {
	at  float64
	rec flow.Record
}

const worldSeconds = 600

// world is ten minutes of a host: 12 containers of which some are reborn, short and long connections, answers, strangers, and a
// second exporter that sees half of it too. Slices are cut after 60 s. Every connection has a tuple of its own.
func world(seed uint64) (events []Event, out []delivery) {
	r := rand.New(rand.NewPCG(seed, 7))
	lives := map[string][]float64{} // from, to, from, to, …
	for i := range 12 {
		ip := fmt.Sprintf("172.18.0.%d", 2+i)
		for life, at := 0, -1.0; at < worldSeconds; life++ {
			c := box(fmt.Sprintf("c%d-%d", i, life))
			b := &Binding{NetworkID: "net1", Addrs: []flow.Addr{ipAddr(ip)}}
			events = append(events, Event{Time: t0 + int64(at*second), Kind: Connected, Engine: "local", Container: c, Binding: b})
			lives[ip] = append(lives[ip], at)
			at += 100 + 900*r.Float64()
			lives[ip] = append(lives[ip], at-2)
			events = append(events, Event{Time: t0 + int64((at-2)*second), Kind: Disconnect, Engine: "local", Container: c, Binding: b})
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return int((a.Time - b.Time) / 1e6) })
	for n := range 400 {
		from, to := fmt.Sprintf("172.18.0.%d", 2+r.IntN(14)), fmt.Sprintf("203.0.113.%d", 1+r.IntN(200))
		if r.IntN(5) == 0 {
			to = fmt.Sprintf("172.18.0.%d", 2+r.IntN(12))
		}
		src, dst := fmt.Sprintf("%s:%d", from, 20_000+n), to+":443"
		begin, length := worldSeconds*r.Float64(), .01+r.ExpFloat64()
		if r.IntN(4) == 0 {
			length = 300 * r.Float64()
		}
		for _, ip := range []string{from, to} { // no connection outlives its container
			for i := 0; i < len(lives[ip]); i += 2 {
				if a, b := lives[ip][i], lives[ip][i+1]; begin < b {
					begin = max(begin, a+.1)
					length = min(length, b-begin)
					break
				}
			}
		}
		if begin > worldSeconds {
			continue
		}
		proto, answered := uint8(flow.TCP), r.IntN(6) > 0
		if r.IntN(4) == 0 {
			proto = flow.UDP
		}
		twice := r.IntN(2) == 0
		for at := begin; at < begin+length; at += 60 {
			end := min(at+59.9, begin+length)
			flags := uint8(flow.ACK)
			if at == begin {
				flags |= flow.SYN
			}
			if end == begin+length {
				flags |= flow.FIN
			}
			for d := range 2 {
				if d == 1 && !answered {
					continue
				}
				tuple := src + ">" + dst
				if d == 1 {
					tuple = dst + ">" + src
				}
				x := slice(tuple, at+.001*float64(d), end, 1+r.Uint64N(10_000), flags)
				if x.Proto = proto; proto == flow.UDP {
					x.TCPFlags = 0
				}
				out = append(out, delivery{end, x})
				if twice {
					x.Exporter = ipAddr("192.0.2.2")
					out = append(out, delivery{end, x})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b delivery) int { return int(1000*a.at) - int(1000*b.at) })
	return events, out
}

// play delivers a world second by second.
func play(r *rig, events []Event, ds []delivery) {
	for s := range worldSeconds + 700 {
		for len(events) > 0 && events[0].Time < t0+int64(s+1)*second {
			r.Event(&events[0])
			events = events[1:]
		}
		var batch []flow.Record
		for len(ds) > 0 && ds[0].at < float64(s+1) {
			batch = append(batch, ds[0].rec)
			ds = ds[1:]
		}
		r.Records(batch)
		r.Advance(t0+int64(s+1)*second, r)
	}
}

func said(r *rig) (out []string) {
	for _, f := range r.flows {
		out = append(out, fmt.Sprintf("%x %s", f.Conn, say(f)))
	}
	return out
}

func TestSameInputSameOutput(t *testing.T) {
	for seed := range uint64(4) {
		events, ds := world(seed)
		first := newRig(nil)
		play(first, events, ds)
		if len(first.flows) < 300 {
			t.Fatalf("only %d flows", len(first.flows))
		}
		for i := 1; i < len(first.flows); i++ {
			a, b := first.flows[i-1], first.flows[i]
			if a.Conn == b.Conn && a.Time == b.Time && a.Container == b.Container && a.Local == b.Local && a.LocalPort == b.LocalPort && a.Kind == b.Kind {
				t.Fatalf("said twice: %s", say(a))
			}
		}
		first.conserved(t)
		for _, shards := range []int{1, 2, 7, 64} { // and another seed of the placement each time
			again := newRig(func(c *Config) { c.Connections.Shards = shards })
			again.seed = randomSeed()
			play(again, events, ds)
			if d := gocmp.Diff(said(first), said(again)); d != "" {
				t.Fatalf("%d shards: -one shard +got\n%s", shards, d)
			}
			again.conserved(t)
		}
	}
}

// The order of records that come within one second does not show.
func TestOrderWithinASecondDoesNotShow(t *testing.T) {
	for seed := range uint64(4) {
		events, ds := world(seed)
		first := newRig(nil)
		play(first, events, ds)
		r := rand.New(rand.NewPCG(seed, 9))
		for from := 0; from < len(ds); {
			to := from
			for to < len(ds) && int(ds[to].at) == int(ds[from].at) {
				to++
			}
			r.Shuffle(to-from, func(i, j int) { ds[from+i], ds[from+j] = ds[from+j], ds[from+i] })
			from = to
		}
		again := newRig(nil)
		play(again, events, ds)
		if d := gocmp.Diff(said(first), said(again)); d != "" {
			t.Fatalf("seed %d: -in order +shuffled\n%s", seed, d)
		}
	}
}

// Records up to 40 s late and out of order: the same connections open, once each, and the same bytes are counted.
func TestLateRecordsGiveTheSameTotals(t *testing.T) {
	type sums struct{ opens, closes, sent, received uint64 }
	sum := func(r *rig) map[string]sums {
		m := map[string]sums{}
		for _, f := range r.flows {
			k := fmt.Sprintf("%s %s:%d>%s:%d", f.Container.Name, f.Local, f.LocalPort, f.Peer, f.PeerPort)
			s := m[k]
			s.opens += uint64(f.Kind & Open)
			s.closes += uint64(f.Kind & Close >> 2)
			s.sent += f.Sent
			s.received += f.Received
			if s.sent != f.TotalSent || s.received != f.TotalReceived {
				panic("the deltas are not the total: " + say(f))
			}
			m[k] = s
		}
		return m
	}
	for seed := range uint64(8) {
		events, ds := world(seed)
		keep := ds[:0]
		for _, d := range ds { // the time of an end is what lateness may change; here it is the totals that count
			d.rec.TCPFlags &^= flow.FIN
			keep = append(keep, d)
		}
		ds = keep
		first := newRig(nil)
		play(first, events, ds)
		for i := range ds {
			ds[i].at += 40 * rand.New(rand.NewPCG(seed, uint64(i))).Float64()
		}
		slices.SortStableFunc(ds, func(a, b delivery) int { return int(1000*a.at) - int(1000*b.at) })
		again := newRig(nil)
		play(again, events, ds)
		if d := gocmp.Diff(sum(first), sum(again), gocmp.AllowUnexported(sums{})); d != "" {
			t.Fatalf("seed %d: -in time +late\n%s", seed, d)
		}
		for k, s := range sum(again) {
			if s.opens != 1 || s.closes != 1 {
				t.Fatalf("%s: %d opens, %d closes", k, s.opens, s.closes)
			}
		}
		again.conserved(t)
	}
}

// null takes everything and keeps nothing.
type null struct{ flows, closes int }

func (n *null) Flows(fs []Flow) {
	n.flows += len(fs)
	for i := range fs {
		if fs[i].Kind&Close != 0 {
			n.closes++
		}
	}
}
func (n *null) Name(*Name)   {}
func (n *null) Claim(*Claim) {}

// A container that sprays tuples evicts its own, never an established connection of another, and nothing grows.
func TestSprayIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: a million records")
	}
	const most = 40_000
	r := newRig(func(c *Config) { c.Connections.Max = most })
	r.connect("good", "172.18.0.5", t0-second)
	r.connect("evil", "172.18.0.6", t0-second)
	steady := func(at float64) []flow.Record {
		return []flow.Record{slice(outTuple, at, at+.5, 100, flow.SYN|flow.ACK), slice(backTuple, at, at+.5, 100, flow.SYN|flow.ACK)}
	}
	r.Records(steady(0))
	r.Advance(t0+second, r)
	opened := len(r.flows)
	sink := &null{}
	batch := make([]flow.Record, 1000)
	for i := range 1000 {
		for j := range batch {
			x := slice("172.18.0.6:1>198.51.100.1:1", 1+float64(i)/100, 1+float64(i)/100, 40, flow.SYN)
			n := uint32(i*len(batch) + j)
			x.Dst, x.DstPort = flow.Addr4(0xc6336400|n>>12), uint16(n&0xfff)
			batch[j] = x
		}
		r.Records(batch)
		if i%100 == 99 {
			r.Records(steady(1 + float64(i)/100))
			r.Advance(t0+int64(i/100+1)*second, sink)
		}
	}
	s := r.shards[0]
	if s.live > most || int(s.made) > most+2 || len(s.slots) > 4*most || s.timers > 2*most+staleTimers {
		t.Errorf("%d live, %d made, %d slots, %d timers for a bound of %d", s.live, s.made, len(s.slots), s.timers, most)
	}
	if n := r.roster.members[2].conns; n > r.quota+1 {
		t.Errorf("one container holds %d connections, quota %d", n, r.quota)
	}
	r.conserved(t)
	if n := r.metric("wharfwatch_connections_evicted_total"); n < 1_000_000-most {
		t.Errorf("%d evicted", n)
	}
	for i := 11; i < 400; i++ {
		r.Advance(t0+int64(i)*second, r)
	}
	last := r.flows[len(r.flows)-1]
	if opened != 1 || last.Container.Name == "good" && last.TotalSent != 1100 {
		t.Errorf("the steady connection suffered: %s", say(last))
	}
	for _, f := range r.flows[1:] {
		if f.Container.Name == "good" && f.Kind&Open != 0 {
			t.Errorf("the steady connection opened again: %s", say(f))
		}
	}
	if s.live != 0 || r.held != 0 {
		t.Errorf("%d live, %d held after all went silent", s.live, r.held)
	}
	for i := range r.roster.members {
		if n := r.roster.members[i].conns + r.roster.members[i].evicted; n != 0 {
			t.Errorf("member %d still counts %d connections", i, n)
		}
	}
}

// A small share in a full table: the quota holds although the container's connections are hard to find among the others.
func TestQuotaInAFullTable(t *testing.T) {
	r := newRig(func(c *Config) { c.Connections.Max, c.Connections.ContainerShare = 20_000, .001 })
	r.connect("crowd", "172.18.0.5", t0-second)
	r.connect("evil", "172.18.0.6", t0-second)
	r.quota = 20_000
	spray := func(src string, n int) {
		for i := range n {
			x := slice(src+":1>198.51.100.1:1", 1, 1, 40, flow.SYN)
			x.SrcPort, x.DstPort = uint16(i), uint16(1+i>>12)
			r.Records([]flow.Record{x})
		}
	}
	spray("172.18.0.5", 19_000)
	r.quota = 20
	spray("172.18.0.6", 20_000)
	if n := r.roster.members[2].conns; n > 21 {
		t.Errorf("the container holds %d connections, quota 20", n)
	}
	if n := r.roster.members[1].conns; n != 19_000 {
		t.Errorf("the others have %d connections left of 19000", n)
	}
	r.Advance(t0+second, r)
	r.conserved(t)
	if r.metric(`wharfwatch_flows_unattributed_total{reason="table-full"}`) == 0 {
		t.Error("no record was refused: the test tests nothing")
	}
}

// Everything evicted that was told as open is told as closed.
func TestEvictedAreClosed(t *testing.T) {
	r := newRig(func(c *Config) { c.Connections.Max = 1024; c.Connections.ContainerShare = 1 })
	r.connect("web", "172.18.0.5", t0-second)
	sink := &null{}
	for s := range 20 {
		var batch []flow.Record
		for i := range 900 {
			x := slice(outTuple, float64(s), float64(s), 40, flow.SYN)
			x.DstPort, x.SrcPort = uint16(i+1), uint16(s+1)
			batch = append(batch, x)
		}
		r.Records(batch)
		r.Advance(t0+int64(s+1)*second, sink)
	}
	for s := 21; s < 500; s++ {
		r.Advance(t0+int64(s)*second, sink)
	}
	if sink.closes != 20*900 {
		t.Errorf("%d closes for %d connections", sink.closes, 20*900)
	}
	r.conserved(t)
}

// Neither records of known connections nor new connections allocate, nor does saying them, once the table has its size.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	l := newLoad(500, newRig(nil))
	for range 700 { // longer than any connection lives
		l.second()
	}
	if n := testing.AllocsPerRun(50, l.second); n != 0 {
		t.Errorf("%v allocations per second of %d records", n, len(l.batch))
	}
}
