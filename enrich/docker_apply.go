package enrich

import (
	"cmp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/events"
)

// maxContainers bounds what is known of one engine; its own limits are far below.
const maxContainers = 1 << 16

// apply tells one engine event, or one difference that a list showed, in its container's order.
func (s *session) apply(p *pending) {
	if p.barrier {
		s.tellSynced(p.time)
		if s.gapAt > p.time {
			s.startList()
		} else {
			s.gapAt = 0
		}
		return
	}
	if p.message == nil {
		s.applyListed(p)
		return
	}
	k := s.known[p.who]
	if k == nil && p.kind != Created {
		// Never heard of: its create was lost, or it is an echo from before the list. The next list tells all of it at once.
		s.m.ignored.Inc()
		if p.time > s.listTime && p.kind != Destroyed && p.kind != Disconnect {
			s.lost()
		}
		return
	}
	s.m.applied.Inc()
	if k != nil {
		k.changed = max(k.changed, p.time)
	}
	switch p.kind {
	case Created:
		if k == nil { // else listed already, this is an echo
			s.created(p)
		}
	case Started:
		s.tell(k, p.time, Started, "", func(c *Container) { c.Running, c.Started, c.Finished = true, p.time, 0 })
	case Died:
		s.tell(k, p.time, Died, exitDetail(p.message), func(c *Container) { c.Running, c.Finished = false, p.time })
	case Destroyed:
		s.destroyed(k, p.time)
	case Changed:
		s.changed(k, p)
	case Exec:
		_, command, _ := strings.Cut(string(p.message.Action), ": ")
		s.tell(k, p.time, Exec, clean(command, 4*maxText), nil)
	case Connected:
		s.connected(k, p)
	case Disconnect:
		s.unbind(k, p.message.Actor.ID, p.time)
	}
}

// tell emits an event of a known container; change, if any, is made on a copy of its facts first.
func (s *session) tell(k *knownContainer, time int64, kind EventKind, detail string, change func(*Container)) {
	if change != nil {
		c := *k.facts
		change(&c)
		k.facts = &c
	}
	s.emit(Event{Time: time, Kind: kind, Engine: s.c.Name, Container: k.facts, Detail: detail})
}

func (s *session) know(c *Container, changed int64) *knownContainer {
	k := &knownContainer{facts: c, bindings: map[string]Binding{}, changed: changed}
	if len(s.known) >= maxContainers {
		s.m.overflow.Inc() // it is told once and then not followed
		return k
	}
	s.known[c.ID] = k
	return k
}

// created tells the facts as they are before the process runs, whatever the inspect saw of later ones.
func (s *session) created(p *pending) {
	c := &Container{}
	if p.answer.container != nil {
		*c = *p.answer.container
	} else {
		*c = *s.fromMessage(p.message) // gone already: name, image and labels, no posture
	}
	c.Created, c.Started, c.Finished, c.Running, c.Attachments = cmp.Or(c.Created, p.time), 0, 0, false, nil
	s.tell(s.know(c, p.time), p.time, Created, "", nil)
}

// fromMessage is what an event itself tells of its container: its attributes are name, image and all labels.
func (s *session) fromMessage(m *events.Message) *Container {
	a := m.Actor.Attributes
	return &Container{
		ID: m.Actor.ID, Name: clean(a["name"], maxText), Engine: s.c.Name, Image: clean(a["image"], maxText),
		Workload: WorkloadOf(a, a["name"], a["image"], s.c.scope()), Labels: ownLabels(a),
	}
}

// changed takes the new name and facts, and keeps what events have told of its life and networks: the inspect may be ahead of them.
func (s *session) changed(k *knownContainer, p *pending) {
	fresh := p.answer.container
	if fresh == nil {
		return
	}
	s.tell(k, p.time, Changed, "", func(c *Container) {
		now := *fresh
		now.Created, now.Started, now.Finished, now.Running, now.Attachments = c.Created, c.Started, c.Finished, c.Running, c.Attachments
		*c = now
	})
}

func (s *session) destroyed(k *knownContainer, time int64) {
	for _, id := range sortedKeys(k.bindings) {
		s.unbind(k, id, time)
	}
	s.tell(k, time, Destroyed, "", func(c *Container) {
		if c.Running {
			c.Running, c.Finished = false, time
		}
	})
	delete(s.known, k.facts.ID)
}

func (s *session) connected(k *knownContainer, p *pending) {
	if p.answer.network != nil {
		if b, ok := p.answer.network.holders[p.who]; ok && len(b.Addrs) > 0 {
			s.bind(k, b, p.time, "event")
			return
		}
	}
	s.m.unbound.Inc() // gone before the network could be inspected
}

// bind opens a binding, and gives up what the container held on that network.
func (s *session) bind(k *knownContainer, b Binding, time int64, source string) {
	if old, ok := k.bindings[b.NetworkID]; ok {
		if slices.Equal(old.Addrs, b.Addrs) {
			return // an echo
		}
		s.unbind(k, b.NetworkID, time)
	}
	k.bindings[b.NetworkID] = b
	s.attach(k)
	s.emit(Event{Time: time, Kind: Connected, Engine: s.c.Name, Container: k.facts, Binding: &b, Detail: source})
}

func (s *session) unbind(k *knownContainer, network string, time int64) {
	b, ok := k.bindings[network]
	if !ok {
		b = Binding{NetworkID: clean(network, 128)} // what it held there was never learnt
	}
	delete(k.bindings, network)
	s.attach(k)
	s.emit(Event{Time: time, Kind: Disconnect, Engine: s.c.Name, Container: k.facts, Binding: &b})
}

// attach puts the bindings into the facts.
func (s *session) attach(k *knownContainer) {
	c := *k.facts
	c.Attachments = nil
	for _, id := range sortedKeys(k.bindings) {
		c.Attachments = append(c.Attachments, Attachment(k.bindings[id]))
	}
	slices.SortStableFunc(c.Attachments, func(a, b Attachment) int { return cmp.Compare(a.Network, b.Network) })
	k.facts = &c
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
