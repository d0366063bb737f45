package baseline

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
)

const (
	maxPostures       = 65536 // workloads remembered, oldest forgotten first
	maxHashes         = 16    // postures per workload
	maxEngines        = 256
	maxImages         = 4096 // image repositories per engine
	posturesVersion   = 1
	repeatTold        = 24 * int64(time.Hour) // a known posture that comes again is told once in this time
	posturesGlobalKey = ""
)

// postures remembers which workload has been told with which posture, and which engines have been adopted. It is the state of both
// host-network and posture. It keeps its own bound, apart from the table of workloads: a flood of workloads with traffic must not
// make it forget.
type postures struct {
	known   map[string]*knownPosture
	order   []*knownPosture // insertion, for eviction
	queue   []*knownPosture // dirty, oldest change first
	gone    []string
	engines map[string]*adoptedEngine
	dirty   bool // engines
	evicted *metrics.Counter
}

type knownPosture struct {
	workload string
	hashes   []postureSeen
	dirty    bool
}

// postureSeen is one posture of one workload.
type postureSeen struct {
	hash    uint64
	repeat  int64  // when a repeat was last told, ns; 0 never
	repeats uint64 // since then
}

// adoptedEngine is what is known of one engine.
type adoptedEngine struct {
	adopted bool // its first list was taken in completely
	images  map[string]bool
}

func newPostures(detector string, env *env) postures {
	return postures{
		known: map[string]*knownPosture{}, engines: map[string]*adoptedEngine{},
		evicted: env.set.NewCounter(`wharfwatch_baseline_evicted_total{table="` + detector + `"}`),
	}
}

// sighting is what the table says of a container with a posture.
type sighting uint8

const (
	seenFirst     sighting = iota // tell it
	seenBefore                    // known, and due to be mentioned
	seenSilent                    // known
	seenUnwatched                 // tell it: it was created while nobody watched
)

// see notes the posture of a container. Listed repeats are never mentioned: a list is read again every minute.
// While the engine is being adopted every posture becomes known without a word.
func (p *postures) see(v *enrich.Event, hash uint64) (s sighting, repeats uint64) {
	k := p.of(v.Container.Workload)
	i := slices.IndexFunc(k.hashes, func(h postureSeen) bool { return h.hash == hash })
	if i < 0 {
		if len(k.hashes) >= maxHashes {
			k.hashes = slices.Delete(k.hashes, 0, 1)
		}
		k.hashes = append(k.hashes, postureSeen{hash: hash})
		p.touch(k)
		switch {
		case v.Kind == enrich.Created:
			return seenFirst, 0
		case p.engine(v.Engine).adopted:
			return seenUnwatched, 0
		}
		return seenSilent, 0
	}
	if v.Kind != enrich.Created {
		return seenSilent, 0
	}
	h := &k.hashes[i]
	h.repeats++
	p.touch(k)
	if h.repeat != 0 && v.Time-h.repeat < repeatTold {
		return seenSilent, 0
	}
	repeats = h.repeats
	h.repeat, h.repeats = v.Time, 0
	return seenBefore, repeats
}

func (p *postures) of(workload string) *knownPosture {
	if k := p.known[workload]; k != nil {
		return k
	}
	if len(p.known) >= maxPostures {
		old := p.order[0]
		p.order = p.order[1:]
		delete(p.known, old.workload)
		p.queue = slices.DeleteFunc(p.queue, func(k *knownPosture) bool { return k == old })
		p.gone = append(p.gone, old.workload)
		p.evicted.Inc()
	}
	k := &knownPosture{workload: workload}
	p.known[workload] = k
	p.order = append(p.order, k)
	return k
}

func (p *postures) touch(k *knownPosture) {
	if !k.dirty {
		k.dirty = true
		p.queue = append(p.queue, k)
	}
}

func (p *postures) engine(name string) *adoptedEngine {
	e := p.engines[name]
	if e == nil {
		e = &adoptedEngine{images: map[string]bool{}}
		if len(p.engines) < maxEngines {
			p.engines[name] = e
		}
	}
	return e
}

// image notes an image and reports whether its engine had it before.
func (p *postures) image(engine string, c *enrich.Container) (known bool) {
	e, name := p.engine(engine), repository(c)
	if e.images[name] {
		return true
	}
	if len(e.images) < maxImages {
		e.images[name] = true
		p.dirty = true
	}
	return false
}

// adopt ends the adoption of an engine and reports whether it was one.
func (p *postures) adopt(engine string) bool {
	e := p.engine(engine)
	if e.adopted {
		return false
	}
	e.adopted, p.dirty = true, true
	return true
}

// Dirty yields what changed: workloads, then the engines under the empty key.
func (p *postures) Dirty(yield func(key string, blob []byte) bool) {
	for len(p.gone) > 0 {
		if p.known[p.gone[0]] == nil && !yield(p.gone[0], nil) {
			return
		}
		p.gone = p.gone[1:]
	}
	var out writer
	for len(p.queue) > 0 {
		k := p.queue[0]
		out.reset(posturesVersion)
		out.uint(uint64(len(k.hashes)))
		for _, h := range k.hashes {
			out.uint(h.hash)
			out.int(h.repeat)
			out.uint(h.repeats)
		}
		if !yield(k.workload, out.b) {
			return
		}
		k.dirty = false
		p.queue = p.queue[1:]
	}
	if p.dirty && yield(posturesGlobalKey, p.blob()) {
		p.dirty = false
	}
}

func (p *postures) blob() []byte {
	var out writer
	out.reset(posturesVersion)
	out.uint(uint64(len(p.engines)))
	for _, name := range slices.Sorted(maps.Keys(p.engines)) {
		e := p.engines[name]
		out.string(name)
		out.bool(e.adopted)
		out.uint(uint64(len(e.images)))
		for _, image := range slices.Sorted(maps.Keys(e.images)) {
			out.string(image)
		}
	}
	return out.b
}

// Restore takes back one key.
func (p *postures) Restore(key string, blob []byte) error {
	r := newReader(blob, posturesVersion)
	if key == posturesGlobalKey {
		return p.restoreEngines(r)
	}
	hashes := make([]postureSeen, r.count(3, maxHashes))
	for i := range hashes {
		hashes[i] = postureSeen{r.uint(), r.int(), r.uint()}
	}
	if err := r.done(); err != nil {
		return err
	}
	p.of(key).hashes = hashes
	return nil
}

func (p *postures) restoreEngines(r *reader) error {
	engines := map[string]*adoptedEngine{}
	for range r.count(3, maxEngines) {
		name := r.string()
		e := &adoptedEngine{adopted: r.bool(), images: map[string]bool{}}
		for range r.count(1, maxImages) {
			e.images[r.string()] = true
		}
		engines[name] = e
	}
	if err := r.done(); err != nil {
		return err
	}
	p.engines = engines
	return nil
}

// repository is the image without its tag, or its id where it has no name: an update of a workload keeps it, a change of what
// runs behind its name does not.
func repository(c *enrich.Container) string {
	if r := enrich.Repository(c.Image); r != "" {
		return r
	}
	return c.ImageID
}

// postureHash is FNV-1a over the parts, each ended by a zero byte.
func postureHash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, s := range parts {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return h.Sum64()
}

// rfc3339 is a time as evidence carries it.
func rfc3339(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339) }

// createdAt is the window of a posture finding: the creation of the instance, so that each instance has its own finding, and the
// same instance the same id whenever it is read again.
func createdAt(v *enrich.Event) int64 {
	if v.Container.Created != 0 {
		return v.Container.Created
	}
	return v.Time
}
