package enrich

import (
	"cmp"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/flow"
)

// On user-defined networks containers ask the engine's resolver at 127.0.0.11, inside their own network namespace, where no capture sees
// it. What it does not know it asks on: from the container's namespace, or from the host's (internal networks, and hosts whose resolver
// listens on a loopback address): https://docs.docker.com/engine/network/#dns-services. Then the question is nobody's, and the answer says
// how an address is called and not who asked.

// hostAnswers is how many addresses the host's resolver may name.
const hostAnswers = 1 << 15

const portDNS = 53

// embedded says that the container asks the engine's own resolver.
func embedded(c *Container) bool {
	switch mode := c.NetworkMode; mode {
	case "", "bridge", "default", "host", "none":
		return false
	default:
		return !strings.HasPrefix(mode, "container:")
	}
}

// hosted takes an answer that the host itself got: it names addresses for those whose own questions are not seen. It reports false for
// another's.
func (t *Table) hosted(n *flow.Name) bool {
	if n.Kind != flow.NameDNS {
		return false
	}
	if p := t.nets.place(n.Client); p != placeHost && p != placeGateway {
		return false
	}
	t.keepHosted(n)
	return true
}

func (t *Table) keepHosted(n *flow.Name) {
	until := n.Time + max(int64(t.names.c.Least), int64(n.TTL)*second)
	bound := names{c: Names{PerContainer: hostAnswers, Total: hostAnswers, Least: t.names.c.Least}}
	for _, addr := range n.Addrs {
		if !t.names.host.keep(addr, n.Name, until, &bound) {
			t.count.namesForgotten++
		}
	}
}

// peerName is the name the container last resolved to an address; where its own questions cannot be seen, what the host's resolver was
// told.
func (t *Table) peerName(m *member, addr flow.Addr, at int64) string {
	name := m.names.of(addr, at)
	if name == "" && !m.resolves && len(t.names.host.ring) > 0 && embedded(m.c) {
		name = t.names.host.of(addr, at)
	}
	return name
}

// reached notes that a container opened a connection to the outside that a capture saw, where its DNS would have been seen too.
func (t *Table) reached(c *conn) {
	if c.opener < 0 || c.bits&bitPackets == 0 {
		return
	}
	m, other := &t.roster.members[c.owner[c.opener]], 1-c.opener
	if c.owner[c.opener] != 0 && c.owner[other] == 0 && c.why[other] == ReasonExternal && c.ports[other] != portDNS {
		m.outside++
	}
}

// Unnamed is a workload that reaches outside without any DNS of its own being seen, since the engine's resolver asks for it.
type Unnamed struct {
	Workload    string `json:"workload"`
	Network     string `json:"network"`
	Connections uint64 `json:"connections"`  // to the outside, seen by a capture
	HostAnswers int    `json:"host_answers"` // addresses that the host's resolver named, which serve instead
}

// unnamedLeast is how many connections to the outside without DNS tell more than a fixed address.
const unnamedLeast = 3

// Unnamed lists such workloads by name; none while no source brings names at all. It allocates and belongs to the goroutine of the Table.
func (t *Table) Unnamed() []Unnamed {
	var out []Unnamed
	if t.count.names == 0 { // a conn log alone
		return nil
	}
	for i := range t.roster.members {
		m := &t.roster.members[i]
		if m.c == nil || m.gone != 0 || m.resolves || m.outside < unnamedLeast || !embedded(m.c) {
			continue
		}
		out = append(out, Unnamed{m.c.Workload, m.c.NetworkMode, m.outside, len(t.names.host.ring)})
	}
	slices.SortFunc(out, func(a, b Unnamed) int {
		return cmp.Or(strings.Compare(a.Workload, b.Workload), strings.Compare(a.Network, b.Network), cmp.Compare(b.Connections, a.Connections))
	})
	return slices.CompactFunc(out, func(a, b Unnamed) bool { return a.Workload == b.Workload })
}
