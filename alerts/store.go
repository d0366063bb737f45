package alerts

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/wharfwatch/wharfwatch/state"
)

// schema of the room, forward-only.
var schema = []string{`
CREATE TABLE incident (
	id         TEXT PRIMARY KEY,
	workload   TEXT NOT NULL,
	state      TEXT NOT NULL,
	verdict    TEXT NOT NULL,
	severity   INTEGER NOT NULL,
	confidence REAL NOT NULL,
	first_seen INTEGER NOT NULL, -- event time, ns
	last_seen  INTEGER NOT NULL,
	closed_wall INTEGER NOT NULL, -- wall clock, ns; 0 while not closed
	summary    TEXT NOT NULL,
	body       TEXT NOT NULL,    -- the incident as JSON
	private    TEXT NOT NULL
);
CREATE INDEX incident_state ON incident (state, last_seen);
CREATE INDEX incident_workload ON incident (workload, last_seen);
CREATE TABLE finding (
	id       TEXT PRIMARY KEY,
	incident TEXT NOT NULL,      -- '' for one that an allow rule covered
	rule     INTEGER NOT NULL,   -- that rule, else 0
	workload TEXT NOT NULL,
	detector TEXT NOT NULL,
	subject  TEXT NOT NULL,
	time     INTEGER NOT NULL,   -- event time, ns
	score    REAL NOT NULL,
	severity INTEGER NOT NULL,
	recorded_at INTEGER NOT NULL, -- wall clock, ns
	body     TEXT NOT NULL
);
CREATE INDEX finding_incident ON finding (incident);
CREATE INDEX finding_recorded ON finding (recorded_at);
CREATE TABLE outbox (
	id         TEXT PRIMARY KEY,
	receiver   TEXT NOT NULL,
	dedup_key  TEXT NOT NULL,
	seq        INTEGER NOT NULL,
	incident   TEXT NOT NULL,
	generation INTEGER NOT NULL,
	transition TEXT NOT NULL,
	severity   INTEGER NOT NULL,
	state      TEXT NOT NULL,    -- queued, delivered, dead, withdrawn
	silenced   INTEGER NOT NULL DEFAULT 0,
	attempts   INTEGER NOT NULL DEFAULT 0,
	limited    INTEGER NOT NULL DEFAULT 0, -- attempts that ended in a way that is not retried for ever
	created_at INTEGER NOT NULL, -- all wall clock, ns
	next_at    INTEGER NOT NULL,
	last_at    INTEGER NOT NULL DEFAULT 0,
	status     INTEGER NOT NULL DEFAULT 0,
	reason     TEXT NOT NULL DEFAULT '',
	message    TEXT NOT NULL,
	UNIQUE (receiver, dedup_key, seq)
);
CREATE INDEX outbox_due ON outbox (receiver, state, next_at);
CREATE INDEX outbox_incident ON outbox (incident);
CREATE TABLE audit (
	seq      INTEGER PRIMARY KEY,
	at       INTEGER NOT NULL,
	who      TEXT NOT NULL,
	incident TEXT NOT NULL,
	what     TEXT NOT NULL,
	why      TEXT NOT NULL
);
CREATE INDEX audit_incident ON audit (incident);
CREATE TABLE silence (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE allow_rule (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
`}

// Store is the Journal on the state file, and the outbox that Delivery reads.
type Store struct {
	db     *state.DB
	cfg    Config
	signal signal // the outbox changed
}

// OpenStore brings the tables up to date. Config gives the waits of a group.
func OpenStore(db *state.DB, c Config) (*Store, error) {
	if err := db.Migrate("alerts", schema...); err != nil {
		return nil, err
	}
	return &Store{db: db, cfg: c}, nil
}

// ReadStore reads the tables of a file that was opened read-only; Commit fails.
func ReadStore(db *state.DB) *Store { return &Store{db: db} }

// Load gives back what is kept.
func (s *Store) Load(limit int) (*Saved, error) {
	out := &Saved{}
	type numbered struct {
		row int64 // grows as incidents open
		Kept
	}
	var found []numbered
	err := each(s.db, func(scan func(...any) error) error {
		var body, private string
		var k numbered
		if err := scan(&k.row, &body, &private); err != nil {
			return err
		}
		if err := errors.Join(json.Unmarshal([]byte(body), &k.Incident), json.Unmarshal([]byte(private), &k.Private)); err != nil {
			return err
		}
		found = append(found, k)
		return nil
	}, "SELECT rowid, body, private FROM incident ORDER BY state = 'closed', last_seen DESC, id LIMIT ?", limit)
	if err != nil {
		return nil, fmt.Errorf("incidents: %w", err)
	}
	slices.SortFunc(found, func(a, b numbered) int { return cmp.Compare(a.row, b.row) })
	for i := range found {
		out.Incidents = append(out.Incidents, found[i].Kept)
	}
	err = each(s.db, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		out.Seen = append(out.Seen, id)
		return err
	}, "SELECT id FROM finding ORDER BY recorded_at DESC, rowid DESC LIMIT ?", maxSeen)
	if err != nil {
		return nil, fmt.Errorf("findings: %w", err)
	}
	slices.Reverse(out.Seen)
	if out.Rules, err = bodies[AllowRule](s.db, "allow_rule"); err != nil {
		return nil, fmt.Errorf("allow rules: %w", err)
	}
	if out.Silences, err = bodies[Silence](s.db, "silence"); err != nil {
		return nil, fmt.Errorf("silences: %w", err)
	}
	for i := range out.Silences {
		for j := range out.Silences[i].Matchers {
			if err := out.Silences[i].Matchers[j].compile(); err != nil {
				return nil, fmt.Errorf("silence %d: %w", out.Silences[i].ID, err)
			}
		}
	}
	err = s.db.Read().QueryRow("SELECT coalesce(max(seq), 0) FROM audit").Scan(&out.AuditSeq)
	return out, err
}

// Commit makes a change durable, and only then wakes Delivery.
func (s *Store) Commit(ctx context.Context, c *Change) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error { return s.commit(tx, c) })
	if err == nil && (len(c.Outbox) > 0 || len(c.Silences) > 0) {
		s.signal.raise()
	}
	return err
}

func (s *Store) commit(tx *sql.Tx, c *Change) error {
	for i := range c.Findings {
		f := &c.Findings[i]
		body, err := json.Marshal(f.Finding)
		if err == nil {
			_, err = tx.Exec(`INSERT OR IGNORE INTO finding (id, incident, rule, workload, detector, subject, time, score, severity, recorded_at, body)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				f.ID, f.Incident, f.Rule, f.Workload, f.Detector, f.Subject, int64(f.Time), f.Score, int(f.Severity), int64(c.At), string(body))
		}
		if err != nil {
			return fmt.Errorf("keep finding %s: %w", f.ID, err)
		}
	}
	for i := range c.Incidents {
		k := &c.Incidents[i]
		body, err := json.Marshal(k.Incident)
		private, err2 := json.Marshal(k.Private)
		closed := int64(0)
		if k.State == Closed {
			closed = int64(c.At)
		}
		if err = errors.Join(err, err2); err == nil {
			_, err = tx.Exec(`INSERT INTO incident
				(id, workload, state, verdict, severity, confidence, first_seen, last_seen, closed_wall, summary, body, private)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET state = excluded.state, verdict = excluded.verdict, severity = excluded.severity,
				confidence = excluded.confidence, first_seen = excluded.first_seen, last_seen = excluded.last_seen,
				closed_wall = excluded.closed_wall, summary = excluded.summary, body = excluded.body, private = excluded.private`, k.ID, k.Workload, string(k.State), string(k.Verdict), int(k.Severity), k.Confidence,
				int64(k.FirstSeen), int64(k.LastSeen), closed, k.Summary, string(body), string(private))
		}
		if err != nil {
			return fmt.Errorf("keep incident %s: %w", k.ID, err)
		}
	}
	for i := range c.Outbox {
		if err := s.enqueue(tx, &c.Outbox[i]); err != nil {
			return fmt.Errorf("queue %s for %s: %w", c.Outbox[i].Message.Transition, c.Outbox[i].Receiver, err)
		}
	}
	for _, a := range c.Audit {
		if _, err := tx.Exec("INSERT OR IGNORE INTO audit (seq, at, who, incident, what, why) VALUES (?, ?, ?, ?, ?, ?)",
			a.Seq, int64(a.At), a.Who, a.Incident, a.What, a.Why); err != nil {
			return fmt.Errorf("keep audit: %w", err)
		}
	}
	return s.commitRules(tx, c)
}

func (s *Store) commitRules(tx *sql.Tx, c *Change) error {
	for _, r := range c.Rules {
		if err := putBody(tx, "allow_rule", r.ID, r); err != nil {
			return err
		}
	}
	for _, id := range c.Unruled {
		if _, err := tx.Exec("DELETE FROM allow_rule WHERE id = ?", id); err != nil {
			return fmt.Errorf("remove allow rule: %w", err)
		}
	}
	for _, q := range c.Silences {
		if err := putBody(tx, "silence", q.ID, q); err != nil {
			return err
		}
	}
	if len(c.Silences) > 0 { // what a silence holds back is looked at again
		if _, err := tx.Exec("UPDATE outbox SET next_at = ? WHERE silenced = 1 AND state = 'queued'", int64(c.At)); err != nil {
			return fmt.Errorf("release silenced messages: %w", err)
		}
	}
	return nil
}

func putBody(tx *sql.Tx, table string, id int, v any) error {
	body, err := json.Marshal(v)
	if err == nil {
		_, err = tx.Exec("INSERT OR REPLACE INTO "+table+" (id, body) VALUES (?, ?)", id, string(body))
	}
	if err != nil {
		return fmt.Errorf("keep %s %d: %w", table, id, err)
	}
	return nil
}

func bodies[T any](db *state.DB, table string) (out []T, err error) {
	return out, each(db, func(scan func(...any) error) error {
		var body string
		var v T
		if err := scan(&body); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(body), &v)
		out = append(out, v)
		return err
	}, "SELECT body FROM "+table+" ORDER BY id")
}

// each runs a query and visits its rows.
func each(db *state.DB, visit func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := db.Read().Query(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := visit(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Audit lists what was done to an incident, oldest first; "" lists the newest thousand of everything.
func (s *Store) Audit(incident string) (out []Audit, err error) {
	err = each(s.db, func(scan func(...any) error) error {
		var a Audit
		err := scan(&a.Seq, (*int64)(&a.At), &a.Who, &a.Incident, &a.What, &a.Why)
		out = append(out, a)
		return err
	}, "SELECT seq, at, who, incident, what, why FROM audit WHERE ? IN ('', incident) ORDER BY seq DESC LIMIT ?", incident, maxAudit)
	slices.Reverse(out)
	return out, err
}
