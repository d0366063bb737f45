package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"
)

const (
	pcapBuffer = 1 << 20
	pcapFrame  = 256 << 10 // most bytes of one captured frame; libpcap's own bound
)

// OpenPcap reads a pcap or pcapng file of mirrored traffic through the packet assembler. name stands in Batch.Source behind
// "pcap:". A file that ends in the middle of a packet ends there (counted); it is an error only when nothing could be read.
func OpenPcap(name string, r io.Reader, pool Pool, set *metrics.Set) Source {
	return &pcapSource{name: name, r: r, pool: pool, set: set}
}

type pcapSource struct {
	name string
	r    io.Reader
	pool Pool
	set  *metrics.Set
}

func (s *pcapSource) Run(ctx context.Context, emit func(*Batch)) error {
	t := newTap("pcap:"+s.name, s.pool, DefaultConversations, s.set, emit)
	var f frameReader
	defer t.publish()
	if err := f.open(s.r); err != nil {
		return fmt.Errorf("read %s: %w", s.name, err)
	}
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			break
		}
		link, frame, wire, now, err := f.next()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) || n == 0 && errors.Is(err, io.ErrUnexpectedEOF) {
				t.drain()
				return fmt.Errorf("read %s at byte %d: %w", s.name, f.offset, err)
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				s.set.GetOrCreateCounter("wharfwatch_flow_files_truncated_total").Inc()
			}
			break
		}
		t.frame(link, frame, wire, 0, now)
	}
	t.drain()
	return nil
}

// frameReader reads the frames of a pcap or pcapng file. The formats: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html
// and draft-ietf-opsawg-pcapng-02. pcapgo's pcapng reader is not used: it allocates what a block claims and panics on short options.
type frameReader struct {
	r        io.Reader
	buf      []byte // what was read and not yet used is buf[at:end]
	at, end  int
	offset   int64 // in the file, of the block being read
	failed   error
	order    binary.ByteOrder
	ng       bool
	scale    int64 // ns per unit of the fraction
	link     uint32
	ifaces   []ngInterface
	lastTime int64 // pcapng simple packets carry none
}

var errFormat = errors.New("not a pcap or pcapng file")

// need makes n bytes available at buf[at:]; n is bounded by the buffer.
func (f *frameReader) need(n int) ([]byte, error) {
	if f.end-f.at < n {
		if f.at > 0 && len(f.buf)-f.at < n {
			f.end = copy(f.buf, f.buf[f.at:f.end])
			f.at = 0
		}
		for f.end-f.at < n {
			if f.failed != nil {
				if f.end > f.at && f.failed == io.EOF {
					return nil, io.ErrUnexpectedEOF
				}
				return nil, f.failed
			}
			var got int
			got, f.failed = f.r.Read(f.buf[f.end:])
			f.end += got
		}
	}
	return f.buf[f.at : f.at+n], nil
}

func (f *frameReader) take(n int) {
	f.at += n
	f.offset += int64(n)
}

func (f *frameReader) open(r io.Reader) error {
	f.r, f.buf = r, make([]byte, pcapBuffer)
	b, err := f.need(24)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errFormat
		}
		return err
	}
	if binary.BigEndian.Uint32(b) == ngSection {
		f.ng = true
		return nil
	}
	switch binary.LittleEndian.Uint32(b) {
	case 0xa1b2c3d4:
		f.order, f.scale = binary.LittleEndian, 1000
	case 0xa1b23c4d:
		f.order, f.scale = binary.LittleEndian, 1
	case 0xd4c3b2a1:
		f.order, f.scale = binary.BigEndian, 1000
	case 0x4d3cb2a1:
		f.order, f.scale = binary.BigEndian, 1
	default:
		return errFormat
	}
	f.link = f.order.Uint32(b[20:]) & 0x0fffffff // the upper bits tell the length of a checksum
	f.take(24)
	return nil
}

// next returns one frame, valid until the next call. io.EOF is a clean end, io.ErrUnexpectedEOF one inside a packet.
func (f *frameReader) next() (link uint32, frame []byte, wire int, now int64, err error) {
	if f.ng {
		return f.nextBlock()
	}
	b, err := f.need(16)
	if err != nil {
		return 0, nil, 0, 0, err
	}
	var sec, frac, kept, length uint32
	if f.order == binary.LittleEndian {
		sec, frac = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		kept, length = binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	} else {
		sec, frac = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		kept, length = binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	}
	if kept > pcapFrame {
		return 0, nil, 0, 0, fmt.Errorf("a packet of %d bytes, more than %d", kept, pcapFrame)
	}
	if b, err = f.need(16 + int(kept)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, 0, 0, err
	}
	f.take(16 + int(kept))
	return f.link, b[16:], int(min(length, 1<<30)), int64(sec)*1e9 + int64(frac)*f.scale, nil
}
