package flow

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hostile is what broke collectors, by number: each case with what must be counted and how many records must still come out. H9 and H10
// stand for headers, H10 with the length of the whole message. What goflow2's decoder does on the same bytes is in goflow2_test.go.
var hostile = []struct {
	name    string
	sent    []string
	refused map[reason]uint64
	records int
}{
	{
		"1 template without fields, then data",
		[]string{"H9 0000 0008 012c 0000", "H9 012c 0008 00000000", "H9 012c 0004"},
		map[reason]uint64{partFields: 1, partMissing: 2},
		0,
	},
	{
		"2 withdrawal, then data",
		[]string{"H10(0018) 0002 0008 012c 0000", "H10(0018) 012c 0008 00000000"},
		map[reason]uint64{partWithdrawal: 1, partMissing: 1},
		0,
	},
	{
		"3 one field of length 0",
		[]string{"H9 0000 000c 012c 0001 0008 0000", "H9 012c 0008 00000000"},
		map[reason]uint64{partField: 1, partSize: 1, partMissing: 1},
		0,
	},
	{
		"4 options template without fields, v9",
		[]string{"H9 0001 000a 012c 0000 0000", "H9 012c 0008 00000000"},
		map[reason]uint64{partFields: 1, partMissing: 1},
		0,
	},
	{
		"4 options template without fields, IPFIX",
		[]string{"H10(001a) 0003 000a 012c 0000 0000", "H10(0018) 012c 0008 00000000"},
		map[reason]uint64{partWithdrawal: 1, partMissing: 1},
		0,
	},
	{
		"5 65535 fields announced",
		[]string{"H9 0000 0008 012c ffff", "H10(0018) 0002 0008 012c ffff", "H10(001a) 0003 000a 012c ffff ffff", "H9 0001 000a 012c ffff ffff"},
		map[reason]uint64{partTemplateEnd: 4},
		0,
	},
	{
		"6 options withdrawal",
		[]string{"H10(0018) 0003 0008 012c 0000", "H10(0018) 0003 0008 0003 0000"},
		map[reason]uint64{partWithdrawal: 2},
		0,
	},
	{
		"7 withdrawal of all data templates",
		[]string{"H10(0018) 0002 0008 0002 0000"},
		map[reason]uint64{partWithdrawal: 1},
		0,
	},
	{
		"8 message length below the header",
		[]string{"H10(0000) 0002 000c 012c 0001 0008 0004", "H10(000f) 0002 000c 012c 0001 0008 0004"},
		map[reason]uint64{badLength: 2},
		0,
	},
	{
		"9 set past the end",
		[]string{"H9 0000 000c 012c 0001 0008 0004", "H9 012c 00ff 0a000001"},
		map[reason]uint64{partSetLength: 1},
		0,
	},
	{
		"10 template id 5",
		[]string{"H9 0000 000c 0005 0001 0008 0004"},
		map[reason]uint64{partTemplateID: 1},
		0,
	},
	{
		"11 set length 3",
		[]string{"H9 012c 0003 00000000"},
		map[reason]uint64{partSetLength: 1},
		0,
	},
	{
		"12 strings and padding",
		[]string{"H10(001c) 0002 000c 012c 0001 0052 ffff", "H10(001c) 012c 000c 0161 0162 0163 0000"},
		map[reason]uint64{partAddress: 5},
		0,
	},
	{
		"13 variable length past the set",
		[]string{"H10(0020) 0002 0010 012c 0002 0052 ffff 0008 0004", "H10(001c) 012c 000c c8 616263 0a000001"},
		map[reason]uint64{partVariable: 1},
		0,
	},
	{
		"14 reserved set id before a good set",
		[]string{"0009 0003 000f4240 65000000 00000000 00000001 0000 000c 012c 0001 0008 0004 0005 0004 012c 0008 0a000001"},
		map[reason]uint64{partSetID: 1},
		1,
	},
	{
		"15 enterprise bits in an options template",
		[]string{"H10(002a) 0003 001a 012c 0002 0001 8095 0004 00000009 8022 0004 00000009", "H10(001c) 012c 000c 00000001 00000064"},
		nil, 0,
	},
	{
		"16 v5 without its records",
		[]string{"0005 ffff" + strings.Repeat("00", 20)},
		map[reason]uint64{badCount: 1},
		0,
	},
	{
		"17 redefined inside one message",
		[]string{"0009 0004 000f4240 65000000 00000000 00000001 0000 000c 012c 0001 0008 0004 012c 0008 0a000001 0000 000c 012c 0001 000c 0004 012c 0008 0a000002"},
		nil, 2,
	},
	{
		"18 cut header after a good message",
		[]string{"H9 0000 000c 012c 0001 0008 0004", "0009 0001 000f"},
		map[reason]uint64{badShort: 1},
		0,
	},
	{
		"19 350 empty templates",
		[]string{"H9 0000 057c" + emptyTemplates(350)},
		map[reason]uint64{partFields: 350},
		0,
	},
	{
		"20 integer of 9 bytes",
		[]string{"H9 0000 0010 012c 0002 0008 0004 0001 0009", "H9 012c 0014 0a000001 000000000000000001 000000"},
		map[reason]uint64{partField: 1},
		1,
	},
}

func emptyTemplates(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%04x0000", 256+i)
	}
	return b.String()
}

// hostileBytes writes the headers out.
func hostileBytes(t testing.TB, s string) []byte {
	s = strings.ReplaceAll(s, "H9", "0009 0001 000f4240 65000000 00000000 00000001")
	if strings.HasPrefix(s, "H10(") {
		s = "000a" + s[4:8] + "65000000 00000000 00000001" + s[9:]
	}
	return unhex(t, s)
}

func TestHostile(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, Config{})
			l.from = l.from.Next()
			l.send(goodV9()) // the exporter and its domain are known: what they cost once is not the subject
			l.records = make([]Record, 0, 1024)
			before := len(l.records)
			for _, s := range c.sent {
				b := hostileBytes(t, s)
				buf := append(b, make([]byte, slack)...)
				used := allocated(func() {
					l.decoder.datagram(buf, len(b), false, l.sender(), l.now)
					l.decoder.flush()
				})
				if used > 64<<10 {
					t.Errorf("%d bytes allocated for %d received", used, len(b))
				}
			}
			l.decoder.end()
			got := map[reason]uint64{}
			for r := badShort; r < reasons; r++ {
				if n := l.refused(r); n != 0 {
					got[r] = n
				}
			}
			if len(got) != 0 || len(c.refused) != 0 {
				if diff := cmp.Diff(c.refused, got); diff != "" {
					t.Errorf("refused (-want +got):\n%s", diff)
				}
			}
			if n := len(l.records) - before; n != c.records {
				t.Errorf("%d records, want %d", n, c.records)
			}
			if n := len(l.send(goodV9())); n != 1 {
				t.Errorf("the next good datagram gave %d records", n)
			}
			l.conserved()
		})
	}
}

// goodV9 is a template and one record.
func goodV9() []byte {
	return newMessage(9).template(900, 8, 4, 12, 4, 1, 4).set(900, u32(0x0a000001, 0x0a000002, 77)).bytes()
}

// conserved: every datagram received was decoded, malformed or dropped.
func (l *lab) conserved() {
	l.t.Helper()
	s := l.decoder.stats
	sum := s.decoded.Get()
	for r := badShort; r <= dropRate; r++ {
		sum += s.by[r].Get()
	}
	if sum != s.received.Get() {
		l.t.Errorf("%d datagrams received, %d accounted for", s.received.Get(), sum)
	}
}

// allocated measures the heap bytes f allocates. The counters of other goroutines disturb it little: nothing else runs.
func allocated(f func()) uint64 {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f()
	runtime.ReadMemStats(&b)
	return b.TotalAlloc - a.TotalAlloc
}

func TestRedefinedTemplateReadsEachSetWithItsOwn(t *testing.T) {
	l := newLab(t, Config{})
	a, b := u32(0x0a000001), u32(0x0a000002)
	got := l.send(newMessage(9).template(300, 8, 4).set(300, a).template(300, 12, 4).set(300, b).bytes())
	if len(got) != 2 || got[0].Src != Addr4(0x0a000001) || got[1].Dst != Addr4(0x0a000002) || !got[1].Src.IsZero() && got[1].Src != Addr4(0) {
		t.Errorf("got %+v", got)
	}
}

func TestEnterpriseElementsAreNotOurs(t *testing.T) {
	l := newLab(t, Config{})
	for _, s := range []string{"H10(002a) 0003 001a 012c 0002 0001 8095 0004 00000009 8022 0004 00000009", "H10(001c) 012c 000c 00000001 00000064"} {
		l.send(hostileBytes(t, s))
	}
	got := l.send(newMessage(10).template(900, 8, 4).set(900, u32(1)).bytes())
	if len(got) != 1 || got[0].Sampling != 1 || got[0].Flags&FlagSamplingUnknown == 0 {
		t.Errorf("a vendor's element 34 became a sampling rate: %+v", got)
	}
}

// Floods of templates, domains and exporters stay within the bounds, and what was known before them is still known.
func TestFloods(t *testing.T) {
	t.Run("templates", func(t *testing.T) {
		l := newLab(t, Config{})
		for i := range 6000 {
			l.now += 20 * milli
			l.send(newMessage(9).template(uint16(256+i), 8, 4, 12, 4).bytes())
			if i%100 == 0 {
				l.send(goodV9())
			}
		}
		if n := l.decoder.templates; n > maxExporterTemplates {
			t.Errorf("%d templates kept", n)
		}
		if l.decoder.stats.evictedTemplates.Get() == 0 {
			t.Error("evictions are not counted")
		}
	})
	t.Run("template changes", func(t *testing.T) {
		l := newLab(t, Config{})
		for i := range 3000 {
			l.send(newMessage(9).template(uint16(256+i), 8, 4, 12, 4).bytes())
		}
		if l.refused(partRate) == 0 {
			t.Error("3000 new templates in no time, and none refused")
		}
	})
	t.Run("domains", func(t *testing.T) {
		l := newLab(t, Config{})
		for i := range 3 * maxDomains {
			m := newMessage(9).template(256, 8, 4)
			m.domain = uint32(i)
			l.send(m.bytes())
		}
		if n := len(l.decoder.exportersStatus()); n > maxDomains {
			t.Errorf("%d domains kept", n)
		}
	})
	t.Run("exporters", func(t *testing.T) {
		l := newLab(t, Config{})
		known := l.from
		template, data := newMessage(9).template(256, 8, 4, 12, 4).bytes(), newMessage(9).set(256, u32(1, 2)).bytes()
		l.send(template)
		for i := range 3 * maxExporters {
			l.from = Addr4(0x0b000000 + uint32(i)).Netip()
			l.now += 10 * milli
			l.send(template)
			if i%1000 == 0 {
				l.from = known
				l.send(data)
			}
		}
		if n := l.decoder.exporters.len(); n > maxExporters {
			t.Errorf("%d exporters kept", n)
		}
		l.from = known
		if got := l.send(data); len(got) != 1 {
			t.Errorf("the exporter that went on sending lost its template")
		}
		l.conserved()
	})
}

// Forged senders are admitted at a rate, so that remembering them costs little, and are accounted for.
func TestNewExportersAreLimited(t *testing.T) {
	l := newLab(t, Config{})
	for i := range 5000 {
		l.from = Addr4(0x0b000000 + uint32(i)).Netip()
		l.send(goodV9())
	}
	refused := l.refused(dropRate)
	if refused == 0 || l.decoder.exporters.len()+int(refused) != 5000 {
		t.Errorf("%d exporters, %d refused", l.decoder.exporters.len(), refused)
	}
	l.now += 60 * sec
	if len(l.send(goodV9())) != 1 {
		t.Error("a new exporter is not admitted later")
	}
	l.conserved()
}

// fuzzSeeds are the hostile corpus and the captures of real exporters.
func fuzzSeeds(f *testing.F) {
	for _, c := range hostile {
		var all []byte
		for _, s := range c.sent {
			b := hostileBytes(f, s)
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
		}
		f.Add(all)
	}
	for _, name := range []string{"v5", "v9", "ipfix", "ipv6"} {
		var all []byte
		template, data, _ := benchDatagrams(name)
		for _, b := range [][]byte{template, data} {
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
		}
		f.Add(all)
	}
	for _, file := range fixtures {
		if b, err := os.ReadFile("testdata/" + file + ".pcap"); err == nil {
			var all []byte
			for _, d := range capturedPayloads(f, b) {
				all = append(binary.BigEndian.AppendUint16(all, uint16(len(d))), d...)
			}
			f.Add(all)
		}
	}
}

// FuzzNetFlow sends a sequence of datagrams, each behind its length. Nothing may panic, every datagram is accounted for, the
// memory is bounded, and a good datagram after all of it is decoded.
func FuzzNetFlow(f *testing.F) {
	fuzzSeeds(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		l := newLab(t, Config{})
		l.send(goodV9())
		l.decoder.emit = func(b *Batch) {
			for i := range b.Records {
				r := &b.Records[i]
				if r.First > r.Last || r.Last > l.now+maxAhead || r.Last < l.now-maxBehind || r.Sampling == 0 {
					t.Errorf("impossible record %+v", r)
				}
			}
			if b.Watermark > b.Arrival || len(b.Records) > 2*batchLimit {
				t.Errorf("impossible batch: watermark %d, arrival %d, %d records", b.Watermark, b.Arrival, len(b.Records))
			}
			b.Free()
		}
		n := 0
		for ; len(in) >= 2 && n < 64; n++ {
			size := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			buf := append(append([]byte(nil), in[2:2+size]...), make([]byte, slack)...)
			used := allocated(func() { l.decoder.datagram(buf, size, n%7 == 6, l.sender(), l.now) })
			// A batch of 1024 records, plus what a datagram full of templates may install.
			if limit := uint64(512<<10 + 200*size); used > limit {
				t.Errorf("%d bytes allocated for %d received", used, size)
			}
			in = in[2+size:]
			l.now += milli
		}
		got := 0
		l.decoder.emit = func(b *Batch) { got += len(b.Records); b.Free() }
		l.decoder.flush()
		got = 0
		l.from = l.from.Next()
		l.send(goodV9())
		if got != 1 {
			t.Errorf("the next good datagram gave %d records", got)
		}
		l.conserved()
	})
}

// FuzzPlan compiles any list of fields and reads any bytes with it. Reading over old memory gives what reading over zeros does: no
// field of the record is left as it was.
func FuzzPlan(f *testing.F) {
	for _, fields := range benchTemplates {
		f.Add(u16(fields...), []byte("some bytes of a record, more than enough of them for all the fields of any template here"), false)
	}
	f.Add(u16(8, 4, 27, 16, 12, 4, 28, 16, 225, 4, 282, 16, 227, 2), make([]byte, 100), false)
	f.Add(u16(82, 0xffff, 8, 4, 1, 0xffff), []byte{3, 'a', 'b', 'c', 10, 0, 0, 1, 2, 1, 1, 255, 0, 0}, true)
	f.Add(u16(1, 8, 2, 8, 34, 4, 305, 4, 306, 4, 48, 1, 136, 1, 351, 8, 160, 8, 22, 4, 21, 4), make([]byte, 64), false)
	f.Fuzz(func(t *testing.T, template, data []byte, reverse bool) {
		var fields []field
		for ; len(template) >= 4 && len(fields) <= maxFields; template = template[4:] {
			x := field{id: binary.BigEndian.Uint16(template), length: binary.BigEndian.Uint16(template[2:])}
			if reverse && len(fields)%3 == 2 {
				x.pen = reversePEN
			}
			fields = append(fields, x)
		}
		p, _, why := compile(fields)
		if why != fine {
			if p != nil {
				t.Fatal("a refused template has a plan")
			}
			return
		}
		if p.size < 1 || p.size > maxRecord {
			t.Fatalf("record size %d", p.size)
		}
		read := func(r Record, end byte) (Record, bool) {
			l := newLab(t, Config{})
			s := l.decoder.domain(l.decoder.exporter(l.sender(), l.now), domainKey{version: 10, id: 1}, l.now)
			c := l.decoder.begin(s, &header{version: 10, export: labExport * sec}, l.now)
			x := append(append([]byte(nil), data...), end, end, end, end, end, end, end, end)
			q := p
			if p.variable {
				q = &plan{}
				if _, fits := p.resolve(x[:len(data)], q); !fits {
					return r, false
				}
			}
			if q.size > len(data) {
				return r, false
			}
			q.read(x, &r, c)
			if q.biflow {
				r = q.reverse(x, &r)
			}
			return r, true
		}
		clean, has := read(Record{}, 0)
		old := Record{
			1, 2, Addr{3, 4}, Addr{5, 6}, Addr{7, 8}, Addr{9, 10}, 11, 12, Addr{13, 14}, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
		}
		dirty, _ := read(old, 0xff)
		if has && clean != dirty {
			t.Errorf("what stood in the memory shows (-clean +dirty):\n%s", cmp.Diff(clean, dirty))
		}
	})
}
