package enrich

// EngineStatus is how far one engine's events have come.
type EngineStatus struct {
	Name     string `json:"name"`
	Heard    bool   `json:"heard"`    // it answered at least once
	Live     bool   `json:"live"`     // listed, and reachable since
	Progress int64  `json:"progress"` // event time up to which its events are known, ns
}

// Engines says of each engine whether it is followed.
func (t *Table) Engines() (out []EngineStatus) {
	for _, e := range t.engines {
		out = append(out, EngineStatus{Name: e.name, Heard: e.heard, Live: e.live, Progress: e.progress})
	}
	return out
}
