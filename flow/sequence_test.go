package flow

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSequence(t *testing.T) {
	type step struct {
		number, uptime uint32
		records        int
		unknown        bool // a set without template was in it
	}
	type want struct {
		Lost, Reordered, Restarts uint64
		Unit                      string
	}
	steps := func(from, by uint32, n, records int) (all []step) {
		for i := range uint32(n) {
			all = append(all, step{number: from + i*by, uptime: i, records: records})
		}
		return all
	}
	for _, c := range []struct {
		name    string
		version uint16
		steps   []step
		want    want
	}{
		{"v5 in order", 5, []step{{100, 1, 30, false}, {130, 2, 20, false}, {150, 3, 30, false}}, want{Unit: "records"}},
		{"v5 loses records", 5, []step{{100, 1, 30, false}, {160, 2, 30, false}}, want{Lost: 30, Unit: "records"}},
		{"v5 wraps", 5, []step{{0xfffffff0, 1, 30, false}, {14, 2, 30, false}}, want{Unit: "records"}},
		{"v5 late datagram gives back", 5, []step{{100, 1, 30, false}, {160, 2, 30, false}, {130, 2, 30, false}, {190, 3, 30, false}}, want{Reordered: 1, Unit: "records"}},
		{"v9 in order", 9, []step{{7, 1, 30, false}, {8, 2, 30, false}, {9, 3, 10, false}}, want{Unit: "datagrams"}},
		{"v9 loses datagrams", 9, []step{{7, 1, 30, false}, {10, 2, 30, false}}, want{Lost: 2, Unit: "datagrams"}},
		{"v9 restarts with a smaller uptime", 9, []step{{7000, 900_000, 30, false}, {7001, 100, 30, false}, {7002, 200, 30, false}}, want{Restarts: 1, Unit: "datagrams"}},
		{"v9 restarts with a small number", 9, []step{{7000, 1, 30, false}, {1, 2, 30, false}}, want{Restarts: 1, Unit: "datagrams"}},
		{"v9 jumps too far to be a loss", 9, []step{{1, 1, 30, false}, {5_000_000, 2, 30, false}}, want{Restarts: 1, Unit: "datagrams"}},
		{"v9 that counts records", 9, steps(0, 30, 40, 30), want{Unit: "records"}},
		{"v9 that counts records and loses some", 9, append(steps(0, 30, 40, 30), step{number: 1260, uptime: 50, records: 30}), want{Lost: 60, Unit: "records"}},
		{"v9 that loses by chance as many as it had records", 9, []step{{0, 1, 3, false}, {3, 2, 3, false}, {4, 3, 3, false}}, want{Lost: 2, Unit: "datagrams"}},
		{"v9 with sets it cannot read", 9, []step{{7, 1, 0, true}, {8, 2, 0, true}, {10, 3, 0, true}}, want{Lost: 1, Unit: "datagrams"}},
		{"IPFIX in order", 10, []step{{0, 0, 24, false}, {24, 0, 24, false}, {48, 0, 1, false}, {49, 0, 0, false}, {49, 0, 24, false}}, want{Unit: "records"}},
		{"IPFIX loses records", 10, []step{{0, 0, 24, false}, {48, 0, 24, false}}, want{Lost: 24, Unit: "records"}},
		{"IPFIX with sets it cannot read", 10, []step{{0, 0, 24, false}, {24, 0, 0, true}, {48, 0, 24, false}, {72, 0, 24, false}}, want{Unit: "records"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSequence(c.version)
			var lost int64
			for _, x := range c.steps {
				n, _ := s.take(&header{version: c.version, sequence: x.number, uptime: x.uptime, hasUptime: c.version != 10}, x.records, !x.unknown)
				lost += n
			}
			if diff := cmp.Diff(c.want, want{s.lost, s.reordered, s.restarts, s.unit.String()}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if lost != int64(s.lost) {
				t.Errorf("told %d lost, keeps %d", lost, s.lost)
			}
		})
	}
}

// A loss reaches the batch as a gap in records, the counter of the exporter and its status.
func TestSequenceGapIsTold(t *testing.T) {
	l := newLab(t, Config{})
	record := u32(0x0a000001, 0x0a000002)
	send := func(number uint32, m *message) {
		m.sequence = number
		m.export += number
		l.now += int64(number) * sec
		l.send(m.bytes())
	}
	send(1, newMessage(9).template(256, 8, 4, 12, 4).set(256, record, record, record))
	send(2, newMessage(9).set(256, record, record, record))
	send(6, newMessage(9).set(256, record, record, record))
	if len(l.gaps) != 1 {
		t.Fatalf("gaps %+v", l.gaps)
	}
	g := l.gaps[0]
	if g.Source != "netflow:192.0.2.1/1" || g.Reason != "sequence" || g.Lost != 9 || g.From != (labExport+2)*sec || g.To != (labExport+6)*sec {
		t.Errorf("gap %+v", g)
	}
	if n := l.set.GetOrCreateCounter(`wharfwatch_flow_sequence_lost_total{exporter="192.0.2.1",unit="datagrams"}`).Get(); n != 3 {
		t.Errorf("counter %d, want 3", n)
	}
	if s := l.decoder.exportersStatus(); len(s) != 1 || s[0].Lost != 3 || s[0].LostUnit != "datagrams" || s[0].Records != 9 || s[0].Datagrams != 3 {
		t.Errorf("status %+v", s)
	}
}

// A set without its template leaves the record count of an IPFIX exporter unknown: the next number claims no loss.
func TestMissingTemplateIsNoLoss(t *testing.T) {
	l := newLab(t, Config{})
	record := u32(1, 2)
	l.send(newMessage(10).template(256, 8, 4, 12, 4).set(256, record, record).bytes())
	for _, m := range []*message{newMessage(10).set(256, record).set(999, record, record), newMessage(10).set(256, record)} {
		m.sequence = 2
		if m.sets == 1 {
			m.sequence = 5
		}
		l.send(m.bytes())
	}
	if s := l.decoder.exportersStatus()[0]; s.Lost != 0 || s.WithoutTemplate != 1 || len(l.gaps) != 0 || l.decoder.stats.orphansWaiting.Get() != 1 {
		t.Errorf("status %+v, gaps %+v", s, l.gaps)
	}
}

// An exporter that restarts is a gap of unknown size.
func TestRestartIsAGap(t *testing.T) {
	l := newLab(t, Config{})
	l.send(v5(1_000_000, 900_000_000, 0, 2))
	l.send(v5(0, 1000, 0, 2))
	if len(l.gaps) != 1 || l.gaps[0].Reason != "restart" || l.gaps[0].Lost != 0 {
		t.Errorf("gaps %+v", l.gaps)
	}
}
