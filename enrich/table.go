package enrich

import (
	"path"
	"slices"
	"strconv"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/flow"
)

const second = 1_000_000_000 // ns

// Table is the connection table and what it needs to say who: the containers, the index of their addresses over time, and the names
// they resolved. It does no I/O and has no clock. One goroutine calls it.
type Table struct {
	c        Config
	seed     seed
	shards   []*shard
	roster   *roster
	index    *IPIndex
	nets     networks
	tracks   trackTable
	ports    portMap
	shared   map[memberID][]string // ids of the containers that share a container's network namespace
	engines  []engine
	names    names
	said     sayings
	macs     macIndex
	sights   sights
	exporter exporters
	count    counters

	now     int64 // event time of the last Advance
	swept   int64 // and of the last look for what can be forgotten
	quota   int32 // connections that one container may hold
	held    uint64
	items   []item  // of the Advance that is going on
	gone    []conn  // evicted ones that are still to be reported, at most maxGone
	hits    [16]hit // scratch
	gave    []leaver
	sorter  sorter
	speech  speech
	stride  [strideSize]look
	touched int64 // keeps the loads of the first pass
}

// engine is how far one engine's events have come.
type engine struct {
	name     string
	heard    bool  // anything but Blind ever came
	live     bool  // synced, and not blind since
	progress int64 // nothing before this is still to come
	since    int64 // live without a break since then
}

// NewTable makes a Table. The configuration must be valid.
func NewTable(c Config, set *metrics.Set) *Table {
	return newTable(c, set, randomSeed())
}

func newTable(c Config, set *metrics.Set, s seed) *Table {
	t := &Table{c: c, seed: s, roster: newRoster(c.Addresses.Containers)}
	t.index = newIPIndex(c.Addresses.PerAddress, c.Addresses.Bindings, func(holder uint32) { t.roster.members[holder].spans-- })
	t.nets = newNetworks(c.Addresses)
	t.tracks = newTrackTable(c.Conntrack.Entries, &t.seed)
	t.macs.dropped = func(holder uint32) { t.roster.members[holder].spans-- }
	t.ports.drop = func(holder uint32) { t.roster.members[holder].spans-- }
	t.names = names{c: c.Names}
	for range c.Connections.Shards {
		t.shards = append(t.shards, newShard(max(c.Connections.Max/c.Connections.Shards, 64)))
	}
	t.quota = int32(max(float64(c.Connections.Max)*c.Connections.ContainerShare, 16))
	t.exporter = newExporters()
	for _, e := range c.Docker {
		t.engine(e.Name)
	}
	t.count.register(set, t)
	return t
}

// engine finds or makes the place of an engine.
func (t *Table) engine(name string) uint8 {
	for i := range t.engines {
		if t.engines[i].name == name {
			return uint8(i)
		}
	}
	if len(t.engines) == 255 {
		return 254
	}
	t.engines = append(t.engines, engine{name: name})
	return uint8(len(t.engines) - 1)
}

// Event takes one change at an engine. Connected and Disconnect bind addresses; everything else updates facts.
func (t *Table) Event(e *Event) {
	t.count.events++
	defer t.count.flush()
	n := t.engine(e.Engine)
	g := &t.engines[n]
	g.heard = g.heard || e.Kind != Blind
	switch e.Kind {
	case Synced:
		if !g.live {
			g.since = e.Time
		}
		g.live, g.progress = true, max(g.progress, e.Time)
		t.index.moved++ // those who found no engine may ask again
		return
	case Progress:
		g.progress = max(g.progress, e.Time)
		return
	case Blind:
		g.live = false
		return
	}
	if e.Container == nil {
		return
	}
	i := t.roster.put(e.Container, n)
	if i == 0 {
		return
	}
	m := &t.roster.members[i]
	grace := int64(t.c.Addresses.Tolerance)
	switch e.Kind {
	case Connected:
		m.gone = 0
		t.bind(i, e)
	case Disconnect:
		if e.Binding != nil {
			for _, a := range e.Binding.Addrs {
				t.index.close(Key{e.Engine, e.Binding.NetworkID, a}, i, e.Time, false)
			}
			for _, mac := range m.macs {
				t.macs.close(mac, e.Binding.NetworkID, i, e.Time)
			}
		}
	case Created, Started:
		m.gone = 0
	case Listed:
		m.gone = 0
		if c := e.Container; !c.Running && c.Finished != 0 {
			t.ended(i, c.Finished, c.Finished+grace)
		}
	case Died:
		t.ended(i, e.Time, e.Time+grace)
	case Destroyed:
		t.ended(i, e.Time, e.Time)
	}
	t.publish(i, e)
}

// bind opens the addresses of a binding.
func (t *Table) bind(i uint32, e *Event) {
	if e.Binding == nil {
		return
	}
	m := &t.roster.members[i]
	if mac, ok := flow.ParseMAC(e.Binding.MAC); ok && mac != 0 {
		if t.macs.open(mac, e.Binding.NetworkID, i, m.engine, e.Time) {
			m.spans++
		}
		if !slices.Contains(m.macs, mac) && len(m.macs) < maxPerMAC {
			m.macs = append(m.macs, mac)
		}
	}
	for _, a := range e.Binding.Addrs {
		if a.IsZero() {
			continue
		}
		k := Key{e.Engine, e.Binding.NetworkID, a}
		t.nets.learn(a)
		if t.index.open(k, i, e.Time) {
			m.spans++
		}
		known := false
		for _, have := range m.keys {
			known = known || have == k
		}
		if !known && len(m.keys) < 64 {
			m.keys = append(m.keys, k)
		}
	}
}

// ended closes what a container still holds; its disconnect may say better.
func (t *Table) ended(i uint32, at, to int64) {
	m := &t.roster.members[i]
	m.gone = max(at, 1)
	for _, k := range m.keys {
		t.index.close(k, i, to, true)
	}
	for _, mac := range m.macs {
		t.macs.close(mac, "", i, to)
	}
}

// Containers lists the known ones, the lately dead included, by engine, name and id.
func (t *Table) Containers() []*Container { return t.roster.containers() }

// exporters knows the clocks of those who send records: how long their slices get.
type exporters struct {
	list   []exporter // 0 is for packets, 1 for those beyond the bound
	at     map[exporterKey]uint16
	newest uint16 // of the last record: batches come from one
}

type exporterKey struct {
	addr   flow.Addr
	domain uint32
}

type exporter struct {
	key     exporterKey
	longest int64     // ns, longest slice: the active timeout, once a long connection was seen
	engines [4]uint64 // bit per engine whose networks it sees
}

const maxExporters = 4096

func newExporters() exporters {
	return exporters{list: make([]exporter, 2), at: map[exporterKey]uint16{}}
}

// exporterOf finds or makes the exporter of a record.
func (t *Table) exporterOf(r *flow.Record) uint16 {
	x := &t.exporter
	if r.Flags&flow.FlagPackets != 0 || r.Exporter.IsZero() {
		return 0
	}
	k := exporterKey{r.Exporter, r.Domain}
	if x.list[x.newest].key == k {
		return x.newest
	}
	i, ok := x.at[k]
	if !ok {
		if len(x.list) >= maxExporters {
			return 1
		}
		i = uint16(len(x.list))
		x.list = append(x.list, exporter{key: k, engines: t.watches("netflow:" + k.addr.String() + "/" + strconv.FormatUint(uint64(k.domain), 10))})
		x.at[k] = i
	}
	x.newest = i
	return i
}

// watches is the set of engines whose networks a source watches: those configured for it, and those configured for none.
func (t *Table) watches(source string) (set [4]uint64) {
	for i := range set {
		set[i] = ^uint64(0)
	}
	for _, e := range t.c.Docker {
		seen := len(e.Sources) == 0
		for _, p := range e.Sources {
			ok, err := path.Match(p, source)
			seen = seen || ok || err != nil
		}
		if i := t.engine(e.Name); !seen {
			set[i/64] &^= 1 << (i % 64)
		}
	}
	return set
}
