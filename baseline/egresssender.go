package baseline

import (
	"math"
	"slices"
)

const (
	warmSamples    = 24 // two days of twelve bins
	inheritSamples = 12 // weight of what another workload of the image learned
	minAlpha       = .02
	minDeviation   = .15
	winsor         = 2.5 // deviations
	suspiciousRate = .05 // of the normal learning rate, for a bin that was told
	maxBursts      = 24
	burstDays      = 35
	burstSlip      = 6                             // bins that a schedule may slip
	burstPause     = 3                             // bins inside one burst
	recordRatio    = 5                             // at least, for a bin above all of the last weeks
	peakDecay      = 1 - 1./(burstDays*binsPerDay) // per bin
)

// sender is one workload's egress: 24 slots of the day, two open bins, its peak and bursts of the last weeks.
type sender struct {
	w         *workload
	image     string // repository
	inherited string // workload whose slots it started from
	born      int64  // first bin
	active    int64  // last bin with traffic
	slots     [24]egressSlot
	peak      float32 // largest bin of the last weeks, decaying
	bursts    []burst // oldest first, at most maxBursts
	toldBin   int64   // last bin of the episode that was told
	toldBytes uint64  // what was told of it; 0 nothing yet
	open      [2]egressBin
	dirty     bool
	forgotten bool
}

// egressSlot is one hour of the day: level and variance of y, winsorised. y = ln(1 + bytes/scale) with a scale well below the floor:
// whether a quiet workload sends nothing or some kilobytes in five minutes must not widen what is usual for it.
type egressSlot struct {
	level, variance float32
	count           uint32
}

func (s *egressSlot) deviation() float64 { return max(math.Sqrt(float64(s.variance)), minDeviation) }

func (s *egressSlot) limit(c *EgressSpike) float64 {
	return float64(s.level) + c.Deviations*s.deviation()
}

// burst is a run of bins far above the rest of the day.
type burst struct {
	bin, last int64
	bytes     uint64 // of its largest bin
	unusual   bool   // for its hour
}

// spike is the verdict on a bin.
type spike struct {
	over       bool
	prior      bool // nothing was learned for this hour: only absolute floors spoke
	learning   bool // learned by another workload
	record     bool // far above the largest bin of the last weeks
	expected   float64
	ratio      float64
	deviations float64
	samples    uint32
	hour       int
}

// score grows with the distance: half at the default threshold of 3.8 deviations. A record counts for .7 however wide its hour is.
func (v *spike) score() float64 {
	if v.prior {
		return .5
	}
	z := v.deviations * v.deviations
	if score := z / (z + 14.4); !v.record || score > .7 {
		return score
	}
	return .7
}

// judge compares a bin with its hour. An empty one is never too much, whatever the floors.
func (s *sender) judge(c *EgressSpike, bin int64, bytes uint64) spike {
	if bytes == 0 {
		return spike{}
	}
	n, y := float64(bytes), math.Log1p(float64(bytes)/c.scale())
	hour := int(bin / binsPerHour % 24)
	own := &s.slots[hour]
	v := spike{hour: hour, samples: own.count}
	inherits := s.inherited != "" && bin-s.born < learnBins
	if own.count < warmSamples && !inherits {
		v.prior, v.ratio = true, n
		v.over = n >= c.PriorFactor*float64(c.FloorBytes)
		return v
	}
	v.expected = math.Expm1(float64(own.level)) * c.scale()
	v.deviations = (y - float64(own.level)) / own.deviation()
	v.learning = inherits
	v.ratio = n / max(v.expected, 1)
	v.record = n >= max(c.FloorRatio, recordRatio)*float64(s.peak)
	v.over = n >= v.expected+float64(c.FloorBytes) && n >= c.FloorRatio*v.expected && (v.record || y > own.limit(c))
	return v
}

// habit reports whether this is the workload's way: bursts of at least half the size around this time on two days before, told or
// not, or three episodes of them at any time that were unusual when they came. This is what makes a backup at an hour that had long
// been quiet fall silent in its third night, and a schedule that slips.
func (s *sender) habit(c *EgressSpike, bin int64, bytes uint64) bool {
	near, all := 0, 0
	var lastNear, lastAny int64
	for _, b := range s.bursts {
		if bin-b.last <= c.episodeBins() || bin-b.bin > burstDays*binsPerDay || b.bytes < bytes/2 {
			continue
		}
		if b.unusual && b.bin-lastAny > c.episodeBins() {
			lastAny = b.bin
			all++
		}
		after := (bin - b.bin + burstSlip) % binsPerDay // since half an hour before its time of day
		if after <= b.last-b.bin+2*burstSlip && b.bin-lastNear > binsPerDay/2 {
			lastNear = b.bin
			near++
		}
	}
	return near >= 2 || all >= 3
}

// burst notes a bin that stands out of the workload's day, usual at its hour or not.
func (s *sender) burst(bin int64, bytes uint64, unusual bool) {
	if n := len(s.bursts); n > 0 && bin-s.bursts[n-1].last <= burstPause {
		b := &s.bursts[n-1]
		b.last, b.bytes, b.unusual = bin, max(b.bytes, bytes), b.unusual || unusual
		return
	}
	if len(s.bursts) == maxBursts {
		s.bursts = slices.Delete(s.bursts, 0, 1)
	}
	s.bursts = append(s.bursts, burst{bin, bin, bytes, unusual})
}

// bursting reports whether a bin lies far above the middle of the day's levels.
func (s *sender) bursting(c *EgressSpike, bytes uint64) bool {
	n := float64(bytes)
	if bytes == 0 || n < float64(c.FloorBytes) {
		return false
	}
	var levels [24]float32
	for i := range s.slots {
		levels[i] = s.slots[i].level
	}
	slices.Sort(levels[:])
	usual := math.Expm1(float64(levels[len(levels)/2])) * c.scale()
	return n >= usual+float64(c.FloorBytes) && n >= recordRatio*usual
}

// speaks reports whether a bin is to be told: the first of its episode, or ten times what was told in it.
func (s *sender) speaks(c *EgressSpike, bin int64, bytes uint64) bool {
	again := s.toldBytes > 0 && bin-s.toldBin <= c.episodeBins()
	s.toldBin = bin
	if again && bytes/10 < s.toldBytes {
		return false
	}
	s.toldBytes = bytes
	return true
}

// learn takes a bin into its slot.
func (s *sender) learn(c *EgressSpike, bin int64, bytes uint64, suspicious bool) {
	t := &s.slots[bin/binsPerHour%24]
	d := math.Log1p(float64(bytes)/c.scale()) - float64(t.level)
	alpha := max(minAlpha, 1/float64(t.count+1))
	if t.count >= warmSamples {
		limit := winsor * t.deviation()
		d = max(-limit, min(limit, d))
		if suspicious {
			alpha *= suspiciousRate
		}
	}
	peak := float32(bytes)
	if suspicious {
		peak = min(peak, 2*s.peak)
	}
	s.peak = max(peak, s.peak*peakDecay)
	t.level += float32(alpha * d)
	t.variance = float32((1 - alpha) * (float64(t.variance) + alpha*d*d))
	if t.count < math.MaxUint32 {
		t.count++
	}
}

func (s *sender) inherit(d *sender) {
	s.inherited = d.w.name
	s.slots, s.peak = d.slots, d.peak
	for i := range s.slots {
		s.slots[i].count = min(s.slots[i].count, inheritSamples)
	}
}
