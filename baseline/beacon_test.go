package baseline

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// morning is when the tests begin: a Monday.
var morning = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).UnixNano()

// call is one connection, open and closed in one report.
type call struct {
	from, to *enrich.Container
	addr     string
	port     uint16
	proto    uint8
	at       int64 // ns after morning
	sent     uint64
	recv     uint64
	name     string
}

func box(name, workload, network string) *enrich.Container {
	c := &enrich.Container{ID: strings.Repeat(fmt.Sprintf("%08x", fingerprint(name)), 8), Name: name, Engine: "local", Workload: workload, Image: "acme/" + name}
	if network != "" {
		c.Attachments = []enrich.Attachment{{NetworkID: network, Network: network}}
	}
	return c
}

func (c *call) flow() *enrich.Flow {
	peer, err := flow.ParseAddr(c.addr)
	if err != nil {
		panic(err)
	}
	return &enrich.Flow{
		Kind: enrich.Open | enrich.Close, Time: morning + c.at, Start: morning + c.at, Container: c.from, PeerIs: c.to,
		LocalPort: 40000, Peer: peer, PeerPort: c.port, Proto: c.proto, PeerName: c.name, Opener: enrich.OpenerLocal,
		TotalSent: c.sent, TotalReceived: c.recv, NoReply: c.recv == 0, Method: enrich.MethodIP, Confidence: enrich.Exact,
	}
}

// every makes calls like c at sleeps of period seconds, each shortened by up to jitter, for so many seconds.
func every(c call, period, jitter, length float64, seed uint64) (out []call) {
	r := rand.New(rand.NewPCG(seed, 2))
	if c.proto == 0 {
		c.proto = flow.TCP
	}
	for t := float64(c.at)/1e9 + r.Float64()*period; t < float64(c.at)/1e9+length; t += period * (1 - jitter*r.Float64()) {
		d := c
		d.at = int64(t*1000) * 1e6
		out = append(out, d)
	}
	return out
}

func poisson(c call, mean, length float64, seed uint64) (out []call) {
	r := rand.New(rand.NewPCG(seed, 3))
	c.proto = flow.TCP
	for t := mean * r.ExpFloat64(); t < length; t += mean * r.ExpFloat64() {
		d := c
		d.at += int64(t*1000) * 1e6
		out = append(out, d)
	}
	return out
}

func inOrder(all ...[]call) []call {
	calls := slices.Concat(all...)
	slices.SortStableFunc(calls, func(a, b call) int { return cmp.Compare(a.at, b.at) })
	return calls
}

// feed gives calls to e with a tick at each whole second that they cross, and a last one; between is called before each call.
func feed(e *Engine, calls []call, between func(i int) *Engine) {
	last := morning / sec
	for i := range calls {
		if between != nil {
			e = between(i)
		}
		if now := (morning + calls[i].at) / sec; now > last {
			last = now
			e.Tick(now * sec)
		}
		e.Flow(calls[i].flow())
	}
	e.Tick((last + 1) * sec)
}

func told(c Config, calls []call) (out []Finding) {
	feed(New(c, nil, func(f Finding) { out = append(out, f) }), calls, nil)
	return out
}

func lines(findings []Finding) (out []string) {
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s %s %s %s %v", f.Severity, f.Detector, f.Workload, f.Subject, f.Learning))
	}
	return out
}

// scene is the live scene: a jittered beacon beside what only looks like one, on a monitor that has just started.
func scene(length float64) []call {
	app, db, web := box("app-1", "compose:shop/app", "shop"), box("db-1", "compose:shop/db", "shop"), box("web-1", "compose:shop/web", "shop")
	worker, clock := box("worker-1", "compose:shop/worker", "shop"), box("clock-1", "name:clock", "")
	probe, client, long := box("probe-1", "compose:shop/probe", "shop"), box("client-1", "name:client", ""), box("long-1", "name:long", "")
	push := func(c *enrich.Container, seed uint64) []call {
		return every(call{from: c, addr: "198.51.100.80", port: 4318, sent: 4000, recv: 200}, 5, .01, length, seed)
	}
	return inOrder(
		every(call{from: worker, addr: "203.0.113.9", port: 443, sent: 600, recv: 900}, 8, .3, length, 1),
		every(call{from: clock, addr: "198.51.100.123", port: 123, proto: flow.UDP, sent: 76, recv: 76}, 6, 0, length, 2),
		every(call{from: probe, to: web, addr: "172.18.0.4", port: 8080, sent: 180, recv: 320}, 3, .005, length, 3),
		push(app, 4), push(db, 5), push(web, 6),
		poisson(call{from: client, addr: "198.51.100.9", port: 443, sent: 800, recv: 2000}, 4, length, 7),
		[]call{{from: long, addr: "198.51.100.10", port: 443, proto: flow.TCP, at: sec, sent: 1e6, recv: 1e6}},
	)
}

func TestBeaconLiveScene(t *testing.T) {
	findings := told(Default(), scene(1200))
	want := []string{"high beacon compose:shop/worker 203.0.113.9:443/tcp true"}
	if diff := gocmp.Diff(want, lines(findings)); diff != "" {
		t.Fatal("told (-want +got)\n" + diff)
	}
	f := findings[0]
	if p := f.Evidence["period_seconds"].(float64); math.Abs(p-6.8) > .05*6.8 {
		t.Errorf("period is %v s, not 6.8 s", p)
	}
	if f.Method != enrich.MethodIP || f.Confidence != enrich.Exact || f.Instance.Name != "worker-1" {
		t.Errorf("attributed by %v, %v to %v", f.Method, f.Confidence, f.Instance)
	}
	if diff := gocmp.Diff([]int{1, 8}, f.Evidence["destinations_prevalence"]); diff != "" {
		t.Error("prevalence (-want +got)\n" + diff)
	}
}

// A single workload that pushes metrics to an address of its own: nothing says that this is right. Told once, medium, while
// learning, and then known.
func TestBeaconLonelyPushIsToldOnce(t *testing.T) {
	push := every(call{from: box("app-1", "name:app", ""), addr: "198.51.100.80", port: 4318, sent: 4000, recv: 200}, 60, 0, 5*86400, 1)
	want := []string{"medium beacon name:app 198.51.100.80:4318/tcp true"}
	if diff := gocmp.Diff(want, lines(told(Default(), push))); diff != "" {
		t.Error("told (-want +got)\n" + diff)
	}
}

func TestBeaconChangeOfKnownPeriodSpeaks(t *testing.T) {
	c := call{from: box("app-1", "name:app", ""), addr: "198.51.100.80", port: 4318, sent: 4000, recv: 200}
	calls := every(c, 60, 0, 3*86400, 1)
	c.at = 3 * 86400 * sec
	findings := told(Default(), slices.Concat(calls, every(c, 300, 0, 2*86400, 2)))
	want := []string{"medium beacon name:app 198.51.100.80:4318/tcp true", "medium beacon name:app 198.51.100.80:4318/tcp false"}
	if diff := gocmp.Diff(want, lines(findings)[:min(2, len(findings))]); diff != "" {
		t.Fatal("told (-want +got)\n" + diff)
	}
	if findings[0].ID == findings[1].ID || !strings.Contains(findings[1].Summary, "before every 60 s") {
		t.Errorf("the change has id %s (before %s) and says %q", findings[1].ID, findings[0].ID, findings[1].Summary)
	}
}

// What is high stays loud: once a day until a person decides, each time under an id of its own, which no receiver of findings takes for a
// duplicate.
func TestBeaconHighIsRepeatedDaily(t *testing.T) {
	findings := told(Default(), every(call{from: box("w", "name:w", ""), addr: "203.0.113.9", port: 443, sent: 600, recv: 900}, 60, .3, 3.5*86400, 1))
	if len(findings) != 4 {
		t.Fatalf("told %d times: %v", len(findings), lines(findings))
	}
	for i, f := range findings[1:] {
		if f.ID == findings[i].ID || f.Severity != High || f.Time-findings[i].Time < 24*hour {
			t.Errorf("telling %d: id %s, before %s, %v after the one before, severity %v", i+2, f.ID, findings[i].ID, time.Duration(f.Time-findings[i].Time), f.Severity)
		}
	}
}

// A word that was medium after 8 beats and is high after 16 is a new one.
func TestBeaconRiseHasAnIDOfItsOwn(t *testing.T) {
	c := call{from: box("w", "name:w", ""), addr: "203.0.113.9", port: 443, sent: 600, recv: 900}
	ids := map[string]Severity{}
	for seed := range uint64(20) {
		clear(ids)
		for _, f := range told(Default(), every(c, 60, .3, 7200, seed)) {
			if as, known := ids[f.ID]; known && as != f.Severity {
				t.Errorf("seed %d: id %s is %s and %s", seed, f.ID, as, f.Severity)
			}
			ids[f.ID] = f.Severity
		}
	}
}

func TestBeaconBetweenContainers(t *testing.T) {
	shop, other := box("a-1", "compose:shop/a", "n1"), box("b-1", "compose:blog/b", "n1")
	plain, plain2, far := box("p", "name:p", "n1"), box("q", "name:q", "n1"), box("f", "name:f", "n2")
	even := func(from, to *enrich.Container) []call {
		return every(call{from: from, to: to, addr: "172.18.0.9", port: 8080, sent: 200, recv: 300}, 10, 0, 3600, 9)
	}
	for name, test := range map[string]struct {
		calls []call
		want  []string
	}{
		"other project":     {even(shop, other), []string{"medium beacon compose:shop/a 172.18.0.9:8080/tcp true"}},
		"common network":    {even(plain, plain2), nil},
		"no common network": {even(plain, far), []string{"medium beacon name:p 172.18.0.9:8080/tcp true"}},
		"uneven neighbour": {
			every(call{from: plain, to: plain2, addr: "172.18.0.9", port: 8888, sent: 200, recv: 300}, 40, .5, 3600, 9),
			[]string{"low beacon name:p 172.18.0.9:8888/tcp true"},
		},
	} {
		if diff := gocmp.Diff(test.want, lines(told(Default(), test.calls))); diff != "" {
			t.Errorf("%s: told (-want +got)\n%s", name, diff)
		}
	}
}

// A name that comes late, moves between addresses or is lost does not break the series.
func TestBeaconFollowsNames(t *testing.T) {
	calls := every(call{from: box("w", "name:w", ""), addr: "203.0.113.9", port: 443, sent: 600, recv: 900}, 60, .3, 3600, 1)
	for i := range calls {
		if i >= 3 {
			calls[i].name, calls[i].addr = "c2.example.net", fmt.Sprintf("203.0.113.%d", 9+i%5)
		}
		if i >= 20 {
			calls[i].name = []string{"c2.example.net", "", fmt.Sprintf("x%d.example.net", i)}[i%3]
		}
	}
	var got []Finding
	e := New(Default(), nil, func(f Finding) { got = append(got, f) })
	feed(e, calls, nil)
	if diff := gocmp.Diff([]string{"high beacon name:w c2.example.net:443/tcp true"}, lines(got)); diff != "" {
		t.Error("told (-want +got)\n" + diff)
	}
	b := e.detectors[0].Detector.(*beacon)
	k := b.sets[0]
	if s := k.names[nameKey{"c2.example.net", 443, flow.TCP}]; k.size() != 1 || int(s.count) != len(calls) {
		t.Errorf("%d series, %d of %d calls in the named one", k.size(), s.count, len(calls))
	}
}
