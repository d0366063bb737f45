package flow

import "testing"

// An IPFIX exporter may count the records of the message itself, and leave options data out, as softflowd does. It is recognised, claims
// no loss for it, and a real loss is seen from then on.
func TestSequenceCountsItself(t *testing.T) {
	type message struct{ number, records, options uint32 }
	own := func(from uint32, sizes ...uint32) (all []message) {
		for _, n := range sizes {
			from += n
			all = append(all, message{number: from, records: n})
		}
		return all
	}
	honest := func(from uint32, sizes ...uint32) (all []message) {
		for _, n := range sizes {
			all = append(all, message{number: from, records: n})
			from += n
		}
		return all
	}
	join := func(parts ...[]message) (all []message) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	sizes := []uint32{5, 7, 6, 5, 5, 0, 6, 22, 20, 14, 21, 20, 20, 22}
	for _, c := range []struct {
		name     string
		messages []message
		lost     uint64
	}{
		{"own", own(0, sizes...), 0},
		{"own, wraps", own(0xffffffe0, sizes...), 0},
		{"own, options data not counted", join(own(0, sizes...), []message{{number: 181, records: 9, options: 1}}, own(181, sizes...)), 0},
		{"own, loses 20", join(own(0, sizes...), own(173+20, sizes...)), 20},
		{"honest", honest(0, sizes...), 0},
		{"honest, options data counted", join(honest(0, 5, 7), []message{{number: 12, records: 9, options: 1}}, honest(21, sizes...)), 0},
		{"honest, loses 20", join(honest(0, sizes...), honest(173+20, sizes...)), 20},
		{"honest, loses by chance what the sizes differ by", join(honest(0, 5, 7), honest(12+3, 10, 7, 9)), 3},
		{"own, then honest: another program at the same address", join(own(0, sizes...), honest(195, sizes...), honest(368+20, sizes...)), 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSequence(10)
			told := int64(0)
			for _, m := range c.messages {
				n, restarted := s.take(&header{version: 10, sequence: m.number, options: int(m.options)}, int(m.records), true)
				told += n
				if restarted {
					t.Errorf("a restart at %+v", m)
				}
			}
			if s.lost != c.lost || told != int64(c.lost) || s.reordered != 0 {
				t.Errorf("%d lost, %d told, %d reordered; want %d lost", s.lost, told, s.reordered, c.lost)
			}
		})
	}
}

// A message that cannot be read whole claims nothing, and the next one is judged again.
func TestSequenceCountsItselfUnknown(t *testing.T) {
	s := newSequence(10)
	number := uint32(0)
	for i := range uint32(20) {
		number += 5 + i%3
		s.take(&header{version: 10, sequence: number}, int(5+i%3), true)
	}
	if !s.own {
		t.Fatal("not recognised")
	}
	s.take(&header{version: 10, sequence: number + 9}, 4, false)
	s.take(&header{version: 10, sequence: number + 9 + 6 + 8}, 8, true)
	if s.lost != 6 {
		t.Errorf("%d lost, want 6", s.lost)
	}
}

// Options data reach the count through the decoder.
func TestOptionsDataAreCounted(t *testing.T) {
	l := newLab(t, Config{})
	record := u32(1, 2)
	number := uint32(0)
	send := func(m *message, counted uint32) {
		number += counted
		m.sequence = number
		l.send(m.bytes())
	}
	send(newMessage(10).template(256, 8, 4, 12, 4).options(257, 149, 4, 34, 4).set(256, record), 1)
	for range 10 {
		send(newMessage(10).set(256, record, record), 2)
		send(newMessage(10).set(256, record, record, record), 3)
	}
	send(newMessage(10).set(257, u32(1, 1)).set(256, record), 1)
	send(newMessage(10).set(256, record, record, record), 3)
	if s := l.decoder.exportersStatus()[0]; s.Lost != 0 || s.Reordered != 0 || s.Refused != 0 || len(l.gaps) != 0 {
		t.Errorf("status %+v, gaps %+v", s, l.gaps)
	}
}
