package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

const (
	tailEvery = 250 * time.Millisecond
	tailRead  = 256 << 10
	tailLag   = 5 * sec // how long what writes a log may hold a row back; rows that come later are late, not lost
	tailHead  = 1 << 16 // bytes of header lines that are read at the start
)

// Tail is a Source that follows a log while it is written: it waits for a file that is not there yet, goes on with the new file after a
// rotation when the old one is read to its end, and begins anew when the file was truncated. At the start it begins at the end of the file:
// what was written before belongs to an earlier run. Its watermark is the present less five seconds.
type Tail struct {
	path   string
	format LogFormat
	name   string
	pool   Pool
	log    *slog.Logger
	meter  *rowMeter
	turns  *metrics.Counter

	file   *os.File
	offset int64
	rest   []byte // of a line whose end is not written yet
	skip   bool   // the line at hand is too long, or began before we did
	parser rowParser
	buf    []byte
	out    *Batch

	mu     sync.Mutex
	status TailStatus
}

// TailStatus says how a Tail is doing.
type TailStatus struct {
	Source  string // as in Batch.Source
	Open    bool   // the file is there
	Rows    uint64 // lines read
	LastRow int64  // arrival of the newest, ns; 0 none
	Err     string // why it cannot be read, "" for none and for a file that is not there
}

// OpenTail follows the log at path, which need not exist yet.
func OpenTail(path string, format LogFormat, pool Pool, set *metrics.Set, log *slog.Logger) *Tail {
	t := &Tail{
		path: path, format: format, name: string(format) + ":" + path, pool: pool, log: log, meter: newRowMeter(format, set), buf: make([]byte, tailRead),
		turns: set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_log_files_total{format=%q}", format)),
	}
	t.status.Source = t.name
	return t
}

// Status may be called by any goroutine.
func (t *Tail) Status() TailStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// Run follows the log until ctx ends.
func (t *Tail) Run(ctx context.Context, emit func(*Batch)) error {
	defer t.close()
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	t.report(t.open(true))
	for beat := int64(0); ; {
		now := time.Now().UnixNano()
		err := t.follow(emit, now)
		if t.out == nil && t.file != nil && now-beat >= sec { // nothing was written: that is news too
			t.batch()
		}
		if t.out != nil {
			beat = now
			t.flush(emit, now)
		}
		t.report(err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// report keeps the status, and says an error once.
func (t *Tail) report(err error) {
	text := ""
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		text = err.Error()
	}
	t.mu.Lock()
	fresh := text != "" && text != t.status.Err
	t.status.Open, t.status.Err = t.file != nil, text
	t.mu.Unlock()
	if fresh {
		t.log.Warn("a log cannot be read; it is tried again", "path", t.path, "err", err)
	}
}

// open opens the file; atEnd is for the first time, when what stands in it belongs to an earlier run.
func (t *Tail) open(atEnd bool) error {
	f, err := os.Open(t.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", t.path)
	}
	if err != nil {
		f.Close()
		return err
	}
	t.turns.Inc()
	t.file, t.offset, t.rest, t.skip, t.parser = f, 0, t.rest[:0], false, t.format.parser()
	if atEnd {
		t.header()
		t.offset = info.Size()
		var last [1]byte
		if _, err := f.ReadAt(last[:], t.offset-1); err == nil && last[0] != '\n' {
			t.skip = true
		}
	}
	return nil
}

// header shows the parser the lines at the beginning of the file that name its columns.
func (t *Tail) header() {
	head := make([]byte, tailHead)
	n, _ := t.file.ReadAt(head, 0) // what cannot be read fails again when it is followed
	for line := range bytes.Lines(head[:n]) {
		if line[0] != '#' || line[len(line)-1] != '\n' {
			return
		}
		t.parser.line(bytes.TrimRight(line, "\r\n"), discard{})
	}
}

type discard struct{}

func (discard) record(*Record) {}
func (discard) sayName(*Name)  {}

func (t *Tail) close() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
}

// follow reads what was written since, over a rotation if there was one.
func (t *Tail) follow(emit func(*Batch), now int64) error {
	if t.file == nil {
		if err := t.open(false); err != nil {
			return err
		}
	}
	for {
		at, err := os.Stat(t.path) // before the end is reached: what was written before a rotation is read
		mine, err2 := t.file.Stat()
		if err2 != nil {
			t.close()
			return err2
		}
		if mine.Size() < t.offset {
			t.log.Info("a log was truncated: it is read from its beginning", "path", t.path)
			t.offset, t.rest, t.skip, t.parser = 0, t.rest[:0], false, t.format.parser()
		}
		if err := t.read(emit, now); err != nil {
			t.close()
			return err
		}
		if err == nil && os.SameFile(at, mine) {
			return nil
		}
		t.last() // a rotated file gets no more
		t.close()
		if err != nil {
			return err
		}
		if err := t.open(false); err != nil {
			return err
		}
	}
}

// read reads to the end of the file as it is now.
func (t *Tail) read(emit func(*Batch), now int64) error {
	for {
		n, err := t.file.ReadAt(t.buf, t.offset)
		t.offset += int64(n)
		t.lines(t.buf[:n], emit, now)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", t.path, err)
		}
	}
}

// lines takes bytes of the file.
func (t *Tail) lines(b []byte, emit func(*Batch), now int64) {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			switch {
			case t.skip:
			case len(t.rest)+len(b) > logLine:
				t.meter.count(rowLong)
				t.rest, t.skip = t.rest[:0], true
			default:
				t.rest = append(t.rest, b...)
			}
			return
		}
		line := b[:end]
		if len(t.rest) > 0 {
			t.rest = append(t.rest, line...)
			line = t.rest
		}
		if !t.skip {
			t.line(line, now)
		}
		t.rest, t.skip = t.rest[:0], false
		b = b[end+1:]
		if t.out != nil && len(t.out.Records)+len(t.out.Names) >= batchRecords {
			t.flush(emit, now)
		}
	}
}

// last takes a line without an end, when no more of it will come.
func (t *Tail) last() {
	if len(t.rest) > 0 && !t.skip {
		t.line(t.rest, time.Now().UnixNano())
	}
	t.rest = t.rest[:0]
}

func (t *Tail) line(b []byte, now int64) {
	t.meter.line(t.parser, b, t)
	t.mu.Lock()
	t.status.Rows++
	t.status.LastRow = now
	t.mu.Unlock()
}

func (t *Tail) batch() *Batch {
	if t.out == nil {
		t.out = t.pool.Get()
	}
	return t.out
}

func (t *Tail) record(r *Record) {
	b := t.batch()
	b.Records = append(b.Records, *r)
}

func (t *Tail) sayName(n *Name) {
	b := t.batch()
	b.Names = append(b.Names, *n)
}

func (t *Tail) flush(emit func(*Batch), now int64) {
	b := t.out
	t.out = nil
	b.Source, b.Arrival, b.Watermark = t.name, now, now-tailLag
	emit(b)
}

// tails follows the logs of a Config. Those that are not there yet are waited for.
func (c Config) tails(pool Pool, set *metrics.Set, log *slog.Logger) (sources []Source, notes []string) {
	add := func(paths []string, format LogFormat) {
		for _, path := range paths {
			if path == "off" {
				continue
			}
			note := fmt.Sprintf("following the %s log %s", format, path)
			if _, err := os.Stat(path); err != nil {
				note = fmt.Sprintf("following the %s log %s as soon as it can be read: %v", format, path, err)
			}
			sources, notes = append(sources, OpenTail(path, format, pool, set, log)), append(notes, note)
		}
	}
	add(c.Zeek, LogZeek)
	add(c.EVE, LogEVE)
	return sources, notes
}

// validateLogs reports what is wrong with the lists of logs.
func (c Config) validateLogs(report func(path, message string)) {
	seen := map[string]bool{}
	for _, l := range []struct {
		key   string
		paths []string
	}{{"zeek", c.Zeek}, {"eve", c.EVE}} {
		for i, p := range l.paths {
			path := fmt.Sprintf("%s[%d]", l.key, i)
			switch {
			case p == "":
				report(path, "it names no file")
			case p == "off" && len(l.paths) > 1:
				report(path, `"off" must be the only value`)
			case p != "off" && seen[p]:
				report(path, fmt.Sprintf("%q is followed twice", p))
			}
			seen[p] = true
		}
	}
}
