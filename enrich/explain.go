package enrich

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/flow"
)

// Explanation answers "who was 172.18.0.5 at 10:03?" for people and for programs.
type Explanation struct {
	Addr       flow.Addr  `json:"addr"`
	Port       uint16     `json:"port,omitempty"`
	At         int64      `json:"at"`                  // ns
	Container  *Container `json:"container,omitempty"` // nil: nobody
	Method     Method     `json:"method"`
	Confidence Confidence `json:"confidence"`
	Reason     string     `json:"reason,omitempty"`     // why nobody
	Candidates []string   `json:"candidates,omitempty"` // names of containers that may be meant instead
	Holders    []Holder   `json:"holders"`              // everybody remembered for this address, oldest first
	Names      []string   `json:"names,omitempty"`      // under which containers know it: resolved, or asked for by their connections; at most 16
	Text       string     `json:"text"`                 // the same in one sentence
}

// Holder is one container's time with an address.
type Holder struct {
	Container *Container `json:"container"`
	Engine    string     `json:"engine"`
	Network   string     `json:"network"` // id
	From      int64      `json:"from"`    // ns
	To        int64      `json:"to"`      // ns, 0 while it still holds
	Then      bool       `json:"then"`    // held it at the asked time, tolerance included
}

// Explain says who had an address at a time, the way a connection of that instant would be attributed. A port other than 0 also
// looks at published ports when the address is nobody's. It allocates and belongs to the goroutine of the Table.
func (t *Table) Explain(addr flow.Addr, port uint16, at int64) Explanation {
	e := Explanation{Addr: addr, Port: port, At: at, Holders: t.holders(addr, at), Names: t.called(addr)}
	a := t.resolve(query{addr: addr, first: at, last: at})
	what, alike, others := addr.String(), "", []uint32(nil)
	if a.holder != 0 {
		alike, others = "or one that shares its network namespace", t.sharers(query{first: at, last: at}, a.holder, nil)
	} else if v, more := t.outside(addr, port, at); v.holder != 0 {
		a, others = v, more
		what, alike = fmt.Sprintf("port %d of %s", port, addr), "and with other peers"
	}
	for _, i := range others {
		e.Candidates = append(e.Candidates, t.roster.members[i].c.Name)
	}
	e.Method, e.Confidence = a.method, a.confidence
	when := time.Unix(0, at).UTC().Format("2006-01-02T15:04:05.999Z07:00") // finer than any clock that two machines share
	if a.holder != 0 {
		e.Container = t.roster.members[a.holder].c
		e.Text = fmt.Sprintf("%s was %q (%s) at %s, by %s, confidence %s", what, e.Container.Name, e.Container.Workload, when, e.Method, e.Confidence)
		if len(e.Candidates) > 0 {
			e.Text += ", " + alike + ": " + strings.Join(e.Candidates, ", ")
		}
		if e.Method == MethodReused {
			e.Text += fmt.Sprintf(": one of %d who held it around then", e.then())
		}
		return e
	}
	e.Reason = a.reason.String()
	if c := t.publisher(addr, port); c != nil {
		e.Container, e.Method, e.Confidence, e.Reason = c, MethodPort, High, ""
		e.Text = fmt.Sprintf("port %d of %s is published by %q (%s)", port, addr, c.Name, c.Workload)
		return e
	}
	e.Text = fmt.Sprintf("%s was no container at %s: %s", addr, when, because[a.reason])
	if len(e.Names) > 0 {
		e.Text += "; containers know it as " + strings.Join(e.Names, ", ")
	}
	if len(e.Holders) > 0 {
		h := e.Holders[len(e.Holders)-1]
		e.Text += fmt.Sprintf("; %q held it last, from %s", h.Container.Name, time.Unix(0, h.From).UTC().Format(time.RFC3339))
	}
	return e
}

// because spells a Reason out.
var because = map[Reason]string{
	ReasonExternal: "it belongs to no known container network",
	ReasonNoEngine: "no engine has been heard yet",
	ReasonNotReady: "it belongs to a container network, but nobody held it then",
	ReasonGateway:  "it is the bridge of a container network: docker-proxy or the host itself",
	ReasonHost:     "it is the host, talking to itself",

	ReasonNoNATEntry:  "it is an address of the host, and nothing tells whose traffic it was",
	ReasonShortSocket: "it is an address of the host, and the socket was gone before its owner could be asked for",
	ReasonGap:         "it is an address of the host, and what its kernel told was lost around then",
}

// then counts the different containers that held the address at the asked time.
func (e *Explanation) then() int {
	seen := map[*Container]bool{}
	for _, h := range e.Holders {
		if h.Then {
			seen[h.Container] = true
		}
	}
	return len(seen)
}

func (t *Table) holders(addr flow.Addr, at int64) []Holder {
	out := []Holder{}
	i, ok := t.index.at.get(addr)
	if !ok {
		return out
	}
	slack := int64(t.c.Addresses.Tolerance)
	for _, ln := range t.index.lanes[i] {
		for _, s := range ln.spans {
			h := Holder{
				Container: t.roster.members[s.holder].c, Engine: ln.engine, Network: ln.network, From: s.from, To: s.to,
				Then: s.from-slack <= at && (s.to == forever || at < s.to+slack),
			}
			if s.to == forever {
				h.To = 0
			}
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(a.From, b.From), strings.Compare(a.Engine, b.Engine), strings.Compare(a.Network, b.Network))
	})
	return out
}

// publisher is the running container that publishes a port of an address which no container holds.
func (t *Table) publisher(addr flow.Addr, port uint16) *Container {
	if p := t.nets.place(addr); port == 0 || p != placeHost && p != placeGateway {
		return nil
	}
	for _, c := range t.roster.containers() {
		for _, p := range c.Ports {
			anywhere := p.HostIP.IsZero() || p.HostIP == flow.Addr4(0)
			if c.Running && p.Host == port && (anywhere || p.HostIP == addr) {
				return c
			}
		}
	}
	return nil
}
