package enrich

import (
	"strings"
	"sync"

	"github.com/wharfwatch/wharfwatch/flow"
)

// sandboxes knows from an engine's events which addresses belong to network namespaces that several containers share. Sockets there must
// be asked for inside. The engine's follower tells it, the kernel's goroutine asks it.
type sandboxes struct {
	mu      sync.Mutex            // protects the rest
	holders map[flow.Addr]sandbox // by the addresses of containers with a namespace of their own
	shared  map[string]int        // containers that share, by the id of the namespace's owner; one that shares a sharer counts there
	joined  map[string]string     // which owner a sharer joined
}

// sandbox is a network namespace by the container that made it.
type sandbox struct {
	container string
	started   int64 // a restart makes another one
}

func newSandboxes() *sandboxes {
	return &sandboxes{holders: map[flow.Addr]sandbox{}, shared: map[string]int{}, joined: map[string]string{}}
}

// hear takes an event of the engine.
func (s *sandboxes) hear(e *Event) {
	if e.Container == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := e.Container
	id, shares := strings.CutPrefix(c.NetworkMode, sharedMode)
	switch e.Kind {
	case Connected, Started, Listed:
		if owner := s.joined[id]; owner != "" {
			id = owner
		}
		if _, known := s.joined[c.ID]; shares && c.Running && !known && len(s.joined) < maxShared {
			s.joined[c.ID] = id
			s.shared[id]++
		}
		for _, a := range c.Attachments {
			s.hold(a.Addrs, sandbox{c.ID, c.Started})
		}
		if e.Binding != nil {
			s.hold(e.Binding.Addrs, sandbox{c.ID, c.Started})
		}
	case Died, Destroyed:
		if owner, known := s.joined[c.ID]; known {
			if delete(s.joined, c.ID); s.shared[owner] > 1 {
				s.shared[owner]--
			} else {
				delete(s.shared, owner)
			}
		}
		for a, h := range s.holders {
			if h.container == c.ID {
				delete(s.holders, a)
			}
		}
	}
}

func (s *sandboxes) hold(addrs []flow.Addr, h sandbox) {
	for _, a := range addrs {
		if !a.IsZero() && (len(s.holders) < maxBlocks || s.holders[a] != sandbox{}) {
			s.holders[a] = h
		}
	}
}

// at is the shared namespace that has an address; ok is false for one of a single container.
func (s *sandboxes) at(a flow.Addr) (h sandbox, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shared) == 0 {
		return h, false
	}
	h, ok = s.holders[a]
	return h, ok && s.shared[h.container] > 0
}
