package baseline

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/flow"
)

// Whatever order records arrive in within an active timeout, and whenever the day begins: the fit is the same.
func TestSeriesOrderAndShift(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		r := rand.New(rand.NewPCG(seed, 4))
		var starts []int64
		for at := morning; len(starts) < 700; at += int64(1000*(20+30*r.Float64())) * 1e6 {
			for range 1 + r.IntN(4) {
				starts = append(starts, at+int64(r.IntN(900))*1e6)
			}
		}
		slices.Sort(starts)
		fit := func(starts []int64, shift int64) rhythm {
			var s series
			for _, at := range starts {
				s.start(at + shift)
			}
			var m fitting
			f := s.fit(nil, 2, &m)
			f.first -= shift
			f.last -= shift
			return f
		}
		want := fit(starts, 0)
		shuffled := slices.Clone(starts)
		for from := 0; from < len(shuffled); from += 40 {
			part := shuffled[from:min(from+40, len(shuffled))]
			r.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		}
		if diff := gocmp.Diff(want, fit(shuffled, 0), gocmp.AllowUnexported(rhythm{})); diff != "" {
			t.Fatalf("seed %d, shuffled (-want +got)\n%s", seed, diff)
		}
		if got := fit(starts, 987654321*1e6); math.Abs(got.LLR-want.LLR) > 1e-6 || got.first != want.first {
			t.Fatalf("seed %d, shifted: LLR %v instead of %v", seed, got.LLR, want.LLR)
		}
	}
}

func TestSeriesSpansAreChains(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	for range 500 {
		var s series
		var all []int64
		for range 1 + r.IntN(60) {
			at := morning + int64(r.IntN(4000))*1e6
			all = append(all, at)
			s.start(at)
		}
		slices.Sort(all)
		var want []span
		for _, at := range all {
			rel := uint32(at/1e6 - s.base)
			if n := len(want); n > 0 && rel <= want[n-1].last+chainGap {
				want[n-1].last = rel
				continue
			}
			want = append(want, span{rel, rel})
		}
		if diff := gocmp.Diff(want, s.spans, gocmp.AllowUnexported(span{})); diff != "" {
			t.Fatal("spans (-want +got)\n" + diff)
		}
	}
}

func TestSeriesSurvivesLongSilence(t *testing.T) {
	var s series
	for i := range int64(300) {
		s.start(morning + i*24*hour)
	}
	var m fitting
	if f := s.fit(nil, 2, &m); math.Abs(f.Period-86400) > 1 || len(s.spans) > 50 {
		t.Errorf("a daily call for 300 days: %d spans, %+v", len(s.spans), f.BeaconFit)
	}
	s.start(morning + 2000*24*hour)
	if len(s.spans) != 1 {
		t.Errorf("%d spans after five years of silence", len(s.spans))
	}
}

func TestSeriesGapsAreNoEvidence(t *testing.T) {
	var s series
	for i := range int64(40) {
		if i < 10 || i >= 17 {
			s.start(morning + i*60*sec)
		}
	}
	var m fitting
	with := s.fit([]flow.Gap{{From: morning + 560*sec, To: morning + 1000*sec}}, 2, &m)
	if without := s.fit(nil, 2, &m); with.LLR <= without.LLR || len(with.intervals) != len(without.intervals)-1 {
		t.Errorf("LLR %v from %d intervals knowing the gap, %v from %d not knowing", with.LLR, len(with.intervals), without.LLR, len(without.intervals))
	}
	var lossy []flow.Gap
	for i := range int64(40) {
		lossy = append(lossy, flow.Gap{From: morning + i*60*sec + 1, To: morning + i*60*sec + 2})
	}
	if f := s.fit(lossy, 2, &m); len(f.intervals) != 32 {
		t.Errorf("%d of 32 intervals left where every one has a gap", len(f.intervals))
	}
}
