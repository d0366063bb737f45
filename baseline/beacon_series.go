package baseline

import (
	"math"
	"slices"
	"sort"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	chainGap   = 50              // ms, the smallest of beaconGaps: connections this close are one span from the start
	keptSpans  = 512             // newest that a fit reads
	spanRoom   = keptSpans + 128 // held, so that the newest 512 do not depend on the order of late arrivals
	firstSpans = 8               // room from the start: enough for the first judgement, in one line of memory
	sizeRing   = 32
	lateBefore = int64(3600e3) // ms that may still be inserted before a series' first start
	rebaseKeep = int64(21 * 24 * 3600e3)
)

// span is a chain of connections, each at most chainGap after the one before: first and last start in ms after the series' base.
// Chains at a larger gap are chains of spans, so that one ring serves all gaps exactly.
type span struct{ at, last uint32 }

// series is one workload's connections to one destination: the unit that has a rhythm. There may be a hundred thousand, most of which
// are never judged periodic, so that it takes three cache lines, the first two of which are all that the start of a connection touches;
// what few have is in its story.
type series struct {
	key   destKey // address seen last
	set   *keySet
	name  string // DNS name of the destination, "" unknown; never changes once known
	place uint32 // in set.all
	count uint32 // spans ever formed
	due   uint32 // count at which it is judged again
	inDue bool
	old   bool
	dead  bool
	class class

	spans    []span
	base     int64             // ms since the epoch of span time 0
	first    int64             // first start ever, ns
	instance *enrich.Container // that called last
	peer     *enrich.Container // that was called last, nil for no container
	since    int64             // first call of its first instance, ns

	sizes    [sizeRing]uint8 // bytes sent per connection, see quantise
	closed   uint32
	unheard  uint32 // closed without an answer
	unlikely uint32 // closed, on a well-known harmless port, but not of its usual size
	method   enrich.Method
	sure     enrich.Confidence
	story    *story // nil for most: past reads, own writes
}

// story is what few series have: several addresses or instances, a rhythm, something that was told.
type story struct {
	addrs    []destKey // that lead here, where there is more than the one
	local    flow.Addr // address of the instance, where it is not the one that its container says
	peerName string    // of the container called, after a restart
	asked    string    // what its connections last asked for (SNI, HTTP host), "" unknown; not kept over a restart
	recent   [8]launch // instances that called, newest first, where there is more than the one

	period       float64 // s, confirmed; 0 never periodic
	candidate    float64 // s, differs from period, seen once
	previous     float64 // s, before the last confirmed change
	previousSize uint8
	size         uint8  // median size when period was confirmed; 0 unknown or irregular
	times        uint32 // judged periodic with this period
	early        bool   // the rhythm dates from the time of learning
	segment      uint32 // confirmed changes of period or size

	told        int64 // event time of the last telling, ns; 0 never
	toldSegment uint32
	toldAs      Severity
	subject     string // as first told
}

// untold is the story of those that have none. Nobody writes to it.
var untold story

// past is the story for reading.
func (s *series) past() *story {
	if s.story == nil {
		return &untold
	}
	return s.story
}

// own is the story for writing.
func (s *series) own() *story {
	if s.story == nil {
		s.story = &story{}
	}
	return s.story
}

// addresses are those that lead here.
func (s *series) addresses() []destKey {
	if a := s.past().addrs; len(a) > 0 {
		return a
	}
	return []destKey{s.key}
}

// leads reports whether an address leads here.
func (s *series) leads(key destKey) bool { return s.key == key || slices.Contains(s.past().addrs, key) }

// met notes the instance's address, unless it is the container's own for that kind of destination.
func (s *series) met(local flow.Addr) {
	if own := ownAddress(s.instance, s.key.addr); local == own {
		local = flow.Addr{}
	}
	if s.story != nil || !local.IsZero() {
		s.own().local, s.own().peerName = local, ""
	}
}

// local is the address of the instance.
func (s *series) local() flow.Addr {
	if a := s.past().local; !a.IsZero() {
		return a
	}
	return ownAddress(s.instance, s.key.addr)
}

// ownAddress is a container's first address of the same family as another.
func ownAddress(c *enrich.Container, like flow.Addr) flow.Addr {
	if c == nil {
		return flow.Addr{}
	}
	for i := range c.Attachments {
		for _, a := range c.Attachments[i].Addrs {
			if a.Is4() == like.Is4() {
				return a
			}
		}
	}
	return flow.Addr{}
}

// peerName is the name of the container called, for the summary.
func (s *series) peerName() string {
	if s.peer != nil {
		return s.peer.Name
	}
	return s.past().peerName
}

// start adds the start of a connection, in any order, and reports whether a new span was formed.
func (s *series) start(at int64) bool {
	ms := at / 1e6
	if len(s.spans) == 0 {
		s.base = ms - lateBefore
	}
	if s.first == 0 || at < s.first {
		s.first = at
	}
	rel := ms - s.base
	if rel < 0 {
		return false
	}
	if rel > math.MaxUint32 {
		rel = s.rebase(ms)
	}
	return s.insert(uint32(rel), uint32(rel))
}

// rebase drops what is older than three weeks and moves time 0 up.
func (s *series) rebase(ms int64) int64 {
	keep := ms - rebaseKeep - s.base
	i := sort.Search(len(s.spans), func(i int) bool { return int64(s.spans[i].at) >= keep })
	s.spans = append(s.spans[:0], s.spans[i:]...)
	shift := ms - rebaseKeep - lateBefore - s.base
	for i := range s.spans {
		s.spans[i].at -= uint32(shift)
		s.spans[i].last -= uint32(shift)
	}
	s.base += shift
	return ms - s.base
}

// insert merges [at, last] into the spans and reports whether it stayed a span of its own.
func (s *series) insert(at, last uint32) bool {
	n := len(s.spans)
	if n == 0 || at > s.spans[n-1].last+chainGap { // the usual case: newest
		s.grow(n, span{at, last})
		return true
	}
	// i: the first span that begins after at; the spans before it may reach at, those from it on may be reached.
	i := sort.Search(n, func(i int) bool { return s.spans[i].at > at })
	j := i
	if i > 0 && s.spans[i-1].last+chainGap >= at {
		i--
		at, last = s.spans[i].at, max(last, s.spans[i].last)
	}
	for j < n && s.spans[j].at <= last+chainGap {
		last = max(last, s.spans[j].last)
		j++
	}
	if i == j {
		s.grow(i, span{at, last})
		return true
	}
	s.spans[i] = span{at, last}
	s.spans = slices.Delete(s.spans, i+1, j)
	return false
}

// grow inserts at i; a full ring forgets its oldest quarter of slack at once, so that this costs little per connection.
func (s *series) grow(i int, v span) {
	if len(s.spans) == spanRoom {
		drop := spanRoom - keptSpans
		if i < drop {
			return // older than what counts
		}
		s.spans = append(s.spans[:0], s.spans[drop:]...)
		i -= drop
	}
	s.count++
	if s.spans == nil {
		s.spans = make([]span, 0, firstSpans)
	}
	s.spans = slices.Insert(s.spans, i, v)
}

// closedWith notes the sizes of a finished connection.
func (s *series) closedWith(f *enrich.Flow) {
	s.sizes[s.closed%sizeRing] = quantise(f.TotalSent)
	s.closed++
	if f.NoReply {
		s.unheard++
	}
	if s.class == timeService && !timeExchange(f.TotalSent, f.TotalReceived) {
		s.unlikely++
	}
}

// launch is the first call of an instance that is new to a series.
type launch struct {
	instance uint32 // fingerprint of its id
	at       int64  // ns
}

// seen notes instances that are new to the series. Up to eight replicas that take turns are not.
func (s *series) seen(c *enrich.Container, at int64) {
	all := s.launches()
	if len(all) == 0 {
		s.since = at
		return
	}
	p := fingerprint(c.ID)
	for _, l := range all {
		if l.instance == p {
			return
		}
	}
	recent := [8]launch{{p, at}}
	copy(recent[1:], all)
	s.own().recent = recent
}

// launches are the instances that called, newest first.
func (s *series) launches() []launch {
	past := s.past()
	n := 0
	for n < len(past.recent) && past.recent[n].at != 0 {
		n++
	}
	if n == 0 && s.instance != nil && s.since != 0 {
		return []launch{{fingerprint(s.instance.ID), s.since}}
	}
	return past.recent[:n]
}

func fingerprint(text string) uint32 { // FNV-1a, 32 bits
	h := uint32(2166136261)
	for i := range len(text) {
		h = (h ^ uint32(text[i])) * 16777619
	}
	return h
}

// launched reports whether the rhythm is that of containers being started: a new one at every other of the last beats at least.
func (s *series) launched(r *rhythm) bool {
	beats := min(len(story{}.recent), r.Beats)
	n := 0
	for _, l := range s.launches() {
		if float64(r.last-l.at)/1e9 < (float64(beats)-.5)*r.Period {
			n++
		}
	}
	return 2*n >= beats
}

// quantise keeps a size within 9 %: eighths of an octave, 0 to 255.
func quantise(bytes uint64) uint8 {
	return uint8(min(255, math.Round(8*math.Log2(float64(bytes)+1))))
}

func dequantise(q uint8) float64 { return math.Exp2(float64(q)/8) - 1 }

// sizeSpread returns the median of the kept sizes, and the median absolute deviation over it; n = 0 says nothing is known.
func (s *series) sizeSpread() (median uint8, spread float64, n int) {
	n = int(min(s.closed, sizeRing))
	if n == 0 {
		return 0, 0, 0
	}
	var sorted [sizeRing]uint8
	var off [sizeRing]float64
	copy(sorted[:n], s.sizes[:n])
	slices.Sort(sorted[:n])
	median = sorted[n/2]
	mid := dequantise(median)
	for i, q := range sorted[:n] {
		off[i] = math.Abs(dequantise(q) - mid)
	}
	slices.Sort(off[:n])
	return median, off[n/2] / max(mid, 1), n
}
