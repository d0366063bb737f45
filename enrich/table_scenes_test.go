package enrich

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/flow"
)

// t0 is a done minute of event time.
const t0 int64 = 1_790_000_040 * second

// rig is a Table, an engine that is live, and everything the Table said.
type rig struct {
	*Table
	set    *metrics.Set
	flows  []Flow
	names  []Name
	claims []Claim
}

func newRig(change func(*Config)) *rig {
	c := Default()
	if change != nil {
		change(&c)
	}
	set := metrics.NewSet()
	r := &rig{set: set, Table: newTable(c, set, seed{1, 3, 5, 7})}
	r.Event(&Event{Time: t0 - second, Kind: Synced, Engine: "local"})
	r.progress(forever)
	return r
}

func (r *rig) Flows(fs []Flow) { r.flows = append(r.flows, fs...) }

func (r *rig) Claim(c *Claim) { r.claims = append(r.claims, *c) }

func (r *rig) Name(n *Name) {
	c := *n
	c.Addrs = append([]flow.Addr(nil), n.Addrs...)
	r.names = append(r.names, c)
}

func (r *rig) progress(at int64) { r.Event(&Event{Time: at, Kind: Progress, Engine: "local"}) }

func box(name string) *Container {
	return &Container{ID: fmt.Sprintf("%064x", name), Name: name, Engine: "local", Workload: "name:" + name, Running: true}
}

func ipAddr(s string) flow.Addr {
	a, err := flow.ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

func (r *rig) bind(kind EventKind, c *Container, ip string, at int64) {
	r.Event(&Event{
		Time: at, Kind: kind, Engine: c.Engine, Container: c,
		Binding: &Binding{NetworkID: "net1", Network: "bridge", Addrs: []flow.Addr{ipAddr(ip)}},
	})
}

func (r *rig) connect(name, ip string, at int64) *Container {
	c := box(name)
	r.bind(Connected, c, ip, at)
	return c
}

// run advances second by second up to at.
func (r *rig) run(at int64) {
	for s := max(r.now/second, t0/second-1) + 1; s*second <= at; s++ {
		r.Advance(s*second, r)
	}
}

// metric reads one value as a scraper would; all of a name when labels are not given.
func (r *rig) metric(name string) (sum int) {
	var b bytes.Buffer
	r.set.WritePrometheus(&b)
	for line := range strings.Lines(b.String()) {
		f := strings.Fields(line)
		if len(f) == 2 && (f[0] == name || strings.HasPrefix(f[0], name+"{")) {
			v, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				panic(err)
			}
			sum += int(v)
		}
	}
	return sum
}

// conserved checks that every record is somewhere.
func (r *rig) conserved(t *testing.T) {
	t.Helper()
	r.count.gauges(r.Table)
	in := r.metric("wharfwatch_flows_records_total")
	a, u := r.metric("wharfwatch_flows_attributed_total"), r.metric("wharfwatch_flows_unattributed_total")
	d, h := r.metric("wharfwatch_flows_duplicates_total"), r.metric("wharfwatch_flows_held")
	if in != a+u+d+h {
		t.Errorf("%d records in, but %d attributed + %d unattributed + %d duplicates + %d held", in, a, u, d, h)
	}
}

// say writes a Flow on one line.
func say(f Flow) string {
	kind := ""
	for i, w := range []string{"open", "update", "close"} {
		if f.Kind&(1<<i) != 0 {
			kind += "+" + w
		}
	}
	s := fmt.Sprintf("%v %s %s:%d>%s:%d/%d %s sent %d/%d got %d/%d %s %s", float64(f.Time-t0)/second, kind[1:]+" "+f.Container.Name,
		f.Local, f.LocalPort, f.Peer, f.PeerPort, f.Proto, f.Opener, f.Sent, f.TotalSent, f.Received, f.TotalReceived, f.Method, f.Confidence)
	for _, w := range []struct {
		on   bool
		text string
	}{{f.Midstream, "midstream"}, {f.NoReply, "noreply"}, {f.Sampled, "sampled"}, {f.PeerName != "", f.PeerName}} {
		if w.on {
			s += " " + w.text
		}
	}
	if f.PeerIs != nil {
		s += " peer=" + f.PeerIs.Name
	}
	return s
}

func (r *rig) want(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, f := range r.flows {
		got = append(got, say(f))
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("flows: -want +got\n%s", d)
	}
	r.conserved(t)
}

var tupleText = regexp.MustCompile(`^(\S+):(\d+)>(\S+):(\d+)$`)

// slice makes a record from "172.18.0.5:40000>203.0.113.9:443"; times are seconds after t0.
func slice(tuple string, first, last float64, bytes uint64, flags uint8) flow.Record {
	m := tupleText.FindStringSubmatch(tuple)
	port := func(s string) uint16 {
		p, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			panic(err)
		}
		return uint16(p)
	}
	return flow.Record{
		First: t0 + int64(first*second), Last: t0 + int64(last*second), Src: ipAddr(m[1]), Dst: ipAddr(m[3]),
		SrcPort: port(m[2]), DstPort: port(m[4]), Proto: flow.TCP, TCPFlags: flags, Bytes: bytes, Packets: 5, Sampling: 1,
		Exporter: ipAddr("192.0.2.1"), InIf: 1,
	}
}

const (
	asks      = flow.SYN | flow.ACK | flow.PSH
	done      = asks | flow.FIN
	outTuple  = "172.18.0.5:40000>203.0.113.9:443"
	backTuple = "203.0.113.9:443>172.18.0.5:40000"
)

func TestOneShortConnection(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	r.Records([]flow.Record{slice(outTuple, .1, .4, 500, done), slice(backTuple, .12, .4, 9000, done)})
	r.run(t0 + 10*second)
	r.want(t, "0.1 open+close web 172.18.0.5:40000>203.0.113.9:443/6 local sent 500/500 got 9000/9000 ip exact")
	if live := r.shards[0].live; live != 0 {
		t.Errorf("%d connections live after the linger", live)
	}
}

// A beat must not be invented from the slices of one connection (detection.md 1.7).
func TestKeepAliveOfFourHoursIsOneOpen(t *testing.T) {
	for _, timeout := range []float64{60, 300, 1800} {
		r := newRig(nil)
		r.connect("web", "172.18.0.5", t0-second)
		end := 4 * 3600.0
		sent := uint64(0)
		for at := 0.0; at < end; at += timeout {
			flags := uint8(flow.ACK | flow.PSH)
			if at == 0 {
				flags |= flow.SYN
			}
			if at+timeout >= end {
				flags |= flow.FIN
			}
			r.run(t0 + int64(at+timeout+2)*second)
			r.Records([]flow.Record{slice(outTuple, at+.01, at+timeout-.5, 100, flags), slice(backTuple, at+.02, at+timeout-.4, 200, flags)})
			sent += 100
		}
		r.run(t0 + int64(end+200)*second)
		opens, closes, total := 0, 0, uint64(0)
		for _, f := range r.flows {
			if f.Kind&Open != 0 {
				opens++
			}
			if f.Kind&Close != 0 {
				closes++
			}
			total += f.Sent
			if f.Start != t0+second/100 || f.Opener != OpenerLocal || f.Midstream {
				t.Fatalf("%v s: %s", timeout, say(f))
			}
		}
		if opens != 1 || closes != 1 || total != sent || r.flows[len(r.flows)-1].TotalSent != sent {
			t.Errorf("active timeout %v s: %d opens, %d closes, %d bytes, want 1, 1, %d", timeout, opens, closes, total, sent)
		}
		r.conserved(t)
	}
}

func TestUpdatesAreOncePerMinute(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	for s := range 200 {
		x := slice(outTuple, float64(s), float64(s)+.5, 10, flow.ACK)
		x.Flags = flow.FlagPackets
		if s == 0 {
			x.TCPFlags |= flow.SYN
		}
		r.Records([]flow.Record{x})
		r.run(t0 + int64(s+1)*second)
	}
	r.run(t0 + 600*second)
	r.want(t,
		"0 open web 172.18.0.5:40000>203.0.113.9:443/6 local sent 10/10 got 0/0 ip exact noreply",
		"60.5 update web 172.18.0.5:40000>203.0.113.9:443/6 local sent 600/610 got 0/0 ip exact noreply",
		"120.5 update web 172.18.0.5:40000>203.0.113.9:443/6 local sent 600/1210 got 0/0 ip exact noreply",
		"180.5 update web 172.18.0.5:40000>203.0.113.9:443/6 local sent 600/1810 got 0/0 ip exact noreply",
		"199.5 update web 172.18.0.5:40000>203.0.113.9:443/6 local sent 190/2000 got 0/0 ip exact noreply",
		"199.5 close web 172.18.0.5:40000>203.0.113.9:443/6 local sent 0/2000 got 0/0 ip exact noreply",
	)
}

// A connection of an exporter with a long active timeout is left alone until it would be over; what comes meanwhile is told in the
// next second, as the last report is more than a minute old.
func TestQuietConnectionsAreLeftAlone(t *testing.T) {
	for s, want := range map[int64]int{600: 1, 610: 1, 611: 2, 1116: 2, 1117: 3} {
		r := newRig(nil)
		r.connect("web", "172.18.0.5", t0-second)
		r.run(t0 + 300*second)
		r.Records([]flow.Record{slice(outTuple, 1, 300.5, 10, asks)}) // 1.5 times this slice is the silence that ends it
		r.run(t0 + 302*second)
		if due, want := r.shards[0].conn(1).due, uint32(t0/second)+750; due != want {
			t.Fatalf("the next look is %d s off", int(due)-int(want))
		}
		r.run(t0 + 610*second)
		if s > 610 {
			r.Records([]flow.Record{slice(outTuple, 300.6, 600, 20, flow.ACK), slice(backTuple, 300.6, 627, 20, flow.ACK)})
		}
		r.run(t0 + s*second)
		if len(r.flows) != want {
			t.Errorf("%d flows by second %d, want %d", len(r.flows), s, want)
		}
	}
}

// An exporter that shows one direction, or the other one later: one report with the end, as soon as both have ended, else after the
// silence that ends a connection of which half is done.
func TestHalfDoneIsReportedOnce(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	r.run(t0 + 2*second)
	r.Records([]flow.Record{slice(outTuple, 0, 1, 10, done)})
	r.run(t0 + 20*second)
	r.want(t)
	r.Records([]flow.Record{slice(backTuple, 0, 1.5, 20, done)})
	r.run(t0 + 21*second)
	r.want(t, "0 open+close web 172.18.0.5:40000>203.0.113.9:443/6 local sent 10/10 got 20/20 ip exact")
	r.flows = nil
	r.Records([]flow.Record{slice(outTuple, 20, 21, 10, done)})
	r.run(t0 + 41*second)
	r.want(t)
	r.run(t0 + 42*second)
	r.want(t, "20 open+close web 172.18.0.5:40000>203.0.113.9:443/6 local sent 10/10 got 0/0 ip exact noreply")
	if r.shards[0].live != 0 {
		t.Errorf("%d connections are kept", r.shards[0].live)
	}
	r.conserved(t)
}

// What comes in the linger does not cut it short, whatever the second.
func TestLingerIsWhole(t *testing.T) {
	for s := range int64(60) {
		r := newRig(nil)
		r.connect("web", "172.18.0.5", t0-second)
		r.run(t0 + s*second)
		at := float64(s)
		r.Records([]flow.Record{slice(outTuple, at, at+15, 10, done), slice(backTuple, at, at+15, 10, done)})
		r.run(t0 + (s+1)*second)
		r.Records([]flow.Record{slice(outTuple, at+2, at+14, 10, flow.ACK)})
		r.run(t0 + (s+3)*second)
		if len(r.flows) != 1 || r.flows[0].Kind != Open {
			t.Fatalf("at %d s: %d flows before the linger is over", s, len(r.flows))
		}
		r.run(t0 + (s+4)*second)
		if len(r.flows) != 2 || r.flows[1].TotalSent != 20 {
			t.Fatalf("at %d s: %d flows after the linger", s, len(r.flows))
		}
	}
}

// The silence that ends UDP is no longer than a minute, so that its connections are looked at more often than they may be reported.
func TestUpdatesOfUDPAreOncePerMinute(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	var at []int64
	for s := range 600 {
		if s%53 == 0 || s%53 == 12 {
			x := slice(outTuple, float64(s), float64(s), 10, 0)
			x.Proto, x.Flags = flow.UDP, flow.FlagPackets
			r.Records([]flow.Record{x})
		}
		n := len(r.flows)
		r.run(t0 + int64(s+1)*second)
		for range r.flows[n:] {
			at = append(at, r.now)
		}
	}
	for i := 1; i < len(at); i++ {
		if at[i]-at[i-1] < 60*second {
			t.Fatalf("reported at %v, seconds %v apart", at[i], (at[i]-at[i-1])/second)
		}
	}
	if len(at) < 6 || r.flows[len(r.flows)-1].TotalSent < 150 {
		t.Errorf("%d reports in ten minutes", len(at))
	}
}

func TestBothEndsAreContainers(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	r.connect("db", "172.18.0.6", t0-second)
	r.Records([]flow.Record{
		slice("172.18.0.6:5432>172.18.0.5:40000", .2, .5, 70, done), slice("172.18.0.5:40000>172.18.0.6:5432", .1, .5, 30, done),
	})
	r.run(t0 + second)
	r.want(t,
		"0.1 open+close web 172.18.0.5:40000>172.18.0.6:5432/6 local sent 30/30 got 70/70 ip exact peer=db",
		"0.1 open+close db 172.18.0.6:5432>172.18.0.5:40000/6 remote sent 70/70 got 30/30 ip exact peer=web",
	)
	if r.flows[0].Conn != r.flows[1].Conn {
		t.Error("two sides of one connection have different ids")
	}
}

// Two exporters, and one that meters a flow on its way in and out: bytes count once (A12).
func TestDuplicatesCountOnce(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	second := func(x flow.Record) flow.Record { x.Exporter = ipAddr("192.0.2.2"); return x }
	a, b := slice(outTuple, .1, .4, 500, done), slice(backTuple, .12, .4, 9000, done)
	r.Records([]flow.Record{a, second(a), b, a})
	r.run(t0 + 1e9)
	r.Records([]flow.Record{second(b)})
	r.run(t0 + 10e9)
	r.want(t, "0.1 open+close web 172.18.0.5:40000>203.0.113.9:443/6 local sent 500/500 got 9000/9000 ip exact")
	if n := r.metric("wharfwatch_flows_duplicates_total"); n != 3 {
		t.Errorf("%d duplicates counted, want 3", n)
	}
}

func TestAnotherObserverTakesOverWhenTheFirstIsSilent(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	for at := 0.0; at < 1200; at += 60 {
		x := slice(outTuple, at, at+59, 100, flow.ACK|flow.SYN)
		y := x
		y.Exporter = ipAddr("192.0.2.2")
		if at < 300 {
			r.Records([]flow.Record{x})
		}
		r.Records([]flow.Record{y})
		r.run(t0 + int64(at+60)*second)
	}
	r.run(t0 + 2000*second)
	last := r.flows[len(r.flows)-1]
	// 5 from the first, two to notice, 13 from the second
	if got := last.TotalSent; got != 1800 || last.Kind != Close {
		t.Errorf("counted %d bytes of 2000, want 1800: %s", got, say(last))
	}
	if n := r.metric("wharfwatch_flows_observer_changes_total"); n != 1 {
		t.Errorf("%d changes of observer, want 1", n)
	}
	r.conserved(t)
}

// A3: the same address used by three containers, the flows delivered 60 s late.
func TestAddressReuseWithLateFlows(t *testing.T) {
	r := newRig(nil)
	for i, name := range []string{"one", "two", "three"} {
		at := t0 + int64(i)*2*second
		c := r.connect(name, "172.18.0.5", at)
		r.bind(Disconnect, c, "172.18.0.5", at+1500*1e6)
		r.Event(&Event{Time: at + 1600*1e6, Kind: Destroyed, Engine: "local", Container: c})
	}
	r.run(t0 + 60*second)
	var rs []flow.Record
	for _, i := range []int{2, 0, 1} {
		rs = append(rs, slice(fmt.Sprintf("172.18.0.5:4000%d>203.0.113.9:443", i), float64(2*i)+.6, float64(2*i)+1.4, 100, done))
	}
	r.Records(rs)
	r.run(t0 + 61*second)
	r.want(t,
		"0.6 open+close one 172.18.0.5:40000>203.0.113.9:443/6 local sent 100/100 got 0/0 ip exact noreply",
		"2.6 open+close two 172.18.0.5:40001>203.0.113.9:443/6 local sent 100/100 got 0/0 ip exact noreply",
		"4.6 open+close three 172.18.0.5:40002>203.0.113.9:443/6 local sent 100/100 got 0/0 ip exact noreply",
	)
}

func TestConfidence(t *testing.T) {
	f := func(first, last float64, want string) {
		t.Helper()
		r := newRig(nil)
		a := r.connect("a", "172.18.0.5", t0)
		r.bind(Disconnect, a, "172.18.0.5", t0+10*second)
		r.connect("b", "172.18.0.5", t0+11*second)
		r.Records([]flow.Record{slice(outTuple, first, last, 1, asks)})
		r.run(t0 + 40*second)
		got := "nobody"
		if len(r.flows) > 0 {
			x := r.flows[0]
			got = fmt.Sprintf("%s %s %s", x.Container.Name, x.Method, x.Confidence)
		}
		if got != want {
			t.Errorf("[%v, %v]: got %s, want %s", first, last, got, want)
		}
	}
	f(1, 2, "a ip exact")
	f(9, 9.9, "a ip exact")
	f(9, 10.4, "a ip exact")    // the engine's clock and the exporter's differ
	f(10.1, 10.3, "a ip exact") // the end of a, told late
	f(10.6, 10.9, "b ip exact") // the beginning of b
	f(11, 12, "b ip exact")
	f(5, 14, "a reused low")
	f(9, 19, "b reused low")
	f(-5, 3, "a ip medium") // part of it only
	f(-9, -7, "nobody")
}

// A verdict stays when the address gets another holder during the connection.
func TestVerdictStays(t *testing.T) {
	r := newRig(nil)
	a := r.connect("a", "172.18.0.5", t0)
	r.Records([]flow.Record{slice(outTuple, 1, 2, 1, asks)})
	r.run(t0 + 3*second)
	r.bind(Disconnect, a, "172.18.0.5", t0+4*second)
	r.connect("b", "172.18.0.5", t0+5*second)
	r.Records([]flow.Record{slice(outTuple, 2, 6, 1, flow.ACK)})
	r.run(t0 + 200*second)
	for _, x := range r.flows {
		if x.Container.Name != "a" || x.Confidence != Exact {
			t.Error(say(x))
		}
	}
	if len(r.flows) != 2 {
		t.Errorf("%d flows, want an open and an update", len(r.flows))
	}
}

// A flow may be ahead of its binding: it waits until the engine has passed it, at most the hold.
func TestHold(t *testing.T) {
	fresh := func() *rig {
		r := newRig(nil)
		r.engines[0].progress = t0
		r.connect("other", "172.18.0.9", t0-second)
		r.Records([]flow.Record{slice(outTuple, .5, .6, 100, asks)})
		r.run(t0 + second)
		return r
	}
	t.Run("bound in time", func(t *testing.T) {
		r := fresh()
		r.want(t)
		r.connect("web", "172.18.0.5", t0+4e8)
		r.run(t0 + 2*second)
		r.want(t, "0.5 open web 172.18.0.5:40000>203.0.113.9:443/6 local sent 100/100 got 0/0 ip exact noreply")
	})
	t.Run("engine has passed it", func(t *testing.T) {
		r := fresh()
		r.progress(t0 + second)
		r.run(t0 + 2*second)
		r.want(t)
		if n := r.metric(`wharfwatch_flows_unattributed_total{reason="not-ready"}`); n != 1 {
			t.Errorf("%d not ready, want 1", n)
		}
	})
	t.Run("hold runs out", func(t *testing.T) {
		r := fresh()
		if n := r.metric("wharfwatch_flows_held"); n != 1 {
			t.Errorf("%d held, want 1", n)
		}
		r.run(t0 + 3*second)
		r.want(t)
		if n := r.metric(`wharfwatch_flows_unattributed_total{reason="not-ready"}`); n != 1 {
			t.Errorf("%d not ready, want 1", n)
		}
	})
	t.Run("blind engine", func(t *testing.T) {
		r := fresh()
		r.Event(&Event{Time: t0, Kind: Blind, Engine: "local"})
		r.run(t0 + 2*second)
		if n := r.metric(`wharfwatch_flows_unattributed_total{reason="not-ready"}`); n != 1 {
			t.Errorf("%d not ready, want 1", n)
		}
	})
	t.Run("bound too late", func(t *testing.T) { // a connection without a container is asked again when bindings changed
		r := fresh()
		r.run(t0 + 5*second)
		r.connect("web", "172.18.0.5", t0+4e8)
		for s := 6; s < 50; s++ {
			r.Records([]flow.Record{slice(outTuple, float64(s), float64(s), 100, flow.ACK)})
			r.run(t0 + int64(s+1)*second)
		}
		if len(r.flows) == 0 || r.flows[0].Kind != Open || r.flows[0].Container.Name != "web" || r.flows[0].Start != t0+5e8 {
			t.Errorf("got %v", r.flows)
		}
		r.conserved(t)
	})
}

func TestReasons(t *testing.T) {
	f := func(tuple, want string) {
		t.Helper()
		r := newRig(func(c *Config) {
			c.Addresses.Host = []string{"198.51.100.1"}
			c.Addresses.Networks = []string{"10.20.0.0/16"}
		})
		r.connect("web", "172.18.0.5", t0-second)
		r.Records([]flow.Record{slice(tuple, 0, 1, 1, 0)})
		r.run(t0 + 5*second)
		r.want(t)
		if n := r.metric(fmt.Sprintf("wharfwatch_flows_unattributed_total{reason=%q}", want)); n != 1 {
			t.Errorf("%s is not counted as %s", tuple, want)
		}
	}
	f("203.0.113.1:1>203.0.113.2:2", "external")
	f("10.0.0.1:1>203.0.113.2:2", "external")
	f("172.18.0.1:1>203.0.113.2:2", "proxied")
	f("172.18.0.77:1>203.0.113.2:2", "not-ready")
	f("10.20.0.1:1>203.0.113.2:2", "proxied")
	f("10.20.9.1:1>203.0.113.2:2", "not-ready")
	f("198.51.100.1:1>203.0.113.2:2", "no-nat-entry")
	f("127.0.0.1:1>127.0.0.1:2", "host")

	set := metrics.NewSet()
	r := &rig{set: set, Table: newTable(Default(), set, seed{1, 3, 5, 7})}
	r.Records([]flow.Record{slice(outTuple, 0, 1, 1, 0)})
	r.run(t0 + 5*second)
	if n := r.metric(`wharfwatch_flows_unattributed_total{reason="no-engine"}`); n != 1 {
		t.Error("no engine, but not counted so")
	}
	r.conserved(t)
}

func TestOpener(t *testing.T) {
	pk := func(x flow.Record, flags uint8) flow.Record { x.Flags = flow.FlagPackets | flags; return x }
	udp := func(x flow.Record) flow.Record { x.Proto, x.TCPFlags = flow.UDP, 0; return x }
	icmp := func(x flow.Record, typ uint16) flow.Record {
		x.Proto, x.SrcPort, x.DstPort, x.TCPFlags = flow.ICMP, 0, typ<<8, 0
		return x
	}
	const in, reply = "203.0.113.9:50000>172.18.0.5:8080", "172.18.0.5:8080>203.0.113.9:50000"
	f := func(want string, rs ...flow.Record) {
		t.Helper()
		r := newRig(nil)
		c := box("web")
		c.Ports = []Port{{Host: 80, Container: 9999, Proto: flow.UDP}}
		r.bind(Connected, c, "172.18.0.5", t0-second)
		r.Records(rs)
		r.run(t0 + 2*second)
		if len(r.flows) != 1 {
			t.Fatalf("%d flows, want 1", len(r.flows))
		}
		got := r.flows[0].Opener.String()
		if r.flows[0].Midstream {
			got += " midstream"
		}
		if got != want {
			t.Errorf("got %s, want %s: %s", got, want, say(r.flows[0]))
		}
	}
	f("remote", slice(in, 0, 0, 60, flow.SYN))
	f("local", slice(outTuple, 0, 0, 60, flow.SYN))
	f("remote", slice(reply, .1, 1, 60, asks), slice(in, .05, 1, 60, asks)) // the earlier SYN
	f("remote", pk(slice(reply, 0, 1, 60, asks), flow.FlagReply), pk(slice(in, 0, 1, 60, asks), 0))
	f("remote", pk(slice(in, 0, 1, 60, asks), 0))
	biflow := slice(in, 0, 1, 60, 0) // RFC 5103: the reverse half of one that the container opened
	biflow.Flags = flow.FlagReply
	f("local", slice(reply, 0, 1, 60, asks), biflow)
	f("unknown midstream", pk(slice(reply, 0, 1, 60, flow.ACK), 0), pk(slice(in, .1, 1, 60, flow.ACK), flow.FlagReply))
	f("local midstream", pk(slice(backTuple, 0, 1, 60, flow.ACK), 0), pk(slice(outTuple, .1, 1, 60, flow.ACK), flow.FlagReply)) // port 443
	f("local midstream", slice(outTuple, 0, 1, 60, flow.ACK))
	f("local", slice(outTuple, 0, 1, 60, 0))                                 // no flags in the export: not midstream
	f("remote", udp(slice("172.18.0.5:9999>203.0.113.9:5000", 0, 1, 60, 0))) // a published port
	f("local", udp(slice("203.0.113.9:53>172.18.0.5:5000", 0, 1, 60, 0)))    // only the answer was seen
	f("local", udp(slice("172.18.0.5:7000>203.0.113.9:7001", 0, 1, 60, 0)), udp(slice("203.0.113.9:7001>172.18.0.5:7000", .1, 1, 60, 0)))
	f("remote", icmp(slice("172.18.0.5:0>203.0.113.9:0", 0, 1, 60, 0), 0), icmp(slice("203.0.113.9:0>172.18.0.5:0", .1, 1, 60, 0), 8))
	one := slice(reply, .1, .1, 60, flow.SYN|flow.ACK)
	one.Packets = 1
	f("remote", one) // a lone SYN-ACK answers
}

// A port that strangers opened is known to listen afterwards.
func TestListeningPortIsLearned(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	r.Records([]flow.Record{slice("203.0.113.9:50000>172.18.0.5:8080", 0, 0, 60, flow.SYN)})
	r.run(t0 + second)
	r.Records([]flow.Record{slice("172.18.0.5:8080>203.0.113.10:50001", 1.5, 1.6, 60, flow.ACK)})
	r.run(t0 + 2*second)
	if len(r.flows) != 2 || r.flows[1].Opener != OpenerRemote {
		t.Errorf("got %v", r.flows)
	}
}

// The same tuple belongs to a new container when the address has passed to it, TCP or not.
func TestAddressPassesDuringAConnection(t *testing.T) {
	r := newRig(nil)
	ntp := func(at float64) flow.Record {
		x := slice("172.18.0.5:123>203.0.113.9:123", at, at, 76, 0)
		x.Proto = flow.UDP
		return x
	}
	old := r.connect("old", "172.18.0.5", t0)
	r.Records([]flow.Record{ntp(1)})
	r.run(t0 + 3*second)
	r.bind(Disconnect, old, "172.18.0.5", t0+4*second)
	r.connect("new", "172.18.0.5", t0+5*second)
	for s := 20; s < 200; s += 20 {
		r.Records([]flow.Record{ntp(float64(s))})
		r.run(t0 + int64(s+1)*second)
	}
	sent := map[string]uint64{}
	for _, x := range r.flows {
		sent[x.Container.Name] = x.TotalSent
	}
	if sent["old"] != 76 || sent["new"] < 5*76 {
		t.Errorf("sent %v, want 76 by old and the rest by new", sent)
	}
}

func TestTupleIsUsedAgain(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	for i := range 3 {
		at := float64(i) * 1.1
		r.Records([]flow.Record{slice(outTuple, at, at+.2, 100, done), slice(backTuple, at+.01, at+.2, 100, done)})
		r.run(t0 + int64(i+1)*second)
	}
	r.run(t0 + 20*second)
	if len(r.flows) != 3 {
		t.Errorf("%d flows, want 3 short connections", len(r.flows))
	}
	for _, x := range r.flows {
		if x.Kind != Open|Close || x.Sent != 100 {
			t.Error(say(x))
		}
	}
	r.conserved(t)

	udp := newRig(nil)
	udp.connect("web", "172.18.0.5", t0-second)
	for i := range 4 { // every 100 s with one source port: four connections, whatever the assembler says of its slices
		x := slice(outTuple, float64(i)*100, float64(i)*100, 76, 0)
		x.Proto, x.Flags = flow.UDP, flow.FlagPackets|flow.FlagForced
		udp.Records([]flow.Record{x})
		udp.run(t0 + int64(i*100+1)*second)
	}
	opens := 0
	for _, x := range udp.flows {
		if x.Kind&Open != 0 {
			opens++
		}
	}
	if opens != 4 {
		t.Errorf("%d opens, want 4", opens)
	}
}

func TestNames(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	ns := []flow.Name{
		{Time: t0 + 1e8, Kind: flow.NameDNS, Client: ipAddr("172.18.0.5"), Server: ipAddr("192.0.2.53"), Name: "api.example.com", Addrs: []flow.Addr{ipAddr("203.0.113.9")}, TTL: 30},
		{Time: t0 + 1e8, Kind: flow.NameDNS, Client: ipAddr("198.51.100.7"), Name: "stranger.example.com"},
	}
	r.Names(ns)
	ns[0].Addrs[0] = ipAddr("0.0.0.1") // the batch is recycled
	r.Records([]flow.Record{slice(outTuple, .2, .4, 500, asks)})
	r.run(t0 + second)
	r.want(t, "0.2 open web 172.18.0.5:40000>203.0.113.9:443/6 local sent 500/500 got 0/0 ip exact noreply api.example.com")
	if len(r.names) != 1 || r.names[0].Container.Name != "web" || r.names[0].Addrs[0] != ipAddr("203.0.113.9") {
		t.Errorf("names: %+v", r.names)
	}
	if n := r.metric("wharfwatch_names_unattributed_total"); n != 1 {
		t.Errorf("%d names of nobody, want 1", n)
	}
	r.Records([]flow.Record{slice("172.18.0.5:40001>203.0.113.9:443", 1000, 1000, 500, asks)})
	r.run(t0 + 1001*second)
	if x := r.flows[len(r.flows)-1]; x.PeerName != "" {
		t.Errorf("%q is still known after it expired", x.PeerName)
	}
}

func TestNameCacheIsBounded(t *testing.T) {
	n := names{c: Names{PerContainer: 3, Total: 4, Least: 1}}
	var a, b, c nameCache
	for i := range 100 {
		a.keep(flow.Addr4(uint32(i)), strconv.Itoa(i), 1000, &n)
	}
	b.keep(flow.Addr4(1), "b", 1000, &n)
	if c.keep(flow.Addr4(1), "c", 1000, &n) {
		t.Error("kept beyond the total")
	}
	if n.kept != 4 || a.of(flow.Addr4(99), 1) != "99" || a.of(flow.Addr4(96), 1) != "" || b.of(flow.Addr4(1), 1) != "b" {
		t.Errorf("kept %d, %v", n.kept, a)
	}
}

// A20: two engines with the same address, told apart by the exporter.
func TestEnginesAreScopedBySources(t *testing.T) {
	r := newRig(func(c *Config) {
		c.Docker = []EngineConfig{{Name: "local", Sources: []string{"netflow:192.0.2.1/*"}}, {Name: "far", Sources: []string{"netflow:192.0.2.2/*"}}}
	})
	near, far := box("near"), box("far")
	far.Engine = "far"
	r.bind(Connected, near, "172.17.0.2", t0-second)
	r.bind(Connected, far, "172.17.0.2", t0-second)
	a := slice("172.17.0.2:40000>203.0.113.9:443", .1, .2, 1, asks)
	b := slice("172.17.0.2:40001>203.0.113.9:443", .2, .3, 1, asks)
	c := slice("172.17.0.2:40002>203.0.113.9:443", .3, .4, 1, asks)
	b.Exporter, c.Exporter = ipAddr("192.0.2.2"), flow.Addr{}
	c.Flags = flow.FlagPackets
	r.Records([]flow.Record{a, b, c})
	r.run(t0 + second)
	got := []string{}
	for _, x := range r.flows {
		got = append(got, x.Container.Name+" "+x.Confidence.String())
	}
	if d := gocmp.Diff([]string{"near exact", "far exact", "near low"}, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// An inventory is complete: nothing waits for it, and an address goes from one container to the next.
func TestInventoryFeedsTheTable(t *testing.T) {
	const file = `[
	 {"Id":"aa","Name":"/a","Created":"2026-09-21T14:00:00Z","State":{"StartedAt":"2026-09-21T14:00:00Z","FinishedAt":"2026-09-21T14:14:05Z"},
	  "Config":{"Image":"acme/a"},"NetworkSettings":{"Networks":{"n":{"NetworkID":"n1","IPAddress":"172.18.0.5"}}}},
	 {"Id":"bb","Name":"/b","Created":"2026-09-21T14:00:00Z","State":{"Running":true,"StartedAt":"2026-09-21T14:14:06Z","FinishedAt":"0001-01-01T00:00:00Z"},
	  "Config":{"Image":"acme/b"},"NetworkSettings":{"Networks":{"n":{"NetworkID":"n1","IPAddress":"172.18.0.5"}}}}]`
	set := metrics.NewSet()
	r := &rig{set: set, Table: newTable(Default(), set, seed{1, 3, 5, 7})}
	events, err := ReadInventory(strings.NewReader(file), "inventory")
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		r.Event(&events[i])
	}
	r.Records([]flow.Record{slice(outTuple, 1, 2, 10, asks), slice("172.18.0.5:40001>203.0.113.9:443", 8, 9, 10, asks), slice("172.18.0.9:1>203.0.113.9:443", 8, 9, 10, asks)})
	r.run(t0 + 10*second)
	r.want(t,
		"1 open a 172.18.0.5:40000>203.0.113.9:443/6 local sent 10/10 got 0/0 ip exact noreply",
		"8 open b 172.18.0.5:40001>203.0.113.9:443/6 local sent 10/10 got 0/0 ip exact noreply",
	)
}

// Event time may jump: a day of silence closes what was open, and what begins after it is a new connection.
func TestJumpOfEventTime(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	r.Records([]flow.Record{slice(outTuple, .1, .2, 10, asks)})
	r.Advance(t0+second, r)
	day := int64(86400) * second
	r.Advance(t0+day, r)
	r.Records([]flow.Record{slice(outTuple, 86400.5, 86401, 20, asks)})
	r.Advance(t0+day+2*second, r)
	r.want(t,
		"0.1 open web 172.18.0.5:40000>203.0.113.9:443/6 local sent 10/10 got 0/0 ip exact noreply",
		"0.2 close web 172.18.0.5:40000>203.0.113.9:443/6 local sent 0/10 got 0/0 ip exact noreply",
		"86400.5 open web 172.18.0.5:40000>203.0.113.9:443/6 local sent 20/20 got 0/0 ip exact noreply",
	)
}

func TestPartitionIsFNV1a(t *testing.T) {
	// http://www.isthe.com/chongo/tech/comp/fnv/: the empty string gives the offset basis 0x811c9dc5, "a" 0xe40c292c.
	for w, want := range map[string]uint8{"": 0xc5 % 64, "a": 0x2c % 64} {
		if got := Partition(w); got != want {
			t.Errorf("%q: %d, want %d", w, got, want)
		}
	}
}

// What no honest exporter sends neither panics nor gets lost.
func TestNonsenseRecords(t *testing.T) {
	r := newRig(nil)
	r.connect("web", "172.18.0.5", t0-second)
	var rs []flow.Record
	for _, at := range []int64{0, -1, 1 << 62, -1 << 62, t0} {
		for _, to := range []int64{0, -1, 1 << 62, -1 << 62, t0} {
			for _, dst := range []string{"", "172.18.0.5", "::", "203.0.113.9"} {
				x := slice(outTuple, 0, 0, 1<<63, 0xff)
				x.First, x.Last, x.Proto, x.Flags, x.Sampling = at, to, uint8(len(rs)), uint8(len(rs)), 1<<31
				if x.Dst = (flow.Addr{}); dst != "" {
					x.Dst = ipAddr(dst)
				}
				rs = append(rs, x)
			}
		}
	}
	for s := range 300 {
		r.Records(rs)
		r.Advance(t0+int64(s)*second, r)
	}
	r.conserved(t)
}

func TestContainersComeAndGo(t *testing.T) {
	r := newRig(nil)
	for i := range 10_000 { // A22
		at := t0 + int64(i)*second
		name := fmt.Sprintf("job%d", i)
		c := r.connect(name, fmt.Sprintf("172.18.0.%d", 2+i%200), at)
		r.Records([]flow.Record{slice(fmt.Sprintf("172.18.0.%d:40000>203.0.113.9:443", 2+i%200), float64(i)+.1, float64(i)+.2, 10, done)})
		r.bind(Disconnect, c, fmt.Sprintf("172.18.0.%d", 2+i%200), at+5e8)
		r.Event(&Event{Time: at + 6e8, Kind: Destroyed, Engine: "local", Container: c})
		r.Advance(at+second, r)
	}
	for _, x := range r.flows {
		if i := int(x.Start-t0) / second; x.Container.Name != fmt.Sprintf("job%d", i) || x.Confidence != Exact {
			t.Fatal(say(x))
		}
	}
	if n := len(r.Containers()); n > 1100 || n < 800 {
		t.Errorf("%d containers remembered after 15 minutes of one per second", n)
	}
	if r.index.spans > 1100 || len(r.roster.members) > 1100 {
		t.Errorf("%d bindings, %d places", r.index.spans, len(r.roster.members))
	}
}

func TestExplain(t *testing.T) {
	r := newRig(func(c *Config) { c.Addresses.Host = []string{"198.51.100.1"} })
	a := r.connect("a", "172.18.0.5", t0)
	r.bind(Disconnect, a, "172.18.0.5", t0+10*second)
	b := box("b")
	b.Ports = []Port{{Host: 8080, Container: 80, Proto: flow.TCP}}
	r.bind(Connected, b, "172.18.0.5", t0+11*second)
	f := func(ip string, port uint16, at float64, want string) {
		t.Helper()
		e := r.Explain(ipAddr(ip), port, t0+int64(at*second))
		if e.Text != want {
			t.Errorf("got  %s\nwant %s", e.Text, want)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
	}
	f("172.18.0.5", 0, 5, `172.18.0.5 was "a" (name:a) at 2026-09-21T14:14:05Z, by ip, confidence exact`)
	f("172.18.0.5", 443, 12, `172.18.0.5 was "b" (name:b) at 2026-09-21T14:14:12Z, by ip, confidence exact`)
	f("172.18.0.5", 0, -60, `172.18.0.5 was no container at 2026-09-21T14:13:00Z: it belongs to a container network, but nobody held it then; "b" held it last, from 2026-09-21T14:14:11Z`)
	f("203.0.113.5", 0, 5, `203.0.113.5 was no container at 2026-09-21T14:14:05Z: it belongs to no known container network`)
	f("198.51.100.1", 8080, 5, `port 8080 of 198.51.100.1 is published by "b" (name:b)`)
	f("198.51.100.1", 22, 5, `198.51.100.1 was no container at 2026-09-21T14:14:05Z: it is an address of the host, and nothing tells whose traffic it was`)
	if n := len(r.Explain(ipAddr("172.18.0.5"), 0, t0).Holders); n != 2 {
		t.Errorf("%d holders, want 2", n)
	}
}
