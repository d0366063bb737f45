package flow

import (
	"testing"
	"time"
)

var benchTemplates = map[string][]uint16{
	"v9":    {8, 4, 12, 4, 2, 4, 1, 4, 22, 4, 21, 4, 7, 2, 11, 2, 10, 2, 14, 2, 4, 1, 6, 1, 5, 1, 9, 1},
	"ipfix": {8, 4, 12, 4, 2, 8, 1, 8, 152, 8, 153, 8, 7, 2, 11, 2, 10, 4, 14, 4, 4, 1, 6, 1, 5, 1, 61, 1},
	"ipv6":  {27, 16, 28, 16, 2, 8, 1, 8, 152, 8, 153, 8, 7, 2, 11, 2, 10, 4, 14, 4, 4, 1, 6, 1, 136, 1, 243, 2},
}

// benchDatagrams returns the template and a data-only datagram, filled as exporters fill an MTU of 1500.
func benchDatagrams(name string) (template, data []byte, records int) {
	if name == "v5" {
		return nil, v5(1, 100_000, 0, 30), 30
	}
	version, fields := uint16(10), benchTemplates[name]
	records = 24
	if name == "v9" {
		version, records = 9, 36
	}
	var record []byte
	for i := 0; i < len(fields); i += 2 {
		switch id, size := fields[i], int(fields[i+1]); id {
		case 152, 153:
			record = append(record, u64(uint64(labExport)*1000-3000)...)
		case 21, 22:
			record = append(record, u32(990_000)...)
		default:
			b := make([]byte, size)
			b[size-1] = byte(i + 1)
			record = append(record, b...)
		}
	}
	var body []byte
	for range records {
		body = append(body, record...)
	}
	return newMessage(version).template(256, fields...).bytes(), newMessage(version).set(256, body).bytes(), records
}

// Data-only datagrams with known templates allocate nothing.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	for _, name := range []string{"v5", "v9", "ipfix", "ipv6"} {
		t.Run(name, func(t *testing.T) {
			template, data, records := benchDatagrams(name)
			l := newLab(t, Config{})
			if template != nil {
				l.send(template)
			}
			if got := l.send(data); len(got) != records {
				t.Fatalf("%d records, want %d", len(got), records)
			}
			l.decoder.emit = func(b *Batch) { b.Free() }
			buf := append(data, make([]byte, slack)...)
			n := testing.AllocsPerRun(1000, func() {
				l.now += int64(time.Millisecond)
				l.decoder.datagram(buf, len(data), false, l.sender(), l.now)
				l.decoder.flush()
			})
			if n != 0 {
				t.Errorf("%v allocations per datagram", n)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"v5", "v9", "ipfix", "ipv6"} {
		b.Run(name, func(b *testing.B) {
			template, data, records := benchDatagrams(name)
			l := newLab(b, Config{})
			if template != nil {
				l.send(template)
			}
			l.decoder.emit = func(b *Batch) { b.Free() }
			buf := append(data, make([]byte, slack)...)
			b.ReportAllocs()
			for b.Loop() {
				l.decoder.datagram(buf, len(data), false, l.sender(), l.now)
				l.decoder.flush()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
		})
	}
}
