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
		MaxKeys:      131072, MaxKeysPerWorkload: 512, MaxFits: 256,
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
	site      []flow.Prefix
	sets      []*keySet // by workload index
	index     *seriesIndex
	dirty     []*keySet // changed, oldest change first
	gone      []string  // workloads forgotten
	known     *prevalence
	gaps      []flow.Gap // ordered, apart
	gapsDirty bool
	queue     []*series // due for judgement, oldest first
	total     int       // series
	keyed     int       // sets that have any

	work     fitting
	sight    sight
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
		c: c, env: env, site: prefixes(c.SiteNetworks...), known: newPrevalence("prevalence", 2*c.MaxKeys, set), index: newSeriesIndex(),
		keysGauge:      set.NewGauge(`wharfwatch_baseline_keys{table="beacon"}`, nil),
		backlog:        set.NewGauge("wharfwatch_baseline_beacon_backlog", nil),
		admitted:       set.NewCounter(`wharfwatch_baseline_admitted_total{table="beacon"}`),
		evicted:        set.NewCounter(`wharfwatch_baseline_evicted_total{table="beacon"}`),
		fits:           set.NewCounter("wharfwatch_baseline_beacon_fits_total"),
		skippedSampled: set.NewCounter(`wharfwatch_baseline_beacon_skipped_total{reason="sampled"}`),
		skippedUnsure:  set.NewCounter(`wharfwatch_baseline_beacon_skipped_total{reason="unsure"}`),
		silenced:       map[string]*metrics.Counter{},
	}
	for _, reason := range []string{"plumbing", "time", "neighbour", "common", "launches", "nightly", "weak", "known", "told"} {
		b.silenced[reason] = set.NewCounter(fmt.Sprintf("wharfwatch_baseline_beacon_silent_total{reason=%q}", reason))
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
	s := k.at(key)
	if f.Kind&enrich.Open != 0 {
		if s == nil || f.PeerName != s.name && f.PeerName != "" {
			if s = b.find(k, s, key, f); s == nil {
				return
			}
		}
		b.start(k, s, key, f)
	}
	if s != nil && f.Asked != "" && f.Asked != s.past().asked {
		s.own().asked = f.Asked
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
	k.use(s)
	b.consider(s)
	b.touch(k)
}

// meet notes who calls whom where that has changed.
func (b *beacon) meet(s *series, key destKey, f *enrich.Flow) {
	if f.Container != s.instance {
		s.seen(f.Container, f.Start)
	}
	s.instance, s.peer, s.key = f.Container, f.PeerIs, key
	s.met(f.Local)
	s.class = b.classify(f)
}

// consider queues a series that has enough beats to be judged (again).
func (b *beacon) consider(s *series) {
	if s.count >= s.due && !s.inDue {
		s.inDue = true
		b.queue = append(b.queue, s)
	}
}

// nextDue is the count at which a series is judged after count: 8, 12, 16, 24, 32 and then every 16.
func nextDue(count uint32) uint32 {
	switch {
	case count < 8:
		return 8
	case count < 12:
		return 12
	case count < 32:
		return (count/8 + 1) * 8
	}
	return (count/16 + 1) * 16
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
		r := s.fit(b.gaps, b.threshold(s, math.MaxInt64), &b.work)
		b.fits.Inc()
		if b.periodic(s, &r) {
			b.tell(s, &r, now)
		}
	}
	b.queue = slices.Delete(b.queue, 0, n)
	b.backlog.Set(float64(len(b.queue)))
	b.keysGauge.Set(float64(b.total))
}
