package alerts

import "slices"

const mostHeld = 256 // changes in one transaction

// Hold makes the findings that follow one change, until Release: an engine that ticks waits for the disk once, not once a finding.
func (m *Manager) Hold() {
	m.mu.Lock()
	m.holding = true
	m.mu.Unlock()
}

// Release makes what was held durable. It returns as Finding does: when it is, or after Config.CommitWait.
func (m *Manager) Release() {
	m.mu.Lock()
	m.holding = false
	w := m.flush()
	m.mu.Unlock()
	m.wait(w, m.cfg.CommitWait)
}

// hold keeps a change back. Call it, and flush, with mu held.
func (m *Manager) hold(c *Change) {
	m.held = append(m.held, c)
	if len(m.held) >= mostHeld {
		m.flush()
	}
}

func (m *Manager) flush() *waiting {
	if len(m.held) == 0 {
		return nil
	}
	list := m.held
	m.held = nil
	w, _ := m.put(list)
	return w
}

// merged is several changes as one: of an incident and of a rule only the last state is written. Changes of findings hold no silence
// and remove no rule, so that their order within the transaction does not matter beyond that.
func merged(list []*Change) *Change {
	if len(list) == 1 {
		return list[0]
	}
	out := &Change{At: list[0].At}
	for _, c := range list {
		out.Findings, out.Outbox, out.Audit = append(out.Findings, c.Findings...), append(out.Outbox, c.Outbox...), append(out.Audit, c.Audit...)
		for _, k := range c.Incidents {
			i := slices.IndexFunc(out.Incidents, func(o Kept) bool { return o.ID == k.ID })
			if i >= 0 {
				out.Incidents[i] = k
				continue
			}
			out.Incidents = append(out.Incidents, k)
		}
		out.Rules = append(out.Rules, c.Rules...)
		out.Unruled, out.Silences = append(out.Unruled, c.Unruled...), append(out.Silences, c.Silences...)
	}
	return out
}
