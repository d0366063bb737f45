package enrich

import (
	"cmp"
	"hash/fnv"
	"slices"

	"github.com/wharfwatch/wharfwatch/flow"
)

// member is what the table knows of one container. Connections and bindings name it by its slot in the roster.
type member struct {
	c         *Container
	name      string // among the engine's: the id, or what stands for one
	engine    uint8
	partition uint8
	conns     int32 // that name it
	evicted   int32 // that name it and are still to be reported
	spans     int32
	gone      int64 // when it died or was destroyed, 0 while it may come back
	keys      []Key // bound now
	macs      []flow.MAC
	names     nameCache
	resolves  bool       // DNS of its own was seen
	outside   uint64     // connections that it opened to the outside, see reached
	listens   [16]uint32 // port and protocol that strangers were seen to open
	heard     uint8
}

type memberID struct{ engine, id string }

// roster holds the containers, alive and lately dead. Slot 0 is nobody.
type roster struct {
	members []member
	free    []uint32
	slots   map[memberID]uint32
	most    int
	refused uint64
}

func newRoster(most int) *roster {
	return &roster{members: make([]member, 1), slots: map[memberID]uint32{}, most: most}
}

// put takes the newest facts of a container and returns its slot, 0 when the roster is full of live ones.
func (r *roster) put(c *Container, engine uint8) uint32 { return r.putAs(c.ID, c, engine) }

// putAs is put for what has no id of its own.
func (r *roster) putAs(name string, c *Container, engine uint8) uint32 {
	id := memberID{c.Engine, name}
	i, ok := r.slots[id]
	switch {
	case ok:
	case len(r.free) > 0:
		i, r.free = r.free[len(r.free)-1], r.free[:len(r.free)-1]
	case len(r.members) <= r.most:
		i = uint32(len(r.members))
		r.members = append(r.members, member{})
	default:
		r.refused++
		return 0
	}
	m := &r.members[i]
	if !ok {
		*m = member{engine: engine, name: name}
		r.slots[id] = i
	}
	if m.c == nil || c.Workload != "" {
		m.c, m.partition = c, Partition(c.Workload)
	}
	return i
}

// bury forgets containers that went before t and that no connection or binding names.
func (r *roster) bury(t int64, leave func(*member)) {
	for i := range r.members[1:] {
		m := &r.members[i+1]
		if m.c == nil || m.gone == 0 || m.gone >= t || m.conns > 0 || m.evicted > 0 || m.spans > 0 {
			continue
		}
		leave(m)
		delete(r.slots, memberID{m.c.Engine, m.name})
		*m = member{}
		r.free = append(r.free, uint32(i+1))
	}
}

// containers lists every container known by engine, name and id.
func (r *roster) containers() []*Container {
	var out []*Container
	for i := range r.members {
		if c := r.members[i].c; c != nil && c.ID != "" {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Container) int {
		return cmp.Or(cmp.Compare(a.Engine, b.Engine), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Partition is where a workload's output goes: 32-bit FNV-1a of its name, modulo 64.
func Partition(workload string) uint8 {
	h := fnv.New32a()
	h.Write([]byte(workload)) // never fails
	return uint8(h.Sum32() % 64)
}

// service packs a port and a protocol.
func service(port uint16, proto uint8) uint32 { return uint32(port)<<8 | uint32(proto) }

// serves says whether the container is known to listen there.
func (m *member) serves(port uint16, proto uint8) bool {
	if port == 0 {
		return false
	}
	for _, s := range m.listens {
		if s == service(port, proto) {
			return true
		}
	}
	for _, p := range m.c.Ports {
		if p.Container == port && p.Proto == proto {
			return true
		}
	}
	return false
}

// served notes that a stranger opened a connection there.
func (m *member) served(port uint16, proto uint8) {
	if port == 0 || m.serves(port, proto) {
		return
	}
	m.listens[m.heard%uint8(len(m.listens))] = service(port, proto)
	m.heard++
}
