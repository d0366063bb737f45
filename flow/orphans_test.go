package flow

import "testing"

func datagramOf(version uint16, export, uptime, domain uint32, id uint16, body ...[]byte) []byte {
	m := newMessage(version)
	m.export, m.uptime, m.domain = export, uptime, domain
	return m.set(id, body...).bytes()
}

// Data that comes before its template is read when the template comes, with the times of its own header.
func TestOrphansAreRead(t *testing.T) {
	for _, version := range []uint16{9, 10} {
		l := newLab(t, Config{})
		fields := []uint16{8, 4, 12, 4, 22, 4, 21, 4}
		early := func(sender uint32) []byte {
			return datagramOf(version, labExport, 1_000_000, 1, 256, u32(sender, 2, 990_000, 995_000))
		}
		if got := l.send(early(1)); len(got) != 0 {
			t.Fatalf("read without a template: %+v", got)
		}
		l.send(datagramOf(version, labExport, 1_000_000, 2, 256, u32(3, 4, 0, 0))) // another domain waits on
		l.now += 300 * sec
		if s := l.status(1); s.WithoutTemplate != 1 {
			t.Errorf("status %+v", s)
		}
		m := newMessage(version)
		m.export, m.uptime = labExport+300, 1_300_000
		got := l.send(m.template(256, fields...).set(256, u32(7, 2, 1_290_000, 1_295_000)).bytes())
		if len(got) != 2 || got[0].Src != Addr4(1) || got[1].Src != Addr4(7) {
			t.Fatalf("v%d: %+v", version, got)
		}
		if version == 9 && (got[0].Last != (labExport-5)*sec || got[1].Last != (labExport+295)*sec) {
			t.Errorf("times %d and %d", got[0].Last-labExport*sec, got[1].Last-labExport*sec)
		}
		if s := l.status(1); s.WithoutTemplate != 0 || s.Records != 2 {
			t.Errorf("status %+v", s)
		}
		if l.refused(partMissing) != 0 || l.decoder.stats.orphansReplayed.Get() != 1 || l.decoder.stats.orphansWaiting.Get() != 1 {
			t.Errorf("%d given up, %d read, %v waiting", l.refused(partMissing), l.decoder.stats.orphansReplayed.Get(), l.decoder.stats.orphansWaiting.Get())
		}
		l.decoder.end()
		l.orphansConserved(2)
	}
}

// status is that of a domain.
func (l *lab) status(domain uint32) ExporterStatus {
	for _, s := range l.decoder.exportersStatus() {
		if s.Domain == domain {
			return s
		}
	}
	l.t.Fatalf("domain %d is not known", domain)
	return ExporterStatus{}
}

// orphansConserved: what was held was read, given up or still waits, and the accounts of memory agree.
func (l *lab) orphansConserved(held uint64) {
	l.t.Helper()
	d := l.decoder
	waiting, bytes, datagrams := uint64(0), 0, 0
	for _, e := range exportersOf(d) {
		own, last := 0, uint64(0)
		for i := range e.orphans {
			own += e.orphans[i].cost()
			waiting++
			if s := e.orphans[i].serial; s != last {
				datagrams, last = datagrams+1, s
			}
		}
		if own != e.orphanBytes || own > maxOrphanBytes || datagrams != e.orphanDatagrams || datagrams > maxOrphanDatagrams {
			l.t.Errorf("%s: %d bytes in %d datagrams, accounts say %d and %d", e.name, own, datagrams, e.orphanBytes, e.orphanDatagrams)
		}
		bytes, datagrams = bytes+own, 0
	}
	if bytes != d.orphanBytes || bytes > d.orphanLimit || waiting != uint64(d.stats.orphansWaiting.Get()) {
		l.t.Errorf("%d bytes in %d sets wait, accounts say %d and %v", bytes, waiting, d.orphanBytes, d.stats.orphansWaiting.Get())
	}
	if n := d.stats.orphansReplayed.Get() + l.refused(partMissing) + waiting; n != held {
		l.t.Errorf("%d sets were held, %d are accounted for", held, n)
	}
}

func exportersOf(d *exportDecoder) (all []*exporter) {
	for _, n := range d.exporters.table {
		all = append(all, n.value)
	}
	return all
}

// The bounds: 64 datagrams and 256 KiB of an exporter, 16 MiB of all, ten minutes. The newest are kept.
func TestOrphansAreBounded(t *testing.T) {
	template := newMessage(10).template(256, 8, 4, 12, 4).bytes()
	body := func(n int, tag uint32) (b []byte) {
		for range n {
			b = append(b, u32(tag, 2)...)
		}
		return b
	}
	t.Run("datagrams", func(t *testing.T) {
		l := newLab(t, Config{})
		for i := range uint32(100) {
			b := newMessage(10).set(256, body(1, i+1)).set(256, body(1, i+1)).bytes() // two sets each
			l.send(b)
			l.orphansConserved(2 * uint64(i+1))
		}
		got := l.send(template)
		if len(got) != 2*maxOrphanDatagrams || got[0].Src != Addr4(37) || got[127].Src != Addr4(100) {
			t.Errorf("%d records", len(got))
		}
		l.orphansConserved(200)
	})
	t.Run("bytes", func(t *testing.T) {
		l := newLab(t, Config{})
		for range 20 {
			l.send(newMessage(10).set(256, body(4000, 1)).bytes())
		}
		l.orphansConserved(20)
		if got := l.send(template); len(got) != 8*4000 {
			t.Errorf("%d records", len(got))
		}
	})
	t.Run("many small sets", func(t *testing.T) {
		l := newLab(t, Config{})
		m := newMessage(10)
		for range 5000 {
			m.set(256, body(1, 1))
		}
		l.send(m.bytes())
		l.send(m.bytes())
		l.orphansConserved(10_000)
	})
	t.Run("all exporters", func(t *testing.T) {
		l := newLab(t, Config{})
		for i := range uint32(100) {
			l.from = Addr4(0x0b000000 + i).Netip()
			for range 8 {
				l.send(newMessage(10).set(256, body(4000, 1)).bytes())
			}
		}
		l.orphansConserved(800)
		if l.decoder.orphanBytes < maxAllOrphanBytes/2 {
			t.Errorf("only %d bytes wait", l.decoder.orphanBytes)
		}
		if got := l.send(template); len(got) != 8*4000 {
			t.Errorf("the newest exporter's data made room: %d records", len(got))
		}
	})
	t.Run("time", func(t *testing.T) {
		l := newLab(t, Config{})
		l.send(newMessage(10).set(256, body(1, 1)).bytes())
		l.now += orphanLife / 2
		l.send(newMessage(10).set(256, body(1, 2)).bytes())
		l.now += orphanLife/2 + sec
		if got := l.send(template); len(got) != 1 || got[0].Src != Addr4(2) {
			t.Errorf("got %+v", got)
		}
		l.orphansConserved(2)
	})
	t.Run("exporter forgotten", func(t *testing.T) {
		l := newLab(t, Config{})
		l.send(newMessage(10).set(256, body(1, 1)).bytes())
		l.decoder.exporters.limit = 1
		l.from = l.from.Next()
		l.send(goodV9())
		l.orphansConserved(1)
	})
}

// An exporter whose template never comes costs no memory in the end.
func TestOrphansReuseMemory(t *testing.T) {
	l := newLab(t, Config{})
	b := newMessage(10).set(256, make([]byte, 1200)).bytes()
	for range 2 * maxOrphanDatagrams {
		l.send(b)
	}
	l.decoder.emit = func(b *Batch) { b.Free() }
	buf := append(b, make([]byte, slack)...)
	n := testing.AllocsPerRun(200, func() {
		l.decoder.datagram(buf, len(b), false, l.sender(), l.now)
		l.decoder.flush()
	})
	if n != 0 {
		t.Errorf("%v allocations per datagram", n)
	}
}

// Options data waits as well: the rate holds from then on.
func TestOrphanedOptions(t *testing.T) {
	l := newLab(t, Config{})
	l.send(newMessage(9).set(300, u32(1), u32(100)).bytes())
	l.send(newMessage(9).options(300, 1, 4, 34, 4).bytes())
	got := l.send(goodV9())
	if len(got) != 1 || got[0].Sampling != 100 {
		t.Errorf("got %+v", got)
	}
	if n := l.decoder.stats.orphansReplayed.Get(); n != 1 {
		t.Errorf("%d sets read late", n)
	}
}
