// Package demo is a scripted week and a day of a small shop's containers: an ordinary life, then attacks, beside things that look like
// attacks and are none. It makes what a router and an engine would say; everything behind that is the real product.
//
// The scene is the same in every run, byte for byte.
package demo

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Week is how many days are ordinary before the one that is not: a nightly backup must have been seen before.
const Week = 7

// Begin is when the scene begins; nothing in it depends on the present.
var Begin = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// Day is the day that is watched.
var Day = Begin.AddDate(0, 0, Week)

// Attack is what somebody does on the last day, and must be told.
type Attack struct {
	Title    string
	Workload string
	Detector string // whose finding names it
	At       time.Time
}

// LookAlike is what looks like an attack and must stay silent.
type LookAlike struct {
	Title    string
	Workload string
	Like     string // the detector that it might alarm
	Why      string // it does not
}

// Part is a stretch of time: what the router exports in it, after what the engine says at its beginning.
type Part struct {
	Events  []enrich.Event
	Exports []byte      // a capture file of export datagrams
	Names   []flow.Name // what a mirror of the bridge shows of DNS
	Until   time.Time
}

// Scene is the script.
type Scene struct {
	Attacks    []Attack
	LookAlikes []LookAlike

	site   *site
	events []enrich.Event
	slices []Slice
	names  []flow.Name
}

// New writes the script.
func New() (*Scene, error) {
	s := &Scene{site: newSite()}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("the scene's containers: %w", err)
	}
	for day := range Week + 1 {
		if err := s.ordinary(Begin.AddDate(0, 0, day)); err != nil {
			return nil, fmt.Errorf("the scene's containers: %w", err)
		}
	}
	if err := s.attacks(); err != nil {
		return nil, fmt.Errorf("the scene's containers: %w", err)
	}
	slices.SortStableFunc(s.events, func(a, b enrich.Event) int { return cmp.Compare(a.Time, b.Time) })
	slices.SortStableFunc(s.slices, func(a, b Slice) int { return a.Last.Compare(b.Last) })
	return s, nil
}

// Parts plays the scene: a part ends at every event of the engine, and every hour.
func (s *Scene) Parts(yield func(Part) bool) {
	router := NewExports(Begin.Add(-time.Hour))
	events, rest, names := s.events, s.slices, s.names
	for at := Begin; at.Before(Day.AddDate(0, 0, 1)); {
		p := Part{Until: at.Truncate(time.Hour).Add(time.Hour)}
		for len(events) > 0 && events[0].Time <= at.UnixNano() {
			p.Events, events = append(p.Events, events[0]), events[1:]
		}
		if len(events) > 0 && events[0].Time < p.Until.UnixNano() {
			p.Until = time.Unix(0, events[0].Time).UTC()
		}
		n, _ := slices.BinarySearchFunc(rest, p.Until, func(x Slice, t time.Time) int { return x.Last.Compare(t) })
		router.Write(rest[:n])
		rest = rest[n:]
		p.Exports = router.Take()
		for len(names) > 0 && names[0].Time < p.Until.UnixNano() {
			p.Names, names = append(p.Names, names[0]), names[1:]
		}
		if !yield(p) {
			return
		}
		at = p.Until
	}
}
