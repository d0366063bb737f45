package baseline

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Beacon configures the beacon detector.
type Beacon struct {
	Mode Mode `yaml:"mode"`
	// MinLLR is the log likelihood ratio, in nats, from which timing counts as periodic. 6 gave no false key of 38,000 in the
	// synthetic benchmark.
	MinLLR float64 `yaml:"min_llr"`
	// MinLLRShort is asked of a series that spans less than ten minutes.
	MinLLRShort float64 `yaml:"min_llr_short"`
	// RepeatHours of event time until a beacon that goes on is told again.
	RepeatHours int `yaml:"repeat_hours"`
	// SiteNetworks are the operator's own: periodic calls into them are at most medium.
	SiteNetworks []string `yaml:"site_networks"`
	// MaxKeys bounds the destinations kept over all workloads, MaxKeysPerWorkload those of one.
	MaxKeys            int `yaml:"max_keys"`
	MaxKeysPerWorkload int `yaml:"max_keys_per_workload"`
	// MaxFits bounds the evaluations per tick; what waits is judged at the next. One takes some .3 ms.
	MaxFits int `yaml:"max_fits"`
}

func defaultBeacon() Beacon {
	return Beacon{
		Mode: On, MinLLR: 6, MinLLRShort: 12, RepeatHours: 24,
		SiteNetworks: []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"},
		MaxKeys:      32768, MaxKeysPerWorkload: 512, MaxFits: 256,
	}
}

func (c Beacon) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if !(c.MinLLR >= 2) {
		report(path+".min_llr", fmt.Sprintf("%v is less than 2: chance reaches that", c.MinLLR))
	}
	if !(c.MinLLRShort >= c.MinLLR) {
		report(path+".min_llr_short", fmt.Sprintf("%v is less than min_llr (%v)", c.MinLLRShort, c.MinLLR))
	}
	if c.RepeatHours < 1 {
		report(path+".repeat_hours", fmt.Sprintf("%d is less than 1", c.RepeatHours))
	}
	for i, n := range c.SiteNetworks {
		if _, err := netip.ParsePrefix(n); err != nil {
			report(fmt.Sprintf("%s.site_networks[%d]", path, i), fmt.Sprintf("%q is not an address prefix like 10.0.0.0/8", n))
		}
	}
	if c.MaxKeysPerWorkload < 1 || c.MaxKeysPerWorkload > c.MaxKeys {
		report(path+".max_keys_per_workload", fmt.Sprintf("%d is outside 1 to max_keys (%d)", c.MaxKeysPerWorkload, c.MaxKeys))
	}
	if c.MaxFits < 1 {
		report(path+".max_fits", fmt.Sprintf("%d is less than 1", c.MaxFits))
	}
}

// beaconGaps are the coalescing gaps in seconds. The smallest keeps fast retries apart from one connection per second; the largest
// joins pages, retries and operator sessions.
var beaconGaps = [...]float64{.05, 2, 30}

const (
	shortSpan     = 600 // s: below it MinLLRShort holds
	minPeriods    = 6   // that a series must span
	maxBeaconGaps = 256
	sameWithin    = .1 // share by which two estimates of one period may differ
	knownTimes    = 3  // judgements after which a rhythm of the learning time is known
	jump          = 8  // eighths of an octave between two sizes that are not the same
)

// beacon finds workloads that call one destination again and again in a rhythm: the poll of an implant. A key is a workload and a
// destination; what is kept is when connections started and how much they sent. Connections of a fixed period and of jittered sleeps
// are found by FitBeacon; judge.go decides whether that is worth a word.
type beacon struct {
	Nop
	c         Beacon
	env       *env
	site      []netip.Prefix
	sets      []*keySet // by workload index
	dirty     []*keySet // changed, oldest change first
	gone      []string  // workloads forgotten
	known     *prevalence
	gaps      []flow.Gap // ordered, apart
	gapsDirty bool
	queue     []*series // due for judgement, oldest first
	total     int       // series
	keyed     int       // sets that have any

	work     fitting
	activeAt int64
	active   int

	keysGauge, backlog *metrics.Gauge
	admitted, evicted  *metrics.Counter
	fits               *metrics.Counter
	skippedSampled     *metrics.Counter
	skippedUnsure      *metrics.Counter
	silenced           map[string]*metrics.Counter
}

func newBeacon(c Beacon, env *env) *beacon {
	set := env.set
	b := &beacon{
		c: c, env: env, known: newPrevalence(2*c.MaxKeys, set),
		keysGauge:      set.NewGauge(`wharfwatch_baseline_keys{table="beacon"}`, nil),
		backlog:        set.NewGauge("wharfwatch_baseline_beacon_backlog", nil),
		admitted:       set.NewCounter(`wharfwatch_baseline_admitted_total{table="beacon"}`),
		evicted:        set.NewCounter(`wharfwatch_baseline_evicted_total{table="beacon"}`),
		fits:           set.NewCounter("wharfwatch_baseline_beacon_fits_total"),
		skippedSampled: set.NewCounter(`wharfwatch_baseline_beacon_skipped_total{reason="sampled"}`),
		skippedUnsure:  set.NewCounter(`wharfwatch_baseline_beacon_skipped_total{reason="unsure"}`),
		silenced:       map[string]*metrics.Counter{},
	}
	for _, reason := range []string{"plumbing", "time", "neighbour", "common", "launches", "nightly", "known", "told"} {
		b.silenced[reason] = set.NewCounter(fmt.Sprintf("wharfwatch_baseline_beacon_silent_total{reason=%q}", reason))
	}
	for _, n := range c.SiteNetworks {
		if p, err := netip.ParsePrefix(n); err == nil {
			b.site = append(b.site, p)
		}
	}
	return b
}

// Flow takes the start of a connection from its first report and its size from the last.
func (b *beacon) Flow(f *enrich.Flow) {
	if f.Kind&(enrich.Open|enrich.Close) == 0 {
		return
	}
	if !calls(f) {
		if f.Kind&enrich.Open != 0 && f.Opener == enrich.OpenerLocal {
			b.skipped(f)
		}
		return
	}
	k := b.setOf(b.env.w)
	key := destKey{f.Peer, f.PeerPort, f.Proto}
	s := k.keys[key]
	if f.Kind&enrich.Open != 0 {
		if s == nil || f.PeerName != s.name && f.PeerName != "" {
			if s = b.find(k, s, key, f); s == nil {
				return
			}
		}
		b.start(k, s, key, f)
	}
	if s != nil && f.Kind&enrich.Close != 0 {
		s.closedWith(f)
		b.touch(k)
	}
}

func (b *beacon) skipped(f *enrich.Flow) {
	switch {
	case f.Sampled:
		b.skippedSampled.Inc()
	case f.Confidence < enrich.High:
		b.skippedUnsure.Inc()
	}
}

// start adds a connection's start to its series.
func (b *beacon) start(k *keySet, s *series, key destKey, f *enrich.Flow) {
	if f.Container != s.instance || f.PeerIs != s.peer || key.addr != s.key.addr {
		b.meet(s, key, f)
	}
	s.method, s.sure = f.Method, f.Confidence
	s.start(f.Start)
	k.used(s)
	b.consider(s)
	b.touch(k)
}

// meet notes who calls whom where that has changed.
func (b *beacon) meet(s *series, key destKey, f *enrich.Flow) {
	if f.Container != s.instance {
		s.seen(f.Container, f.Start)
	}
	s.instance, s.peer, s.key, s.peerName = f.Container, f.PeerIs, key, ""
	if f.PeerIs != nil {
		s.peerName = f.PeerIs.Name
	}
	s.class = b.classify(f)
}

// consider queues a series that has enough beats to be judged (again).
func (b *beacon) consider(s *series) {
	if s.count >= s.due && !s.inDue {
		s.inDue = true
		b.queue = append(b.queue, s)
	}
}

// nextDue is the count at which a series is judged after count: 8, 12, 16 and then every 16.
func nextDue(count uint32) uint32 {
	switch {
	case count < 8:
		return 8
	case count < 12:
		return 12
	}
	return (count/16 + 1) * 16
}

// find leads a flow whose address is unknown, or known by another name, to its series; nil for a first sighting.
func (b *beacon) find(k *keySet, s *series, key destKey, f *enrich.Flow) *series {
	if s == nil && b.classify(f) == plumbing {
		return nil
	}
	var named *series
	if f.PeerName != "" {
		named = k.names[nameKey{f.PeerName, key.port, key.proto}]
	}
	switch {
	case s == nil && named != nil: // another address of a known name
		b.alias(k, key, named)
		if first, known := k.recall(key); known {
			named.start(first)
		}
		return named
	case s == nil:
		first, again := k.knock(key, f.Start)
		b.touch(k)
		if !again {
			return nil
		}
		return b.admit(k, key, f, first)
	case s.name == "" && named == nil: // the name came later than the first connections
		s.name = f.PeerName
		k.names[nameKey{s.name, key.port, key.proto}] = s
		b.known.change(prevalenceKey{destKey{port: key.port, proto: key.proto}, s.name}, k.w, false)
		return s
	case s.name == "":
		named.absorb(s)
		b.drop(s)
		b.alias(k, key, named)
		return named
	case named != nil:
		b.alias(k, key, named)
		return named
	case sameSite(s.name, f.PeerName):
		return s
	}
	return b.admit(k, key, f, f.Start) // another site on a shared address
}

// admit makes a series. At the quota another one of the workload gives way; at the cap, one of the workload if it holds its fair
// share, else one of the workload that holds most.
func (b *beacon) admit(k *keySet, key destKey, f *enrich.Flow, first int64) *series {
	if k.size >= b.c.MaxKeysPerWorkload {
		b.evict(k)
	} else if b.total >= b.c.MaxKeys {
		if k.size > 0 && k.size >= b.c.MaxKeys/max(b.keyed, 1) {
			b.evict(k)
		} else {
			b.evict(b.largest())
		}
	}
	s := &series{key: key, name: f.PeerName, due: nextDue(0)}
	b.meet(s, key, f)
	if k.size == 0 {
		b.keyed++
	}
	k.add(s)
	b.total++
	b.admitted.Inc()
	b.known.change(prevalenceKey{dest: key}, k.w, false)
	if s.name != "" {
		b.known.change(prevalenceKey{destKey{port: key.port, proto: key.proto}, s.name}, k.w, false)
	}
	s.start(first)
	return s
}

// alias leads another address to a series.
func (b *beacon) alias(k *keySet, key destKey, s *series) {
	if k.keys[key] == s {
		return
	}
	if len(s.addrs) == maxAliases {
		b.known.change(prevalenceKey{dest: s.addrs[0]}, k.w, true)
	}
	k.alias(key, s)
	b.known.change(prevalenceKey{dest: key}, k.w, false)
}

func (b *beacon) evict(k *keySet) {
	b.drop(k.victim())
	b.touch(k)
	b.evicted.Inc()
}

func (b *beacon) drop(s *series) {
	k := s.set
	for _, a := range s.addrs {
		b.known.change(prevalenceKey{dest: a}, k.w, true)
	}
	if s.name != "" {
		b.known.change(prevalenceKey{destKey{port: s.key.port, proto: s.key.proto}, s.name}, k.w, true)
	}
	k.drop(s)
	b.total--
	if k.size == 0 {
		b.keyed--
	}
}

// largest is the set with most series, the first by index.
func (b *beacon) largest() (most *keySet) {
	for _, k := range b.sets {
		if k != nil && (most == nil || k.size > most.size) {
			most = k
		}
	}
	return most
}

func (b *beacon) setOf(w *workload) *keySet {
	if w.index >= len(b.sets) {
		b.sets = append(b.sets, make([]*keySet, w.index+1-len(b.sets))...)
	}
	k := b.sets[w.index]
	if k == nil {
		k = newKeySet(w)
		b.sets[w.index] = k
	}
	return k
}

// forget drops a workload.
func (b *beacon) forget(w *workload) {
	if w.index >= len(b.sets) || b.sets[w.index] == nil {
		return
	}
	k := b.sets[w.index]
	for k.size > 0 {
		b.drop(k.victim())
	}
	k.removed = true
	b.sets[w.index] = nil
	b.gone = append(b.gone, w.name)
}

func (b *beacon) touch(k *keySet) {
	if !k.dirty {
		k.dirty = true
		b.dirty = append(b.dirty, k)
	}
}

// Gap notes a time without input.
func (b *beacon) Gap(g flow.Gap) {
	if g.To <= g.From {
		return
	}
	g = flow.Gap{From: g.From, To: g.To}
	i, _ := slices.BinarySearchFunc(b.gaps, g.From, func(o flow.Gap, from int64) int { return int(min(1, max(-1, o.To-from))) })
	j := i
	for j < len(b.gaps) && b.gaps[j].From <= g.To {
		g.From, g.To = min(g.From, b.gaps[j].From), max(g.To, b.gaps[j].To)
		j++
	}
	b.gaps = slices.Replace(b.gaps, i, j, g)
	if len(b.gaps) > maxBeaconGaps {
		b.gaps = slices.Delete(b.gaps, 0, len(b.gaps)-maxBeaconGaps)
	}
	b.gapsDirty = true
}

// Tick judges what is due.
func (b *beacon) Tick(now int64) {
	b.known.apply()
	n := min(len(b.queue), b.c.MaxFits)
	for _, s := range b.queue[:n] {
		s.inDue = false
		if s.dead {
			continue
		}
		s.due = nextDue(s.count)
		b.touch(s.set)
		r := s.fit(b.gaps, &b.work)
		b.fits.Inc()
		if b.periodic(&r) {
			b.tell(s, &r, now)
		}
	}
	b.queue = slices.Delete(b.queue, 0, n)
	b.backlog.Set(float64(len(b.queue)))
	b.keysGauge.Set(float64(b.total))
}

// periodic reports whether the timing is evidence.
func (b *beacon) periodic(r *rhythm) bool {
	span := float64(r.last-r.first) / 1e9
	if len(r.intervals) < minFit || r.LLR < b.c.MinLLR || span < minPeriods*r.Period {
		return false
	}
	return span >= shortSpan || r.LLR >= b.c.MinLLRShort
}

// near reports whether two estimates of a period agree, given the error of the newer.
func near(r *rhythm, period float64) bool {
	err := 3 * r.RelSD * r.Period / math.Sqrt(float64(r.Beats))
	return math.Abs(r.Period-period) <= max(sameWithin*period, err)
}

// tell decides whether a periodic series is worth a word now, and remembers what was seen.
func (b *beacon) tell(s *series, r *rhythm, now int64) {
	v := b.judge(s, r)
	if v.silent != "" {
		b.silenced[v.silent].Inc()
		return
	}
	if !s.follow(r, &v, s.set.w.learns() || b.env.quiet || !v.fresh && s.period == 0) {
		return
	}
	if s.early && s.times >= knownTimes && v.severity <= Medium && !s.set.w.learns() {
		b.silenced["known"].Inc()
		return
	}
	repeat := int64(b.c.RepeatHours) * hour
	if s.told != 0 && now-s.told < repeat && s.toldSegment == s.segment && v.severity <= s.toldAs {
		b.silenced["told"].Inc()
		return
	}
	if b.env.quiet {
		return
	}
	if s.subject == "" {
		s.subject = s.destination()
	}
	s.told, s.toldSegment, s.toldAs = now, s.segment, v.severity
	b.env.report(b.finding(s, r, &v, now))
}

// follow keeps the confirmed period and size. It returns false while a change waits to be confirmed by the next judgement. A change
// opens a segment: what was known or told of the old rhythm does not cover the new one. The size is followed by one step (9 %) per
// judgement, so that only a jump is a change.
func (s *series) follow(r *rhythm, v *verdict, early bool) bool {
	size := uint8(0)
	if v.steadySizes {
		size = v.size
	}
	if s.period == 0 {
		s.period, s.size, s.times, s.early = r.Period, size, 1, early
		return true
	}
	resized := s.size != 0 && size != 0 && (size > s.size+jump || size+jump < s.size)
	if near(r, s.period) && !resized {
		s.candidate = 0
		s.times++
		switch {
		case s.size == 0:
			s.size = size
		case size > s.size:
			s.size++
		case size != 0 && size < s.size:
			s.size--
		}
		return true
	}
	if s.candidate == 0 || !near(r, s.candidate) {
		s.candidate = r.Period
		return false
	}
	s.previous, s.previousSize = s.period, s.size
	s.period, s.size, s.candidate, s.times, s.early = r.Period, size, 0, 1, early
	s.segment++
	return true
}
