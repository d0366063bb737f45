package baseline

import (
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	circleExact = 64      // destinations that a workload is remembered to know exactly
	bloomBytes  = 2048    // for all that it knew before them
	bloomFull   = 1500    // destinations in it; 1500 give one false "known" in 200
	bloomHashes = 5       //
	circleDays  = 7       // days for which new destinations are counted
	circleSlots = 1 << 13 // of the memory for addresses
	maxCallers  = 1 << 17 // destinations whose callers are counted
	daySeconds  = 24 * 3600
)

// acquaintance is what is known of the workload and the destination of the Flow in hand. A destination is a registered domain, else a
// network of 256 addresses (IPv6: /48), or the workload of a container; always with port and protocol.
type acquaintance struct {
	place class
	fresh bool   // called for the first time, just now
	first int64  // event time of the first call, ns, whole seconds; 0: so long ago that only "known" is left
	dest  uint64 // hash of the destination, equal for all workloads
}

// circle is whom one workload calls.
type circle struct {
	w        *workload
	all      []familiar        // at most circleExact, in no order
	bloom    []byte            // nil until all overflows
	inside   int               // things in bloom: destinations, and the networks that names led to
	spilled  uint32            // destinations that all had no room for
	born     int64             // s, first call of anything
	image    uint64            // hash of the image that runs
	instance *enrich.Container // that called last
	change   int64             // s, when another image came; 0 never
	day      int64             // of news[0]
	news     [circleDays]uint16
	dirty    bool
	gone     bool
}

// familiar is one destination of a circle.
type familiar struct {
	dest        uint64
	first, last uint32 // s since 1970, the latter to the hour
	out         bool   // to a place outside the operator's networks
}

// recollection leads from an address to what was known at the last flow, so that an ordinary flow costs one look. It is a direct-mapped table: what is
// pushed out of it is looked up again, nothing else.
type recollection struct {
	w     *workload
	key   destKey
	place class
	name  string
	peer  *enrich.Container
	dest  uint64
	first uint32
	hour  uint32
}

// circles knows whom every workload calls. What detectors ask of it is env.circles.now. One table for all detectors, so that a flow is looked up once.
type circles struct {
	now acquaintance // of the Flow in hand; zero where that is no first report of a call

	learning *learning
	site     []flow.Prefix
	byIndex  []*circle
	memory   []recollection
	known    *prevalence
	queue    []*circle
	lost     []string
	evicted  *metrics.Counter
	touched  uint64 // keeps the loads of ahead
}

func newCircles(l *learning, site []flow.Prefix, set *metrics.Set) *circles {
	return &circles{
		learning: l, site: site, memory: make([]recollection, circleSlots), known: newPrevalence("callers", maxCallers, set),
		evicted: set.NewCounter(`wharfwatch_baseline_evicted_total{table="circles"}`),
	}
}

// ahead loads what is remembered of the addresses of some flows.
func (x *circles) ahead(fs []enrich.Flow, ws []*workload) {
	sum := x.touched
	for i := range fs {
		if f := &fs[i]; ws[i] != nil && f.Kind&enrich.Open != 0 {
			m := x.at(ws[i], &destKey{f.Peer, f.PeerPort, f.Proto})
			sum += uint64(m.key.port) + uint64(m.hour)
		}
	}
	x.touched = sum
}

// flow looks at the first report of a call.
func (x *circles) flow(f *enrich.Flow, w *workload) {
	x.now = acquaintance{}
	if f.Kind&enrich.Open == 0 || !calls(f) || backwards(f) {
		return
	}
	key := destKey{f.Peer, f.PeerPort, f.Proto}
	m := x.at(w, &key)
	now := uint32(max(f.Start, 0) / 1e9)
	if m.w != w || m.key != key || m.peer != f.PeerIs || m.name != f.PeerName || m.hour != now/3600 {
		if isPlumbing(f) {
			return
		}
		x.meet(m, f, w, key, now)
		return
	}
	x.now = acquaintance{place: m.place, first: int64(m.first) * 1e9, dest: m.dest}
}

// backwards reports whether the ports say that a call was taken for the workload's own: from a service's port to a client's. Records whose
// flags are those of both directions leave it open who began.
func backwards(f *enrich.Flow) bool {
	return f.PeerPort >= 32768 && f.LocalPort < 10000 && f.LocalPort > 0
}

func (x *circles) at(w *workload, key *destKey) *recollection {
	h := mix(key.addr.Hi^0x9e3779b97f4a7c15, key.addr.Lo^uint64(w.index)<<32^uint64(key.port)<<8^uint64(key.proto))
	return &x.memory[h&(circleSlots-1)]
}

// meet looks a destination up by what it is, and notes it.
func (x *circles) meet(m *recollection, f *enrich.Flow, w *workload, key destKey, now uint32) {
	c := x.of(w, now)
	c.runs(f.Container, now)
	k := familiar{dest: destinationHash(f), first: now, last: now, out: false}
	where := place(f, x.site)
	k.out = where == outside
	a := acquaintance{place: where, dest: k.dest}
	i := slices.IndexFunc(c.all, func(o familiar) bool { return o.dest == k.dest })
	switch {
	case i >= 0:
		c.all[i].first = min(c.all[i].first, now)
		c.all[i].last = max(c.all[i].last, now)
		a.first = int64(c.all[i].first) * 1e9
	case c.inBloom(k.dest):
		if k.first = 0; f.PeerName != "" || f.PeerIs != nil || c.spilled > 0 {
			x.add(c, k)
		}
	default:
		a.fresh, a.first = true, int64(now)*1e9
		c.count(int64(now) / daySeconds)
		x.add(c, k)
	}
	if f.PeerName != "" && f.PeerIs == nil {
		bare := *f // the name may be gone from the cache at the next call
		bare.PeerName = ""
		c.toBloom(destinationHash(&bare))
	}
	x.touch(c)
	*m = recollection{w, key, where, f.PeerName, f.PeerIs, k.dest, uint32(a.first / 1e9), now / 3600}
	x.now = a
}

// add makes room by moving the destination that was called longest ago into the Bloom filter.
func (x *circles) add(c *circle, k familiar) {
	if len(c.all) == circleExact {
		oldest := 0
		for i := range c.all {
			if c.all[i].last < c.all[oldest].last {
				oldest = i
			}
		}
		o := c.all[oldest]
		c.all = slices.Delete(c.all, oldest, oldest+1)
		x.known.change(callersKey(o.dest), c.w, true)
		x.evicted.Inc()
		c.spilled++
		c.toBloom(o.dest)
	}
	c.all = append(c.all, k)
	x.known.change(callersKey(k.dest), c.w, false)
}

// callers counts the workloads that called a destination, the one in hand included, of those active in the last day.
func (x *circles) callers(dest uint64, now int64) int {
	return max(x.known.callers(callersKey(dest), now/hour-24), 1)
}

// since is the event time at which a workload called a destination first, ns; 0 where that is long ago or was not seen.
func (x *circles) since(w *workload, dest uint64) int64 {
	if c := x.ofIndex(w); c != nil {
		for _, k := range c.all {
			if k.dest == dest {
				return int64(k.first) * 1e9
			}
		}
	}
	return 0
}

func callersKey(dest uint64) prevalenceKey {
	return prevalenceKey{dest: destKey{addr: flow.Addr{Hi: dest}}}
}

// news7 is the number of new destinations of the last seven days, the one in hand included.
func (c *circle) news7(now int64) (n int) {
	c.turn(now / 1e9 / daySeconds)
	for _, v := range c.news {
		n += int(v)
	}
	return n
}

func (c *circle) count(day int64) {
	c.turn(day)
	if i := c.day - day; i >= 0 && i < circleDays && c.news[i] < 1<<16-1 {
		c.news[i]++
	}
}

// turn makes news[0] the given day.
func (c *circle) turn(day int64) {
	for ; c.day < day && c.news != [circleDays]uint16{}; c.day++ {
		copy(c.news[1:], c.news[:])
		c.news[0] = 0
	}
	c.day = max(c.day, day)
}

// runs notes the image of an instance that calls.
func (c *circle) runs(i *enrich.Container, now uint32) {
	if c.instance == i {
		return
	}
	c.instance = i
	id := i.ImageID
	if id == "" {
		id = i.Image
	}
	h := shortHash(id)
	if c.image != 0 && c.image != h {
		c.change = int64(now)
	}
	c.image = h
}

// of returns the circle of a workload.
func (x *circles) of(w *workload, now uint32) *circle {
	if c := x.ofIndex(w); c != nil {
		return c
	}
	c := &circle{w: w, born: int64(now)}
	x.place(c)
	return c
}

func (x *circles) ofIndex(w *workload) *circle {
	if w.index < len(x.byIndex) {
		return x.byIndex[w.index]
	}
	return nil
}

func (x *circles) place(c *circle) {
	for len(x.byIndex) <= c.w.index {
		x.byIndex = append(x.byIndex, nil)
	}
	x.byIndex[c.w.index] = c
}

// forget drops a workload.
func (x *circles) forget(w *workload) {
	c := x.ofIndex(w)
	if c == nil {
		return
	}
	for _, k := range c.all {
		x.known.change(callersKey(k.dest), w, true)
	}
	x.byIndex[w.index] = nil
	c.gone = true
	x.lost = append(x.lost, w.name)
}

func (x *circles) touch(c *circle) {
	if !c.dirty {
		c.dirty = true
		x.queue = append(x.queue, c)
	}
}
