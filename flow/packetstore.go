package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/VictoriaMetrics/metrics"
)

const (
	storeChunk    = 256 << 10 // bytes that a capture collects before it hands them over
	storeQueue    = 32        // chunks that wait for the disk
	storeSegments = 16        // files that the bound is divided into
	// LeastPacketRing is the smallest bound of packets on disk, bytes.
	LeastPacketRing = 16 << 20
)

// packetStore keeps the last packets of all captures on disk, in pcap files of which the oldest goes when the bound is reached. Captures fill
// chunks, a goroutine writes them; when the disk is too slow chunks are dropped and counted, and nothing waits.
//
// The name of a file is its place in the index: <first packet, ns>-<last, ns, or open>-<link type>.pcap. CutPackets reads them, from any process.
type packetStore struct {
	dir     string
	bound   int64 // bytes of all files
	segment int64
	queue   chan *chunk
	free    chan *chunk
	log     *slog.Logger

	// Of the goroutine that writes.
	files  []segmentFile // closed ones, oldest first
	total  int64
	open   map[uint32]*openSegment
	failed string // the last error, said once

	stored, dropped, removed *metrics.Counter
	size                     *metrics.Gauge
}

// chunk is pcap records of one link type, in the order of the capture.
type chunk struct {
	link        uint32
	buf         []byte
	packets     int
	first, last int64
}

// openSegment is a file that is being written.
type openSegment struct {
	file        *os.File
	name        string
	first, last int64
	size        int64
}

func openPacketStore(dir string, bound int64, set *metrics.Set, log *slog.Logger) (*packetStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep packets: %w", err)
	}
	s := &packetStore{
		dir: dir, bound: bound, segment: max(bound/storeSegments, 1<<20), log: log,
		queue: make(chan *chunk, storeQueue), free: make(chan *chunk, storeQueue), open: make(map[uint32]*openSegment),
		stored:  set.GetOrCreateCounter("wharfwatch_flow_packets_stored_total"),
		dropped: set.GetOrCreateCounter("wharfwatch_flow_packets_store_dropped_total"),
		removed: set.GetOrCreateCounter("wharfwatch_flow_packet_files_removed_total"),
		size:    set.GetOrCreateGauge("wharfwatch_flow_packets_stored_bytes", nil),
	}
	files, err := listSegments(dir)
	if err != nil {
		return nil, fmt.Errorf("keep packets: %w", err)
	}
	for _, f := range files {
		if f.open { // of a run that was killed: its last packet is about as old as the file
			f, err = f.close(dir, max(f.first, f.modified))
			if err != nil {
				return nil, fmt.Errorf("keep packets: %w", err)
			}
		}
		s.files = append(s.files, f)
		s.total += f.size
	}
	return s, nil
}

// run writes until the queue is closed.
func (s *packetStore) run() {
	for c := range s.queue {
		if err := s.write(c); err != nil {
			s.dropped.Add(c.packets)
			if s.failed != err.Error() {
				s.failed = err.Error()
				s.log.Warn("packets cannot be kept", "err", err)
			}
		} else {
			s.failed = ""
			s.stored.Add(c.packets)
		}
		s.size.Set(float64(s.total))
		c.reset()
		select {
		case s.free <- c:
		default:
		}
	}
	for link := range s.open {
		if err := s.rotate(link); err != nil {
			s.log.Warn("packets cannot be kept", "err", err)
		}
	}
}

func (s *packetStore) write(c *chunk) error {
	o := s.open[c.link]
	if o != nil && o.size+int64(len(c.buf)) > s.segment {
		if err := s.rotate(c.link); err != nil {
			return err
		}
		o = nil
	}
	for s.total+int64(len(c.buf))+pcapHeader > s.bound && len(s.files) > 0 {
		if err := os.Remove(filepath.Join(s.dir, s.files[0].name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		s.total -= s.files[0].size
		s.files = s.files[1:]
		s.removed.Inc()
	}
	if o == nil {
		var err error
		if o, err = s.begin(c); err != nil {
			return err
		}
	}
	n, err := o.file.Write(c.buf)
	o.size += int64(n)
	s.total += int64(n)
	if err != nil { // the file may end inside a packet: nothing may follow
		return errors.Join(err, s.rotate(c.link))
	}
	o.last = max(o.last, c.last)
	return nil
}

const pcapHeader = 24

func (s *packetStore) begin(c *chunk) (*openSegment, error) {
	o := &openSegment{name: segmentName(c.first, 0, c.link), first: c.first, size: pcapHeader}
	file, err := os.OpenFile(filepath.Join(s.dir, o.name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	h := le.AppendUint32(nil, 0xa1b23c4d) // nanoseconds
	h = le.AppendUint32(h, 2|4<<16)
	h = append(h, make([]byte, 8)...)
	h = le.AppendUint32(h, pcapFrame)
	h = le.AppendUint32(h, c.link)
	if _, err := file.Write(h); err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	o.file = file
	s.open[c.link] = o
	s.total += pcapHeader
	return o, nil
}

// rotate closes a segment and gives it its name in the index.
func (s *packetStore) rotate(link uint32) error {
	o := s.open[link]
	delete(s.open, link)
	err := o.file.Close()
	f := segmentFile{name: o.name, first: o.first, link: link, size: o.size}
	renamed, e := f.close(s.dir, max(o.last, o.first))
	if e == nil {
		f = renamed
	}
	s.files = append(s.files, f)
	return errors.Join(err, e)
}

func (c *chunk) reset() { *c = chunk{buf: c.buf[:0]} }

// tape is what one capture hands to the store. One goroutine uses it; a nil tape keeps nothing.
type tape struct {
	store *packetStore
	chunk *chunk
}

func (s *packetStore) tape() *tape {
	if s == nil {
		return nil
	}
	return &tape{store: s}
}

// packet copies a frame. The tag that the kernel took out is put back.
func (t *tape) packet(link uint32, frame []byte, wire int, vlan uint16, now int64) {
	if t == nil {
		return
	}
	size := 16 + len(frame) + 4
	if c := t.chunk; c != nil && (c.link != link || len(c.buf)+size > storeChunk) {
		t.flush()
	}
	c := t.chunk
	if c == nil {
		select {
		case c = <-t.store.free:
		default:
			c = &chunk{buf: make([]byte, 0, storeChunk)}
		}
		c.link, c.first, c.last = link, now, now
		t.chunk = c
	}
	tag := 0
	if vlan != 0 && link == linkEthernet && len(frame) >= 12 {
		tag = 4
	}
	le := binary.LittleEndian
	c.buf = le.AppendUint32(c.buf, uint32(now/1e9))
	c.buf = le.AppendUint32(c.buf, uint32(now%1e9))
	c.buf = le.AppendUint32(c.buf, uint32(len(frame)+tag))
	c.buf = le.AppendUint32(c.buf, uint32(max(wire, len(frame))+tag))
	if tag != 0 {
		c.buf = append(c.buf, frame[:12]...)
		c.buf = binary.BigEndian.AppendUint32(c.buf, typeVLAN<<16|uint32(vlan))
		frame = frame[12:]
	}
	c.buf = append(c.buf, frame...)
	c.packets++
	c.first, c.last = min(c.first, now), max(c.last, now)
}

// flush hands over what was collected.
func (t *tape) flush() {
	if t == nil || t.chunk == nil || t.chunk.packets == 0 {
		return
	}
	select {
	case t.store.queue <- t.chunk:
		t.chunk = nil
	default: // the disk is too slow: the newest packets are not kept
		t.store.dropped.Add(t.chunk.packets)
		t.chunk.reset()
		select {
		case t.store.free <- t.chunk:
		default:
		}
		t.chunk = nil
	}
}

// start runs the store; the function returned writes what is left, and closes it.
func (s *packetStore) start() (stop func()) {
	if s == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run()
	}()
	return func() {
		close(s.queue)
		<-done
	}
}
