package flow

import (
	"testing"
	"time"
)

func TestSinceBoot(t *testing.T) {
	now := labExport * sec
	for _, c := range []struct {
		name   string
		up, at uint32
		want   time.Duration
	}{
		{"a while ago", 1_000_000, 940_000, -time.Minute},
		{"now", 1_000_000, 1_000_000, 0},
		{"ahead of the header", 1_000_000, 1_000_250, 250 * time.Millisecond},
		{"before the counter wrapped", 5_000, 0xffffffff - 4_999, -10 * time.Second},
		{"at boot", 1_000_000, 0, -1000 * time.Second},
		{"long ago", 0xfffffff0, 0xfffffff0 - 40*86400*1000, -40 * 24 * time.Hour},
	} {
		if got := sinceBoot(now, c.up, c.at); got != now+int64(c.want) {
			t.Errorf("%s: %v, want %v", c.name, time.Duration(got-now), c.want)
		}
	}
}

// Headers say whole seconds, uptimes milliseconds: records of a beacon stay 60 s apart, whatever second their export fell in.
func TestBootTimeTakesTheTruncationOut(t *testing.T) {
	l := newLab(t, Config{})
	boot := int64(labExport)*1000 - 1_000_000 + 777 // ms
	var firsts []int64
	for i := range int64(10) {
		start := uint32(1_000_000 + 60_000*i)
		uptime := start + uint32(15_000+137*i)
		m := newMessage(9)
		m.uptime, m.export, m.sequence = uptime, uint32((boot+int64(uptime))/1000), uint32(i)
		l.now = (boot+int64(uptime))*milli + milli
		got := l.send(m.template(256, 8, 4, 12, 4, 22, 4, 21, 4).set(256, u32(1, 2, start, start+100)).bytes())
		firsts = append(firsts, got[0].First)
	}
	// The boot time is known to the second at once, and never worse than with any header before; the third is good to 51 ms.
	for i := 3; i < 10; i++ {
		if d := firsts[i] - firsts[i-1]; abs(d-60*sec) > 51*milli {
			t.Errorf("beat %d comes after %v", i, time.Duration(d))
		}
	}
	for i, f := range firsts {
		if d := f - (boot+1_000_000+60_000*int64(i))*milli; d > 0 || d < -sec {
			t.Errorf("beat %d is off by %v", i, time.Duration(d))
		}
	}
}

// A clock that is wrong by a steady amount is corrected; the delays of an exporter that works off a backlog are not taken for one.
func TestOffset(t *testing.T) {
	send := func(l *lab, export, arrival int64) Record {
		m := newMessage(10)
		m.export, l.now = uint32(export/sec), arrival
		got := l.send(m.template(256, 8, 4, 12, 4, 153, 8).set(256, u32(1, 2), u64(uint64(export/milli))).bytes())
		return got[0]
	}
	start := int64(labExport * sec)
	t.Run("five minutes slow", func(t *testing.T) {
		l := newLab(t, Config{})
		var last Record
		for i := range int64(60) {
			now := start + i*sec
			last = send(l, now-300*sec, now+5*milli)
		}
		if d := last.Last - (start + 59*sec); abs(d) > sec {
			t.Errorf("corrected time is off by %v", time.Duration(d))
		}
		if o := l.decoder.exportersStatus()[0].Offset; o < 299*time.Second || o > 301*time.Second {
			t.Errorf("offset %v", o)
		}
		if l.decoder.stats.clockSteps.Get() != 1 {
			t.Error("the step is not counted")
		}
	})
	t.Run("right, with delays and whole seconds", func(t *testing.T) {
		l := newLab(t, Config{})
		for i := range int64(600) {
			at := start + i*370*milli
			if r := send(l, at, at+(i%7)*30*milli); r.Last != at/milli*milli {
				t.Fatalf("record %d moved by %v", i, time.Duration(r.Last-at))
			}
		}
	})
	t.Run("backlog of four hours in a minute", func(t *testing.T) {
		l := newLab(t, Config{})
		for i := range int64(240) {
			export := start - 4*3600*sec + i*60*sec
			if r := send(l, export, start+i*250*milli); r.Last != export {
				t.Fatalf("record %d moved by %v", i, time.Duration(r.Last-export))
			}
		}
	})
	t.Run("a clock that was never set", func(t *testing.T) {
		l := newLab(t, Config{})
		for i := range int64(5) {
			now := start + i*sec
			if r := send(l, 86400*sec+i*sec, now); abs(r.Last-now) > 2*sec {
				t.Errorf("record %d at %v of its arrival", i, time.Duration(r.Last-now))
			}
		}
	})
}

// Whatever a record says, it ends near its arrival and starts before it ends.
func TestClamp(t *testing.T) {
	for _, c := range []struct {
		name        string
		first, last int64 // relative to the export
		wantF       int64
		wantL       int64
		clamped     uint64
	}{
		{"usual", -10 * sec, -2 * sec, -10 * sec, -2 * sec, 0},
		{"start after the end", 0, -2 * sec, -2 * sec, -2 * sec, 0},
		{"a day and more late", -25*3600*sec - 5*sec, -25 * 3600 * sec, -5 * sec, 0, 1},
		{"two hours ahead", 2*3600*sec - 5*sec, 2 * 3600 * sec, -5 * sec, 0, 1},
		{"half an hour ahead", 1795 * sec, 1800 * sec, 1795 * sec, 1800 * sec, 0},
		{"open for a week", -7 * 86400 * sec, -sec, -7 * 86400 * sec, -sec, 0},
	} {
		l := newLab(t, Config{})
		at := labExport * sec
		record := append(u32(1, 2), u64(uint64((at+c.first)/milli), uint64((at+c.last)/milli))...)
		r := l.send(newMessage(10).template(256, 8, 4, 12, 4, 152, 8, 153, 8).set(256, record).bytes())[0]
		if r.First-at != c.wantF || r.Last-at != c.wantL {
			t.Errorf("%s: %v to %v", c.name, time.Duration(r.First-at), time.Duration(r.Last-at))
		}
		if n := l.decoder.stats.clamped.Get(); n != c.clamped {
			t.Errorf("%s: %d counted", c.name, n)
		}
	}
}

// Every way to write a time gives the same one.
func TestTimeElements(t *testing.T) {
	at := labExport*sec - 10*sec
	ntp := func(ns int64) uint64 {
		return uint64(ns/sec+ntpEpoch)<<32 | uint64(ns%sec)<<32/uint64(sec)
	}
	last := at + 4*sec
	boot := int64(labExport)*1000 - 1_000_000
	for _, c := range []struct {
		name    string
		version uint16
		fields  []uint16
		record  []byte
	}{
		{"uptime", 9, []uint16{22, 4, 21, 4}, u32(990_000, 994_000)},
		{"milliseconds", 10, []uint16{152, 8, 153, 8}, u64(uint64(at/milli), uint64(last/milli))},
		{"seconds", 10, []uint16{150, 4, 151, 4}, u32(uint32(at/sec), uint32(last/sec))},
		{"microseconds", 10, []uint16{154, 8, 155, 8}, u64(ntp(at), ntp(last))},
		{"plain microseconds", 10, []uint16{154, 8, 155, 8}, u64(uint64(at/1000), uint64(last/1000))},
		{"nanoseconds", 10, []uint16{156, 8, 157, 8}, u64(ntp(at), ntp(last))},
		{"microseconds before export", 10, []uint16{158, 4, 159, 4}, u32(10_000_000, 6_000_000)},
		{"uptime with boot time in the record", 10, []uint16{160, 8, 22, 4, 21, 4}, append(u64(uint64(boot)), u32(990_000, 994_000)...)},
		{"start and duration", 10, []uint16{152, 8, 161, 4}, append(u64(uint64(at/milli)), u32(4000)...)},
		{"end and duration", 10, []uint16{161, 4, 153, 8}, append(u32(4000), u64(uint64(last/milli))...)},
		{"the better of two", 10, []uint16{150, 4, 151, 4, 152, 8, 153, 8}, append(u32(1, 2), u64(uint64(at/milli), uint64(last/milli))...)},
	} {
		l := newLab(t, Config{})
		got := l.send(newMessage(c.version).template(256, append([]uint16{8, 4, 12, 4}, c.fields...)...).set(256, u32(1, 2), c.record).bytes())
		if len(got) != 1 || abs(got[0].First-at) > 2 || abs(got[0].Last-last) > 2 {
			t.Errorf("%s: %+v, want %d to %d", c.name, got, at, last)
		}
	}
}

// The boot time may come in options data, and uptimes may come without any: durations and distances are kept then.
func TestUptimeOfIPFIX(t *testing.T) {
	at := labExport * sec
	l := newLab(t, Config{})
	l.send(newMessage(10).options(400, 149, 4, 160, 8).set(400, u32(1), u64(uint64(labExport)*1000-1_000_000)).bytes())
	r := l.send(newMessage(10).template(256, 8, 4, 12, 4, 22, 4, 21, 4).set(256, u32(1, 2, 990_000, 994_000)).bytes())[0]
	if r.First != at-10*sec || r.Last != at-6*sec {
		t.Errorf("with a boot time: %d to %d", r.First-at, r.Last-at)
	}
	l = newLab(t, Config{})
	l.send(newMessage(10).template(256, 8, 4, 12, 4, 22, 4, 21, 4).set(256, u32(1, 2, 995_000, 1_000_000)).bytes())
	r = l.send(newMessage(10).set(256, u32(1, 2, 990_000, 994_000)).bytes())[0]
	if r.Last-r.First != 4*sec || r.Last != at-6*sec {
		t.Errorf("without: %d to %d", r.First-at, r.Last-at)
	}
}
