package enrich

import (
	"slices"

	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	maxSaid    = 1 << 16       // connections whose own word is remembered, some 200 bytes each
	saidMargin = 2 * second    // between the word of a connection and the records that show it
	saidFor    = 3600 * second // what is older makes room without being missed
	maxCalled  = 16            // names listed for one address
)

// sayings are the names that connections themselves asked for: SNI and HTTP hosts. They are the client's word and prove nothing: a name
// that a resolver gave stands in PeerName.
type sayings struct {
	at   map[sayKey]int32 // place in ring
	ring []saying
	next int
}

type sayKey struct {
	client, server flow.Addr
	clientPort     uint16
	port           uint16
	proto          uint8
}

type saying struct {
	key       sayKey
	name, ja4 string
	time      int64
}

// keep reports whether nothing had to be forgotten for it.
func (s *sayings) keep(n *flow.Name) bool {
	k := sayKey{n.Client, n.Server, n.ClientPort, n.Port, n.Proto}
	x := saying{k, n.Name, n.JA4, n.Time}
	if i, ok := s.at[k]; ok {
		s.ring[i] = x
		return true
	}
	if s.at == nil {
		s.at = map[sayKey]int32{}
	}
	if len(s.ring) < maxSaid {
		s.at[k] = int32(len(s.ring))
		s.ring = append(s.ring, x)
		return true
	}
	old := &s.ring[s.next]
	missed := old.time > n.Time-saidFor
	delete(s.at, old.key)
	s.at[k] = int32(s.next)
	*old = x
	s.next = (s.next + 1) % maxSaid
	return !missed
}

// of is what a connection asked for by the time of a report, "" unknown.
func (s *sayings) of(c *conn, at int64) (name, ja4 string) {
	if len(s.ring) == 0 { // only packets and logs bring names
		return "", ""
	}
	for client := range int8(2) {
		if c.opener == 1-client {
			continue
		}
		k := sayKey{c.ends[client], c.ends[1-client], c.ports[client], c.ports[1-client], c.proto}
		if i, ok := s.at[k]; ok {
			if x := &s.ring[i]; x.time >= c.start-saidMargin && x.time <= max(at, c.last)+saidMargin {
				return x.name, x.ja4
			}
		}
	}
	return "", ""
}

// called lists the names under which containers know an address, those that they resolved and those that their connections asked for.
func (t *Table) called(addr flow.Addr) (names []string) {
	add := func(name string) {
		if i, ok := slices.BinarySearch(names, name); name != "" && !ok {
			names = slices.Insert(names, i, name)
		}
	}
	for i := range t.roster.members {
		c := &t.roster.members[i].names
		if at, ok := c.at[addr]; ok {
			add(c.ring[at].name)
		}
	}
	for i := range t.said.ring {
		if x := &t.said.ring[i]; x.key.server == addr {
			add(x.name)
		}
	}
	return names[:min(len(names), maxCalled)]
}
