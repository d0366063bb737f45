package enrich

import "github.com/wharfwatch/wharfwatch/flow"

// owners holds each owner of sockets once: a connection needs four bytes for one. Slot 0 is nobody.
type owners struct {
	list []owned
	free []uint32
	at   map[ownerKey]uint32
}

type ownerKey struct {
	Owner
	engine uint8
}

type owned struct {
	ownerKey
	refs int
}

func newOwners() owners { return owners{list: make([]owned, 1), at: map[ownerKey]uint32{}} }

func (o *owners) take(engine uint8, who Owner) uint32 {
	if who == (Owner{}) {
		return 0
	}
	k := ownerKey{who, engine}
	i, ok := o.at[k]
	switch n := len(o.free); {
	case ok:
	case n > 0:
		i, o.free = o.free[n-1], o.free[:n-1]
	default:
		i = uint32(len(o.list))
		o.list = append(o.list, owned{})
	}
	if !ok {
		o.list[i].ownerKey, o.at[k] = k, i
	}
	o.list[i].refs++
	return i
}

func (o *owners) give(i uint32) {
	if i == 0 {
		return
	}
	w := &o.list[i]
	if w.refs--; w.refs == 0 {
		delete(o.at, w.ownerKey)
		*w = owned{}
		o.free = append(o.free, i)
	}
}

// listenKey is where sockets wait.
type listenKey struct {
	engine uint8
	proto  uint8
	port   uint16
}

// listener is one of them, in [from, to).
type listener struct {
	addr     flow.Addr // zero for every address
	from, to int64
	owner    uint32
}

func (x *trackTable) listen(engine uint8, k *Track) {
	key := listenKey{engine, k.Proto, k.Orig.DstPort}
	for i := range x.listens[key] {
		if l := &x.listens[key][i]; l.to == forever && l.addr == k.Orig.Dst {
			if x.owners.list[l.owner].Owner == k.Owner[1] {
				return
			}
			l.to = max(k.Time, l.from)
		}
	}
	if x.ears >= maxListens {
		x.refused++
		return
	}
	x.ears++
	x.listens[key] = append(x.listens[key], listener{k.Orig.Dst, k.Time, forever, x.owners.take(engine, k.Owner[1])})
}

func (x *trackTable) deaf(engine uint8, k *Track) {
	ls := x.listens[listenKey{engine, k.Proto, k.Orig.DstPort}]
	for i := range ls {
		if ls[i].to == forever && ls[i].addr == k.Orig.Dst {
			ls[i].to = max(k.Time, ls[i].from)
		}
	}
}

// heardAt finds who listened at an address and port over an interval; an address of its own goes before every address.
func (x *trackTable) heardAt(engine uint8, addr flow.Addr, port uint16, proto uint8, first, last, slack int64) uint32 {
	found := uint32(0)
	for _, l := range x.listens[listenKey{engine, proto, port}] {
		if l.from-slack > first || l.to != forever && l.to+slack < last {
			continue
		}
		if l.addr == addr {
			return l.owner
		}
		if l.addr.IsZero() {
			found = l.owner
		}
	}
	return found
}
