package flow

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
)

// nfcapdFixtures were written by nfcapd, see testdata/make.sh.
var nfcapdFixtures = []string{"plain", "lzo", "lz4", "bz2", "sampled"}

// readAll runs a source and returns what it hands over.
func readAll(t testing.TB, s Source) (records []Record, names []Name, err error) {
	t.Helper()
	err = s.Run(context.Background(), func(b *Batch) {
		records, names = append(records, b.Records...), append(names, b.Names...)
		b.Free()
	})
	return records, names, err
}

func readNfcapd(t testing.TB, b []byte) ([]Record, *metrics.Set, error) {
	set := metrics.NewSet()
	records, _, err := readAll(t, OpenNfcapd("x", bytes.NewReader(b), NewPool(2), set))
	return records, set, err
}

// The records of a file are those that nfdump prints of it, whatever it is packed with.
func TestNfcapd(t *testing.T) {
	for _, name := range nfcapdFixtures {
		t.Run(name, func(t *testing.T) {
			file, err := os.ReadFile("testdata/" + name + ".nfcapd")
			if err != nil {
				t.Fatal(err)
			}
			said, err := os.ReadFile("testdata/" + name + ".nfcapd.csv")
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]int{}
			for line := range strings.Lines(string(said)) {
				want[nfdumpLine(t, line)]++
			}
			records, set, err := readNfcapd(t, file)
			if err != nil || len(records) == 0 {
				t.Fatalf("%d records, %v", len(records), err)
			}
			got := map[string]int{}
			for i := range records {
				r := &records[i]
				if i > 0 && r.Last < records[i-1].Last {
					t.Errorf("record %d ends before the one before it", i)
				}
				if wanted := map[bool]uint32{true: 100, false: 1}[name == "sampled"]; r.Sampling != wanted || r.Flags&FlagSamplingUnknown != 0 {
					t.Errorf("sampling 1:%d, flags %d", r.Sampling, r.Flags)
				}
				bytes, packets := r.Scaled()
				got[fmt.Sprint(r.First/milli, (r.Last-r.First)/milli, r.Src, r.SrcPort, r.Dst, r.DstPort, r.Proto, r.TCPFlags, bytes, packets, r.Exporter)]++
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-nfdump +got):\n%s", diff)
			}
			if n := set.GetOrCreateCounter(`wharfwatch_flow_records_total{version="nfcapd"}`).Get(); int(n) != len(records) {
				t.Errorf("counted %d of %d", n, len(records))
			}
		})
	}
}

// nfdumpLine reads a line of nfdump -o fmt:%tsr,%td,%sa,%sp,%da,%dp,%pr,%flg,%byt,%pkt,%ra.
func nfdumpLine(t *testing.T, line string) string {
	f := strings.Split(line, ",")
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	ms := func(s string) int64 {
		n, err := strconv.ParseInt(strings.Replace(s, ".", "", 1), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	port := f[5]
	if kind, code, icmp := strings.Cut(port, "."); icmp {
		k, _ := strconv.Atoi(kind)
		c, _ := strconv.Atoi(code)
		port = strconv.Itoa(k<<8 | c)
	}
	flags := 0
	for bit, letter := range "FSRPAU" {
		if strings.ContainsRune(f[7], letter) {
			flags |= 1 << bit
		}
	}
	return strings.Join([]string{fmt.Sprint(ms(f[0]), ms(f[1])), f[2], f[3], f[4], port, f[6], strconv.Itoa(flags), f[8], f[9], f[10]}, " ")
}

// A file that is cut off, at any byte, gives the records of its whole blocks, and says so.
func TestNfcapdCut(t *testing.T) {
	file, err := os.ReadFile("testdata/plain.nfcapd")
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(file[24:], 0) // as nfcapd leaves it while it writes
	binary.LittleEndian.PutUint32(file[36:], 0)
	for n := range file {
		records, set, err := readNfcapd(t, file[:n])
		switch {
		case n < nfHeader && err == nil:
			t.Fatalf("%d bytes are a file", n)
		case n > nfHeader && n < 1500 && (err != nil || len(records) != 0 || set.GetOrCreateCounter("wharfwatch_flow_files_truncated_total").Get() != 1):
			t.Fatalf("cut at %d: %d records, %v", n, len(records), err)
		}
	}
}

// The same file as a machine of the other byte order writes it is read alike; only its numbers differ.
func TestNfcapdOrder(t *testing.T) {
	be := binary.BigEndian
	b := make([]byte, nfHeader)
	be.PutUint16(b, nfMagic)
	be.PutUint16(b[2:], 2)
	be.PutUint32(b[36:], 1)
	rec := make([]byte, 12)
	be.PutUint16(rec, nfFlow)
	element := func(kind uint16, body []byte) {
		rec = be.AppendUint16(be.AppendUint16(rec, kind), uint16(len(body)+4))
		rec = append(rec, body...)
	}
	generic := make([]byte, 48)
	be.PutUint64(generic, 1000)
	be.PutUint64(generic[8:], 2000)
	be.PutUint64(generic[24:], 3)
	be.PutUint64(generic[32:], 300)
	be.PutUint16(generic[40:], 40000)
	be.PutUint16(generic[42:], 443)
	generic[44] = TCP
	element(nfGeneric, generic)
	element(nfIPv4, []byte{10, 0, 0, 1, 10, 0, 0, 2})
	element(nfOut, be.AppendUint64(be.AppendUint64(make([]byte, 8), 2), 200))
	element(nfNAT4, []byte{192, 0, 2, 1, 10, 0, 0, 2})
	element(nfNATPorts, []byte{0, 7, 1, 187})
	element(nfVLAN, []byte{0, 0, 0, 12, 0, 0, 0, 0})
	be.PutUint16(rec[2:], uint16(len(rec)))
	b = be.AppendUint32(be.AppendUint32(b, 1), uint32(len(rec)))
	b = append(append(b, 0, 3, 0, 0), rec...)
	got, _, err := readNfcapd(t, b)
	if err != nil {
		t.Fatal(err)
	}
	a, z := Addr4(0x0a000001), Addr4(0x0a000002)
	want := []Record{
		{First: sec, Last: 2 * sec, Src: a, Dst: z, SrcPort: 40000, DstPort: 443, Proto: TCP, Packets: 3, Bytes: 300, Sampling: 1, VLAN: 12, NATSrc: Addr4(0xc0000201), NATDst: z, NATSrcPort: 7, NATDstPort: 443},
		{First: sec, Last: 2 * sec, Src: z, Dst: a, SrcPort: 443, DstPort: 40000, Proto: TCP, Packets: 2, Bytes: 200, Sampling: 1, VLAN: 12, NATSrc: z, NATDst: Addr4(0xc0000201), NATSrcPort: 443, NATDstPort: 7, Flags: FlagReply},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzNfcapd(f *testing.F) {
	for _, name := range nfcapdFixtures {
		b, err := os.ReadFile("testdata/" + name + ".nfcapd")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		records, set, _ := readNfcapd(t, b)
		rows, ignored := set.GetOrCreateCounter(`wharfwatch_flow_log_rows_total{format="nfcapd"}`).Get(), uint64(0)
		for _, reason := range []string{rowMalformed, rowOther} {
			ignored += set.GetOrCreateCounter(fmt.Sprintf(`wharfwatch_flow_log_rows_ignored_total{format="nfcapd",reason=%q}`, reason)).Get()
		}
		if ignored > rows || rows-ignored > uint64(len(records)) {
			t.Errorf("%d rows, %d ignored, %d records", rows, ignored, len(records))
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{0x11, 0, 0}, true)
	f.Add([]byte("\x1babcdefghij\x2a\x01\x00\x11\x00\x00"), true)
	f.Add([]byte("\x1fab\x02\x00\x50zzzzz"), false)
	f.Fuzz(func(t *testing.T, b []byte, lzo bool) {
		const bound = 1 << 16
		unpack := unpackLZ4
		if lzo {
			unpack = unpackLZO
		}
		out, _ := unpack(nil, b, bound)
		if len(out) > bound {
			t.Errorf("%d bytes out of %d", len(out), len(b))
		}
	})
}

// Overlapping repetitions, long counts and bounds of the two unpackers, by streams made by hand from the descriptions of their formats.
func TestUnpack(t *testing.T) {
	long := strings.Repeat("ab", 500)
	for _, c := range []struct {
		name   string
		unpack func(out, in []byte, bound int) ([]byte, error)
		in     string
		want   string
		ok     bool
	}{
		{"lz4: two literals, then 798 bytes from two before, then an end", unpackLZ4, "\x2fab\x02\x00\xff\xff\xff\x0e\x00", long[:2+4+15+3*255+14], true},
		{"lz4: from before the beginning", unpackLZ4, "\x20ab\x03\x00\x00", "", false},
		{"lz4: from nowhere", unpackLZ4, "\x20ab\x00\x00\x00", "", false},
		{"lz4: more literals than there are", unpackLZ4, "\x50ab", "", false},
		{"lz4: a count without an end", unpackLZ4, "\xf0\xff\xff", "", false},
		{"lzo: two literals, then 798 bytes from two before", unpackLZO, "\x13ab\x20\x00\x00\x00\x06\x04\x00\x11\x00\x00", long[:2+2+31+3*255+6], true},
		{"lzo: four literals, and the end", unpackLZO, "\x15abcd\x11\x00\x00", "abcd", true},
		{"lzo: a long run of literals", unpackLZO, "\x00\x01" + long[:19] + "\x11\x00\x00", long[:19], true},
		{"lzo: from before the beginning", unpackLZO, "\x13ab\x20\x01\x10\x00\x11\x00\x00", "", false},
		{"lzo: no end", unpackLZO, "\x15abcd", "", false},
		{"lzo: something behind the end", unpackLZO, "\x15abcd\x11\x00\x00x", "", false},
	} {
		out, err := c.unpack(nil, []byte(c.in), 1<<16)
		if (err == nil) != c.ok || c.ok && string(out) != c.want {
			t.Errorf("%s: %d bytes %.40q, %v; want %d", c.name, len(out), out, err, len(c.want))
		}
		if out, err := c.unpack(nil, []byte(c.in), 3); err == nil || len(out) > 3 {
			t.Errorf("%s: %d bytes where 3 fit, %v", c.name, len(out), err)
		}
	}
}
