package flow

import (
	"bytes"
	"compress/bzip2"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"
)

// The file format of nfdump 1.7 (layout 2), https://github.com/phaag/nfdump: a header of 40 bytes, then blocks with a header of 12. Numbers
// are in the byte order of the machine that wrote the file; the magic number tells which.
const (
	nfMagic    = 0xa50c
	nfHeader   = 40
	nfBlock    = 12
	nfBlockMax = 16 << 20 // most bytes of a block, packed or not; nfcapd writes up to 1 MiB, nfdump's own bound is 5
	nfRecords  = 3        // type of a block with records
	nfPlain    = 1        // flag of a block: not compressed although the file is
)

// Compressions of a file.
const (
	nfNone = iota
	nfLZO
	nfBZ2
	nfLZ4
	nfZSTD
)

// IsNfcapd tells a file of nfcapd, nfpcapd or nfdump -w by its first bytes; 4 are enough.
func IsNfcapd(head []byte) bool {
	_, _, ok := nfOrder(head)
	return ok
}

func nfOrder(head []byte) (order binary.ByteOrder, version uint16, ok bool) {
	if len(head) < 4 {
		return nil, 0, false
	}
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if v := o.Uint16(head[2:]); o.Uint16(head) == nfMagic && v >= 1 && v <= 16 {
			return o, v, true
		}
	}
	return nil, 0, false
}

// OpenNfcapd reads a file of nfdump 1.7 (layout 2), plain or compressed with LZO, LZ4 or bzip2; not those of 1.6, and not ZSTD. name stands
// in Batch.Source behind "nfcapd:". Records are handed over by their end. A file that ends inside a block ends there (counted).
func OpenNfcapd(name string, r io.Reader, pool Pool, set *metrics.Set) Source {
	return &nfcapd{
		name: name, r: r, pool: pool,
		records:   set.GetOrCreateCounter(`wharfwatch_flow_records_total{version="nfcapd"}`),
		malformed: set.GetOrCreateCounter(`wharfwatch_flow_log_rows_ignored_total{format="nfcapd",reason="malformed"}`),
		other:     set.GetOrCreateCounter(`wharfwatch_flow_log_rows_ignored_total{format="nfcapd",reason="other"}`),
		rows:      set.GetOrCreateCounter(`wharfwatch_flow_log_rows_total{format="nfcapd"}`),
		cut:       set.GetOrCreateCounter("wharfwatch_flow_files_truncated_total"),
	}
}

type nfcapd struct {
	name  string
	r     io.Reader
	pool  Pool
	order *order

	bytes    binary.ByteOrder
	packing  uint8
	packed   []byte
	plain    []byte
	exporter map[uint16]nfExporter // by the number that the file gives it

	rows, records, malformed, other, cut *metrics.Counter
}

// nfExporter is what a file says about one exporter.
type nfExporter struct {
	addr   Addr
	domain uint32
	rate   uint64
}

func (f *nfcapd) Run(ctx context.Context, emit func(*Batch)) error {
	f.order, f.exporter = newOrder("nfcapd:"+f.name, f.pool, emit), make(map[uint16]nfExporter)
	blocks, appendix, err := f.header()
	if err != nil {
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	at := int64(nfHeader)
	for n := 0; ctx.Err() == nil; n++ {
		if appendix != 0 && at >= appendix || blocks != 0 && n >= blocks {
			break
		}
		size, err := f.block()
		if err == io.EOF {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			f.cut.Inc()
			break
		}
		if err != nil {
			f.order.drain()
			return fmt.Errorf("read %s, block at byte %d: %w", f.name, at, err)
		}
		at += size
	}
	f.order.drain()
	return nil
}

// header reads the head of the file: how many blocks it says it has, and where what follows them begins; 0 where it does not know.
func (f *nfcapd) header() (blocks int, appendix int64, err error) {
	var h [nfHeader]byte
	if _, err := io.ReadFull(f.r, h[:]); err != nil {
		return 0, 0, fmt.Errorf("the header: %w", err)
	}
	order, version, ok := nfOrder(h[:])
	switch {
	case !ok:
		return 0, 0, errors.New("not an nfcapd file")
	case version == 1:
		return 0, 0, errors.New("a file of nfdump 1.6: convert it with nfdump 1.7, nfdump -r FILE -w NEW")
	case version != 2:
		return 0, 0, fmt.Errorf("layout %d of nfcapd files, this program reads 2 (nfdump 1.7)", version)
	}
	f.bytes, f.packing = order, h[16]
	if f.packing == nfZSTD {
		return 0, 0, errors.New("compressed with ZSTD, which is not read: rewrite it with nfdump -r FILE -z=lz4 -w NEW")
	}
	if f.packing > nfZSTD || h[17] != 0 {
		return 0, 0, fmt.Errorf("compression %d, encryption %d: not known", f.packing, h[17])
	}
	return int(f.bytes.Uint32(h[36:])), int64(f.bytes.Uint64(h[24:])), nil
}

// block reads one block and returns its size in the file. io.EOF is the end before it, io.ErrUnexpectedEOF one inside.
func (f *nfcapd) block() (int64, error) {
	var h [nfBlock]byte
	if _, err := io.ReadFull(f.r, h[:]); err != nil {
		return 0, err
	}
	count, size := f.bytes.Uint32(h[:]), f.bytes.Uint32(h[4:])
	kind, flags := f.bytes.Uint16(h[8:]), f.bytes.Uint16(h[10:])
	if size > nfBlockMax {
		return 0, fmt.Errorf("%d bytes, more than %d", size, nfBlockMax)
	}
	packed, err := readBounded(f.r, f.packed[:0], int(size))
	f.packed = packed
	if err != nil {
		return 0, unexpected(err)
	}
	if kind != nfRecords {
		return nfBlock + int64(size), nil
	}
	plain := packed
	if flags&nfPlain == 0 && f.packing != nfNone {
		if plain, err = f.unpack(packed); err != nil {
			return 0, err
		}
		f.plain = plain
	}
	f.walk(plain, count)
	return nfBlock + int64(size), nil
}

// readBounded appends n bytes in steps, so that a length alone allocates little.
func readBounded(r io.Reader, b []byte, n int) ([]byte, error) {
	for n > 0 {
		step, at := min(n, 1<<20), len(b)
		b = append(b, make([]byte, step)...)
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return b, err
		}
		n -= step
	}
	return b, nil
}

func (f *nfcapd) unpack(packed []byte) (plain []byte, err error) {
	switch f.packing {
	case nfLZO:
		return unpackLZO(f.plain[:0], packed, nfBlockMax)
	case nfLZ4:
		return unpackLZ4(f.plain[:0], packed, nfBlockMax)
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(bzip2.NewReader(bytes.NewReader(packed)), nfBlockMax+1))
	if err == nil && n > nfBlockMax {
		err = errUnpack
	}
	return b.Bytes(), err
}

// walk goes over the records of a block. A length that cannot be ends the block: what follows has no beginning.
func (f *nfcapd) walk(b []byte, count uint32) {
	for ; count > 0 && len(b) >= 4; count-- {
		size := int(f.bytes.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			break
		}
		f.row(f.bytes.Uint16(b), b[:size])
		b = b[size:]
	}
	if len(b) > 0 || count > 0 {
		f.rows.Inc()
		f.malformed.Inc()
	}
}
