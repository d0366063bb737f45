package enrich

import "strings"

// A container with network mode container:X has X's namespace, addresses and all. What X's address says is then true of any of them.

const (
	maxShared  = 1 << 12 // namespaces that are shared, and the most that share one
	sharedMode = "container:"
)

// join notes that a container shares the namespace of another one, which may do the same.
func (t *Table) join(c *Container) {
	owner, ok := memberID{c.Engine, c.ID}, false
	for range 8 {
		i, known := t.roster.slots[owner]
		if !known {
			break
		}
		id, shares := strings.CutPrefix(t.roster.members[i].c.NetworkMode, sharedMode)
		if !shares {
			ok = owner.id != c.ID
			break
		}
		owner.id = id
	}
	if !ok || len(t.shared[owner]) >= maxShared || t.shared[owner] == nil && len(t.shared) >= maxShared {
		return
	}
	for _, have := range t.shared[owner] {
		if have == c.ID {
			return
		}
	}
	if t.shared == nil {
		t.shared = map[memberID][]string{}
	}
	t.shared[owner] = append(t.shared[owner], c.ID)
	t.index.moved++ // verdicts about its owner may no longer hold
}

// leave forgets namespaces of containers that are forgotten.
func (t *Table) leave() {
	for owner, ids := range t.shared {
		kept := ids[:0]
		for _, id := range ids {
			if _, known := t.roster.slots[memberID{owner.engine, id}]; known {
				kept = append(kept, id)
			}
		}
		t.shared[owner] = kept
		if _, known := t.roster.slots[owner]; !known || len(kept) == 0 {
			delete(t.shared, owner)
		}
	}
}

// sharers appends the containers that shared a holder's namespace at some time of a query's interval, the holder not included.
func (t *Table) sharers(q query, holder uint32, out []uint32) []uint32 {
	m := &t.roster.members[holder]
	slack := int64(t.c.Addresses.Tolerance)
	for _, id := range t.shared[memberID{m.c.Engine, m.name}] {
		i := t.roster.slots[memberID{m.c.Engine, id}]
		c := t.roster.members[i].c
		if i == 0 || c == nil || c.Started == 0 || c.Started-slack > q.last || !c.Running && c.Finished != 0 && c.Finished+slack < q.first {
			continue
		}
		out = append(out, i)
	}
	return out
}

// share lowers a verdict by address where the namespace was shared: its owner is named, but any of them may be meant. Where the
// kernel said whose socket it is, that counts.
func (t *Table) share(q query, v verdict) verdict {
	var some [16]uint32
	if len(t.sharers(q, v.holder, some[:0])) == 0 {
		return v
	}
	if s := t.byTrack(q, placeNetwork); s.method == MethodSharedSocket {
		return s
	}
	v.method, v.confidence = MethodSharedNetns, min(v.confidence, Medium)
	return v
}
