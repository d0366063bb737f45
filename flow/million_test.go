package flow

import (
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
)

// A million datagrams, random and mutated from hostile and honest ones, by 4,000 senders: nothing panics or hangs, all are accounted for,
// memory stays within its bounds, and whoever sends properly afterwards is read.
func TestMillion(t *testing.T) {
	n := 1_000_000
	if testing.Short() || os.Getenv("CI") != "" {
		n = 100_000
	}
	var honest [][]byte
	for _, name := range []string{"v5", "v9", "ipfix", "ipv6"} {
		template, data, _ := benchDatagrams(name)
		honest = append(honest, data)
		if template != nil {
			honest = append(honest, template)
		}
	}
	for _, c := range hostile {
		for _, s := range c.sent {
			honest = append(honest, hostileBytes(t, s))
		}
	}
	for _, name := range fixtures {
		b, err := os.ReadFile("testdata/" + name + ".pcap")
		if err != nil {
			t.Fatal(err)
		}
		honest = append(honest, capturedPayloads(t, b)...)
	}
	honest = append(honest, newMessage(10).options(300, 302, 4, 305, 4, 306, 4).set(300, u32(7, 1, 99)).bytes(),
		newMessage(10).template(400, 82, 0xffff, 8, 4, 12, 4).set(400, []byte{3, 'a', 'b', 'c'}, u32(1, 2)).bytes(),
		newMessage(9).template(256, 8, 4, 12, 4, 148, 4, 7, 2, 11, 2, 4, 1, 233, 1, 231, 4, 232, 4).set(256, event(7, 5, 1, 2)).bytes())

	l := newLab(t, Config{})
	records := 0
	l.decoder.emit = func(b *Batch) {
		records += len(b.Records)
		for i := range b.Records {
			if r := &b.Records[i]; r.First > r.Last || r.Last > l.now+maxAhead || r.Last < l.now-maxBehind-2*orphanLife || r.Sampling == 0 {
				t.Errorf("impossible record %+v", *r)
			}
		}
		b.Free()
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	random := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 0, 1<<16)
	for i := range n {
		buf = mutate(random, append(buf[:0], honest[random.IntN(len(honest))]...))
		size := len(buf)
		buf = append(buf, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5)
		l.from = Addr4(0x0b000000 + random.Uint32N(4000)).Netip()
		l.decoder.datagram(buf, size, random.IntN(50) == 0, l.sender(), l.now)
		l.now += milli
		if i%1000 == 999 {
			l.decoder.flush()
		}
		if d := l.decoder; d.templates > maxTemplates || d.orphanBytes > maxAllOrphanBytes || d.exporters.len() > maxExporters || d.connections.len() > maxConnections || d.domains > maxAllDomains {
			t.Fatalf("after %d: %d templates, %d bytes of orphans, %d exporters", i, d.templates, d.orphanBytes, d.exporters.len())
		}
	}
	l.decoder.flush()
	l.conserved()
	if used := int64(heap()) - int64(before); used > 512<<20 {
		t.Errorf("%d MiB kept", used>>20)
	} else {
		t.Logf("%d datagrams, %d records, %d MiB kept, %d templates, %d domains", n, records, used>>20, l.decoder.templates, len(l.decoder.exportersStatus()))
	}
	records = 0
	l.from = Addr4(0x0c000001).Netip()
	l.now += 60 * sec
	l.send(goodV9())
	if records != 1 {
		t.Errorf("the next good datagram gave %d records", records)
	}
	if n := len(l.decoder.exportersStatus()); n != l.decoder.domains {
		t.Errorf("%d domains, %d by the account", n, l.decoder.domains)
	}
	l.decoder.giveUpAll()
	if l.decoder.orphanBytes != 0 || l.decoder.stats.orphansWaiting.Get() != 0 {
		t.Errorf("%d bytes of orphans in %v sets are left of none", l.decoder.orphanBytes, l.decoder.stats.orphansWaiting.Get())
	}
}

// mutate makes what a datagram may have become: itself, other bytes in places, a part of it, twice, or noise.
func mutate(r *rand.Rand, b []byte) []byte {
	for range r.IntN(5) {
		switch at := 0; r.IntN(7) {
		case 0:
			b = b[:r.IntN(len(b)+1)]
		case 1:
			for range min(r.IntN(64), cap(b)-len(b)) {
				b = append(b, byte(r.Uint32()))
			}
		case 2:
			if len(b) > 20 && 2*len(b) < 1<<15 {
				b = append(b, b[16:]...)
			}
		case 3:
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			if len(b) > 1 {
				b[0], b[1] = 0, [...]byte{5, 9, 10, 11}[r.IntN(4)]
			}
		default:
			for range 1 + r.IntN(4) {
				if len(b) > 4 {
					at = 2 + r.IntN(len(b)-2)
					b[at] = [...]byte{0, 1, 2, 3, 4, 8, 0x7f, 0x80, 0xff, byte(r.Uint32())}[r.IntN(10)]
				}
			}
		}
	}
	return b[:min(len(b), datagramSize)]
}
