package flow

import (
	"slices"
	"time"
)

// Bounds of data held until its template comes. Exporters send templates at intervals of minutes; event time makes late decoding harmless.
const (
	maxOrphanDatagrams = 64                      // per exporter
	maxOrphanBytes     = 256 << 10               // per exporter
	maxAllOrphanBytes  = 16 << 20                // of one decoder, shared out among workers
	orphanLife         = int64(10 * time.Minute) // on the time of arrival
	orphanSweep        = 10 * sec
	orphanOverhead     = 160 // bytes that a set costs beside its own
)

// orphan is one data set without a template, with the header that gives its records their times.
type orphan struct {
	domain  *domain
	header  header
	arrival int64
	export  int64  // corrected, as it was known then
	offset  int64  // what it was corrected by
	serial  uint64 // of its datagram
	id      uint16
	set     []byte // with its 4-byte header, and slack behind it
}

func (o *orphan) size() int { return len(o.set) - slack }

func (o *orphan) cost() int { return o.size() + orphanOverhead }

// hold keeps a copy of the set of the datagram being read. The oldest of the exporter make room, then those of the exporter whose data has
// waited longest.
func (d *exportDecoder) hold(set []byte, id uint16, s *domain, r *reading) {
	e := s.exporter
	s.missed++
	o := orphan{domain: s, header: d.header, arrival: r.arrival, export: r.export, offset: r.offset, serial: d.serial, id: id, set: set}
	cost := len(set) + orphanOverhead
	var spare []byte
	for e.orphanBytes+cost > maxOrphanBytes || e.orphanDatagrams >= maxOrphanDatagrams && e.orphans[len(e.orphans)-1].serial != d.serial {
		spare = d.giveUpOldest(e)
	}
	for d.orphanBytes+cost > d.orphanLimit && d.holders.len() > 0 {
		other, _ := d.holders.dropOldest()
		d.giveUp(other)
	}
	if _, is := d.holders.get(e); !is {
		d.holders.put(e, struct{}{}, func(other *exporter, _ struct{}) { d.giveUp(other) })
	}
	need := len(set) + slack
	if cap(spare) < need || cap(spare) > 2*need {
		spare = make([]byte, need)
	}
	o.set = spare[:need]
	clear(o.set[copy(o.set, set):])
	if n := len(e.orphans); n == 0 || e.orphans[n-1].serial != d.serial {
		e.orphanDatagrams++
	}
	e.orphans = append(e.orphans, o)
	e.orphanBytes += cost
	d.orphanBytes += cost
	d.stats.orphansWaiting.Inc()
}

// giveUpOldest forgets all that came in the oldest datagram, and hands out the memory of the last of it.
func (d *exportDecoder) giveUpOldest(e *exporter) (memory []byte) {
	serial, n := e.orphans[0].serial, 0
	for ; n < len(e.orphans) && e.orphans[n].serial == serial; n++ {
		memory = d.forgetOrphan(&e.orphans[n])
		d.refuse(e.orphans[n].domain, partMissing, 1)
	}
	e.orphans = slices.Delete(e.orphans, 0, n)
	e.orphanDatagrams--
	return memory
}

func (d *exportDecoder) forgetOrphan(o *orphan) (memory []byte) {
	o.domain.exporter.orphanBytes -= o.cost()
	d.orphanBytes -= o.cost()
	d.stats.orphansWaiting.Dec()
	return o.set
}

// giveUp forgets all orphans of an exporter.
func (d *exportDecoder) giveUp(e *exporter) {
	for len(e.orphans) > 0 {
		d.giveUpOldest(e)
	}
	e.orphans = nil
}

// giveUpAll is for the end of the input.
func (d *exportDecoder) giveUpAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.holders.len() > 0 {
		e, _ := d.holders.dropOldest()
		d.giveUp(e)
	}
}

// expireOrphans gives up what has waited too long. It looks at all holders at most every ten seconds of arrival.
func (d *exportDecoder) expireOrphans(arrival int64) {
	if d.holders.len() == 0 || arrival-d.swept < orphanSweep {
		return
	}
	d.swept = arrival
	d.holders.each(func(e *exporter, _ struct{}) {
		for len(e.orphans) > 0 && arrival-e.orphans[0].arrival > orphanLife {
			d.giveUpOldest(e)
		}
	})
}

// adopt reads what waited for this template of s. Sequence numbers were dealt with when it came.
func (d *exportDecoder) adopt(s *domain, id uint16) {
	e := s.exporter
	if len(e.orphans) == 0 {
		return
	}
	kept := e.orphans[:0]
	for i := range e.orphans {
		o := e.orphans[i]
		if o.domain != s || o.id != id || s.templates[id] == nil {
			kept = append(kept, o)
			continue
		}
		d.forgetOrphan(&o)
		export := o.export + s.timing.offset - o.offset
		if export > o.arrival+maxAhead || export < o.arrival-maxBehind { // another clock by now
			export = o.arrival
		}
		r := s.reading(&o.header, export, o.arrival)
		d.data(o.set[:o.size()], id, s, &r)
		d.read(s, &o.header, &r)
		s.missed--
		d.stats.orphansReplayed.Inc()
	}
	clear(e.orphans[len(kept):])
	e.orphans, e.orphanDatagrams = kept, 0
	for i := range kept {
		if i == 0 || kept[i].serial != kept[i-1].serial {
			e.orphanDatagrams++
		}
	}
	if len(kept) == 0 {
		e.orphans = nil
		d.holders.drop(e)
	}
}
