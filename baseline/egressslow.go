package baseline

import (
	"fmt"
	"math"
	"slices"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// EgressSlow configures the egress-slow detector.
type EgressSlow struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// FloorBytes is how far above what is usual 24 hours must lie. Less is never told, however unusual.
	FloorBytes int64 `yaml:"floor_bytes"`
	// RecordRatio is how many times the largest day of the anchor 24 hours must carry.
	RecordRatio float64 `yaml:"record_ratio"`
	// CusumLimit is the sum of deviations of days, each less .75, from which a drift is told.
	CusumLimit float64 `yaml:"cusum_limit"`
	// EpisodeHours without unusual 24 hours until some are told again that are not twice as large.
	EpisodeHours int `yaml:"episode_hours"`
}

func defaultEgressSlow() EgressSlow {
	return EgressSlow{Mode: On, FloorBytes: 100e6, RecordRatio: 1.3, CusumLimit: 4, EpisodeHours: 24}
}

func (c EgressSlow) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if c.FloorBytes < 0 {
		report(path+".floor_bytes", fmt.Sprintf("%d is negative", c.FloorBytes))
	}
	if !(c.RecordRatio >= 1 && c.RecordRatio <= 1000) {
		report(path+".record_ratio", fmt.Sprintf("%v is outside 1 to 1000", c.RecordRatio))
	}
	if !(c.CusumLimit >= 1 && c.CusumLimit <= 1000) {
		report(path+".cusum_limit", fmt.Sprintf("%v is outside 1 to 1000", c.CusumLimit))
	}
	if c.EpisodeHours < 1 || c.EpisodeHours > 168 {
		report(path+".episode_hours", fmt.Sprintf("%d is outside 1 to 168", c.EpisodeHours))
	}
}

const (
	anchorDays    = 14
	anchorLeast   = 7 // days before the anchor speaks
	slowGrace     = 120 * 1e9
	cusumSlack    = .75
	slipHours     = 3  // hours in a row that end 24 too large ones: two backups meet in one window when one slips, for less
	cusumLeast    = .2 // deviation of the logarithm of a day
	quietToAnchor = 14 // days without a finding after which the anchor is taken anew
)

// egressSlow finds what leaves in small portions: 24 hours that carry more than any day of a frozen anchor, and days that lie a
// little above it again and again (detection by CUSUM, Page 1954). The anchor is the first 14 days; what comes later cannot move it.
type egressSlow struct {
	Nop
	memory[slowSender]
	c    EgressSlow
	env  *env
	next int64 // the oldest open hour; 0 before the first input
	gaps []flow.Gap
}

// slowSender is one workload's hours and days.
type slowSender struct {
	born    int64       // first hour
	active  int64       // last hour with traffic
	ring    [24]float64 // closed hours, bytes; by hour of the day
	filled  int64       // the last closed hour
	hours   int         // closed hours in a row, at most 24
	anchor  []float64   // bytes of days, oldest first, at most anchorDays
	recent  []float64   // days since the anchor, at most anchorDays: its successor, should they stay quiet
	cusum   float64
	peak    float64 // the largest hour of the anchor
	over    int     // hours in a row that ended 24 too large ones
	told    int64   // hour of the last finding
	toldSum float64 // what it said, bytes
	lastSay int64   // hour of the last 24 hours that were unusual, told or not
	open    [2]egressBin
}

const egressSlowVersion = 1

func newEgressSlow(c EgressSlow, env *env) *egressSlow {
	d := &egressSlow{c: c, env: env}
	d.memory = newMemory(env, egressSlowVersion, (*slowSender).encode, decodeSlow)
	return d
}

func (s *slowSender) encode(out *writer) {
	for _, v := range [...]int64{s.born, s.active, s.filled, int64(s.hours), int64(s.over), s.told, s.lastSay} {
		out.int(v)
	}
	out.float(s.cusum)
	out.float(s.toldSum)
	out.float(s.peak)
	for _, v := range s.ring {
		out.float(v)
	}
	for _, days := range [...][]float64{s.anchor, s.recent} {
		out.uint(uint64(len(days)))
		for _, v := range days {
			out.float(v)
		}
	}
}

func decodeSlow(r *reader, s *slowSender) {
	s.born, s.active, s.filled = r.int(), r.int(), r.int()
	hours, over := r.int(), r.int()
	s.told, s.lastSay, s.cusum, s.toldSum, s.peak = r.int(), r.int(), r.float(), r.float(), r.float()
	if hours < 0 || hours > 24 || over < 0 || s.cusum < 0 {
		r.fail()
	}
	s.hours, s.over = int(hours), int(min(over, slipHours))
	for i := range s.ring {
		s.ring[i] = r.float()
	}
	for _, days := range [...]*[]float64{&s.anchor, &s.recent} {
		for range r.count(8, anchorDays) {
			*days = append(*days, r.float())
		}
	}
}

// Flow counts what was sent to an address that is no container's. Attributions below High are neither learned nor judged.
func (d *egressSlow) Flow(f *enrich.Flow) {
	if f.PeerIs != nil || f.Sent == 0 || f.Confidence < enrich.High {
		return
	}
	h := f.Time / hour
	if d.next == 0 {
		d.next = h
	}
	d.advance(h - 1)
	kept := d.of(d.env.w)
	s := &kept.v
	if s.born == 0 {
		s.born, s.filled = h, h-1
	}
	h = max(h, d.next) // its hour was judged: the oldest open one takes it
	s.open[h&1].add(f)
	s.active = max(s.active, h)
}

// Gap notes time in which silence is no evidence.
func (d *egressSlow) Gap(g flow.Gap) {
	if len(d.gaps) < maxGaps {
		d.gaps = append(d.gaps, g)
	}
}

// Tick closes the hours whose grace is over.
func (d *egressSlow) Tick(now int64) {
	if d.next == 0 {
		d.next = now / hour
	}
	d.advance((now - slowGrace) / hour)
}

func (d *egressSlow) advance(due int64) {
	if due-d.next > 31*24 {
		d.closeAll() // a month without input: nothing was watched
		d.next = due
	}
	for d.next < due {
		d.closeAll()
		d.next++
	}
}

func (d *egressSlow) closeAll() {
	missed := 0.
	for _, g := range d.gaps {
		from, to := max(g.From, d.next*hour), min(g.To, (d.next+1)*hour)
		missed = max(missed, float64(to-from)/float64(hour))
	}
	d.gaps = slices.DeleteFunc(d.gaps, func(g flow.Gap) bool { return g.To <= (d.next+1)*hour })
	for _, kept := range d.byIndex {
		if kept != nil && kept.v.born != 0 {
			d.close(kept, missed)
		}
	}
}

// close takes an hour of a workload into its ring, judges the 24 hours that end with it and, at the end of a day, the day.
func (d *egressSlow) close(kept *remembered[slowSender], missed float64) {
	s, h := &kept.v, d.next
	b := &s.open[h&1]
	whole := missed < .1 && h > s.born && h == s.filled+1 // after a restart the hour begun counts too: it shows less, never more
	if h < s.born {
		return
	}
	if !whole || s.active < h-26 {
		s.hours = 0 // not watched, or not at work: no sum over 24 hours can be told from it
	}
	s.ring[h%24], s.filled = float64(b.bytes), h
	if whole && s.active >= h-26 {
		s.hours = min(s.hours+1, 24)
	}
	if s.hours == 24 {
		sum := 0.
		for _, v := range s.ring {
			sum += v
		}
		d.judge(kept, sum, b)
	}
	if b.bytes != 0 {
		b.reset()
	}
	d.touch(kept)
}

// judge looks at 24 hours; those that end with a day of the calendar (UTC) are learned.
func (d *egressSlow) judge(kept *remembered[slowSender], sum float64, b *egressBin) {
	s := &kept.v
	ready := len(s.anchor) >= anchorLeast
	record, drift, burst, usual := false, false, false, 0.
	if ready {
		usual = middleOf(s.anchor)
		record = sum > d.c.RecordRatio*slices.Max(s.anchor)
		burst = s.burst(sum - usual)
		if s.over = min(s.over+1, slipHours); !record || burst {
			s.over = 0
		}
		record = s.over >= slipHours
	}
	if d.next%24 == 23 {
		if ready && !burst {
			deviation, level := s.spread()
			s.cusum = max(0, s.cusum+(math.Log1p(sum)-level)/deviation-cusumSlack)
			drift = s.cusum > d.c.CusumLimit
		}
		d.learn(s, sum, record || drift, burst)
	}
	if !record && !drift || burst {
		return
	}
	score := s.cusum
	if drift {
		s.cusum = 0
	}
	again := s.told != 0 && d.next-s.lastSay < int64(d.c.EpisodeHours) && sum < 2*s.toldSum
	s.lastSay = d.next
	if sum < usual+float64(d.c.FloorBytes) || again || b.n == 0 {
		return
	}
	s.told, s.toldSum = d.next, sum
	d.tell(kept, sum, usual, score, record, b)
}

// burst reports whether two hours in a row, one of them larger than any of the anchor, make half of what is too much: that is for
// egress-spike.
func (s *slowSender) burst(excess float64) bool {
	most, two := 0., 0.
	for i, v := range s.ring {
		most, two = max(most, v), max(two, v+s.ring[(i+1)%24])
	}
	return most > 1.5*s.peak && two > excess/2
}

// spread is the deviation and the middle of the logarithms of the anchor's days.
func (s *slowSender) spread() (deviation, level float64) {
	var logs [anchorDays]float64
	y := logs[:len(s.anchor)]
	for i, v := range s.anchor {
		y[i] = math.Log1p(v)
	}
	level = middleOf(y)
	for i := range y {
		y[i] = math.Abs(y[i] - level)
	}
	return max(cusumLeast, 1.4826*middleOf(y)), level
}

// learn takes a day into the anchor while it is not full. After 14 quiet days their own become the anchor: growth that nothing spoke
// against.
func (d *egressSlow) learn(s *slowSender, sum float64, unusual, burst bool) {
	switch {
	case len(s.anchor) < anchorLeast, len(s.anchor) < anchorDays && !unusual && !burst:
		s.anchor = append(s.anchor, sum)
		s.peak = max(s.peak, slices.Max(s.ring[:]))
	case unusual:
		s.recent = s.recent[:0]
	default:
		s.recent = append(s.recent, sum)
		if len(s.recent) == quietToAnchor && s.cusum == 0 {
			s.anchor, s.recent = s.recent, s.anchor[:0]
			s.peak = max(s.peak, slices.Max(s.ring[:]))
		} else if len(s.recent) == quietToAnchor {
			s.recent = slices.Delete(s.recent, 0, 1)
		}
	}
}

func (d *egressSlow) tell(kept *remembered[slowSender], sum, usual, cusum float64, record bool, b *egressBin) {
	s := &kept.v
	top := b.ranked()
	c := top[0].container
	largest := slices.Max(s.anchor)
	severity, score := Medium, .6
	if !record {
		severity, score = Low, .45
	}
	f := Finding{
		Time: max(d.env.now, (d.next+1)*hour), Window: (d.next - 23) * hour, Workload: kept.w.name, Instance: c, Subject: "outside addresses",
		Severity: severity, Score: score, Attack: []string{"T1041", "T1048", "T1030"}, Method: top[0].method, Confidence: top[0].confidence,
		Evidence: map[string]any{
			"bytes": uint64(sum), "expected_bytes": round(usual), "largest_day_bytes": round(largest), "ratio": round(sum / max(largest, 1)),
			"record_ratio": d.c.RecordRatio, "floor_bytes": d.c.FloorBytes, "cusum": round(cusum), "cusum_limit": d.c.CusumLimit,
			"anchor_days": len(s.anchor), "window_start": rfc3339((d.next - 23) * hour), "window_end": rfc3339((d.next + 1) * hour),
			"last_hour_destinations": destinations(top, b.bytes), "sampled": b.sampled,
		},
	}
	f.Summary = fmt.Sprintf("%q (%q) sent %s to outside addresses within 24 hours", c.Name, c.Image, size(sum))
	if record {
		f.Summary += fmt.Sprintf(", more than on any of %d days before: %s is usual, %s was the most", len(s.anchor), size(usual), size(largest))
	} else {
		f.Summary += fmt.Sprintf(" and has sent somewhat more than usual for days: %s is", size(usual))
	}
	f.Summary += fmt.Sprintf("; in the last hour most of it to %s", top[0].label())
	d.env.report(f)
}

// middleOf is the middle of a few values, which it leaves as they are.
func middleOf(v []float64) float64 {
	var room [anchorDays]float64
	s := append(room[:0], v...)
	slices.Sort(s)
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}
