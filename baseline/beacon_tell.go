package baseline

import (
	"math"
)

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
