package flow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fill sets every number in a value to something random, so that a field the stream forgets is noticed.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Int64:
		v.SetInt(int64(r.Uint64()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()) & (1<<v.Type().Bits() - 1))
	case reflect.Bool:
		v.SetBool(r.Uint64()&1 != 0)
	case reflect.String:
		v.SetString(fmt.Sprintf("name-%d.example", r.Uint32()))
	case reflect.Slice:
		n := r.IntN(4)
		if n == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i))
		}
	default:
		panic("a kind of field that the stream does not know: " + v.Kind().String())
	}
}

func randomBatch(r *rand.Rand) *Batch {
	b := &Batch{}
	for i := range reflect.TypeFor[Batch]().NumField() {
		if f := reflect.ValueOf(b).Elem().Field(i); f.CanSet() {
			fill(r, f)
		}
	}
	return b
}

var batches = cmp.Options{cmpopts.IgnoreUnexported(Batch{}), cmpopts.EquateEmpty()}

func newTestWriter(t testing.TB, dir string, limit int64) (*StreamWriter, *metrics.Set, *bytes.Buffer) {
	t.Helper()
	set, out := metrics.NewSet(), &bytes.Buffer{}
	w, err := NewStreamWriter(dir, limit, set, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return w, set, out
}

// What was recorded comes back exactly and in order, over the borders of files.
func TestStreamRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	dir := filepath.Join(t.TempDir(), "recording")
	w, set, _ := newTestWriter(t, dir, 32<<20) // files of 2 MiB
	var want []*Batch
	for i := range 8000 {
		b := randomBatch(r)
		want = append(want, b)
		w.Batch(b)
		w.Watermark(int64(i))
		w.Frame(TagEvent, fmt.Appendf(nil, `{"n":%d}`, i))
	}
	w.Frame('Z', nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := streamFiles(dir)
	if len(files) < 2 {
		t.Fatalf("%d files", len(files))
	}
	s, err := OpenStream(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next := func(tag byte) []byte {
		t.Helper()
		got, payload, err := s.Next()
		if err != nil || got != tag {
			t.Fatalf("tag %q, err %v, want %q", got, err, tag)
		}
		return payload
	}
	got := &Batch{}
	for i, b := range want {
		if err := s.DecodeBatch(next(TagBatch), got); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 || len(b.Names) > 2 {
			if diff := cmp.Diff(b, got, batches); diff != "" {
				t.Fatalf("batch %d: -want +got\n%s", i, diff)
			}
		}
		if n := binary.LittleEndian.Uint64(next(TagWatermark)); n != uint64(i) {
			t.Fatalf("watermark %d, want %d", n, i)
		}
		if e := string(next(TagEvent)); e != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatal(e)
		}
	}
	if p := next('Z'); len(p) != 0 {
		t.Errorf("%d bytes in an empty frame", len(p))
	}
	if _, _, err := s.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if read, total := s.Progress(); read != total || total == 0 || len(s.Notes()) != 0 {
		t.Errorf("read %d of %d, notes %q", read, total, s.Notes())
	}
	if n := set.GetOrCreateCounter("wharfwatch_flow_stream_frames_total").Get(); n != 3*8000+1 {
		t.Errorf("%d frames were counted", n)
	}
}

// A recording stops at its limit, says so once, counts what it leaves out, and keeps its head.
func TestStreamLimit(t *testing.T) {
	dir := t.TempDir()
	w, set, out := newTestWriter(t, dir, 4<<20)
	payload := make([]byte, 1000)
	for i := range 6000 {
		binary.LittleEndian.PutUint32(payload, uint32(i))
		w.Frame(TagEvent, payload)
	}
	w.Batch(&Batch{})
	w.Watermark(1)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	files, _ := streamFiles(dir)
	for _, f := range files {
		info, _ := os.Stat(f)
		size += info.Size()
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
	}
	written, dropped := set.GetOrCreateCounter("wharfwatch_flow_stream_frames_total").Get(), set.GetOrCreateCounter("wharfwatch_flow_stream_frames_dropped_total").Get()
	if size > 4<<20 || size < 4<<20-1100 || written+dropped != 6002 || strings.Count(out.String(), "reached its limit") != 1 {
		t.Errorf("%d bytes, %d written, %d dropped, log %q", size, written, dropped, out)
	}
	if got := count(t, dir); got != written {
		t.Errorf("%d frames in the files, %d written", got, written)
	}
	// Started again, what is there counts.
	w, set, _ = newTestWriter(t, dir, 4<<20)
	w.Frame(TagEvent, make([]byte, 2000))
	w.Close()
	if n := set.GetOrCreateCounter("wharfwatch_flow_stream_frames_dropped_total").Get(); n != 1 {
		t.Errorf("%d dropped after a restart", n)
	}
}

func count(t *testing.T, paths ...string) (n uint64) {
	t.Helper()
	s, err := OpenStream(paths...)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		if _, _, err := s.Next(); err != nil {
			if err != io.EOF {
				t.Fatal(err)
			}
			return n
		}
		n++
	}
}

// A recording that is continued after a kill has a torn frame in its middle: noted, and nothing else is lost.
func TestStreamTorn(t *testing.T) {
	dir := t.TempDir()
	w, _, _ := newTestWriter(t, dir, 1<<20)
	for i := range 10 {
		w.Watermark(int64(i))
	}
	w.Close()
	first := filepath.Join(dir, "stream-000001.wws")
	whole, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	w, _, _ = newTestWriter(t, dir, 1<<20)
	w.Watermark(99)
	w.Close()
	for n := range len(whole) {
		if err := os.WriteFile(first, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenStream(dir)
		if err != nil {
			t.Fatal(err)
		}
		frames := 0
		for {
			_, _, err = s.Next()
			if err != nil {
				break
			}
			frames++
		}
		intact := max(n-streamHeader, 0) / 10
		clean := n >= streamHeader && (n-streamHeader)%10 == 0
		if err != io.EOF || frames != intact+1 || (len(s.Notes()) == 0) != clean {
			t.Errorf("cut at %d: %d frames, want %d, notes %q, err %v", n, frames, intact+1, s.Notes(), err)
		}
	}
}

func TestStreamErrors(t *testing.T) {
	dir := t.TempDir()
	head := streamMagic + "\x04\x00\x00\x00\x01\x00\x00\x00"
	for name, c := range map[string]struct{ file, want string }{
		"not a stream":  {"hello, world and more", "F: not a recorded stream"},
		"short, not it": {"hel", "F: not a recorded stream"},
		"version":       {streamMagic + "\x01\x00\x00\x00\x01\x00\x00\x00", "F: version 1 of the recorded stream, this program reads 4"},
		"zeros":         {head + "B\x00\x00\x00", "F at byte 18: no frame begins with byte 0x0"},
		"length":        {head + "B\xff\xff\xff\xff\x7f", "F at byte 16: a frame of 34359738367 bytes, more than 16777216"},
		"varint":        {head + "B" + strings.Repeat("\xff", 11), "F at byte 16: binary: varint overflows a 64-bit integer"},
	} {
		file := filepath.Join(dir, "x")
		if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenStream(file)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, _, err = s.Next()
		}
		if got := strings.TrimPrefix(strings.ReplaceAll(err.Error(), file, "F"), "read "); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		s.Close()
	}
	if _, err := OpenStream(t.TempDir()); err == nil {
		t.Error("a directory without a recording opened")
	}
	if _, err := OpenStream(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

// Recording costs no allocation per batch, reading none but names.
func TestStreamAllocations(t *testing.T) {
	w, _, _ := newTestWriter(t, t.TempDir(), 1<<30)
	b := &Batch{Source: "capture:docker0", Records: make([]Record, 64), Names: []Name{{Name: "x.example", Addrs: make([]Addr, 2)}}}
	record := func() {
		w.Batch(b)
		w.Watermark(1)
	}
	for range 100 {
		record()
	}
	if n := testing.AllocsPerRun(1000, record); n > 0 {
		t.Errorf("%g allocations to record a batch", n)
	}
	b.Names = nil
	p, s, got := AppendBatch(nil, b), &StreamReader{}, &Batch{}
	read := func() {
		if err := s.DecodeBatch(p, got); err != nil {
			t.Fatal(err)
		}
		got.Source = ""
	}
	read()
	if n := testing.AllocsPerRun(100, read); n > 0 {
		t.Errorf("%g allocations to read a batch", n)
	}
	w.Close()
}

// Hostile recordings end with an error or an end; what decodes encodes to the same bytes.
func FuzzStream(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 9))
	file := []byte(streamMagic + "\x03\x00\x00\x00\x01\x00\x00\x00")
	for range 3 {
		p := AppendBatch(nil, randomBatch(r))
		file = append(append(binary.AppendUvarint(append(file, TagBatch), uint64(len(p))), p...), "W\x08aaaaaaaa"...)
	}
	f.Add(file)
	f.Add(file[:len(file)-3])
	f.Add(append(file[:streamHeader:streamHeader], "B\xff\xff\xff\x07"...))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := NewStreamReader("fuzz", bytes.NewReader(file))
		for b := new(Batch); err == nil; {
			var tag byte
			var payload []byte
			if tag, payload, err = s.Next(); err != nil || tag != TagBatch {
				continue
			}
			if s.DecodeBatch(payload, b) != nil {
				continue
			}
			again := &Batch{}
			if err := s.DecodeBatch(AppendBatch(nil, b), again); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(b, again, batches); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
