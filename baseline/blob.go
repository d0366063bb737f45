package baseline

import (
	"encoding/binary"
	"errors"
	"math"
)

// errBlob is what a reader says of a blob that is not what a writer of this version wrote.
var errBlob = errors.New("torn or unknown state blob")

// writer builds a blob: a version byte, then varints, floats and strings in an order that its reader knows.
type writer struct{ b []byte }

func (w *writer) reset(version byte) { w.b = append(w.b[:0], version) }
func (w *writer) uint(v uint64)      { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) int(v int64)        { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) float(v float64)    { w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(v)) }
func (w *writer) string(s string)    { w.uint(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) bytes(v []byte)     { w.uint(uint64(len(v))); w.b = append(w.b, v...) }
func (w *writer) bool(v bool)        { w.b = append(w.b, boolByte(v)) }

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// reader takes a blob apart. After the first fault every read gives zero; done tells.
type reader struct {
	b   []byte
	bad bool
}

// newReader checks the version.
func newReader(blob []byte, version byte) *reader {
	if len(blob) == 0 || blob[0] != version {
		return &reader{bad: true}
	}
	return &reader{b: blob[1:]}
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things that follow, each at least size bytes long, and refuses what cannot be.
func (r *reader) count(size, limit int) int {
	v := r.uint()
	if v > uint64(limit) || v*uint64(size) > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(v)
}

func (r *reader) float() float64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	if math.IsNaN(v) || math.IsInf(v, 0) {
		r.fail()
		return 0
	}
	return v
}

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) bytes() []byte {
	n := r.count(1, 1<<20)
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) bool() bool {
	if len(r.b) == 0 || r.b[0] > 1 {
		r.fail()
		return false
	}
	v := r.b[0] == 1
	r.b = r.b[1:]
	return v
}

// done returns errBlob unless everything was read and sound.
func (r *reader) done() error {
	if r.bad || len(r.b) > 0 {
		return errBlob
	}
	return nil
}
