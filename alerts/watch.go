package alerts

// OnChange has f called with every incident that changes, in the order of the changes, before it is known to be durable. f must not
// wait, keep the pointer or call the Manager.
func (m *Manager) OnChange(f func(*Incident)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onChange = f
}

func (m *Manager) changed(c *Change) {
	if m.onChange == nil {
		return
	}
	for i := range c.Incidents {
		m.onChange(&c.Incidents[i].Incident)
	}
}
