package main

import (
	"encoding/binary"
	"encoding/json"
	"log/slog"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Tags of the recorded stream that are not flow's own.
const (
	tagStart  = 'N' // a monitor began here: an empty engine, then the states it restored
	tagState  = 'S' // what a detector knew when the monitor began: detector, key, blob
	tagAlerts = 'A' // incidents, allow rules and findings known when the monitor began: JSON of an alerts.Saved, in parts
	tagEvent  = 'E' // one enrich.Event
)

// recorder writes everything that enters the engine, in the order in which it did. A nil recorder records nothing. The writer stops by
// itself when the disk or the bound ends, once and loudly; it never ends the monitor.
type recorder struct {
	w   *flow.StreamWriter
	log *slog.Logger
	buf []byte
}

func (r *recorder) start() {
	if r != nil {
		r.w.Frame(tagStart, nil)
	}
}

func (r *recorder) batch(b *flow.Batch) {
	if r != nil {
		r.w.Batch(b)
	}
}

func (r *recorder) watermark(now int64) {
	if r != nil {
		r.w.Watermark(now)
	}
}

func (r *recorder) event(ev *enrich.Event) {
	if r == nil {
		return
	}
	payload, err := enrich.EncodeEvent(ev)
	if err != nil {
		r.log.Error("an event is missing in the recording", "kind", ev.Kind, "err", err)
		return
	}
	r.w.Frame(tagEvent, payload)
}

func (r *recorder) tracks(b *enrich.Tracks) {
	if r == nil {
		return
	}
	r.buf = enrich.AppendTracks(r.buf[:0], b)
	r.w.Frame(enrich.TagTracks, r.buf)
}

func (r *recorder) state(detector, key string, blob []byte) {
	if r == nil {
		return
	}
	r.buf = r.buf[:0]
	for _, part := range []string{detector, key} {
		r.buf = append(binary.AppendUvarint(r.buf, uint64(len(part))), part...)
	}
	r.buf = append(r.buf, blob...)
	r.w.Frame(tagState, r.buf)
}

// alerts writes what the state file held when the monitor began, in parts that fit into frames. Silences stay behind: they stop
// notification and nothing else.
func (r *recorder) alerts(saved *alerts.Saved) {
	const part = 16 // incidents, each with up to some hundred findings
	if r == nil {
		return
	}
	parts := []alerts.Saved{{Rules: saved.Rules, Seen: saved.Seen, AuditSeq: saved.AuditSeq}}
	for from := 0; from < len(saved.Incidents); from += part {
		parts = append(parts, alerts.Saved{Incidents: saved.Incidents[from:min(from+part, len(saved.Incidents))]})
	}
	for i := range parts {
		payload, err := json.Marshal(&parts[i])
		if err != nil {
			r.log.Error("incidents are missing in the recording", "err", err)
			return
		}
		r.w.Frame(tagAlerts, payload)
	}
}

func (r *recorder) flush() {
	if r != nil {
		r.w.Flush()
	}
}

func (r *recorder) close() {
	if r == nil {
		return
	}
	if err := r.w.Close(); err != nil {
		r.log.Error("the end of the recording is missing", "err", err)
	}
}

// splitState takes a state frame apart; ok is false for a torn one.
func splitState(payload []byte) (detector, key string, blob []byte, ok bool) {
	part := func() string {
		n, used := binary.Uvarint(payload)
		if used <= 0 || n > uint64(len(payload)-used) {
			ok, payload = false, nil
			return ""
		}
		text := string(payload[used : used+int(n)])
		payload = payload[used+int(n):]
		return text
	}
	ok = true
	detector = part()
	key = part()
	return detector, key, payload, ok
}
