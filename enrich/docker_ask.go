package enrich

import (
	"context"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"github.com/wharfwatch/wharfwatch/flow"
)

// inspectWorkers is how many inspects are under way at once.
const inspectWorkers = 4

// question is what to inspect. Pending events with the same question share one inspect, if it starts after they came.
type question struct {
	network bool
	id      string
}

type inquiry struct {
	running bool
	waiting []*pending // get the answer
	next    []*pending // came while it was running: what it saw may be older than they are
}

// answer is an inspect's result. Both pointers are nil when the thing is gone or the engine did not answer.
type answer struct {
	question  question
	container *Container
	network   *networkFacts
}

// networkFacts is one network with the bindings of its containers.
type networkFacts struct {
	id, name string
	holders  map[string]Binding // by container id
}

func (s *session) ask(p *pending) {
	in := s.inquiries[p.question]
	switch {
	case in == nil:
		s.inquiries[p.question] = &inquiry{waiting: []*pending{p}}
		s.backlog = append(s.backlog, p.question)
		s.startWork()
	case in.running:
		in.next = append(in.next, p)
	default:
		in.waiting = append(in.waiting, p)
	}
}

func (s *session) startWork() {
	for s.busy < inspectWorkers && len(s.backlog) > 0 {
		q := s.backlog[0]
		s.backlog = s.backlog[1:]
		s.inquiries[q].running = true
		s.busy++
		s.workers.Go(func() { s.answers <- s.inspect(q) }) // as many places as workers: never waits
	}
}

func (s *session) answered(a answer) {
	s.busy--
	s.ripe = true
	in := s.inquiries[a.question]
	delete(s.inquiries, a.question)
	for _, p := range in.waiting {
		p.answer, p.ready = a, true
	}
	if len(in.next) > 0 {
		s.inquiries[a.question] = &inquiry{waiting: in.next}
		s.backlog = append(s.backlog, a.question)
	}
	s.startWork()
}

// inspect runs in a worker.
func (s *session) inspect(q question) answer {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	a := answer{question: q}
	var err error
	if q.network {
		a.network, err = s.inspectNetwork(ctx, q.id)
	} else {
		a.container, err = s.inspectContainer(ctx, q.id)
	}
	if err != nil && !errdefs.IsNotFound(err) && s.ctx.Err() == nil {
		s.m.inspectErrors.Inc()
		s.log.Debug("docker inspect", "id", q.id, "error", err)
	}
	return a
}

func (s *session) inspectContainer(ctx context.Context, id string) (*Container, error) {
	_, raw, err := s.api.ContainerInspectWithRaw(ctx, id, false)
	if err != nil {
		return nil, err
	}
	c, err := decodeInspect(raw, s.c.Name, s.c.scope(), s.habits)
	if err != nil {
		return nil, err
	}
	c.Posture.LocalImage = s.localImage(ctx, c.ImageID)
	return c, nil
}

// localImage reports an image that came from no registry; false where the engine or a proxy does not tell.
func (s *session) localImage(ctx context.Context, id string) bool {
	if id == "" {
		return false
	}
	if local, known := s.images.get(id); known {
		return local
	}
	i, err := s.api.ImageInspect(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsPermissionDenied(err) {
		return false // ask again next time
	}
	local := err == nil && len(i.RepoDigests) == 0
	s.images.put(id, local)
	return local
}

func (s *session) inspectNetwork(ctx context.Context, id string) (*networkFacts, error) {
	n, err := s.api.NetworkInspect(ctx, id, network.InspectOptions{})
	if err != nil {
		return nil, err
	}
	facts := &networkFacts{id: clean(n.ID, 128), name: clean(n.Name, maxText), holders: make(map[string]Binding, len(n.Containers))}
	var gateways []flow.Addr
	for _, c := range n.IPAM.Config {
		if a, err := flow.ParseAddr(c.Gateway); err == nil {
			gateways = append(gateways, a)
		}
	}
	slices.SortFunc(gateways, flow.Addr.Compare)
	for id, e := range n.Containers {
		at := Attachment{NetworkID: facts.id, Network: facts.name, Gateways: gateways, MAC: clean(e.MacAddress, 32)}
		at.add(e.IPv4Address, 0)
		at.add(e.IPv6Address, 0)
		facts.holders[id] = Binding(at)
	}
	return facts, nil
}
