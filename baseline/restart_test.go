package baseline

import (
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// stateOf collects what an engine would put.
func stateOf(e *Engine, detector string) map[string][]byte {
	out := map[string][]byte{}
	e.Dirty(1<<30, func(d, key string, blob []byte) bool {
		if d == detector {
			out[key] = slices.Clone(blob)
		}
		return true
	})
	return out
}

// survives feeds the first flows to one engine, moves its state to a second, gives the rest to both and wants the same findings and the
// same state of the detector. Torn blobs must be refused.
func survives(t *testing.T, detector string, first, rest []enrich.Flow) []string {
	t.Helper()
	var told [2][]string
	engines := [2]*Engine{}
	for i := range engines {
		engines[i] = New(Default(), nil, func(f Finding) {
			if f.Detector == detector {
				told[i] = append(told[i], f.ID+" "+f.Severity.String()+" "+f.Summary)
			}
		})
	}
	give := func(e *Engine, flows []enrich.Flow) {
		for i := range flows {
			f := flows[i]
			e.Tick(f.Time / sec * sec)
			e.Flow(&f)
		}
		e.Tick(flows[len(flows)-1].Time/sec*sec + 400*sec)
	}
	give(engines[0], first)
	rows := map[string]map[string][]byte{}
	engines[0].Dirty(1<<30, func(d, key string, blob []byte) bool {
		if rows[d] == nil {
			rows[d] = map[string][]byte{}
		}
		rows[d][key] = slices.Clone(blob)
		return true
	})
	if len(rows[detector]) == 0 {
		t.Fatalf("%s has no state", detector)
	}
	for d, keys := range rows {
		for key, blob := range keys {
			if err := engines[1].Restore(d, key, blob); err != nil {
				t.Fatal(err)
			}
			if d != detector {
				continue
			}
			for n := range blob {
				torn := New(Default(), nil, func(Finding) {})
				if err := torn.Restore(d, key, blob[:n]); err == nil {
					t.Fatalf("%d of %d bytes of %q are taken for whole", n, len(blob), key)
				}
			}
		}
	}
	engines[1].Tick(first[len(first)-1].Time/sec*sec + 400*sec)
	before := len(told[0])
	give(engines[0], rest)
	give(engines[1], rest)
	if diff := gocmp.Diff(told[0][before:], told[1]); diff != "" && len(told[0][before:])+len(told[1]) > 0 {
		t.Errorf("told (-without +after a restart)\n%s", diff)
	}
	if diff := gocmp.Diff(stateOf(engines[0], detector), stateOf(engines[1], detector)); diff != "" {
		t.Errorf("state (-without +after a restart)\n%s", diff)
	}
	return told[0]
}

// reports are the open of a connection and then its reports at the given gap.
func reports(f enrich.Flow, every, length int64) (out []enrich.Flow) {
	f.Kind, f.Time = enrich.Open, f.Start
	out = append(out, f)
	for at := every; at <= length; at += every {
		f.Kind, f.Time = enrich.Update, f.Start+at
		f.Sent, f.Received = 500, 500
		f.TotalSent, f.TotalReceived = f.TotalSent+500, f.TotalReceived+500
		out = append(out, f)
	}
	return out
}

func TestLongConnectionSurvivesARestart(t *testing.T) {
	c := call{from: box("w", "name:w", ""), addr: "203.0.113.66", port: 4443, proto: 6}
	o := call{from: box("o", "name:o", ""), addr: "198.51.100.1", port: 443, proto: 6}
	f := *c.flow()
	f.Conn, f.TotalSent, f.TotalReceived = 7, 0, 0
	var all []enrich.Flow
	for h := range int64(30) {
		w, other := *c.flow(), *o.flow()
		w.Peer = mustAddr("198.51.100.9")
		w.Start, w.Time = w.Start+h*hour, w.Time+h*hour
		other.Start, other.Time = w.Start, w.Time
		all = append(all, w, other)
	}
	f.Start += 30 * hour
	long := reports(f, hour/6, 9*hour)
	half := len(long) * 2 / 3 // told before
	told := survives(t, "long-connection", append(all, long[:half]...), long[half:])
	if len(told) != 1 {
		t.Errorf("told %d times: %v", len(told), told)
	}
}

func TestCircleSurvivesARestart(t *testing.T) {
	c := call{from: box("w", "name:w", ""), addr: "203.0.113.66", port: 443, proto: 6}
	var all []enrich.Flow
	for i := range int64(200) {
		f := *c.flow()
		f.Peer = mustAddr("198.51.100.9")
		f.Peer.Lo += uint64(i) << 8
		f.Start += i * 1800 * sec
		f.Time = f.Start
		all = append(all, f)
	}
	survives(t, "circles", all[:150], all[100:])
}

// TestCircleKnowsWhatItSaw holds what a circle says of many destinations: new ones are new, old ones are not.
func TestCircleKnowsWhatItSaw(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	c := call{from: box("w", "name:w", ""), addr: "198.18.0.1", port: 443, proto: 6}
	fresh := func(i, at int) bool {
		f := c.flow()
		f.Peer.Lo += uint64(i) << 8
		f.Start += int64(at) * sec
		f.Time = f.Start
		e.Flow(f)
		return e.env.circles.now.fresh
	}
	again, wrong := 0, 0
	for i := range 1000 {
		if !fresh(i, i) {
			wrong++
		}
	}
	for i := range 1000 {
		if fresh(i, 10000+i) {
			again++
		}
	}
	if wrong > 5 || again > 0 {
		t.Errorf("%d of 1000 new ones are said to be known, %d of 1000 known ones to be new", wrong, again)
	}
	x := e.env.circles
	if n := len(x.byIndex[0].all); n != circleExact || len(x.known.of) > circleExact+1 {
		t.Errorf("%d exact, %d counted", n, len(x.known.of))
	}
	for i := range 20 {
		name := []string{"other", "third"}[i%2]
		f := call{from: box(name, "name:"+name, ""), addr: "198.18.0.1", port: 443, proto: 6, at: 3000 * sec}
		g := f.flow()
		g.Peer.Lo += 999 << 8
		e.Flow(g)
	}
	e.Tick(morning + 20000*sec)
	if n := x.callers(destinationHash(func() *enrich.Flow { f := c.flow(); f.Peer.Lo += 999 << 8; return f }()), morning+20000*sec); n != 3 {
		t.Errorf("%d callers", n)
	}
}

func TestScanSurvivesARestart(t *testing.T) {
	ok := call{from: box("w", "name:w", ""), addr: "198.51.100.9", port: 443, proto: 6, recv: 900}
	var all []enrich.Flow
	all = append(all, *ok.flow())
	for i := range int64(400) {
		c := call{from: ok.from, addr: "10.0.0.1", port: 22, proto: 6, at: (60 + i) * sec}
		f := *c.flow()
		f.Peer.Lo += uint64(i)
		all = append(all, f)
	}
	if told := survives(t, "scan", all[:100], all[200:]); len(told) != 1 {
		t.Errorf("told %v", told)
	}
}

// TestScanCounts holds what is said of a sweep against what was done.
func TestScanCounts(t *testing.T) {
	for _, n := range []int{25, 250, 2500, 25000} {
		var got []Finding
		e := New(Default(), nil, func(f Finding) { got = append(got, f) })
		ok := call{from: box("w", "name:w", ""), addr: "198.51.100.9", port: 443, proto: 6, recv: 900}
		e.Flow(ok.flow())
		for i := range n {
			c := call{from: ok.from, addr: "10.0.0.1", port: 22, proto: 6, at: int64(i) * 250e9 / int64(n)}
			f := c.flow()
			f.Peer.Lo += uint64(i)
			e.Flow(f)
		}
		e.Tick(morning + 300*sec)
		if len(got) == 0 {
			t.Fatalf("%d hosts: nothing told", n)
		}
		if most := got[len(got)-1].Evidence["failed_hosts"].(float64); most < .85*float64(n) || most > 1.15*float64(n) {
			t.Errorf("%d hosts: told %v", n, most)
		}
	}
}

func TestNewDestinationSurvivesARestart(t *testing.T) {
	var all []enrich.Flow
	for h := range int64(30) {
		for _, who := range []string{"w", "o"} {
			c := call{from: box(who, "name:"+who, ""), addr: "10.0.0.7", port: 5432, proto: 6, at: h * hour, recv: 9}
			all = append(all, *c.flow())
		}
	}
	at := func(addr string, at int64) enrich.Flow {
		c := call{from: box("w", "name:w", ""), addr: addr, port: 443, proto: 6, at: at, recv: 9}
		return *c.flow()
	}
	first := append(all, at("203.0.113.9", 30*hour))
	told := survives(t, "new-destination", first, []enrich.Flow{at("203.0.113.9", 30*hour+9*sec), at("198.51.100.9", 30*hour+600*sec)})
	if len(told) != 1 {
		t.Errorf("told %v", told)
	}
}

func TestEastWestSurvivesARestart(t *testing.T) {
	var all []enrich.Flow
	web, crm, app := box("web", "name:web", ""), box("crm", "name:crm", ""), box("app", "name:app", "")
	for h := range int64(30) {
		for _, who := range []*enrich.Container{web, crm, app} {
			c := call{from: who, addr: "10.0.0.7", port: 80, proto: 6, at: h * hour, recv: 9}
			all = append(all, *c.flow())
		}
	}
	at := func(to *enrich.Container, port uint16, at int64) enrich.Flow {
		c := call{from: web, to: to, addr: "10.0.0.9", port: port, proto: 6, at: at, recv: 9}
		return *c.flow()
	}
	first := append(all, at(crm, 5432, 30*hour))
	told := survives(t, "east-west", first, []enrich.Flow{at(crm, 5432, 30*hour+9*sec), at(app, 22, 30*hour+600*sec), at(app, 6379, 40*hour)})
	if len(told) != 2 {
		t.Errorf("told %v", told)
	}
}

func TestEgressSlowSurvivesARestart(t *testing.T) {
	var all []enrich.Flow
	for h := range int64(16 * 24) {
		c := call{from: box("w", "name:w", ""), addr: "203.0.113.9", port: 443, proto: 6, at: h*hour + 58*60*sec}
		f := *c.flow()
		if f.Sent = 10e6; h > 15*24 {
			f.Sent = 25e6
		}
		all = append(all, f)
	}
	half := len(all) - 24*2 // no hour is open that holds anything
	if told := survives(t, "egress-slow", all[:half], all[half:]); len(told) != 1 {
		t.Errorf("told %v", told)
	}
}
