package flow

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// The recorded stream: everything that entered the engine, in order, so that a replay gives the same findings bit for bit.
//
//	file     "wwstream"  version uint32  number uint32   then frames to the end of the file; stream-000001.wws, -000002, …
//	frame    tag byte    length uvarint  payload
//
// All numbers are little endian. Tags are the letters below; a reader hands on those that it does not know.
const (
	streamMagic   = "wwstream"
	streamVersion = 4
	streamHeader  = 16

	maxFrame  = 16 << 20
	maxString = 1 << 12

	recordSize = 149
	nameSize   = 59 // the least of a name
	sightSize  = 61
)

// Tags of frames.
const (
	TagBatch     = 'B' // a Batch
	TagEvent     = 'E' // an engine event, JSON by enrich
	TagWatermark = 'W' // the engine's event time moved: 8 bytes, ns
	TagState     = 'S' // state restored at the start
)

// StreamWriter writes the recorded stream into a directory, in files of a sixteenth of the limit (1 to 256 MiB). At the limit
// it stops, says so once and counts what it leaves out: the head of a recording is never deleted. Write errors stop it the same way.
// One goroutine uses it. What was flushed survives a kill -9.
type StreamWriter struct {
	dir         string
	limit, size int64 // bytes in all, bytes of one file
	total, file int64 // written
	number      int   // of the present file
	f           *os.File
	buf         []byte // frames not yet in the file
	scratch     []byte // one payload
	stopped     bool
	err         error
	log         *slog.Logger

	frames, bytes, dropped *metrics.Counter
}

const streamBuffer = 256 << 10

// NewStreamWriter opens a recording. A directory that holds one is continued with the next number; its size counts.
func NewStreamWriter(dir string, limit int64, set *metrics.Set, log *slog.Logger) (*StreamWriter, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("record into %s: %w", dir, err)
	}
	w := &StreamWriter{
		dir: dir, limit: limit, size: min(max(limit/16, 1<<20), 256<<20), log: log, buf: make([]byte, 0, streamBuffer+maxString),
		frames:  set.GetOrCreateCounter("wharfwatch_flow_stream_frames_total"),
		bytes:   set.GetOrCreateCounter("wharfwatch_flow_stream_bytes_total"),
		dropped: set.GetOrCreateCounter("wharfwatch_flow_stream_frames_dropped_total"),
	}
	old, err := streamFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("record into %s: %w", dir, err)
	}
	for _, name := range old {
		if info, err := os.Stat(name); err == nil {
			w.total += info.Size()
		}
		fmt.Sscanf(filepath.Base(name), "stream-%d.wws", &w.number)
	}
	if err := w.next(); err != nil {
		return nil, err
	}
	return w, nil
}

// streamFiles lists the files of a recording in their order.
func streamFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "stream-") && strings.HasSuffix(e.Name(), ".wws") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, err
}

// next starts a file.
func (w *StreamWriter) next() error {
	if w.f != nil {
		if err := w.f.Close(); err != nil {
			return fmt.Errorf("record into %s: %w", w.dir, err)
		}
		w.f = nil
	}
	w.number++
	name := filepath.Join(w.dir, fmt.Sprintf("stream-%06d.wws", w.number))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("record into %s: %w", w.dir, err)
	}
	w.f, w.file = f, 0
	w.buf = append(w.buf, streamMagic...)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, streamVersion)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(w.number))
	w.file += streamHeader
	w.total += streamHeader
	return nil
}

// Batch records what a source handed over.
func (w *StreamWriter) Batch(b *Batch) {
	if w.stopped {
		w.dropped.Inc()
		return
	}
	w.scratch = AppendBatch(w.scratch[:0], b)
	w.Frame(TagBatch, w.scratch)
}

// Watermark records that the engine's event time moved to now.
func (w *StreamWriter) Watermark(now int64) {
	w.scratch = binary.LittleEndian.AppendUint64(w.scratch[:0], uint64(now))
	w.Frame(TagWatermark, w.scratch)
}

// Frame records an item of another room. The payload is at most 16 MiB and is not kept.
func (w *StreamWriter) Frame(tag byte, payload []byte) {
	if w.stopped {
		w.dropped.Inc()
		return
	}
	if len(payload) > maxFrame {
		w.dropped.Inc()
		w.log.Warn("a frame is too large to be recorded", "tag", string(rune(tag)), "bytes", len(payload))
		return
	}
	size := int64(1 + uvarintSize(uint64(len(payload))) + len(payload))
	if w.total+size+streamHeader > w.limit { // with the header of the file it may begin
		w.stop(nil)
		w.dropped.Inc()
		return
	}
	if w.file+size > w.size && w.file > streamHeader {
		w.flush()
		if err := w.next(); err != nil && !w.stopped {
			w.stop(err)
		}
		if w.stopped {
			w.dropped.Inc()
			return
		}
	}
	w.buf = append(w.buf, tag)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(payload)))
	w.buf = append(w.buf, payload...)
	w.total += size
	w.file += size
	w.frames.Inc()
	w.bytes.AddInt64(size)
	if len(w.buf) >= streamBuffer {
		w.flush()
	}
}

func uvarintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// stop ends the recording for good; what was written stays.
func (w *StreamWriter) stop(err error) {
	if w.stopped {
		return
	}
	w.stopped, w.err = true, err
	if err != nil {
		w.log.Error("the recording stopped", "dir", w.dir, "err", err)
		return
	}
	w.flush()
	w.log.Warn("the recording reached its limit and stopped: move it away or raise the limit", "dir", w.dir, "limit_bytes", w.limit)
}

func (w *StreamWriter) flush() {
	if w.f == nil || len(w.buf) == 0 {
		return
	}
	_, err := w.f.Write(w.buf)
	w.buf = w.buf[:0]
	if err != nil {
		w.stop(fmt.Errorf("record into %s: %w", w.dir, err))
	}
}

// Flush hands what was recorded to the operating system.
func (w *StreamWriter) Flush() { w.flush() }

// Close ends the recording; the error is the first that happened.
func (w *StreamWriter) Close() error {
	w.flush()
	if w.f != nil {
		err := w.f.Close()
		w.f = nil
		if err != nil {
			w.stop(fmt.Errorf("record into %s: %w", w.dir, err))
		}
	}
	w.stopped = true
	return w.err
}
