package main

import (
	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	second = int64(1e9)
	minute = 60 * second
	day    = 24 * 60 * minute
)

// engine is the way from arrival to incident: who (table), normal? (detectors), tell (incidents). One caller at a time has it; run and replay
// feed it, and the same calls in the same order give the same incidents.
type engine struct {
	table     *enrich.Table
	detectors *baseline.Engine
	incidents *alerts.Manager
	stream    *recorder // nil: not recorded

	now      int64  // event time told so far, whole seconds
	records  uint64 // taken in
	findings uint64 // reported by the detectors
}

// tell is where the detectors report.
func (e *engine) tell(f baseline.Finding) {
	e.findings++
	e.incidents.Finding(f)
}

// batch takes in what a source handed over, and gives the batch back to it.
func (e *engine) batch(b *flow.Batch) {
	e.stream.batch(b)
	for _, g := range b.Gaps {
		e.detectors.Gap(g)
	}
	e.table.Sights(b.Source, b.Sights)
	e.table.Names(b.Names)
	e.table.Records(b.Records)
	e.records += uint64(len(b.Records))
	b.Free()
}

// event takes in one change at a container engine. What detectors find in it is durable when event returns, which is before the
// container's process runs.
func (e *engine) event(ev *enrich.Event) {
	e.stream.event(ev)
	e.incidents.Hold()
	defer e.incidents.Release()
	e.table.Event(ev)
	e.detectors.Event(ev)
}

// tracks takes in what a kernel told of its connections.
func (e *engine) tracks(b *enrich.Tracks) {
	e.stream.tracks(b)
	e.table.Tracks(b)
}

// advance moves event time on, second by second: connections are reported, detectors judge, quiet incidents are resolved. A silence of
// more than a day (between two files) is crossed in minutes.
func (e *engine) advance(now int64) {
	now -= now % second
	if now <= e.now {
		return
	}
	e.stream.watermark(now)
	if e.now == 0 {
		e.now = now - second
	}
	for e.now < now {
		step := second
		if now-e.now > day {
			step = minute
		}
		e.now += step
		e.incidents.Hold() // the findings of one tick are one commit
		e.table.Advance(e.now, e.detectors)
		e.detectors.Tick(e.now)
		e.incidents.Release()
		e.incidents.Tick(e.now)
	}
}
