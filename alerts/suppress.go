package alerts

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// AllowAdd adds a rule, and applies it at once to what is open: an incident whose findings are all covered closes as benign. It returns
// the rule with its id and the incidents that changed.
func (m *Manager) AllowAdd(r AllowRule) (AllowRule, []Incident, error) {
	rules, changed, err := m.allow([]AllowRule{r})
	if len(rules) == 0 {
		return AllowRule{}, changed, err
	}
	return rules[0], changed, err
}

// AllowFrom adds the narrowest rules that cover all findings of an incident.
func (m *Manager) AllowFrom(id, owner, comment string, expires time.Time) ([]AllowRule, []Incident, error) {
	rules, err := m.RulesFor(id, owner, comment, expires)
	if err != nil {
		return nil, nil, err
	}
	return m.allow(rules)
}

// RulesFor gives the narrowest rules that cover all findings of an incident. Nothing changes.
func (m *Manager) RulesFor(id, owner, comment string, expires time.Time) ([]AllowRule, error) {
	in, err := m.Get(id)
	if err != nil {
		return nil, err
	}
	var rules []AllowRule
	for i := range in.Findings {
		f := &in.Findings[i]
		if f.Generation != in.Generation || f.Allowed != 0 {
			continue
		}
		r := ruleFor(in.Workload, f)
		r.Owner, r.Comment = owner, comment
		if !expires.IsZero() {
			r.Expires = Wall(expires)
		}
		if !slices.Contains(rules, r) {
			rules = append(rules, r)
		}
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("incident %s has no finding that is not allowed already", in.ID)
	}
	return rules, nil
}

func (m *Manager) allow(rules []AllowRule) (added []AllowRule, changed []Incident, err error) {
	err = m.change(func(c *Change) error {
		for i := range rules {
			if err := rules[i].check(c.At.Std()); err != nil {
				return err
			}
		}
		for _, r := range rules {
			r.ID, r.Created, r.Hits, r.LastHit = 1, c.At, 0, 0
			for i := range m.rules {
				r.ID = max(r.ID, m.rules[i].ID+1)
			}
			m.record(c, r.Owner, "", fmt.Sprintf("allow rule %d added", r.ID), r.Comment)
			m.rules = append(m.rules, r)
			added = append(added, r)
			changed = append(changed, m.apply(c, &m.rules[len(m.rules)-1])...)
		}
		c.Rules = append(c.Rules, m.rules[len(m.rules)-len(added):]...)
		added = slices.Clone(c.Rules)
		return nil
	})
	return added, changed, err
}

// apply holds a new rule against what is open.
func (m *Manager) apply(c *Change, r *AllowRule) (changed []Incident) {
	for _, e := range m.openEntries() {
		hit, left := 0, 0
		for i := range e.Findings {
			f := &e.Findings[i]
			switch {
			case !f.counts(e.Generation):
			case r.covers(e.Workload, f):
				f.Allowed = r.ID
				hit++
			default:
				left++
			}
		}
		if hit == 0 {
			continue
		}
		r.Hits, r.LastHit = r.Hits+hit, c.At
		if left == 0 {
			m.close(c, e, Benign, wharfwatch, fmt.Sprintf("allow rule %d", r.ID), false)
		} else {
			e.recompute()
			m.record(c, wharfwatch, e.ID, "findings allowed", fmt.Sprintf("allow rule %d", r.ID))
			m.refresh(c, e)
			c.keep(e)
		}
		changed = append(changed, e.clone())
	}
	return changed
}

// AllowPreview lists the incidents, closed ones too, all of whose findings the rules together would have covered. Nothing changes.
func (m *Manager) AllowPreview(rules ...AllowRule) ([]Incident, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range rules {
		r := &rules[i]
		r.Owner, r.Comment = cmp.Or(r.Owner, "preview"), cmp.Or(r.Comment, "preview")
		if err := r.check(m.wall()); err != nil {
			return nil, err
		}
	}
	out := []Incident{}
	for _, e := range m.incidents {
		hit, left := 0, 0
		for i := range e.Findings {
			switch f := &e.Findings[i]; {
			case !f.counts(e.Generation):
			case slices.ContainsFunc(rules, func(r AllowRule) bool { return r.covers(e.Workload, f) }):
				hit++
			default:
				left++
			}
		}
		if hit > 0 && left == 0 {
			out = append(out, e.clone())
		}
	}
	return out, nil
}

// AllowList gives the rules, oldest first, expired ones too.
func (m *Manager) AllowList() []AllowRule {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]AllowRule{}, m.rules...)
}

// AllowRemove takes a rule away: what it covered is told again when it is found again.
func (m *Manager) AllowRemove(id int, who, why string) error {
	return m.change(func(c *Change) error {
		i := slices.IndexFunc(m.rules, func(r AllowRule) bool { return r.ID == id })
		if i < 0 {
			return fmt.Errorf("allow rule %d: %w", id, ErrNotFound)
		}
		m.rules = slices.Delete(m.rules, i, i+1)
		c.Unruled = []int{id}
		m.record(c, who, "", fmt.Sprintf("allow rule %d removed", id), why)
		return nil
	})
}

// SilenceAdd adds a silence; its id is chosen here.
func (m *Manager) SilenceAdd(s Silence) (Silence, error) {
	err := m.change(func(c *Change) error {
		if err := s.check(c.At.Std()); err != nil {
			return err
		}
		s.ID = 1
		for i := range m.silences {
			s.ID = max(s.ID, m.silences[i].ID+1)
		}
		m.silences = append(m.silences, s)
		c.Silences = []Silence{s}
		m.record(c, s.Author, "", fmt.Sprintf("silence %d added", s.ID), s.Comment)
		return nil
	})
	return s, err
}

// SilenceList gives the silences, oldest first, ended ones too.
func (m *Manager) SilenceList() []Silence {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Silence{}, m.silences...)
}

// SilenceExpire ends a silence now.
func (m *Manager) SilenceExpire(id int, who, why string) error {
	return m.change(func(c *Change) error {
		i := slices.IndexFunc(m.silences, func(s Silence) bool { return s.ID == id })
		if i < 0 {
			return fmt.Errorf("silence %d: %w", id, ErrNotFound)
		}
		if m.silences[i].Ends <= c.At {
			return errors.New("the silence has ended already")
		}
		m.silences[i].Ends = c.At
		m.silences[i].Starts = min(m.silences[i].Starts, c.At)
		c.Silences = []Silence{m.silences[i]}
		m.record(c, who, "", fmt.Sprintf("silence %d expired", id), why)
		return nil
	})
}

// Silenced says until when notification about an incident is stopped; false when it is not.
func (m *Manager) Silenced(in *Incident) (until Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := Wall(m.wall())
	for i := range m.silences {
		if s := &m.silences[i]; s.active(now) && s.matches(in) {
			until, ok = max(until, s.Ends), true
		}
	}
	return until, ok
}
