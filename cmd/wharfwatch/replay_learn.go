package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/state"
)

// lesson is what replay --learn keeps account of. A nil lesson teaches nothing.
type lesson struct {
	db    *state.DB
	known int64  // event time up to which the baselines knew before: what is older was learned already
	last  int64  // end of the newest record learned
	fresh uint64 // records learned
	old   uint64 // records left out
}

func (l *lesson) close() error {
	if l == nil {
		return nil
	}
	return l.db.Close()
}

// from is the event time from which the engine may be told of time.
func (l *lesson) from() int64 {
	if l == nil {
		return 0
	}
	return l.known
}

// end says that silence behind the last file is no evidence.
func (l *lesson) end(r *replay) {
	if l != nil {
		r.detectors.Gap(flow.Gap{Source: "wharfwatch", From: max(r.now, l.last), To: r.now + afterwards, Reason: "restart"})
	}
}

// resume looks at a batch with the eyes of restored baselines: the time between them and the first records was not watched, and what is
// learned once is not learned again.
func (r *replay) resume(b *flow.Batch) {
	if l := r.lesson; l != nil {
		all := len(b.Records)
		b.Records = slices.DeleteFunc(b.Records, func(x flow.Record) bool { return x.Last <= l.known })
		l.old += uint64(all - len(b.Records))
		l.fresh += uint64(len(b.Records))
		for i := range b.Records {
			l.last = max(l.last, b.Records[i].Last)
		}
	}
	if r.known == 0 || r.resumed || len(b.Records) == 0 {
		return
	}
	r.resumed = true
	first := b.Watermark
	for i := range b.Records {
		first = min(first, b.Records[i].First)
	}
	switch {
	case first > r.known:
		r.detectors.Gap(flow.Gap{Source: "wharfwatch", From: r.known, To: first, Reason: "restart"})
	case r.lesson == nil:
		r.note("the baselines in %s know up to %s, the files begin before that: part of what they are judged by was learned later", r.config.DataDir, stamp(r.known))
	}
}

// learned makes durable what was learned, and says what that was. Nothing is written of a replay that did not reach its end.
func (r *replay) learned(ctx context.Context) error {
	l := r.lesson
	if l == nil {
		return nil
	}
	if l.old > 0 {
		r.note("%d records left out: the baselines in %s knew up to %s before, and nothing is learned twice; to learn older files, begin with an empty --data-dir",
			l.old, r.config.DataDir, stamp(l.known))
	}
	if l.fresh == 0 {
		r.note("nothing was learned: the files hold no new record")
		return nil
	}
	known := max(l.last, l.known)
	for {
		slice, more := r.dirty(1024, 64<<20)
		slice = slices.DeleteFunc(slice, func(s state.Snapshot) bool { return slices.Contains(settings, s.Detector) })
		if !more {
			slice = append(slice, mark(known)...)
		}
		if err := r.lesson.db.SaveSnapshots(ctx, slice); err != nil {
			return fmt.Errorf("save what was learned: %w", err)
		}
		if !more {
			break
		}
	}
	workloads := 0
	for _, w := range r.detectors.Workloads() {
		if w.FirstSeen != 0 {
			workloads++
		}
	}
	fmt.Fprintf(r.g.stderr, "learned %d records of %d workloads, up to %s\n", l.fresh, workloads, stamp(known))
	return nil
}

// settings are the detectors whose state says what people were told of: it is not learned from files.
var settings = []string{"host-network", "posture"}
