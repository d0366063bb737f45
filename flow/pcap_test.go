package flow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/pcapgo"
)

// sample is a few conversations as frames.
func sample(t testing.TB) []timed {
	syn := serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(40000, 443, "S"))
	answer := ip4(UDP)
	answer.SrcIP, answer.DstIP = answer.DstIP, answer.SrcIP
	return []timed{
		{base, syn, 0},
		{base + 1e6, serialize(t, ethernet(typeIPv6), ip6(UDP), udp(5000, 6000), payload(100)), 0},
		{base + 2e6, serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(40000, 443, "PA"), payload(500))[:100], 554},
		{base + 3e9 + 999_999_000, serialize(t, ethernet(typeIPv4), answer, udp(53, 4000), payload(3)), 0},
		{base + 90e9, syn, 0},
	}
}

func readPcap(t testing.TB, file io.Reader) (*collected, *metrics.Set, error) {
	c, set := &collected{}, metrics.NewSet()
	err := OpenPcap("test", file, NewPool(4), set).Run(context.Background(), c.take)
	return c, set, err
}

// All kinds of file give the same records.
func TestPcapKinds(t *testing.T) {
	frames := sample(t)
	want, _, err := readPcap(t, bytes.NewReader(pcapFile(binary.LittleEndian, false, linkEthernet, frames)))
	if err != nil {
		t.Fatal(err)
	}
	if packets, size := sums(want.records); packets != 5 || size != 40+148+540+31+40 {
		t.Fatalf("%d packets, %d bytes: %v", packets, size, want.lines())
	}
	var ng bytes.Buffer
	ngFile(t, &ng, frames)
	for name, file := range map[string][]byte{
		"big endian":  pcapFile(binary.BigEndian, false, linkEthernet, frames),
		"nanoseconds": pcapFile(binary.LittleEndian, true, linkEthernet, frames),
		"both":        pcapFile(binary.BigEndian, true, linkEthernet, frames),
		"pcapng":      ng.Bytes(),
	} {
		for _, r := range []io.Reader{bytes.NewReader(file), &stutter{b: file}} {
			got, _, err := readPcap(t, r)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if diff := cmp.Diff(want.records, got.records); diff != "" {
				t.Errorf("%s: -want +got\n%s", name, diff)
			}
		}
	}
}

// stutter gives a few bytes at a time.
type stutter struct {
	b []byte
	n int
}

func (s *stutter) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	s.n = s.n%7 + 1
	n := copy(p[:min(s.n, len(p))], s.b)
	s.b = s.b[n:]
	return n, nil
}

// The frames and times of a pcapng file are those that gopacket reads.
func TestPcapngOracle(t *testing.T) {
	frames := sample(t)
	var file bytes.Buffer
	ngFile(t, &file, frames)
	theirs, err := pcapgo.NewNgReader(bytes.NewReader(file.Bytes()), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	var ours frameReader
	if err := ours.open(bytes.NewReader(file.Bytes())); err != nil {
		t.Fatal(err)
	}
	for i := range frames {
		data, info, err := theirs.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		link, frame, wire, now, err := ours.next()
		if err != nil {
			t.Fatal(err)
		}
		if link != linkEthernet || !bytes.Equal(frame, data) || wire != info.Length || now != info.Timestamp.UnixNano() {
			t.Errorf("frame %d: %d %d %d, gopacket %d %d %d", i, len(frame), wire, now, len(data), info.Length, info.Timestamp.UnixNano())
		}
	}
	if _, _, _, _, err := ours.next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestPcapngTime(t *testing.T) {
	for _, c := range []struct {
		i    ngInterface
		v    uint64
		want int64
	}{
		{ngInterface{units: 1e6}, 1_700_000_000_123_456, 1_700_000_000_123_456_000},
		{ngInterface{units: 1e9}, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789},
		{ngInterface{units: 1 << 32}, 1_700_000_000<<32 | 1<<31, 1_700_000_000_500_000_000},
		{ngInterface{units: 1}, 17, 17e9},
		{ngInterface{units: 1e6, shift: 100}, 5e6, 105e9},
		{ngInterface{units: 1}, math.MaxUint64, 0},
		{ngInterface{units: 1, shift: math.MaxInt64}, 1, 0},
		{ngInterface{units: 1e6, shift: -100}, 5e6, 0},
	} {
		if got := c.i.time(c.v); got != c.want {
			t.Errorf("%+v %d: %d, want %d", c.i, c.v, got, c.want)
		}
	}
}

// A file that ends anywhere gives what was in it before; only one that gives nothing is an error.
func TestPcapCut(t *testing.T) {
	frames := sample(t)
	var ng bytes.Buffer
	ngFile(t, &ng, frames)
	for name, file := range map[string][]byte{"pcap": pcapFile(binary.LittleEndian, false, linkEthernet, frames), "pcapng": ng.Bytes()} {
		before := uint64(0)
		for n := range len(file) {
			if n%2 == 1 && n != len(file)-1 { // every second length, and the last
				continue
			}
			c, set, err := readPcap(t, bytes.NewReader(file[:n]))
			packets, _ := sums(c.records)
			if packets < before || packets > 5 {
				t.Fatalf("%s cut at %d: %d packets after %d", name, n, packets, before)
			}
			before = packets
			cut := set.GetOrCreateCounter("wharfwatch_flow_files_truncated_total").Get()
			if packets > 0 && err != nil {
				t.Errorf("%s cut at %d: %v", name, n, err)
			}
			if packets == 0 && err == nil && n != 24 && name == "pcap" {
				t.Errorf("%s cut at %d: no error and nothing read", name, n)
			}
			if n == len(file)-1 && (cut != 1 || packets != 4) {
				t.Errorf("%s without its last byte: %d packets, truncated %d", name, packets, cut)
			}
		}
	}
}

func TestPcapErrors(t *testing.T) {
	huge := pcapFile(binary.LittleEndian, false, linkEthernet, sample(t)[:1])
	more := append(bytes.Clone(huge), make([]byte, 16)...)
	binary.LittleEndian.PutUint32(more[len(huge)+8:], 1<<30)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":       {nil, "read test: not a pcap or pcapng file"},
		"text":        {[]byte("ts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\n"), "read test: not a pcap or pcapng file"},
		"huge packet": {more, "read test at byte 100: a packet of 1073741824 bytes, more than 262144"},
	} {
		_, _, err := readPcap(t, bytes.NewReader(c.file))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, _, _ := readPcap(t, bytes.NewReader(more))
	if len(c.records) != 1 {
		t.Errorf("what stood before the bad packet: %d records", len(c.records))
	}
	broken := io.MultiReader(bytes.NewReader(huge), &failing{})
	if _, _, err := readPcap(t, broken); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("a read error: %v", err)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

// A done context ends the reading cleanly, with what was counted.
func TestPcapContext(t *testing.T) {
	var frames []timed
	for range 2000 {
		frames = append(frames, sample(t)[0])
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := &collected{}
	err := OpenPcap("x", bytes.NewReader(pcapFile(binary.LittleEndian, false, 1, frames)), NewPool(1), metrics.NewSet()).Run(ctx, c.take)
	if packets, _ := sums(c.records); err != nil || packets != 0 {
		t.Errorf("%v, %d packets", err, packets)
	}
}

// Event time moves with the file: batches carry the time of the newest packet, and no batch waits longer than a second of it.
func TestPcapWatermark(t *testing.T) {
	var frames []timed
	syn := sample(t)[0].frame
	for i := range 300 {
		frames = append(frames, timed{base + int64(i)*100e6, syn, 0})
	}
	c, _, err := readPcap(t, bytes.NewReader(pcapFile(binary.LittleEndian, true, 1, frames)))
	if err != nil || len(c.marks) < 90 {
		t.Fatalf("%v, %d batches", err, len(c.marks))
	}
	for i, m := range c.marks {
		if i > 0 && (m < c.marks[i-1] || m > c.marks[i-1]+second) {
			t.Errorf("watermark %d follows %d", m-base, c.marks[i-1]-base)
		}
	}
	if last := c.marks[len(c.marks)-1]; last != frames[299].at {
		t.Errorf("the last watermark is %v after the last packet", time.Duration(last-frames[299].at))
	}
}

func TestProgressReader(t *testing.T) {
	file := pcapFile(binary.LittleEndian, false, 1, sample(t))
	p := NewProgressReader(bytes.NewReader(file))
	if _, _, err := readPcap(t, p); err != nil || p.Bytes() != int64(len(file)) {
		t.Errorf("%v, %d bytes of %d", err, p.Bytes(), len(file))
	}
}

// Whatever the file holds, reading it ends, and packets are conserved.
func FuzzPcap(f *testing.F) {
	frames := sample(f)
	var ng bytes.Buffer
	ngFile(f, &ng, frames)
	f.Add(ng.Bytes())
	f.Add(pcapFile(binary.LittleEndian, false, linkEthernet, frames))
	f.Add(pcapFile(binary.BigEndian, true, linkRaw, frames))
	r := rand.New(rand.NewPCG(1, 1))
	for range 4 {
		b := bytes.Clone(ng.Bytes())
		b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		c, set, _ := readPcap(t, bytes.NewReader(file))
		packets, _ := sums(c.records)
		m := newTapMeter(set)
		for v := used + 1; v < numVerdict; v++ {
			packets += m.ignored[v].Get()
		}
		if packets != m.packets.Get() {
			t.Errorf("%d packets of %d", packets, m.packets.Get())
		}
	})
}
