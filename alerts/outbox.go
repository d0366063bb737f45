package alerts

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// States of a row in the outbox. Handed over = queued + delivered + dead + withdrawn.
const (
	queued    = "queued"
	delivered = "delivered"
	dead      = "dead"      // given up, with the vendor's reason; Retry brings it back
	withdrawn = "withdrawn" // never tried, and made needless by a person or a later message
)

// enqueue adds a row, or folds it into one that nobody has tried to send yet.
func (s *Store) enqueue(tx *sql.Tx, r *Row) error {
	msg := &r.Message
	at := int64(msg.At)
	next := at
	switch msg.Transition {
	case Trigger:
		if !r.Immediate && !r.Urgent {
			next = at + int64(s.cfg.GroupWait)
		}
	case Update:
		if r.Immediate {
			break
		}
		folded, err := s.fold(tx, r)
		if folded || err != nil || r.Refresh {
			return err
		}
		if !r.Urgent {
			var last sql.NullInt64
			if err := tx.QueryRow("SELECT max(max(created_at, last_at, CASE state WHEN 'queued' THEN next_at ELSE 0 END)) FROM outbox "+
				"WHERE receiver = ? AND dedup_key = ? AND state <> 'withdrawn'", r.Receiver, r.Key).Scan(&last); err != nil {
				return err
			}
			if last.Valid {
				next = max(at, last.Int64+int64(s.cfg.GroupInterval))
			}
		}
	case Resolve:
		needless, err := s.withdraw(tx, r)
		if needless || err != nil {
			return err
		}
	}
	body, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT OR IGNORE INTO outbox
		(id, receiver, dedup_key, seq, incident, generation, transition, severity, state, created_at, next_at, message)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)`, r.ID, r.Receiver, r.Key, r.Seq, msg.Incident.ID, msg.Incident.Generation,
		string(msg.Transition), int(msg.Incident.Severity), at, next, string(body))
	return err
}

const pending = "receiver = ? AND dedup_key = ? AND state = 'queued' AND attempts = 0"

// fold brings a waiting trigger or update up to date instead of adding another message.
func (s *Store) fold(tx *sql.Tx, r *Row) (bool, error) {
	var id, transition, body string
	err := tx.QueryRow("SELECT id, transition, message FROM outbox WHERE "+pending+" AND transition IN ('trigger', 'update') ORDER BY seq DESC LIMIT 1",
		r.Receiver, r.Key).Scan(&id, &transition, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var old Message
	if json.Unmarshal([]byte(body), &old) != nil { // what cannot be read any more is written anew
		old = r.Message
		old.ID, old.Transition = id, Transition(transition)
	}
	old.Incident = r.Message.Incident
	if old.Transition == Update && !r.Refresh {
		old.Reason = r.Message.Reason
	}
	b, err := json.Marshal(old)
	if err != nil {
		return false, err
	}
	_, err = tx.Exec("UPDATE outbox SET message = ?, severity = ? WHERE id = ?", string(b), int(old.Incident.Severity), id)
	if err == nil && r.Urgent {
		_, err = tx.Exec("UPDATE outbox SET next_at = min(next_at, ?) WHERE "+pending, int64(r.Message.At), r.Receiver, r.Key)
	}
	return true, err
}

// withdraw takes back what a resolve makes needless: updates that wait, and, when a person closed the incident or a silence held it
// back, a trigger that was never tried; then the resolve is needless too.
func (s *Store) withdraw(tx *sql.Tx, r *Row) (needless bool, err error) {
	const why = "UPDATE outbox SET state = 'withdrawn', reason = 'closed before it was sent' WHERE " + pending
	res, err := tx.Exec(why+" AND transition = 'trigger' AND (? OR silenced = 1)", r.Receiver, r.Key, r.Human)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, err
	}
	_, err = tx.Exec(why+" AND transition IN ('update', 'acknowledge')", r.Receiver, r.Key)
	return n > 0, err
}

// due is the row of a receiver that should go out first: only the oldest open row of a key is ever due. Without one it says when to
// look again; the zero time means when the outbox changes.
func (s *Store) due(receiver string, now time.Time) (id string, in *Message, next time.Time, err error) {
	var body string
	var at int64
	err = s.db.Read().QueryRow(`SELECT id, next_at, message FROM outbox o WHERE receiver = ? AND state = 'queued' AND NOT EXISTS
		(SELECT 1 FROM outbox p WHERE p.receiver = o.receiver AND p.dedup_key = o.dedup_key AND p.seq < o.seq AND p.state = 'queued')
		ORDER BY next_at, created_at, id LIMIT 1`, receiver).Scan(&id, &at, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil, time.Time{}, nil
	}
	if err != nil {
		return "", nil, time.Time{}, err
	}
	if next := time.Unix(0, at); next.After(now) {
		return "", nil, next, nil
	}
	in = &Message{}
	if err := json.Unmarshal([]byte(body), in); err != nil {
		return id, nil, time.Time{}, &unreadable{id, err}
	}
	return id, in, time.Time{}, nil
}

// unreadable is a row of the outbox whose message is damaged.
type unreadable struct {
	id  string
	err error
}

func (u *unreadable) Error() string {
	return "the message in the state file cannot be read: " + u.err.Error()
}

// setAside makes a dead letter of a damaged row, so that those behind it go on.
func (s *Store) setAside(ctx context.Context, u *unreadable) error {
	return s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE outbox SET state = 'dead', reason = ? WHERE id = ? AND state = 'queued'", u.Error(), u.id)
		return err
	})
}

// claimed is a row whose attempt is under way.
type claimed struct {
	*Message
	attempts int // this one included
	limited  int // earlier attempts whose outcome had a Limit
	created  Time
}

// claim counts an attempt before it is made, so that a crash cannot hide one. It returns the message as it is now; without one the row
// is not queued any more.
func (s *Store) claim(ctx context.Context, id string, now Time) (c claimed, err error) {
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		var body string
		err := tx.QueryRow("UPDATE outbox SET attempts = attempts + 1, last_at = ?, silenced = 0 WHERE id = ? AND state = 'queued' "+
			"RETURNING message, attempts, limited, created_at", int64(now), id).Scan(&body, &c.attempts, &c.limited, (*int64)(&c.created))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		c.Message = &Message{}
		return json.Unmarshal([]byte(body), c.Message)
	})
	return c, err
}

// settle writes down how an attempt went.
func (s *Store) settle(ctx context.Context, id, state string, next Time, out Outcome) error {
	return s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE outbox SET state = ?, next_at = ?, status = ?, reason = ?, limited = limited + ? WHERE id = ? AND state = 'queued'",
			state, int64(next), out.Status, out.Reason, out.Limit > 0, id)
		return err
	})
}

// hold postpones a row that a silence or a mute time covers.
func (s *Store) hold(ctx context.Context, id string, until Time) error {
	return s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE outbox SET next_at = ?, silenced = 1 WHERE id = ? AND state = 'queued'", int64(until), id)
		return err
	})
}

// bury gives up everything that waits for a receiver, and tells others of it.
func (s *Store) bury(ctx context.Context, receiver, reason string, others []Row) (n int64, err error) {
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.Exec("UPDATE outbox SET state = 'dead', reason = ? WHERE receiver = ? AND state = 'queued'", reason, receiver)
		if err == nil {
			n, err = res.RowsAffected()
		}
		for i := range others {
			if err == nil {
				err = s.enqueue(tx, &others[i])
			}
		}
		return err
	})
	if err == nil && len(others) > 0 {
		s.signal.raise()
	}
	return n, err
}

// Retry queues a dead delivery again, at once. It refuses when the receiver has heard a later message of the same key: a trigger after
// its resolve would open an incident that nobody closes.
func (s *Store) Retry(ctx context.Context, id string, now time.Time) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		var later int
		if err := tx.QueryRow("SELECT count(*) FROM outbox o JOIN outbox p USING (receiver, dedup_key) "+
			"WHERE o.id = ? AND p.seq > o.seq AND p.state = 'delivered'", id).Scan(&later); err != nil {
			return err
		}
		if later > 0 {
			return fmt.Errorf("delivery %s: the receiver has heard %d later messages about the incident", id, later)
		}
		res, err := tx.Exec("UPDATE outbox SET state = 'queued', next_at = ?, created_at = ?, limited = 0 WHERE id = ? AND state = 'dead'",
			now.UnixNano(), now.UnixNano(), id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("failed delivery %q: %w", id, ErrNotFound))
		}
		return nil
	})
	if err == nil {
		s.signal.raise()
	}
	return err
}

const deliveryColumns = "SELECT id, receiver, incident, generation, transition, state, attempts, status, reason, created_at, last_at, next_at FROM outbox "

// Deliveries lists what was handed over for an incident, oldest first.
func (s *Store) Deliveries(incident string) ([]DeliveryRow, error) {
	return s.rows(deliveryColumns+"WHERE incident = ? ORDER BY created_at, seq, receiver", incident)
}

// Failed lists dead deliveries, newest first, at most limit.
func (s *Store) Failed(limit int) ([]DeliveryRow, error) {
	return s.rows(deliveryColumns+"WHERE state = 'dead' ORDER BY created_at DESC, id LIMIT ?", limit)
}

func (s *Store) rows(query string, args ...any) (out []DeliveryRow, err error) {
	err = each(s.db, func(scan func(...any) error) error {
		var d DeliveryRow
		err := scan(&d.ID, &d.Receiver, &d.Incident, &d.Generation, &d.Transition, &d.State, &d.Attempts, &d.Status, &d.Reason,
			(*int64)(&d.Created), (*int64)(&d.Last), (*int64)(&d.Next))
		if d.State != queued {
			d.Next = 0
		}
		out = append(out, d)
		return err
	}, query, args...)
	return out, err
}

// Counts gives the rows of a receiver by state: handed over = queued + delivered + dead + withdrawn, less what Prune removed.
func (s *Store) Counts(receiver string) (map[string]int, error) {
	out := map[string]int{queued: 0, delivered: 0, dead: 0, withdrawn: 0}
	return out, each(s.db, func(scan func(...any) error) error {
		var state string
		var n int
		err := scan(&state, &n)
		out[state] = n
		return err
	}, "SELECT state, count(*) FROM outbox WHERE receiver = ? GROUP BY state", receiver)
}

// How long things are kept, by the wall clock.
const (
	keepIncidents = 400 * 24 * time.Hour
	keepDead      = 30 * 24 * time.Hour
	keepDelivered = 7 * 24 * time.Hour
)

// Prune removes what is older than its keep.
func (s *Store) Prune(ctx context.Context, now time.Time) error {
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixNano() }
	return s.db.Write(ctx, func(tx *sql.Tx) error {
		for _, q := range []struct {
			text string
			t    int64
		}{
			{"DELETE FROM outbox WHERE state IN ('delivered', 'withdrawn') AND max(created_at, last_at) < ?", ago(keepDelivered)},
			{"DELETE FROM outbox WHERE state = 'dead' AND max(created_at, last_at) < ?", ago(keepDead)},
			{"DELETE FROM incident WHERE state = 'closed' AND closed_wall < ?", ago(keepIncidents)},
			{"DELETE FROM finding WHERE recorded_at < ? AND incident NOT IN (SELECT id FROM incident)", ago(keepIncidents)},
			{"DELETE FROM audit WHERE at < ?", ago(keepIncidents)},
		} {
			if _, err := tx.Exec(q.text, q.t); err != nil {
				return err
			}
		}
		return nil
	})
}

// signal wakes everyone who waits. The zero value is ready.
type signal struct {
	mu sync.Mutex
	c  chan struct{}
}

func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		close(s.c)
		s.c = nil
	}
}
