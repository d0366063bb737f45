package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

// Block types of pcapng that are read; all others are skipped.
const (
	ngSection   = 0x0a0d0d0a
	ngIface     = 1
	ngPacketOld = 2 // obsolete, still found in old files
	ngSimple    = 3
	ngEnhanced  = 6

	ngOrder  = 0x1a2b3c4d
	ngIfaces = 1024    // most interfaces of one section
	ngOption = 1 << 16 // most bytes of a section or interface block that are looked at
)

// ngInterface is one interface of the present section.
type ngInterface struct {
	link  uint32
	snap  uint32
	units uint64 // per second
	shift int64  // seconds to add
}

func (f *frameReader) nextBlock() (link uint32, frame []byte, wire int, now int64, err error) {
	for {
		b, err := f.need(12)
		if err != nil {
			return 0, nil, 0, 0, err
		}
		if binary.BigEndian.Uint32(b) == ngSection { // the same bytes in both orders
			if f.order, err = sectionOrder(b[8:]); err != nil {
				return 0, nil, 0, 0, err
			}
			f.ifaces = f.ifaces[:0]
		}
		if f.order == nil {
			return 0, nil, 0, 0, errFormat
		}
		kind, size := f.order.Uint32(b), int64(f.order.Uint32(b[4:]))
		if size < 12 || size%4 != 0 {
			return 0, nil, 0, 0, fmt.Errorf("a block of %d bytes", size)
		}
		switch kind {
		case ngEnhanced, ngSimple, ngPacketOld:
			if size > pcapFrame+4096 {
				return 0, nil, 0, 0, fmt.Errorf("a packet block of %d bytes", size)
			}
			if b, err = f.need(int(size)); err != nil {
				return 0, nil, 0, 0, unexpected(err)
			}
			f.take(int(size))
			link, frame, wire, now, err = f.packetBlock(kind, b[8:size-4])
			return link, frame, wire, now, err
		case ngIface:
			if size > ngOption || len(f.ifaces) == ngIfaces {
				return 0, nil, 0, 0, fmt.Errorf("an interface block of %d bytes, %d before it", size, len(f.ifaces))
			}
			if b, err = f.need(int(size)); err != nil {
				return 0, nil, 0, 0, unexpected(err)
			}
			f.take(int(size))
			if err := f.ifaceBlock(b[8 : size-4]); err != nil {
				return 0, nil, 0, 0, err
			}
		default:
			for size > 0 {
				part := min(size, pcapBuffer/2)
				if _, err = f.need(int(part)); err != nil {
					return 0, nil, 0, 0, unexpected(err)
				}
				f.take(int(part))
				size -= part
			}
		}
	}
}

func sectionOrder(b []byte) (binary.ByteOrder, error) {
	switch uint32(ngOrder) {
	case binary.LittleEndian.Uint32(b):
		return binary.LittleEndian, nil
	case binary.BigEndian.Uint32(b):
		return binary.BigEndian, nil
	}
	return nil, errFormat
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (f *frameReader) ifaceBlock(b []byte) error {
	if len(b) < 8 {
		return errors.New("an interface block without a body")
	}
	i := ngInterface{link: uint32(f.order.Uint16(b)), snap: f.order.Uint32(b[4:]), units: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, size := f.order.Uint16(b), int(f.order.Uint16(b[2:]))
		padded := 4 + (size+3)&^3
		if code == 0 || padded > len(b) {
			break
		}
		switch {
		case code == 9 && size == 1: // if_tsresol: a power of ten, or of two with the top bit
			v := b[4]
			switch {
			case v&0x80 != 0 && v&0x7f < 64:
				i.units = 1 << (v & 0x7f)
			case v < 20:
				i.units = uint64(math.Pow10(int(v)))
			default:
				return fmt.Errorf("a clock resolution of %#x", v)
			}
		case code == 14 && size == 8: // if_tsoffset
			i.shift = int64(f.order.Uint64(b[4:]))
		}
		b = b[padded:]
	}
	f.ifaces = append(f.ifaces, i)
	return nil
}

// packetBlock takes a frame out of the body of a block.
func (f *frameReader) packetBlock(kind uint32, b []byte) (link uint32, frame []byte, wire int, now int64, err error) {
	header := 20
	if kind == ngSimple {
		header = 4
	}
	if len(b) < header {
		return 0, nil, 0, 0, fmt.Errorf("a packet block of %d bytes", len(b)+12)
	}
	id, kept, length := uint32(0), uint32(0), uint32(0)
	switch kind {
	case ngSimple:
		length = f.order.Uint32(b)
		kept = min(length, uint32(len(b)-4))
	case ngPacketOld:
		id = uint32(f.order.Uint16(b))
		kept, length = f.order.Uint32(b[12:]), f.order.Uint32(b[16:])
	default:
		id = f.order.Uint32(b)
		kept, length = f.order.Uint32(b[12:]), f.order.Uint32(b[16:])
	}
	if int64(id) >= int64(len(f.ifaces)) {
		return 0, nil, 0, 0, fmt.Errorf("a packet of interface %d of %d", id, len(f.ifaces))
	}
	i := &f.ifaces[id]
	if kind == ngSimple && i.snap != 0 {
		kept = min(kept, i.snap)
	}
	if int64(kept) > int64(len(b)-header) {
		return 0, nil, 0, 0, fmt.Errorf("a packet of %d bytes in a block of %d", kept, len(b)+12)
	}
	if kind != ngSimple {
		f.lastTime = i.time(uint64(f.order.Uint32(b[4:]))<<32 | uint64(f.order.Uint32(b[8:])))
	}
	return i.link, b[header : header+int(kept)], int(min(length, 1<<30)), f.lastTime, nil
}

// time converts to ns since 1970; what does not fit (after 2262) becomes 0.
func (i *ngInterface) time(v uint64) int64 {
	sec, rest := v/i.units, v%i.units
	hi, lo := bits.Mul64(rest, 1e9)
	ns, _ := bits.Div64(hi, lo, i.units) // rest < units, so the quotient is below 1e9
	if s := int64(sec) + i.shift; sec < 1<<33 && s >= 0 && s < math.MaxInt64/1_000_000_000-1 {
		return s*1e9 + int64(ns)
	}
	return 0
}
