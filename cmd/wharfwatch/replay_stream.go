package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// recorded replays a stream: everything that entered an engine, in the order in which it did.
func (r *replay) recorded(ctx context.Context, name string, stream *flow.StreamReader, progress *progress) error {
	defer stream.Close()
	r.settle()
	if r.known != 0 && r.lesson == nil {
		r.note("%s brings its own baselines: those of %s are not used for it", name, r.config.DataDir)
	}
	before := r.records
	defer func() { r.taken += r.records - before }()
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return errInterrupted
		}
		tag, payload, err := stream.Next()
		if errors.Is(err, io.EOF) {
			for _, note := range stream.Notes() {
				r.note("%s", note)
			}
			return r.started()
		}
		if err == nil {
			err = r.frame(stream, name, tag, payload)
		}
		if err != nil {
			return err
		}
		progress.at(stream.Progress())
		progress.show(r.now)
	}
}

// frame takes in one item of the stream. Learning goes on over the starts of the recorded monitor: what that knew is not what is taught.
func (r *replay) frame(stream *flow.StreamReader, name string, tag byte, payload []byte) error {
	learning := r.lesson != nil
	switch tag {
	case tagStart:
		if !learning {
			r.begin()
			r.start = &alerts.Saved{}
		}
		return nil
	case tagAlerts:
		if r.start == nil {
			return nil
		}
		return r.gather(payload)
	case tagState:
		if learning {
			return nil
		}
		detector, key, blob, ok := splitState(payload)
		if !ok {
			return errors.New("a state frame of the stream is torn")
		}
		if err := r.detectors.Restore(detector, key, blob); err != nil {
			r.note("%v", err) // the recorded monitor could not use it either
		}
		return nil
	}
	if err := r.started(); err != nil {
		return err
	}
	switch tag {
	case flow.TagBatch:
		b := r.pool.Get()
		if err := stream.DecodeBatch(payload, b); err != nil {
			return err
		}
		if learning {
			r.resume(b)
		}
		r.out.records(b.Records)
		r.batch(b)
	case flow.TagWatermark:
		at, err := flow.DecodeWatermark(payload)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if at > r.lesson.from() {
			r.advance(at)
		}
	case tagEvent:
		ev, err := enrich.DecodeEvent(payload)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		r.event(&ev)
	case enrich.TagTracks:
		b, err := enrich.DecodeTracks(payload)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		r.tracks(b)
	}
	return nil
}

// gather takes a part of what the recorded monitor knew of incidents.
func (r *replay) gather(payload []byte) error {
	var part alerts.Saved
	if err := json.Unmarshal(payload, &part); err != nil {
		return fmt.Errorf("the incidents that the stream began with cannot be read: %w", err)
	}
	s := r.start
	s.Incidents, s.Seen, s.Rules = append(s.Incidents, part.Incidents...), append(s.Seen, part.Seen...), append(s.Rules, part.Rules...)
	s.AuditSeq = max(s.AuditSeq, part.AuditSeq)
	return nil
}

// started ends the start of a recorded monitor: its incidents go on from what its state file held.
func (r *replay) started() error {
	if r.start == nil {
		return nil
	}
	saved := r.start
	r.start = nil
	return r.remember(saved)
}
