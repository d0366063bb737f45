package flow

import (
	"io"
	"sync/atomic"
)

// ProgressReader counts what was read from a file, for a progress bar. Read is called by one goroutine, Bytes by any.
type ProgressReader struct {
	r io.Reader
	n atomic.Int64
}

// NewProgressReader wraps r.
func NewProgressReader(r io.Reader) *ProgressReader { return &ProgressReader{r: r} }

// Read reads from the file.
func (p *ProgressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n.Add(int64(n))
	return n, err
}

// Bytes is how much was read so far.
func (p *ProgressReader) Bytes() int64 { return p.n.Load() }
