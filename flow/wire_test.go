package flow

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// A laboratory for the decoder: datagrams go in by hand, records and counters come out.
type lab struct {
	t       testing.TB
	decoder *exportDecoder
	set     *metrics.Set
	from    netip.Addr
	port    uint16
	now     int64
	records []Record
	batches []Batch
	gaps    []Gap
}

const (
	labExport = 0x65000000 // seconds, 2023-09-12T06:06:56Z, in the headers below
	labNow    = labExport*sec + 20*milli
)

func newLab(t testing.TB, c Config) *lab {
	p, err := c.policy()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, set: metrics.NewSet(), from: netip.MustParseAddr("192.0.2.1"), now: labNow}
	l.decoder = newExportDecoder(p, NewPool(4), newStats(l.set))
	l.decoder.emit = func(b *Batch) {
		l.records = append(l.records, b.Records...)
		l.gaps = append(l.gaps, b.Gaps...)
		l.batches = append(l.batches, Batch{Source: b.Source, Arrival: b.Arrival, Watermark: b.Watermark})
		b.Free()
	}
	return l
}

// sender is the exporter, at its port.
func (l *lab) sender() netip.AddrPort { return netip.AddrPortFrom(l.from, l.port) }

// send decodes one datagram and returns its records.
func (l *lab) send(b []byte) []Record {
	l.t.Helper()
	have := len(l.records)
	buf := append(append([]byte(nil), b...), 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5)
	l.decoder.datagram(buf, len(b), false, l.sender(), l.now)
	l.decoder.flush()
	return l.records[have:]
}

// refused is the counter of a reason.
func (l *lab) refused(r reason) uint64 { return l.decoder.stats.by[r].Get() }

// unhex reads bytes written as hex with blanks.
func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// message writes v9 and IPFIX datagrams. Lengths and counts are filled in by bytes.
type message struct {
	version  uint16
	uptime   uint32
	export   uint32
	sequence uint32
	domain   uint32
	body     []byte
	sets     int
}

func newMessage(version uint16) *message {
	return &message{version: version, uptime: 1_000_000, export: labExport, domain: 1}
}

func (m *message) set(id uint16, body ...[]byte) *message {
	at := len(m.body)
	m.body = binary.BigEndian.AppendUint16(m.body, id)
	m.body = binary.BigEndian.AppendUint16(m.body, 0)
	for _, b := range body {
		m.body = append(m.body, b...)
	}
	binary.BigEndian.PutUint16(m.body[at+2:], uint16(len(m.body)-at))
	m.sets++
	return m
}

// template writes a template set with one record; fields are pairs of element and length.
func (m *message) template(id uint16, fields ...uint16) *message {
	set := uint16(0)
	if m.version == 10 {
		set = 2
	}
	return m.set(set, u16(append([]uint16{id, uint16(len(fields) / 2)}, fields...)...))
}

// options writes an options template set with one scope field.
func (m *message) options(id uint16, fields ...uint16) *message {
	if m.version == 10 {
		return m.set(3, u16(append([]uint16{id, uint16(len(fields) / 2), 1}, fields...)...))
	}
	return m.set(1, u16(append([]uint16{id, 4, uint16(2*len(fields) - 4)}, fields...)...))
}

func (m *message) bytes() []byte {
	be := binary.BigEndian
	b := be.AppendUint16(nil, m.version)
	if m.version == 9 {
		b = be.AppendUint16(b, uint16(m.sets))
		b = be.AppendUint32(b, m.uptime)
	} else {
		b = be.AppendUint16(b, uint16(16+len(m.body)))
	}
	b = be.AppendUint32(b, m.export)
	b = be.AppendUint32(b, m.sequence)
	b = be.AppendUint32(b, m.domain)
	return append(b, m.body...)
}

func u16(v ...uint16) (b []byte) {
	for _, x := range v {
		b = binary.BigEndian.AppendUint16(b, x)
	}
	return b
}

func u32(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.BigEndian.AppendUint32(b, x)
	}
	return b
}

func u64(v ...uint64) (b []byte) {
	for _, x := range v {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return b
}

// v5 writes a v5 datagram of n records.
func v5(sequence, uptime uint32, sampling uint16, n int) []byte {
	b := u16(5, uint16(n))
	b = append(b, u32(uptime, labExport, 0, sequence)...)
	b = append(b, 0, 7)
	b = append(b, u16(sampling)...)
	for i := range n {
		b = append(b, u32(0x0a000001+uint32(i), 0x0a000002, 0)...)
		b = append(b, u16(3, 4)...)
		b = append(b, u32(10, 1000, uptime-5000, uptime-1000)...)
		b = append(b, u16(40000, 443)...)
		b = append(b, 0, 0x12, 6, 0)
		b = append(b, u32(0, 0)...)
	}
	return b
}
