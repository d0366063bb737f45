package baseline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

func counters(set *metrics.Set) string {
	var out strings.Builder
	set.WritePrometheus(&out)
	return out.String()
}

func TestDefaultsAreValid(t *testing.T) {
	Default().Validate(func(path, message string) { t.Errorf("%s: %s", path, message) })
}

func TestValidateNamesThePath(t *testing.T) {
	c := Default()
	c.Beacon.Mode, c.Beacon.MinLLR, c.Beacon.SiteNetworks = "loud", 1, []string{"10.0.0.0/8", "lan"}
	c.Learning.MaxWorkloads = 0
	var got []string
	c.Validate(func(path, message string) { got = append(got, path) })
	want := []string{"learning.max_workloads", "beacon.mode", "beacon.min_llr", "beacon.site_networks[1]"}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error("paths (-want +got)\n" + diff)
	}
}

func TestModes(t *testing.T) {
	for mode, counted := range map[Mode]int{On: 1, Shadow: 1, Off: 0} {
		c, set := Default(), metrics.NewSet()
		c.Beacon.Mode = mode
		n := 0
		feed(New(c, set, func(Finding) { n++ }), scene(900), nil)
		if want := map[Mode]int{On: 1}[mode]; n != want {
			t.Errorf("%s: told %d, not %d", mode, n, want)
		}
		line := fmt.Sprintf(`wharfwatch_baseline_findings_total{detector="beacon",severity="high",mode=%q} %d`, mode, counted)
		if all := counters(set); strings.Contains(all, line) != (mode != Off) {
			t.Errorf("%s: no line %s in\n%s", mode, line, all)
		}
	}
}

func TestQuietLearnsAndSaysNothing(t *testing.T) {
	push := every(call{from: box("app-1", "name:app", ""), addr: "198.51.100.80", port: 4318, sent: 4000, recv: 200}, 60, 0, 3*86400, 1)
	n := 0
	e := New(Default(), nil, func(Finding) { n++ })
	e.SetQuiet(true)
	feed(e, push[:2*1440], nil)
	e.SetQuiet(false)
	for i := range push[2*1440:] {
		e.Tick(push[2*1440+i].at + morning)
		e.Flow(push[2*1440+i].flow())
	}
	if n != 0 {
		t.Errorf("%d findings after two quiet days", n)
	}
}

// A jittered call from the quiet time is not learned as good: it is told as soon as the quiet ends.
func TestQuietDoesNotLearnWhatIsHigh(t *testing.T) {
	calls := every(call{from: box("w", "name:w", ""), addr: "203.0.113.9", port: 443, sent: 600, recv: 900}, 60, .3, 2*86400, 1)
	var got []Finding
	e := New(Default(), nil, func(f Finding) { got = append(got, f) })
	e.SetQuiet(true)
	for i := range calls {
		if calls[i].at > 86400*sec {
			e.SetQuiet(false)
		}
		e.Tick(morning + calls[i].at)
		e.Flow(calls[i].flow())
	}
	if len(got) == 0 || got[0].Severity != High {
		t.Errorf("told %v", lines(got))
	}
}

// talker raises a finding at every call.
type talker struct {
	Nop
	env *env
}

func (d *talker) say(at int64, subject string, severity Severity) {
	d.env.report(Finding{Time: at, Window: at, Workload: "name:x", Subject: subject, Severity: severity})
}
func (d *talker) Flow(f *enrich.Flow)   { d.say(f.Time, f.Peer.String(), Low) }
func (d *talker) Event(v *enrich.Event) { d.say(v.Time, "event "+v.Detail, Critical) }

func TestFindingsOfEventsComeAtOnceOthersOrderedAtTheTick(t *testing.T) {
	var got []string
	set := metrics.NewSet()
	e := New(Default(), set, func(f Finding) { got = append(got, fmt.Sprint(f.Time, " ", f.Subject)) })
	d := running{Detector: &talker{env: &e.env}, id: "talker", mode: On}
	for s := range d.told {
		d.told[s] = set.NewCounter(fmt.Sprintf("talker_%d", s))
	}
	e.detectors = []running{d}
	at := func(ns int64) {
		e.Flow(&enrich.Flow{Time: ns, Container: box("x", "name:x", ""), Peer: flow.Addr4(uint32(ns))})
	}
	at(9)
	at(3)
	e.Dirty(10, func(string, string, []byte) bool { t.Error("state put while findings wait"); return true })
	e.Event(&enrich.Event{Time: 5, Kind: enrich.Synced, Detail: "a"})
	if diff := gocmp.Diff([]string{"5 event a"}, got); diff != "" {
		t.Error("after the event (-want +got)\n" + diff)
	}
	e.Tick(10)
	e.Tick(10) // does nothing
	if diff := gocmp.Diff([]string{"5 event a", "3 0.0.0.3", "9 0.0.0.9"}, got); diff != "" {
		t.Error("after the tick (-want +got)\n" + diff)
	}
	if id := findingID("a", "bc", "d", 1); len(id) != 32 || id == findingID("ab", "c", "d", 1) {
		t.Errorf("id %q does not tell its parts apart", id)
	}
}

func TestDirtyGivesEveryKeyItsTurn(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	calls := scene(120)
	put := map[string]int{}
	feed(e, calls, func(i int) *Engine {
		if i%5 == 0 && i > 0 {
			e.Tick(morning + calls[i-1].at)
			e.Dirty(1, func(detector, key string, blob []byte) bool { put[detector]++; return true })
		}
		return e
	})
	if put["beacon"] == 0 || put["learning"] == 0 {
		t.Errorf("put %v", put)
	}
	refused := 0
	e.Dirty(10, func(detector, key string, blob []byte) bool { refused++; return false })
	seen := map[string]bool{}
	e.Dirty(1000, func(detector, key string, blob []byte) bool { seen[detector+" "+key] = true; return true })
	if refused != 1 || !seen["beacon compose:shop/worker"] {
		t.Errorf("refused %d times, then put %v", refused, seen)
	}
	e.Dirty(1000, func(detector, key string, blob []byte) bool {
		t.Errorf("%s of %q is put twice", detector, key)
		return true
	})
}

// busy is a detector with so many changed keys in every round.
type busy int

func (b busy) Dirty(yield func(key string, blob []byte) bool) {
	for range b {
		if !yield("k", []byte{1}) {
			return
		}
	}
}

func (busy) Restore(string, []byte) error { return nil }

// TestDirtyStarvesNobody has one whose keys change faster than they are put.
func TestDirtyStarvesNobody(t *testing.T) {
	e := &Engine{states: []keeper{{"flooded", busy(1000)}, {"quiet", busy(1)}, {"idle", busy(0)}}}
	put := map[string]int{}
	for range 6 {
		e.Dirty(4, func(detector, _ string, _ []byte) bool { put[detector]++; return true })
	}
	if put["quiet"] < 2 || put["flooded"] < 16 {
		t.Errorf("put %v", put)
	}
}

func TestLearningEnds(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	c := call{from: box("w", "name:w", ""), addr: "203.0.113.9", port: 443}
	rare := call{from: box("r", "name:r", ""), addr: "203.0.113.9", port: 443}
	feed(e, inOrder(every(c, 1700, 0, 23.9*3600, 1), every(rare, 20*3600, 0, 86400*2, 1)), func(i int) *Engine { return e })
	states := func() (out []string) {
		for _, s := range e.Workloads() {
			out = append(out, fmt.Sprintf("%s %v %v", s.Workload, s.Learning, s.Containers))
		}
		return out
	}
	if diff := gocmp.Diff([]string{"name:r true [r]", "name:w false [w]"}, states()); diff != "" {
		t.Error("after two days (-want +got)\n" + diff)
	}
}

func TestWorkloadsAreBounded(t *testing.T) {
	c, set := Default(), metrics.NewSet()
	c.Learning.MaxWorkloads = 10
	e := New(c, set, func(Finding) {})
	for i := range 300 {
		name := fmt.Sprintf("w%d", i)
		for j := range 3 {
			f := call{from: box(name, "name:"+name, ""), addr: "203.0.113.9", port: 443, proto: flow.TCP, at: int64(3*i+j) * sec}
			e.Flow(f.flow())
		}
		e.Tick(morning + int64(3*i+3)*sec)
	}
	b := e.detectors[0].Detector.(*beacon)
	if n := len(e.Workloads()); n != 10 || b.total != 10 || len(b.sets) > 11 {
		t.Errorf("%d workloads, %d series, %d sets", n, b.total, len(b.sets))
	}
	if n := len(b.known.of[prevalenceKey{dest: destKey{mustAddr("203.0.113.9"), 443, flow.TCP}}]); n > 10 {
		t.Errorf("%d workloads are said to call the destination", n)
	}
	if all := counters(set); !strings.Contains(all, `wharfwatch_baseline_evicted_total{table="workloads"} 290`) {
		t.Error(all)
	}
	live := map[string]bool{}
	e.Dirty(10000, func(detector, key string, blob []byte) bool {
		live[key] = len(blob) > 0
		return true
	})
	for key, there := range live {
		if key != "" && there != (e.env.learning.byName[key] != nil) {
			t.Errorf("%s: in the state %v, known %v", key, there, !there)
		}
	}
}

func mustAddr(s string) flow.Addr {
	a, err := flow.ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// A container that calls a million addresses fills its own quota, costs nobody else a beat, and cannot hide another one's beacon.
func TestSprayIsBounded(t *testing.T) {
	c := Default()
	c.Beacon.MaxKeys, c.Beacon.MaxKeysPerWorkload = 2000, 200
	c.Scan.Mode = Off // a spray is one
	var got []Finding
	e := New(c, nil, func(f Finding) { got = append(got, f) })
	beacons := every(call{from: box("w", "name:w", ""), addr: "203.0.113.9", port: 443, sent: 600, recv: 900}, 8, .3, 1000, 1)
	spray := call{from: box("s", "name:s", ""), addr: "0.0.0.0", port: 443, proto: flow.TCP}
	f := spray.flow()
	next := 0
	for i := range 1_000_000 {
		at := morning + int64(i)*1e6
		for next < len(beacons) && morning+beacons[next].at <= at {
			e.Flow(beacons[next].flow())
			next++
		}
		f.Start, f.Time = at, at
		f.Peer = flow.Addr4(0xc6120000 + uint32(i/2*7919)%(1<<24)) // each address twice
		e.Flow(f)
		if i%1000 == 999 {
			e.Tick(at)
		}
	}
	b := e.detectors[0].Detector.(*beacon)
	if b.total > 201 || len(b.known.of) > 202 || len(b.queue) > 200 {
		t.Errorf("%d series, %d destinations, %d queued", b.total, len(b.known.of), len(b.queue))
	}
	if diff := gocmp.Diff([]string{"high beacon name:w 203.0.113.9:443/tcp true"}, lines(got)); diff != "" {
		t.Error("told (-want +got)\n" + diff)
	}
}

func TestCapTakesFromTheLargest(t *testing.T) {
	c := Default()
	c.Beacon.MaxKeys, c.Beacon.MaxKeysPerWorkload = 100, 100
	e := New(c, nil, func(Finding) {})
	for i := range 300 {
		f := call{from: box("s", "name:s", ""), addr: fmt.Sprintf("198.18.0.%d", i/2), port: 1, proto: flow.TCP, at: int64(i) * sec}
		e.Flow(f.flow())
	}
	for i := range 20 {
		name := fmt.Sprintf("w%d", i)
		for j := range 2 {
			f := call{from: box(name, "name:"+name, ""), addr: "203.0.113.9", port: 443, proto: flow.TCP, at: int64(400+i*2+j) * sec}
			e.Flow(f.flow())
		}
	}
	b := e.detectors[0].Detector.(*beacon)
	if b.total != 100 || b.sets[0].size() != 80 {
		t.Errorf("%d series, %d of the one that took all", b.total, b.sets[0].size())
	}
}

// known makes an engine that has seen each of the flows three times, n of them by 50 containers.
func known(n int) (*Engine, []*enrich.Flow) {
	c := Default()
	c.EgressSpike.Mode, c.HostNetwork.Mode, c.Posture.Mode = Off, Off, Off
	e := New(c, nil, func(Finding) {})
	var boxes []*enrich.Container
	for i := range 50 {
		boxes = append(boxes, box(fmt.Sprint("w", i), fmt.Sprint("name:w", i), ""))
	}
	flows := make([]*enrich.Flow, n)
	for i := range flows {
		f := call{from: boxes[i%50], addr: fmt.Sprintf("203.0.%d.%d", i/50/250, i/50%250), port: 443, proto: flow.TCP}
		flows[i] = f.flow()
	}
	for round := range 700 {
		for i, f := range flows {
			f.Start = morning + int64(round*60+i%50)*sec
			f.Time = f.Start
			e.Flow(f)
		}
		e.Tick(morning + int64(round*60+59)*sec)
	}
	return e, flows
}

func TestEngineFlowAllocatesNothing(t *testing.T) {
	e, flows := known(100)
	at := flows[0].Start
	if n := testing.AllocsPerRun(20, func() {
		for range 20 {
			at += 60 * sec
			for _, f := range flows {
				f.Start, f.Time = at, at
				e.Flow(f)
			}
			e.Tick(at)
		}
	}); n != 0 {
		t.Errorf("%v allocations per 2000 flows and 20 ticks", n)
	}
}

func BenchmarkEngineFlow(b *testing.B) {
	for _, kind := range []string{"open+close", "update"} {
		b.Run("known/"+kind, func(b *testing.B) {
			e, flows := known(1000)
			at := flows[0].Start
			if kind == "update" {
				for _, f := range flows {
					f.Kind = enrich.Update
				}
			}
			i := 0
			for b.Loop() {
				f := flows[i%len(flows)]
				if i++; i%len(flows) == 0 {
					at += 60 * sec
				}
				f.Start, f.Time = at, at
				e.Flow(f)
			}
		})
	}
	b.Run("new", func(b *testing.B) {
		e, flows := known(50)
		f := flows[0]
		i := uint32(0)
		for b.Loop() {
			f.Peer = flow.Addr4(i / 2 * 7919)
			i++
			e.Flow(f)
			if i%1000 == 0 {
				e.Tick(f.Start + int64(i/1000)*sec)
			}
		}
	})
}

// BenchmarkTickIdle is a second in which nothing happens, of 4,096 workloads with some 40,000 destinations that have just been judged.
func BenchmarkTickIdle(b *testing.B) {
	c := Default()
	c.Beacon.MaxKeys = 65536
	e := New(c, nil, func(Finding) {})
	at := morning
	for round := range 10 {
		for w := range 4096 {
			name := fmt.Sprint("w", w)
			call := call{from: box(name, "name:"+name, ""), addr: "203.0.113.9", port: uint16(w % 10), proto: flow.TCP}
			f := call.flow()
			f.Sent = 1000
			f.Start, f.Time = at+int64(round)*300*sec, at+int64(round)*300*sec
			for d := range uint32(10) {
				f.Peer = flow.Addr4(0xc6120000 + d*7919 + uint32(w))
				e.Flow(f)
			}
		}
		e.Tick(at + int64(round)*300*sec + sec)
	}
	at += 3000 * sec
	for range 600 { // what waits is judged
		at += sec
		e.Tick(at)
	}
	for b.Loop() {
		at += sec
		e.Tick(at)
	}
}
