package alerts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// targets are the receivers as the Manager sees them; no secret is read for that.
func (c *Config) targets() []target {
	var out []target
	add := func(common *Common, t target) {
		t.name = common.Name
		t.least, _ = common.least() // Validate has reported what cannot be read
		t.route = common.route()
		out = append(out, t)
	}
	for i := range c.Slack {
		add(&c.Slack[i].Common, target{})
	}
	for i := range c.PagerDuty {
		add(&c.PagerDuty[i].Common, target{acks: true})
	}
	for i := range c.Webhook {
		add(&c.Webhook[i].Common, target{acks: true})
	}
	for i := range c.Teams {
		add(&c.Teams[i].Common, target{})
	}
	for i := range c.Discord {
		add(&c.Discord[i].Common, target{})
	}
	for i := range c.Alertmanager {
		add(&c.Alertmanager[i].Common, target{})
	}
	for i := range c.Email {
		add(&c.Email[i].Common, target{})
	}
	for i := range c.Syslog {
		add(&c.Syslog[i].Common, target{acks: true, immediate: true})
	}
	for i := range c.JSONL {
		add(&c.JSONL[i].Common, target{acks: true, immediate: true})
	}
	return out
}

// tell hands a transition of an incident over to the receivers concerned.
func (m *Manager) tell(c *Change, e *entry, t Transition, reason string) {
	m.tellAs(c, e, t, reason, false)
}

func (m *Manager) tellAs(c *Change, e *entry, t Transition, reason string, human bool) {
	if len(m.targets) == 0 {
		return
	}
	e.Seq++
	for _, to := range m.targets {
		kind := t
		told := slices.Contains(e.Told, to.name)
		switch {
		case t == Acknowledge && (!to.acks || !told), t == Resolve && !told, reason == reasonOpen && (to.immediate || !told):
			continue
		case t == Trigger || t == Update:
			if told {
				kind = Update
				break
			}
			if e.Severity < to.least || !to.route.wants(e.Workload, e.Labels) {
				continue
			}
			kind = Trigger // for this receiver it is the first it hears
			e.Told = append(e.Told, to.name)
		}
		m.row(c, e, to, kind, reason, human, false)
	}
	if t == Trigger && len(e.Told) == 0 {
		m.unrouted.Inc()
	}
	if t == Trigger || t == Update {
		e.NotifiedAt = c.At
	}
}

const reasonOpen = "still open"

// refresh brings messages up to date that wait for their group.
func (m *Manager) refresh(c *Change, e *entry) {
	for _, to := range m.targets {
		if !to.immediate && slices.Contains(e.Told, to.name) {
			m.row(c, e, to, Update, "", false, true)
		}
	}
}

func (m *Manager) row(c *Change, e *entry, to target, t Transition, reason string, human, refresh bool) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", to.name, e.Key(), e.Seq))
	id := "msg_" + hex.EncodeToString(sum[:12])
	c.Outbox = append(c.Outbox, Row{
		ID: id, Receiver: to.name, Key: e.Key(), Seq: e.Seq, Immediate: to.immediate, Urgent: e.Severity == baseline.Critical,
		Human: human, Refresh: refresh,
		Message: Message{ID: id, Transition: t, Key: e.Key(), Reason: reason, At: c.At, Incident: e.clone()},
	})
}

// commit puts a change on its way. Call it with mu held: the order of changes is the order of calls. Nothing to wait for gives nil;
// false means that the queue is full and the change will go later.
func (m *Manager) commit(c *Change) (*waiting, bool) {
	if c == nil {
		return nil, true
	}
	m.flush() // what is held was decided before
	return m.put([]*Change{c})
}

// put queues changes as one transaction; what finds no room is owed, each by itself.
func (m *Manager) put(list []*Change) (*waiting, bool) {
	all := merged(list)
	m.changed(all)
	if m.queue == nil {
		if err := m.journal.Commit(context.Background(), all); err != nil {
			m.log.Error("journal", "error", err)
		}
		return nil, true
	}
	if len(m.owed) == 0 { // what is owed goes first
		if w, ok := m.queue.put(all); ok {
			return w, true
		}
	}
	for _, c := range list {
		m.overflow.Inc()
		m.owe(c)
	}
	return nil, false
}

// owe is the policy for a full queue: everything of one incident is merged into one change that goes later. Rows of single findings are
// given up (the incident holds them) and so are refreshes.
func (m *Manager) owe(c *Change) {
	id := ""
	if len(c.Incidents) > 0 {
		id = c.Incidents[0].ID
	}
	old := m.owed[id]
	if old == nil {
		old = &Change{}
		m.owed[id] = old
	}
	old.At = c.At
	for _, k := range c.Incidents {
		old.Incidents = slices.DeleteFunc(old.Incidents, func(o Kept) bool { return o.ID == k.ID })
		old.Incidents = append(old.Incidents, k)
	}
	for _, r := range c.Outbox {
		if !r.Refresh {
			old.Outbox = append(old.Outbox, r)
		}
	}
	old.Audit = append(old.Audit, c.Audit...)
	old.Rules, old.Unruled, old.Silences = append(old.Rules, c.Rules...), append(old.Unruled, c.Unruled...), append(old.Silences, c.Silences...)
}

// payOwed commits what once found no room. Call it with mu held.
func (m *Manager) payOwed(all bool) {
	if len(m.owed) == 0 || (!all && !m.queue.room()) {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(m.owed)) {
		c := m.owed[id]
		for i := range c.Incidents {
			if e := m.byID[c.Incidents[i].ID]; e != nil { // as it is by now
				c.Incidents[i] = e.kept()
			}
		}
		if _, ok := m.queue.put(c); !ok {
			return
		}
		delete(m.owed, id)
	}
}

// wait is done with mu free.
func (m *Manager) wait(w *waiting, most time.Duration) bool {
	if w == nil {
		return true
	}
	if m.queue.healthy() != nil {
		return false
	}
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-w.done:
		return true
	case <-t.C:
		return false
	}
}

const personWait = 5 * time.Second

// ErrUndurable is what a person hears whose change holds in memory only.
var ErrUndurable = errors.New("it holds now, but is not durable yet: the state file does not take changes, see wharfwatch doctor")

// change runs what a person asked for and returns when it is durable.
func (m *Manager) change(do func(c *Change) error) error {
	m.mu.Lock()
	c := &Change{At: Wall(m.wall())}
	if err := do(c); err != nil {
		m.mu.Unlock()
		return err
	}
	w, ok := m.commit(c)
	m.mu.Unlock()
	if !ok || !m.wait(w, personWait) {
		return ErrUndurable
	}
	return nil
}
