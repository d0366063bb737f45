package baseline

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// EgressSpike configures the egress-spike detector.
type EgressSpike struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// FloorBytes is how far above what is expected five minutes must lie. Less is never told, however unusual.
	FloorBytes int64 `yaml:"floor_bytes"`
	// FloorRatio is how many times what is expected five minutes must carry.
	FloorRatio float64 `yaml:"floor_ratio"`
	// Deviations is how many standard deviations above the hour's level, on a logarithmic scale, count as unusual.
	Deviations float64 `yaml:"deviations"`
	// PriorFactor times floor_bytes in five minutes is told even before anything has been learned.
	PriorFactor float64 `yaml:"prior_factor"`
	// GraceSeconds is how long five minutes stay open after their end for late records; at most 240.
	GraceSeconds int `yaml:"grace_seconds"`
	// EpisodeHours is how long a spike that goes on, or comes again, is one story.
	EpisodeHours int `yaml:"episode_hours"`
}

func defaultEgressSpike() EgressSpike {
	return EgressSpike{Mode: On, FloorBytes: 50e6, FloorRatio: 5, Deviations: 3.8, PriorFactor: 10, GraceSeconds: 90, EpisodeHours: 6}
}

func (c EgressSpike) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if c.FloorBytes < 0 {
		report(path+".floor_bytes", fmt.Sprintf("%d is negative", c.FloorBytes))
	}
	for _, v := range []struct {
		key   string
		value float64
	}{{"floor_ratio", c.FloorRatio}, {"deviations", c.Deviations}, {"prior_factor", c.PriorFactor}} {
		if !(v.value >= 1 && v.value <= 1e6) {
			report(path+"."+v.key, fmt.Sprintf("%v is outside 1 to 1000000", v.value))
		}
	}
	if c.GraceSeconds < 0 || c.GraceSeconds > 240 {
		report(path+".grace_seconds", fmt.Sprintf("%d is outside 0 to 240", c.GraceSeconds))
	}
	if c.EpisodeHours < 1 || c.EpisodeHours > 24 {
		report(path+".episode_hours", fmt.Sprintf("%d is outside 1 to 24", c.EpisodeHours))
	}
}

// scale is the number of bytes at which y leaves its linear part.
func (c *EgressSpike) scale() float64 { return max(float64(c.FloorBytes)/50, 1) }

func (c *EgressSpike) episodeBins() int64 { return int64(c.EpisodeHours) * binsPerHour }

const (
	binLength   = 5 * int64(time.Minute)
	binsPerHour = 12
	binsPerDay  = 24 * binsPerHour
	learnBins   = 2 * binsPerDay // before that, findings are marked learning
	idleBins    = binsPerDay + 2*binsPerHour
	maxGaps     = 256
)

// egress compares what a workload sends to outside addresses in every five minutes with its own level at that hour of the day.
type egress struct {
	Nop
	c       EgressSpike
	env     *env
	byIndex []*sender // by workload.index, nil where there is none
	donors  map[string]*sender
	queue   []*sender // dirty, oldest change first
	gone    []string
	gaps    []flow.Gap
	next    int64 // the oldest open bin; 0 before the first input
	start   int64 // the bin in which watching began: never whole
	late    *metrics.Counter
	bins    [batch]*egressBin // of ahead
	touched uint64            // keeps its loads
}

func newEgress(c EgressSpike, env *env) *egress {
	return &egress{
		c: c, env: env, donors: map[string]*sender{},
		late: env.set.NewCounter("wharfwatch_baseline_egress_late_bytes_total"),
	}
}

// Flow counts what was sent to an address that is no container's. Attributions below High are neither learned nor judged.
func (e *egress) Flow(f *enrich.Flow) {
	if f.PeerIs != nil || f.Sent == 0 || f.Confidence < enrich.High {
		return
	}
	bin := f.Time / binLength
	if e.next == 0 {
		e.next, e.start = bin, bin
	}
	if bin < e.next {
		e.late.AddInt64(int64(f.Sent)) // its bin was judged: the oldest open one takes it, no byte is lost
		bin = e.next
	}
	e.advance(bin - 1) // two bins are open at a time; only a clock that jumps gets here with more
	s := e.of(e.env.w, f.Container, bin)
	s.open[bin&1].add(f)
	s.active = max(s.active, bin)
}

// ahead loads the bins that flows will be counted in.
func (e *egress) ahead(fs []enrich.Flow, ws []*workload) {
	sum := e.touched
	for i := range fs {
		if w := ws[i]; w != nil && fs[i].Sent > 0 {
			if s := e.at(w); s != nil {
				b := &s.open[fs[i].Time/binLength&1]
				e.bins[i] = b
				sum += b.bytes + b.counts[topPeers-1]
			}
		}
	}
	for i := range fs {
		if b := e.bins[i]; b != nil {
			sum += uint64(b.top[b.place(peerMark(fs[i].Peer, egressPort(&fs[i])))].port)
			e.bins[i] = nil
		}
	}
	e.touched = sum
}

// Gap notes time in which silence is no evidence.
func (e *egress) Gap(g flow.Gap) {
	if len(e.gaps) >= maxGaps {
		last := &e.gaps[len(e.gaps)-1] // the bound: gaps grow together, so that less is learned, never wrongly
		last.From, last.To = min(last.From, g.From), max(last.To, g.To)
		return
	}
	e.gaps = append(e.gaps, g)
}

// Tick closes the bins whose grace is over.
func (e *egress) Tick(now int64) {
	if e.next == 0 {
		e.next = now / binLength
		e.start = e.next
	}
	e.advance((now - int64(e.c.GraceSeconds)*int64(time.Second)) / binLength)
}

// advance closes the bins before due.
func (e *egress) advance(due int64) {
	if due-e.next > 31*binsPerDay {
		e.closeAll() // a month without input: nothing was watched
		e.next, e.start = due, due
	}
	for e.next < due {
		e.closeAll()
		e.next++
	}
}

// closeAll judges the bin next of every workload.
func (e *egress) closeAll() {
	gap := e.gapShare(e.next)
	for _, s := range e.byIndex {
		if s == nil {
			continue
		}
		b := &s.open[e.next&1]
		e.close(s, b, gap)
		if b.bytes != 0 {
			b.reset()
		}
	}
	n := 0
	for _, g := range e.gaps {
		if g.To > (e.next+1)*binLength {
			e.gaps[n] = g
			n++
		}
	}
	e.gaps = e.gaps[:n]
}

// gapShare is the largest share of the bin that one gap covers.
func (e *egress) gapShare(bin int64) (share float64) {
	for _, g := range e.gaps {
		from, to := max(g.From, bin*binLength), min(g.To, (bin+1)*binLength)
		if to > from {
			share = max(share, float64(to-from)/float64(binLength))
		}
	}
	return share
}

// close judges one bin of one workload, then learns it.
func (e *egress) close(s *sender, b *egressBin, gap float64) {
	bin := e.next
	if b.bytes == 0 && (gap > 0 || bin-s.active > idleBins) {
		return // not watched, or not at work: a zero would be an invention
	}
	v := s.judge(&e.c, bin, b.bytes)
	habit := v.over && s.habit(&e.c, bin, b.bytes)
	if v.over || s.bursting(&e.c, b.bytes) {
		s.burst(bin, b.bytes, v.over)
	}
	if v.over && !habit && s.speaks(&e.c, bin, b.bytes) {
		e.tell(s, b, &v)
	}
	if bin == e.start || gap >= .5 || bin < s.born {
		return // not watched, or not whole
	}
	s.learn(&e.c, bin, b.bytes, v.over && !habit && !v.prior)
	e.touch(s)
}

// tell writes the finding of a bin.
func (e *egress) tell(s *sender, b *egressBin, v *spike) {
	top := b.ranked()
	c := top[0].container
	f := Finding{
		Time: max(e.env.now, (e.next+1)*binLength), Window: e.next * binLength, Workload: s.w.name, Instance: c, Subject: "outside addresses",
		Severity: Medium, Score: v.score(), Learning: v.learning || e.next-s.born < learnBins,
		Attack: []string{"T1041", "T1048", "T1567"}, Method: top[0].method, Confidence: top[0].confidence,
		Evidence: map[string]any{
			"bytes": b.bytes, "peak_bytes": round(float64(s.peak)), "expected_bytes": round(v.expected), "ratio": round(v.ratio), "deviations": round(v.deviations),
			"floor_bytes": e.c.FloorBytes, "slot_samples": v.samples, "slot_hour_utc": v.hour, "bin_seconds": binLength / int64(time.Second),
			"window_start": rfc3339(e.next * binLength), "window_end": rfc3339((e.next + 1) * binLength),
			"destinations": destinations(top, b.bytes), "sampled": b.sampled,
		},
	}
	if s.inherited != "" && f.Learning {
		f.Evidence["inherited_from"] = s.inherited
	}
	if !f.Learning && v.ratio >= 10 && float64(b.bytes)-v.expected >= 10*float64(e.c.FloorBytes) {
		f.Severity = High
	}
	f.Summary = fmt.Sprintf("%q (%q) sent %s to outside addresses within 5 minutes, most of it to %s", c.Name, c.Image,
		size(float64(b.bytes)), top[0].label())
	switch {
	case v.prior:
		f.Summary += "; what is normal for it is not known yet"
	default:
		f.Summary += fmt.Sprintf("; %s is usual at this hour", size(v.expected))
	}
	e.env.report(f)
}

// size is a number of bytes for people.
func size(v float64) string {
	for _, u := range []struct {
		n    float64
		text string
	}{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if v >= u.n {
			return fmt.Sprintf("%.3g %s", v/u.n, u.text)
		}
	}
	return fmt.Sprintf("%.0f bytes", v)
}

// round keeps four digits: evidence is for reading.
func round(v float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil {
		return v
	}
	return r
}

// of returns the state of a workload. A new one starts from the oldest workload of the same image repository, if that has learned.
func (e *egress) of(w *workload, c *enrich.Container, bin int64) *sender {
	if s := e.at(w); s != nil {
		return s
	}
	s := &sender{w: w, image: repository(c), born: bin}
	if d := e.donors[s.image]; d != nil && bin-d.born >= learnBins {
		s.inherit(d)
	}
	e.place(s)
	return s
}

func (e *egress) place(s *sender) {
	for len(e.byIndex) <= s.w.index {
		e.byIndex = append(e.byIndex, nil)
	}
	e.byIndex[s.w.index] = s
	d := e.donors[s.image]
	if d == nil || cmp.Or(cmp.Compare(s.born, d.born), cmp.Compare(s.w.name, d.w.name)) < 0 {
		e.donors[s.image] = s
	}
}

// forget drops the state of a workload.
func (e *egress) forget(w *workload) {
	s := e.at(w)
	if s == nil {
		return
	}
	e.byIndex[w.index] = nil
	if e.donors[s.image] == s {
		delete(e.donors, s.image)
	}
	s.dirty, s.forgotten = false, true
	e.gone = append(e.gone, w.name)
}
