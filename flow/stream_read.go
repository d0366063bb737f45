package flow

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// StreamReader reads a recorded stream. One goroutine uses it; Progress may be called by any.
type StreamReader struct {
	files  []string // still to come
	name   string
	r      *bufio.Reader
	close  io.Closer
	at     int64 // offset in the present file
	buf    []byte
	notes  []string
	read   atomic.Int64
	total  int64
	number uint32 // of the file read last

	sources map[string]string // names seen, so that a batch allocates none
}

// OpenStream opens files of a recording, and directories with all of theirs.
func OpenStream(paths ...string) (*StreamReader, error) {
	s := &StreamReader{}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("open recording: %w", err)
		}
		if !info.IsDir() {
			s.files = append(s.files, p)
			s.total += info.Size()
			continue
		}
		files, err := streamFiles(p)
		if err != nil {
			return nil, fmt.Errorf("open recording: %w", err)
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("open recording: no stream-*.wws in %s", p)
		}
		for _, name := range files {
			if info, err := os.Stat(name); err == nil {
				s.total += info.Size()
			}
		}
		s.files = append(s.files, files...)
	}
	return s, nil
}

// NewStreamReader reads one file of a recording, for instance standard input. name stands in errors.
func NewStreamReader(name string, r io.Reader) (*StreamReader, error) {
	s := &StreamReader{}
	return s, s.begin(name, r)
}

// IsStream tells a recording by its first bytes; 8 are enough.
func IsStream(head []byte) bool {
	return len(head) >= len(streamMagic) && string(head[:len(streamMagic)]) == streamMagic
}

// Progress is how much was read of how much; the total is 0 where it is unknown.
func (s *StreamReader) Progress() (read, total int64) { return s.read.Load(), s.total }

// Notes says what was tolerated: files that end in the middle of a frame, as a killed monitor leaves them.
func (s *StreamReader) Notes() []string { return s.notes }

// Close closes the file being read.
func (s *StreamReader) Close() error {
	if s.close == nil {
		return nil
	}
	err := s.close.Close()
	s.close = nil
	return err
}

// Next returns one frame; its payload is valid until the next call. io.EOF is the end of the recording. Errors name file and offset.
func (s *StreamReader) Next() (tag byte, payload []byte, err error) {
	for {
		if s.r == nil {
			if len(s.files) == 0 {
				return 0, nil, io.EOF
			}
			f, err := os.Open(s.files[0])
			if err != nil {
				return 0, nil, fmt.Errorf("open recording: %w", err)
			}
			s.close = f
			if err := s.begin(s.files[0], f); err != nil {
				return 0, nil, err
			}
			s.files = s.files[1:]
			continue
		}
		tag, payload, err = s.frame()
		if err == nil {
			return tag, payload, nil
		}
		if !errors.Is(err, io.EOF) {
			return 0, nil, fmt.Errorf("read %s at byte %d: %w", s.name, s.at, err)
		}
		s.r = nil
		if err := s.Close(); err != nil {
			return 0, nil, fmt.Errorf("read %s: %w", s.name, err)
		}
	}
}

// DecodeBatch reads the payload of a batch frame into b, whose slices are used again; the payload may be reused afterwards.
func (s *StreamReader) DecodeBatch(payload []byte, b *Batch) error {
	if err := decodeBatch(payload, b, s.source); err != nil {
		return fmt.Errorf("read %s before byte %d: %w", s.name, s.at, err)
	}
	return nil
}

const streamSources = 1 << 16 // most names remembered

func (s *StreamReader) source(b []byte) string {
	if name, ok := s.sources[string(b)]; ok {
		return name
	}
	if s.sources == nil || len(s.sources) == streamSources {
		s.sources = make(map[string]string)
	}
	name := string(b)
	s.sources[name] = name
	return name
}

// begin reads the header of a file. A file cut inside its header is one that was just begun when the writer died.
func (s *StreamReader) begin(name string, r io.Reader) error {
	s.name, s.at = name, 0
	s.r = bufio.NewReaderSize(r, streamBuffer)
	var h [streamHeader]byte
	n, err := io.ReadFull(s.r, h[:])
	switch {
	case n >= len(streamMagic) && !IsStream(h[:]):
		return fmt.Errorf("read %s: not a recorded stream", name)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if known := min(n, len(streamMagic)); string(h[:known]) != streamMagic[:known] {
			return fmt.Errorf("read %s: not a recorded stream", name)
		}
		s.torn()
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", name, err)
	}
	if v := binary.LittleEndian.Uint32(h[8:]); v != streamVersion {
		return fmt.Errorf("read %s: version %d of the recorded stream, this program reads %d", name, v, streamVersion)
	}
	number := binary.LittleEndian.Uint32(h[12:])
	if s.number != 0 && number != 1 && number != s.number+1 {
		s.notes = append(s.notes, fmt.Sprintf("%s is number %d, but number %d came before it: a part is missing", name, number, s.number))
	}
	s.number = number
	s.advance(streamHeader)
	return nil
}

func (s *StreamReader) advance(n int64) {
	s.at += n
	s.read.Add(n)
}

func (s *StreamReader) torn() {
	s.notes = append(s.notes, fmt.Sprintf("%s ends in the middle of a frame at byte %d: the writer was killed there", s.name, s.at))
}

// frame reads one frame of the present file; io.EOF also for a torn one, with a note.
func (s *StreamReader) frame() (tag byte, payload []byte, err error) {
	tag, err = s.r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	if tag < 'A' || tag > 'Z' {
		return 0, nil, fmt.Errorf("no frame begins with byte %#x", tag)
	}
	counted := countingByteReader{r: s.r}
	size, err := binary.ReadUvarint(&counted)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			s.torn()
			return 0, nil, io.EOF
		}
		return 0, nil, err
	}
	if size > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes, more than %d", size, maxFrame)
	}
	s.buf = s.buf[:0]
	for left := int(size); left > 0; { // in steps, so that a length alone allocates little
		step := min(left, 1<<20)
		at := len(s.buf)
		s.buf = append(s.buf, make([]byte, step)...)
		if _, err := io.ReadFull(s.r, s.buf[at:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				s.torn()
				return 0, nil, io.EOF
			}
			return 0, nil, err
		}
		left -= step
	}
	s.advance(1 + counted.n + int64(size))
	return tag, s.buf, nil
}

type countingByteReader struct {
	r *bufio.Reader
	n int64
}

func (c *countingByteReader) ReadByte() (byte, error) {
	c.n++
	return c.r.ReadByte()
}

// DecodeWatermark reads the payload of a watermark frame: event time, ns.
func DecodeWatermark(payload []byte) (int64, error) {
	if len(payload) != 8 {
		return 0, fmt.Errorf("a watermark of %d bytes, want 8", len(payload))
	}
	return int64(binary.LittleEndian.Uint64(payload)), nil
}
