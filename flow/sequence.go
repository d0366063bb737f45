package flow

// sequence finds what an exporter sent and the network lost.
//
//	v5     counts records            next = number + records
//	v9     counts datagrams          next = number + 1
//	IPFIX  counts data records       next = number + data records of this message, those of options included
//
// Some v9 exporters count records. The unit is switched when 32 datagrams in a row step that way; until then nothing is claimed.
//
// softflowd's IPFIX number has the records of the message itself in it, and no options data:
//
//	IPFIX, own    this number = last number + data records of this message
//
// Which of the two an exporter means is switched, in either direction, when 8 messages that only the other way explains come without one
// that only this way does; until then nothing is claimed.
type sequence struct {
	unit     sequenceUnit
	version  uint16
	valid    bool
	next     uint32 // expected
	number   uint32 // of the newest datagram
	step     uint32 // records in it
	uptime   uint32
	records  uint64 // all, with datagrams the mean that a lost datagram held
	messages uint64
	byRecord int  // v9 datagrams in a row that stepped by records
	own      bool // IPFIX: the number counts the message itself
	byOther  int  // IPFIX messages that only the other way of counting explains
	pending  int64

	lost, restarts, reordered uint64
}

type sequenceUnit uint8

const (
	unitRecords sequenceUnit = iota
	unitDatagrams
	unitSamples // sFlow
)

func (u sequenceUnit) String() string {
	return [...]string{"records", "datagrams", "samples"}[u]
}

const (
	maxLoss      = 1 << 20 // a larger step is a restart
	maxReorder   = 1 << 10
	unitEvidence = 32
	ownEvidence  = 8
	lateUptime   = 60_000 // ms: a datagram that old may be a reordered one, an older one shows a restart
)

func newSequence(version uint16) sequence {
	s := sequence{version: version}
	if version == 9 {
		s.unit = unitDatagrams
	}
	return s
}

// take accounts one datagram of so many data records; known is false when a part of it could not be counted. It returns what is
// newly lost, in the unit of the exporter (negative: given back), and whether the exporter has restarted.
func (s *sequence) take(h *header, records int, known bool) (lost int64, restarted bool) {
	defer func() {
		s.messages++
		s.records += uint64(records)
	}()
	if !s.valid {
		s.follow(h, records, known)
		return 0, false
	}
	d := int64(int32(h.sequence - s.next))
	if h.hasUptime && h.uptime < s.uptime && s.uptime-h.uptime > lateUptime && s.uptime-h.uptime < 1<<31 {
		s.restart(h, records, known)
		return 0, true
	}
	if s.version == 10 {
		var undecided bool
		if d, undecided = s.counting(h, records, known, d); undecided {
			s.follow(h, records, known)
			return 0, false
		}
	}
	if s.version == 9 && s.unit == unitDatagrams && s.step > 1 && h.sequence == s.number+s.step {
		s.byRecord++
		s.pending += d
		if s.byRecord >= unitEvidence {
			s.unit, s.pending, s.byRecord = unitRecords, 0, 0
		}
		s.follow(h, records, known)
		return 0, false
	}
	switch {
	case d == 0:
		lost, s.pending, s.byRecord = max(0, s.pending), 0, 0
	case d > 0 && d <= maxLoss:
		lost, s.pending, s.byRecord = max(0, d+s.pending), 0, 0
	case d < 0 && d >= -maxReorder:
		s.reordered++
		back := uint64(1)
		if s.unit == unitRecords {
			back = uint64(records)
		}
		back = min(back, s.lost)
		s.lost -= back
		return -int64(back), false
	default:
		s.restart(h, records, known)
		return 0, true
	}
	s.lost += uint64(lost)
	s.follow(h, records, known)
	return lost, false
}

// counting returns how far an IPFIX message is from the number expected, d if its number does not count itself, and learns which way its
// exporter counts. undecided says that it shows nothing else.
func (s *sequence) counting(h *header, records int, known bool, d int64) (_ int64, undecided bool) {
	other := int64(int32(h.sequence - s.number - uint32(records-h.options)))
	if s.own {
		if !known {
			return 0, true // how many records it counts is not to be known; the next one can be judged again
		}
		d, other = other, d
	}
	switch {
	case d == 0 && other == 0 && s.byOther > 0:
		return 0, true
	case d != 0 && other == 0 && known:
		s.pending += d
		if s.byOther++; s.byOther >= ownEvidence {
			s.own, s.pending, s.byOther = !s.own, 0, 0
		}
		return 0, true
	}
	s.byOther = 0
	return d, false
}

func (s *sequence) restart(h *header, records int, known bool) {
	s.restarts++
	s.pending, s.byRecord, s.byOther = 0, 0, 0
	s.follow(h, records, known)
}

func (s *sequence) follow(h *header, records int, known bool) {
	s.number, s.step, s.uptime, s.next = h.sequence, uint32(records), h.uptime, h.sequence+1
	s.valid = true
	if s.unit == unitRecords {
		s.next = h.sequence + uint32(records)
		s.valid = known || s.own
	}
}

// inRecords estimates how many records n lost units are.
func (s *sequence) inRecords(n int64) uint64 {
	if s.unit != unitDatagrams || s.messages == 0 {
		return uint64(n)
	}
	return uint64(n) * max(1, s.records/s.messages)
}
