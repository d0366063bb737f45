package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/flow"
)

// progress shows on stderr how far a long replay has come: a bar on a terminal, a line every five seconds elsewhere, nothing for what is
// over at once.
type progress struct {
	w        io.Writer
	now      func() time.Time
	tty      bool
	total    int64 // bytes; 0 unknown (standard input)
	before   int64 // bytes of the inputs that are done
	current  *flow.ProgressReader
	position int64 // in an input that has no reader here
	start    time.Time
	shown    time.Time
	drawn    bool
}

func newProgress(g *globals, files []string) *progress {
	p := &progress{w: g.stderr, now: g.now, tty: terminal(g.stderr), start: g.now(), shown: g.now()}
	for _, name := range files {
		filepath.Walk(name, func(_ string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				p.total += info.Size()
			}
			return nil
		})
	}
	return p
}

// next begins another input.
func (p *progress) next() {
	p.before += p.here()
	p.current, p.position = nil, 0
}

// reader counts what is read through it.
func (p *progress) reader(r io.Reader) io.Reader {
	p.current = flow.NewProgressReader(r)
	return p.current
}

// at says how far an input without a reader was read.
func (p *progress) at(read, _ int64) { p.position = read }

func (p *progress) here() int64 {
	if p.current != nil {
		return p.current.Bytes()
	}
	return p.position
}

// show draws when it is time to. It is called per batch.
func (p *progress) show(event int64) {
	every := 5 * time.Second
	if p.tty {
		every = 200 * time.Millisecond
	}
	now := p.now()
	if now.Sub(p.shown) < every {
		return
	}
	p.shown, p.drawn = now, true
	done, at := p.before+p.here(), time.Unix(0, event).UTC().Format("2006-01-02 15:04:05")
	rate := float64(done) / now.Sub(p.start).Seconds()
	text := fmt.Sprintf("%.0f MB, %.0f MB/s, event time %s", float64(done)/1e6, rate/1e6, at)
	if p.total > 0 && done <= p.total {
		share := float64(done) / float64(p.total)
		left := time.Duration(float64(p.total-done)/rate) * time.Second
		text = fmt.Sprintf("[%-30s] %3.0f %%, %.0f MB/s, %s left, event time %s", strings.Repeat("=", int(share*30)), share*100, rate/1e6, left, at)
	}
	if p.tty {
		fmt.Fprintf(p.w, "\r%s\x1b[K", text)
	} else {
		fmt.Fprintln(p.w, text)
	}
}

func (p *progress) done() {
	if p.tty && p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
