package baseline

import (
	"math"
)

// periodic reports whether the timing is evidence.
func (b *beacon) periodic(s *series, r *rhythm) bool {
	span := r.last - r.first
	return len(r.intervals) >= minFit && r.LLR >= b.threshold(s, span) && float64(span)/1e9 >= minPeriods*r.Period
}

// threshold is the log likelihood ratio that is asked of a series whose beats span so many ns. A series is judged again and again, each
// time by its newest beats, and so has as many chances to look periodic as it has filled their ring: each costs what it is worth (Bonferroni).
func (b *beacon) threshold(s *series, span int64) float64 {
	least := b.c.MinLLR
	if span < shortSpan*1e9 {
		least = b.c.MinLLRShort
	}
	return least + math.Log(max(1, float64(s.count)/maxIntervals))
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
	if !s.follow(r, &v, s.set.w.learns() || b.env.quiet || !v.fresh && s.past().period == 0) {
		return
	}
	o := s.own()
	if o.early && o.times >= knownTimes && v.severity <= Medium && !s.set.w.learns() {
		b.silenced["known"].Inc()
		return
	}
	repeat := int64(b.c.RepeatHours) * hour
	if o.told != 0 && now-o.told < repeat && o.toldSegment == o.segment && v.severity <= o.toldAs {
		b.silenced["told"].Inc()
		return
	}
	if b.env.quiet {
		return
	}
	if o.subject == "" {
		o.subject = s.destination()
	}
	o.told, o.toldSegment, o.toldAs = now, o.segment, v.severity
	b.env.report(b.finding(s, r, &v, now))
}

// follow keeps the confirmed period and size. It returns false while a change waits to be confirmed by the next judgement. A change
// opens a segment: what was known or told of the old rhythm does not cover the new one. The size is followed by one step (9 %) per
// judgement, so that only a jump is a change.
func (s *series) follow(r *rhythm, v *verdict, early bool) bool {
	o := s.own()
	size := uint8(0)
	if v.steadySizes {
		size = v.size
	}
	if o.period == 0 {
		o.period, o.size, o.times, o.early = r.Period, size, 1, early
		return true
	}
	resized := o.size != 0 && size != 0 && (size > o.size+jump || size+jump < o.size)
	if near(r, o.period) && !resized {
		o.candidate = 0
		o.times++
		switch {
		case o.size == 0:
			o.size = size
		case size > o.size:
			o.size++
		case size != 0 && size < o.size:
			o.size--
		}
		return true
	}
	if o.candidate == 0 || !near(r, o.candidate) {
		o.candidate = r.Period
		return false
	}
	o.previous, o.previousSize = o.period, o.size
	o.period, o.size, o.candidate, o.times, o.early = r.Period, size, 0, 1, early
	o.segment++
	return true
}
