package baseline

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// egressRig is an engine with egress-spike alone.
type egressRig struct {
	*Engine
	*egress
	told []Finding
}

func newEgressRig() *egressRig {
	r := &egressRig{}
	c := Default()
	c.Beacon.Mode, c.Posture.Mode, c.HostNetwork.Mode = Off, Off, Off
	r.Engine = New(c, metrics.NewSet(), func(f Finding) { r.told = append(r.told, f) })
	for _, d := range r.Engine.detectors {
		if e, ok := d.Detector.(*egress); ok {
			r.egress = e
		}
	}
	return r
}

func sent(box *enrich.Container, at int64, peer uint32, n uint64) *enrich.Flow {
	return &enrich.Flow{
		Kind: enrich.Update, Time: at, Container: box, Peer: flow.Addr4(peer), PeerPort: 443, Proto: flow.TCP,
		Opener: enrich.OpenerLocal, Sent: n, Confidence: enrich.Exact, Method: enrich.MethodIP,
	}
}

// play sends n bytes every five minutes and ticks every minute, from one offset to another.
func (r *egressRig) play(box *enrich.Container, from, to int64, n uint64) {
	for at := epoch + from; at < epoch+to; at += 60 * sec {
		if n > 0 && at%binLength == 0 {
			r.Engine.Flow(sent(box, at, 1, n))
		}
		r.Engine.Tick(at + sec)
	}
}

func TestEgressGapIsNoSilence(t *testing.T) {
	f := func(gaps []flow.Gap, want uint32) {
		t.Helper()
		r, box := newEgressRig(), &enrich.Container{ID: "1", Workload: "w", Image: "i"}
		r.play(box, 0, 10*3600*sec, 1e6)
		for _, g := range gaps {
			r.Engine.Gap(g)
		}
		r.play(box, 10*3600*sec, 12*3600*sec, 0)
		if got := r.byIndex[0].slots[10].count; got != want {
			t.Errorf("samples in the silent hour: %d, want %d", got, want)
		}
	}
	hours := func(from, to int64) flow.Gap {
		return flow.Gap{From: epoch + from*3600*sec, To: epoch + to*3600*sec}
	}
	f(nil, 12)
	f([]flow.Gap{hours(10, 11)}, 0)
	f([]flow.Gap{hours(12, 13)}, 12)
	f([]flow.Gap{{From: epoch + 10*3600*sec + binLength/2, To: epoch + 10*3600*sec + binLength/2 + sec}}, 11)
}

func TestEgressSilenceEndsAfterADay(t *testing.T) {
	r, box := newEgressRig(), &enrich.Container{ID: "1", Workload: "w", Image: "i"}
	r.play(box, 0, 2*dayNS, 1e6)
	r.play(box, 2*dayNS, 9*dayNS, 0)
	if got := r.byIndex[0].slots[12].count; got != 3*binsPerHour {
		t.Errorf("samples at noon after two busy days and a week of nothing: %d, want %d", got, 3*binsPerHour)
	}
}

// Without a floor everything unusual is told; the silence before a workload's first bytes is not.
func TestEgressSilenceIsNoSpikeWithoutFloor(t *testing.T) {
	r := newEgressRig()
	r.c.FloorBytes = 0
	r.play(&enrich.Container{ID: "1", Name: "a", Workload: "a", Image: "i"}, 0, 3600*sec, 1e6)
	r.play(&enrich.Container{ID: "2", Name: "b", Workload: "b", Image: "i"}, 3600*sec, 2*3600*sec, 1e6) // while the bin before is open
	if len(r.told) != 2 || r.told[1].Workload != "b" {
		t.Errorf("told %v, want one finding of each", r.told)
	}
}

func TestEgressLateBytesCount(t *testing.T) {
	r, box := newEgressRig(), &enrich.Container{ID: "1", Name: "a", Workload: "w", Image: "i"}
	r.play(box, 0, 3*dayNS, 1e6)
	now := epoch + 3*dayNS
	r.Engine.Flow(sent(box, now-30*60*sec, 7, 5e9)) // half an hour late
	r.play(box, 3*dayNS, 3*dayNS+10*60*sec, 1e6)
	if len(r.told) != 1 || r.late.Get() != 5e9 {
		t.Fatalf("told %d findings, late bytes %d, want 1 and 5e9", len(r.told), r.late.Get())
	}
	want := []egressDestination{{Peer: "0.0.0.7", Port: 443, Bytes: 5e9, Share: .9998}, {Peer: "0.0.0.1", Port: 443, Bytes: 1e6, Share: .0002}}
	if diff := cmp.Diff(want, r.told[0].Evidence["destinations"]); diff != "" {
		t.Errorf("destinations (-want +got):\n%s", diff)
	}
}

// The same findings and the same state after a restart in the middle, when every bin was closed and put before.
func TestEgressRestore(t *testing.T) {
	box := &enrich.Container{ID: "1", Name: "a", Workload: "w", Image: "i"}
	whole := newEgressRig()
	whole.play(box, 0, 3*dayNS, 1e6)
	blobs := map[string][]byte{}
	put := func(detector, key string, blob []byte) bool {
		if detector == "egress-spike" {
			blobs[key] = slices.Clone(blob)
		}
		return true
	}
	whole.Engine.Dirty(1000, put)
	again := newEgressRig()
	if err := again.Engine.Restore("egress-spike", "w", blobs["w"]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole.byIndex[0].slots, again.byIndex[0].slots, cmp.AllowUnexported(egressSlot{})); diff != "" {
		t.Errorf("slots (-before +after):\n%s", diff)
	}
	again.play(box, 3*dayNS, 3*dayNS+3600*sec, 1e6)
	again.Engine.Flow(sent(box, epoch+3*dayNS+3601*sec, 9, 3e9))
	again.play(box, 3*dayNS+3660*sec, 3*dayNS+7200*sec, 0)
	if len(again.told) != 1 || again.told[0].Severity != High {
		t.Errorf("told %v, want one finding of severity high", again.told)
	}
}

func TestEgressForget(t *testing.T) {
	r, box := newEgressRig(), &enrich.Container{ID: "1", Workload: "w", Image: "i"}
	r.play(box, 0, 3600*sec, 1e6)
	r.forget(r.egress.env.learning.byName["w"])
	gone := false
	r.egress.Dirty(func(key string, blob []byte) bool {
		gone = gone || key == "w" && len(blob) == 0
		if len(blob) > 0 {
			t.Errorf("a blob of the forgotten %q", key)
		}
		return true
	})
	if !gone || len(r.donors) != 0 {
		t.Errorf("gone %v, donors %d", gone, len(r.donors))
	}
}

func TestEgressAllocations(t *testing.T) {
	r, box := newEgressRig(), &enrich.Container{ID: "1", Workload: "w", Image: "i"}
	f := sent(box, epoch, 1, 1000)
	n := uint32(0)
	r.play(box, 0, 3600*sec, 1e6)
	if got := testing.AllocsPerRun(1000, func() {
		n++
		f.Peer, f.Time = flow.Addr4(n), epoch+3600*sec
		r.Engine.Flow(f)
	}); got != 0 {
		t.Errorf("%v allocations per flow", got)
	}
}

// The largest of many destinations keeps its place, and no count is too low.
func TestEgressTopPeers(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	box := &enrich.Container{}
	var b egressBin
	true7 := uint64(0)
	for range 5000 {
		peer, n := r.Uint32N(1000), uint64(100)
		if r.IntN(4) == 0 {
			peer, n = 7, 1000
		}
		if peer == 7 {
			true7 += n
		}
		b.add(sent(box, 0, peer, n))
	}
	top := b.ranked()[0]
	if top.addr != flow.Addr4(7) || top.bytes < true7 || top.bytes-top.over > true7 {
		t.Errorf("largest is %v with %d (over %d), want 0.0.0.7 with %d", top.addr, top.bytes, top.over, true7)
	}
}

func FuzzEgressBlob(f *testing.F) {
	var out writer
	c := defaultEgressSpike()
	s := &sender{image: "i", bursts: []burst{{1, 2, 3, true}}}
	s.encode(&c, &out)
	f.Add(slices.Clone(out.b))
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, blob []byte) {
		s, err := decodeSender(&c, blob)
		if err != nil {
			return
		}
		var a, b writer
		s.encode(&c, &a)
		back, err := decodeSender(&c, a.b)
		if err != nil {
			t.Fatal(err)
		}
		back.encode(&c, &b)
		if !bytes.Equal(a.b, b.b) {
			t.Errorf("%x came back as %x", a.b, b.b)
		}
	})
}

// Nightly backups of many kinds: hour, size, length and punctuality differ. From the third night on they are silent.
func TestEgressBackups(t *testing.T) {
	const workloads, nights = 100, 21
	late, early := 0, 0
	for n := range workloads {
		r := rand.New(rand.NewPCG(uint64(n), 3))
		rig, box := newEgressRig(), &enrich.Container{ID: "1", Workload: "w", Image: "i"}
		base := 1e4 * float64(uint64(1)<<r.UintN(9))                          // 10 kB to 2.5 MB in five minutes
		total := 2e8 * float64(uint64(1)<<r.UintN(7))                         // 200 MB to 12.8 GB
		length := (5 + r.Int64N(55)) * 60 * sec                               // 5 to 60 minutes
		hour, slip := 3600*sec+r.Int64N(21*3600*sec), 1+r.Int64N(20*60*sec+1) // up to 20 minutes early or late
		var start, end int64
		night := int64(-1)
		for at := epoch; at < epoch+nights*dayNS; at += 60 * sec {
			if today := (at - epoch) / dayNS; today != night {
				night = today
				start = epoch + today*dayNS + hour + r.Int64N(2*slip) - slip
				end = start + length*(80+r.Int64N(40))/100
			}
			if r.IntN(3) == 0 {
				rig.Engine.Flow(sent(box, at, 1, uint64(base*.6*(.3+1.4*r.Float64()))))
			}
			if at >= start && at < end {
				rig.Engine.Flow(sent(box, at, 2, uint64(total*60*float64(sec)/float64(length))))
			}
			rig.Engine.Tick(at + sec)
		}
		for _, f := range rig.told {
			if f.Window >= epoch+2*dayNS+hour-2*slip {
				late++
			} else {
				early++
			}
		}
	}
	t.Logf("%d workloads: %d told in the first two nights, %d in the next %d", workloads, early, late, nights-2)
	if late > 0 {
		t.Errorf("%d backups were told after the second night", late)
	}
}
