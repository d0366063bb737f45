package alerts

import (
	"context"
	"encoding/json"
	"time"
)

// resender is a Notifier whose receiver forgets what it is not told again and again. What is sent again is no delivery: nothing of it is
// kept, and a failure waits for the next round.
type resender interface {
	interval() time.Duration
	again(open []Message) ([]Request, error)
}

const mostResent = 10_000 // incidents; the newest

// resend does its round when it is due, and says when the next one is. Only the worker's goroutine calls it, so that no firing alert
// overtakes a resolve.
func (w *worker) resend(ctx context.Context, now time.Time) time.Duration {
	r, ok := w.notifier.(resender)
	if !ok || w.disabled() != "" {
		return idlePoll
	}
	if wait := w.resendAt.Sub(now); wait > 0 {
		return wait
	}
	w.resendAt = now.Add(r.interval())
	open, err := w.d.store.open(w.Name, Wall(now))
	var requests []Request
	if err == nil {
		requests, err = r.again(open)
	}
	if err != nil {
		w.d.log.Error("resend", "receiver", w.Name, "error", err)
		return r.interval()
	}
	for _, q := range requests {
		if wait := w.bucket.take(now); wait > 0 {
			w.resendAt = now.Add(min(wait, r.interval()))
			break
		}
		if out := w.again(ctx, q); out.Verdict != OK {
			w.unresent.Inc()
			w.d.log.Debug("open incidents not sent again", "receiver", w.Name, "reason", out.Reason)
			if out.After > 0 {
				w.bucket.close(now.Add(out.After))
			}
			break
		}
	}
	return time.Until(w.resendAt)
}

func (w *worker) again(ctx context.Context, q Request) Outcome {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	status, header, body, err := post(ctx, w.client, q)
	out := w.notifier.Classify(status, header, body, err)
	out.Reason = cut(clean(redact(out.Reason, w.secrets)), 300)
	return out
}

// open lists the incidents that are open and that a receiver has been told of: its trigger of this generation is neither waiting nor
// withdrawn.
func (s *Store) open(receiver string, now Time) (out []Message, err error) {
	err = each(s.db, func(scan func(...any) error) error {
		var body string
		if err := scan(&body); err != nil {
			return err
		}
		m := Message{Transition: Update, Reason: reasonOpen, At: now, Attempt: now}
		if json.Unmarshal([]byte(body), &m.Incident) != nil {
			return nil // it cannot be told either way; Load speaks of it at the next start
		}
		m.Key = m.Incident.Key()
		m.ID = m.Key
		out = append(out, m)
		return nil
	}, `SELECT i.body FROM incident i WHERE i.state <> 'closed' AND EXISTS (SELECT 1 FROM json_each(i.private, '$.told') WHERE value = ?)
		AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.receiver = ? AND o.incident = i.id AND o.transition = 'trigger'
			AND o.generation = json_extract(i.body, '$.generation') AND o.state IN ('queued', 'withdrawn'))
		ORDER BY i.last_seen DESC LIMIT ?`, receiver, receiver, mostResent)
	return out, err
}
