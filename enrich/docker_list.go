package enrich

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
)

// listing is one list of all containers.
type listing struct {
	at         int64 // engine clock just before the call, ns
	containers []container.Summary
	err        error
}

func (s *session) list() (listing, error) {
	ctx, cancel := context.WithTimeout(s.ctx, listTimeout)
	defer cancel()
	l := listing{at: s.now()}
	var err error
	if l.containers, err = s.api.ContainerList(ctx, container.ListOptions{All: true}); err != nil {
		return l, fmt.Errorf("list containers at %s: %w", s.c.Endpoint(), err)
	}
	slices.SortFunc(l.containers, func(a, b container.Summary) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	return l, nil
}

// listAll begins a session: every container is inspected and told, whatever was known of it. Events wait in the ring meanwhile.
func (s *session) listAll() error {
	l, err := s.list()
	if err != nil {
		return err
	}
	facts := make([]*Container, len(l.containers))
	var workers sync.WaitGroup
	for w := range inspectWorkers {
		workers.Go(func() {
			for i := w; i < len(facts); i += inspectWorkers {
				facts[i] = s.inspect(question{id: l.containers[i].ID}).container
			}
		})
	}
	workers.Wait()
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	first, present := s.last == 0, map[string]bool{}
	for i, c := range facts {
		present[l.containers[i].ID] = true
		if c == nil {
			c = s.fromSummary(&l.containers[i])
		}
		changes := s.take(c, l.at, true)
		if !first {
			s.m.resyncChanges.Add(changes)
		}
	}
	for _, id := range sortedKeys(s.known) {
		if !present[id] {
			s.m.resyncChanges.Inc()
			s.destroyed(s.known[id], l.at)
		}
	}
	s.tellSynced(l.at)
	return nil
}

func (s *session) tellSynced(at int64) {
	if !s.synced {
		s.log.Info("docker engine is watched", "containers", len(s.known))
	}
	s.synced, s.listTime, s.last = true, at, max(s.last, at)
	s.emit(Event{Time: at, Kind: Synced, Engine: s.c.Name})
}

// startList lists in the background, for reconciliation.
func (s *session) startList() {
	if s.listing || s.listed != nil {
		return
	}
	s.listing = true
	s.workers.Go(func() {
		l, err := s.list()
		l.err = err
		select {
		case s.lists <- l:
		case <-s.ctx.Done():
		}
	})
}

// settle is how long after a list its differences are judged: what happened before it must have come as events by then.
const settle = time.Second

// compareList looks for what the events did not tell. What differs is inspected, told, and followed by Synced.
func (s *session) compareList() {
	l := s.listed
	if l == nil || s.now() < l.at+int64(settle) || slices.ContainsFunc(s.queue, func(p *pending) bool { return p.time <= l.at }) {
		return
	}
	s.listed = nil
	present := make(map[string]bool, len(l.containers))
	for i := range l.containers {
		c := &l.containers[i]
		present[c.ID] = true
		if k := s.known[c.ID]; k == nil || k.changed < l.at && k.differs(c) {
			s.relist(c.ID, l.at)
		}
	}
	for _, id := range sortedKeys(s.known) {
		if !present[id] && s.known[id].changed < l.at {
			s.relist(id, l.at)
		}
	}
	s.queue = append(s.queue, &pending{time: l.at, kind: Synced, arrived: time.Now(), ready: true, barrier: true})
	s.ripe = true
}

func (s *session) relist(id string, at int64) {
	p := &pending{time: at, who: id, kind: Listed, arrived: time.Now(), question: question{id: id}}
	s.queue = append(s.queue, p)
	s.ask(p)
}

func (s *session) applyListed(p *pending) {
	k := s.known[p.who]
	switch {
	case k != nil && k.changed >= p.time: // events have told more since
	case p.answer.container != nil:
		s.m.resyncChanges.Add(s.take(p.answer.container, p.time, false))
	case k != nil:
		s.m.resyncChanges.Inc()
		s.destroyed(k, p.time)
	}
}

// differs compares with a list's entry.
func (k *knownContainer) differs(c *container.Summary) bool {
	if k.facts.Running != runs(c.State) || !slices.Contains(c.Names, "/"+k.facts.Name) {
		return true
	}
	if !k.facts.Running || c.NetworkSettings == nil {
		return false
	}
	held := 0
	for name, at := range c.NetworkSettings.Networks {
		if b := bindingOf(name, at); len(b.Addrs) > 0 {
			held++
			if !slices.Equal(k.bindings[b.NetworkID].Addrs, b.Addrs) {
				return true
			}
		}
	}
	return held != len(k.bindings)
}

func bindingOf(name string, at *network.EndpointSettings) Binding {
	if at == nil {
		return Binding{}
	}
	e := endpoint{
		NetworkID: at.NetworkID, IPAddress: at.IPAddress, IPPrefixLen: at.IPPrefixLen, Gateway: at.Gateway, MacAddress: at.MacAddress,
		GlobalIPv6Address: at.GlobalIPv6Address, GlobalIPv6PrefixLen: at.GlobalIPv6PrefixLen, IPv6Gateway: at.IPv6Gateway,
	}
	return Binding(e.attachment(name))
}

func runs(state string) bool { return state == "running" || state == "paused" || state == "restarting" }

// take tells how a container's state, as seen at a time, differs from what is known; restate tells it even if it does not. It
// returns the number of differences. The addresses of a container that does not run are worth nothing: after a restart of the engine
// they are stale (attribution.md 1.9).
func (s *session) take(c *Container, at int64, restate bool) (changes int) {
	own := *c // several entries of the queue may share one answer
	c = &own
	k := s.known[c.ID]
	held := c.Attachments
	if !c.Running {
		held = nil
	}
	c.Attachments = nil
	began := c.Started // of a binding that no event told: no packet left before
	if k == nil {
		k = s.know(c, 0)
		s.tell(k, at, Listed, "", nil)
		changes++
	} else {
		before := k.facts
		c.Attachments = before.Attachments
		k.facts = c
		switch {
		case before.Running && !c.Running:
			s.tell(k, cmp.Or(c.Finished, at), Died, "seen in a list", nil)
			changes++
		case c.Running && (!before.Running || before.Started < c.Started-int64(time.Second)):
			s.tell(k, c.Started, Started, "seen in a list", nil)
			changes++
		default:
			began = max(began, s.listTime)
		}
		if before.Name != c.Name || before.Workload != c.Workload {
			s.tell(k, at, Changed, "seen in a list", nil)
			changes++
		}
		if restate {
			s.tell(k, at, Listed, "", nil)
		}
	}
	ended := at
	if !c.Running && c.Finished != 0 {
		ended = c.Finished
	}
	for _, id := range sortedKeys(k.bindings) {
		if !slices.ContainsFunc(held, func(a Attachment) bool { return a.NetworkID == id && slices.Equal(a.Addrs, k.bindings[id].Addrs) }) {
			s.unbind(k, id, ended)
			changes++
		}
	}
	for _, a := range held {
		if len(a.Addrs) == 0 {
			continue
		}
		if _, ok := k.bindings[a.NetworkID]; !ok {
			s.bind(k, Binding(a), began, "list")
			changes++
		}
	}
	return changes
}

// fromSummary is what a list tells of a container whose inspect failed: no posture.
func (s *session) fromSummary(c *container.Summary) *Container {
	name := ""
	if len(c.Names) > 0 {
		name = strings.TrimPrefix(c.Names[0], "/")
	}
	out := &Container{
		ID: c.ID, Name: clean(name, maxText), Engine: s.c.Name, Image: clean(c.Image, maxText), ImageID: clean(c.ImageID, 128),
		Workload: WorkloadOf(c.Labels, name, c.Image, s.c.scope()), Labels: ownLabels(c.Labels),
		Created: c.Created * int64(time.Second), Started: c.Created * int64(time.Second),
		Running: runs(c.State), NetworkMode: networkMode(c.HostConfig.NetworkMode),
	}
	if c.NetworkSettings != nil {
		for _, name := range sortedKeys(c.NetworkSettings.Networks) {
			out.Attachments = append(out.Attachments, Attachment(bindingOf(name, c.NetworkSettings.Networks[name])))
		}
	}
	return out
}
