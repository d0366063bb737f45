package enrich

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/events"
)

// pending is an engine event, or an entry of a list, on its way out.
type pending struct {
	time     int64 // engine clock, ns
	who      string
	kind     EventKind
	message  *events.Message // nil for a list's
	arrived  time.Time
	question question
	ready    bool
	answer   answer
	barrier  bool // goes out when everything before it has
}

// classify picks the events that say something; nil for the rest.
func classify(a arrival) *pending {
	m := a.Message
	p := &pending{time: m.TimeNano, who: m.Actor.ID, message: &m, arrived: a.at}
	action, _, _ := strings.Cut(string(m.Action), ":")
	if m.Type == events.NetworkEventType {
		p.who = m.Actor.Attributes["container"]
		if kind := m.Actor.Attributes["type"]; kind == "host" || kind == "null" || !containerID(p.who) {
			return nil // no address, or swarm's own sandboxes
		}
		switch action {
		case "connect":
			p.kind, p.question = Connected, question{network: true, id: m.Actor.ID}
		case "disconnect":
			p.kind = Disconnect
		default:
			return nil
		}
		return p
	}
	switch action {
	case "create":
		p.kind, p.question = Created, question{id: p.who}
	case "start":
		p.kind = Started
	case "die":
		p.kind = Died
	case "destroy":
		p.kind = Destroyed
	case "rename", "update":
		p.kind, p.question = Changed, question{id: p.who}
	case "exec_start":
		p.kind = Exec
	default:
		return nil
	}
	return p
}

// containerID reports 64 hex digits.
func containerID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

const (
	overtakeAfter = 50 * time.Millisecond // a slow inspect holds up other containers' events for so long
	lookAhead     = 256                   // at most so many events that wait are overtaken
)

// flush tells what is ready. The order of one container is never changed.
func (s *session) flush() {
	s.compareList()
	if !s.ripe {
		return
	}
	s.ripe = false
	held := map[string]bool{}
	kept, overtake := s.queue[:0], false
	for i, p := range s.queue {
		if len(kept) == lookAhead {
			kept = append(kept, s.queue[i:]...)
			break
		}
		if p.ready && !held[p.who] && (len(kept) == 0 || p.kind == Created || overtake && !p.barrier) {
			s.apply(p)
			continue
		}
		if len(kept) == 0 {
			overtake = time.Since(p.arrived) > overtakeAfter
		}
		held[p.who] = true
		kept = append(kept, p)
	}
	clear(s.queue[len(kept):])
	s.queue = kept
}

// exitDetail is the Detail of Died.
func exitDetail(m *events.Message) string {
	code, err := strconv.Atoi(m.Actor.Attributes["exitCode"])
	if err != nil {
		return ""
	}
	return "exit " + strconv.Itoa(code)
}
