package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

const (
	// sigmas is the bound of what is estimated from samples: with some hundred comparisons in a run, 5 standard deviations are passed by
	// chance once in some ten thousand runs, 4 once in some hundred.
	sigmas = 5
	// fewSamples is how many samples of a tuple are needed for its estimate to be judged alone; tuples below it are judged in sum.
	fewSamples = 100
	// tolerance is for what counts every packet.
	tolerance = .01
)

// compare holds the totals of the decoded records against the truth, per tuple.
func (w *tapped) compare(t *testing.T, s *scene, want totals) {
	got, otherRate := w.totals()
	got = s.fold(got)
	if otherRate > 0 {
		t.Errorf("%d of %d records say another sampling rate than 1:%d", otherRate, len(w.records), w.sampling)
	}
	for _, name := range []string{"wharfwatch_flow_kernel_drops_total", "wharfwatch_flow_sequence_lost_total", "wharfwatch_flow_parts_refused_total"} {
		for _, line := range w.counters(name) {
			if !slices.ContainsFunc(w.known, func(k string) bool { return strings.HasPrefix(line, k) }) {
				t.Error(line)
			}
		}
	}
	c := comparison{sampling: uint64(w.sampling)}
	var few, fewGot sums
	for k, n := range want {
		if w.ipv4 && k.src.Is6() {
			continue
		}
		have := got[k]
		if have == nil {
			have = &sums{}
		}
		if w.pieces && s.isPieces(k.dst) && have.packets <= n.packets && have.bytes <= n.bytes {
			continue
		}
		if n.packets < fewSamples*c.sampling && c.sampling > 1 {
			few.packets, few.bytes, few.squares = few.packets+n.packets, few.bytes+n.bytes, few.squares+n.squares
			fewGot.packets, fewGot.bytes = fewGot.packets+have.packets, fewGot.bytes+have.bytes
			continue
		}
		c.judge(k.String(), *n, *have)
	}
	if c.sampling > 1 {
		c.judge("the small ones together", few, fewGot)
	}
	for k, n := range got {
		if want[k] == nil && s.own(k) {
			c.wrong = append(c.wrong, fmt.Sprintf("%v: %d packets, %d bytes that tcpdump has not seen", k, n.packets, n.bytes))
		}
	}
	for _, line := range c.wrong[:min(len(c.wrong), 20)] {
		t.Error(line)
	}
	unit := "%"
	if c.sampling > 1 {
		unit = "standard deviations"
	}
	t.Logf("%d records, %d totals judged, %d wrong, the worst is %.3f %s off", len(w.records), c.judged, len(c.wrong), c.worst, unit)
}

// totals sums up what was decoded, scaled, and counts the records with another sampling rate than the exporter's.
func (w *tapped) totals() (sum totals, otherRate int) {
	sum = totals{}
	for i := range w.records {
		r := &w.records[i]
		if r.Sampling != w.sampling {
			otherRate++
		}
		rate := uint64(r.Sampling)
		sum.add(tuple{r.Src.Netip(), r.Dst.Netip(), r.SrcPort, r.DstPort, r.Proto}, r.Packets*rate, r.Bytes*rate)
	}
	return sum, otherRate
}

// comparison judges totals.
type comparison struct {
	sampling uint64
	judged   int
	worst    float64 // percent, or standard deviations of what is estimated
	wrong    []string
}

// judge compares packets and bytes. Of n packets each is taken with the probability 1/N: the estimate of a sum of x has the variance
// (N-1) * sum of x*x. Where all packets are of one size, so are the samples, and no chance is in that.
func (c *comparison) judge(what string, want, got sums) {
	c.judged++
	for _, x := range []struct {
		name               string
		want, got, squares uint64
	}{{"packets", want.packets, got.packets, want.packets}, {"bytes", want.bytes, got.bytes, want.squares}} {
		d, limit := math.Abs(float64(x.got)-float64(x.want)), float64(x.want)*tolerance
		off := d / float64(x.want) * 100
		if c.sampling > 1 {
			sigma := math.Sqrt(float64(c.sampling-1) * float64(x.squares))
			limit, off = sigmas*sigma, d/sigma
		}
		if d > limit {
			c.wrong = append(c.wrong, fmt.Sprintf("%s: %d %s, tcpdump has %d, which may differ by %.0f", what, x.got, x.name, x.want, limit))
		}
		c.worst = max(c.worst, off)
	}
	if want.packets*want.squares == want.bytes*want.bytes && got.bytes*want.packets != want.bytes*got.packets {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: all packets have %d bytes, the records say %.2f", what, want.bytes/want.packets, float64(got.bytes)/float64(got.packets)))
	}
}
