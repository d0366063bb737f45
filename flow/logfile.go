package flow

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/VictoriaMetrics/metrics"
)

// logLine is the longest line of a log that is read.
const logLine = 1 << 20

// LogFormat names a kind of log.
type LogFormat string

// The logs that are read.
const (
	LogZeek LogFormat = "zeek" // Zeek's conn, dns, ssl, quic and http logs, tab-separated or JSON
	LogEVE  LogFormat = "eve"  // Suricata's eve.json: flow, netflow, dns, tls, quic and http events
)

func (f LogFormat) parser() rowParser {
	if f == LogEVE {
		return &eve{}
	}
	return newZeek()
}

// LogFile is one log to be read; it is opened when its turn comes.
type LogFile struct {
	Name string
	Open func() (io.ReadCloser, error)
}

// OpenLogs reads logs of one format. Each of groups is a list of files that follow each other in time, such as all conn logs; the groups
// are read side by side and merged, so that the names of a dns log meet the connections of a conn log. Rows come in the order of the end of
// their connection as far as 262,144 of them can wait for their turn. name stands in Batch.Source behind the format.
func OpenLogs(name string, format LogFormat, groups [][]LogFile, pool Pool, set *metrics.Set) Source {
	return &logFiles{name: name, format: format, groups: groups, pool: pool, meter: newRowMeter(format, set)}
}

type logFiles struct {
	name   string
	format LogFormat
	groups [][]LogFile
	pool   Pool
	meter  *rowMeter
}

// rowMeter are the counters of the rows of one format.
type rowMeter struct {
	rows, records *metrics.Counter
	ignored       map[string]*metrics.Counter
	out           rowSink
}

func newRowMeter(format LogFormat, set *metrics.Set) *rowMeter {
	m := &rowMeter{
		rows:    set.GetOrCreateCounter(fmt.Sprintf(`wharfwatch_flow_log_rows_total{format=%q}`, format)),
		records: set.GetOrCreateCounter(fmt.Sprintf(`wharfwatch_flow_records_total{version=%q}`, format)),
		ignored: make(map[string]*metrics.Counter),
	}
	for _, reason := range rowReasons {
		m.ignored[reason] = set.GetOrCreateCounter(fmt.Sprintf(`wharfwatch_flow_log_rows_ignored_total{format=%q,reason=%q}`, format, reason))
	}
	return m
}

// line counts what becomes of one line. Header lines and empty ones are no rows.
func (m *rowMeter) line(p rowParser, b []byte, out rowSink) (at int64) {
	b = bytes.TrimRight(b, "\r\n")
	reason := ""
	m.out = out
	reason, at = p.line(b, m)
	if len(b) == 0 || b[0] == '#' {
		return at
	}
	m.count(reason)
	return at
}

func (m *rowMeter) count(reason string) {
	m.rows.Inc()
	if reason != rowUsed {
		m.ignored[reason].Inc()
	}
}

func (m *rowMeter) record(r *Record) {
	m.records.Inc()
	m.out.record(r)
}

func (m *rowMeter) sayName(n *Name) { m.out.sayName(n) }

// cursor reads the files of one group.
type cursor struct {
	files  []LogFile
	format LogFormat
	name   string
	file   io.ReadCloser
	lines  lineReader
	parser rowParser
	at     int64 // how far it has come
	done   bool
}

func (s *logFiles) Run(ctx context.Context, emit func(*Batch)) (err error) {
	out := newOrder(string(s.format)+":"+s.name, s.pool, emit)
	var cursors []*cursor
	for _, files := range s.groups {
		cursors = append(cursors, &cursor{files: files, format: s.format, at: math.MinInt64})
	}
	defer func() {
		for _, c := range cursors {
			if c.file != nil {
				c.file.Close()
			}
		}
		out.drain()
	}()
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil
		}
		var next *cursor
		for _, c := range cursors {
			if !c.done && (next == nil || c.at < next.at) {
				next = c
			}
		}
		if next == nil {
			return nil
		}
		if err := next.read(s.meter, out); err != nil {
			return err
		}
	}
}

// read takes one line.
func (c *cursor) read(m *rowMeter, out *order) error {
	if c.file == nil {
		if len(c.files) == 0 {
			c.done = true
			return nil
		}
		var err error
		if c.file, err = c.files[0].Open(); err != nil {
			return err
		}
		c.name, c.files = c.files[0].Name, c.files[1:]
		c.lines.reset(c.file)
		c.parser = c.format.parser()
	}
	b, whole, err := c.lines.next()
	if !whole {
		m.count(rowLong)
	} else if len(b) > 0 {
		c.at = max(c.at, m.line(c.parser, b, out))
	}
	switch {
	case errors.Is(err, io.EOF):
		err = c.file.Close()
		c.file = nil
	case err != nil:
		err = fmt.Errorf("read %s: %w", c.name, err)
	}
	return err
}

// lineReader reads lines of at most logLine bytes.
type lineReader struct{ r *bufio.Reader }

func (l *lineReader) reset(r io.Reader) {
	if l.r == nil {
		l.r = bufio.NewReaderSize(r, logLine)
		return
	}
	l.r.Reset(r)
}

// next returns a line with its end, valid until the next call; whole is false for one that was too long and was passed over. The last
// line comes with io.EOF, and may be empty.
func (l *lineReader) next() (b []byte, whole bool, err error) {
	b, err = l.r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return b, true, err
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = l.r.ReadSlice('\n')
	}
	return nil, false, err
}
