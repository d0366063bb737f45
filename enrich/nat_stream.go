package enrich

import (
	"encoding/binary"
	"errors"

	"github.com/wharfwatch/wharfwatch/flow"
)

// TagTracks marks frames of the recorded stream that hold one Tracks.
const TagTracks = 'C'

// The payload of a frame, numbers little endian: version, mark, engine, time, from, host, owners, then entries of a fixed width, whose
// owners are places in the list of owners + 1. Lists begin with their count, texts with their length.
const (
	tracksVersion = 1
	trackSize     = 8 + 2*36 + 3 + 4
	maxOwnerText  = 256
)

// AppendTracks appends the recorded form.
func AppendTracks(p []byte, b *Tracks) []byte {
	le := binary.LittleEndian
	p = append(p, tracksVersion, byte(b.Mark))
	p = appendText(p, b.Engine)
	p = le.AppendUint64(le.AppendUint64(p, uint64(b.Time)), uint64(b.From))
	p = binary.AppendUvarint(p, uint64(len(b.Host)))
	for _, a := range b.Host {
		p = appendAddr(p, a)
	}
	var list []Owner
	places := map[Owner]uint16{{}: 0}
	for i := range b.Entries {
		for _, o := range b.Entries[i].Owner {
			if _, ok := places[o]; !ok {
				list = append(list, o)
				places[o] = uint16(len(list))
			}
		}
	}
	p = binary.AppendUvarint(p, uint64(len(list)))
	for _, o := range list {
		p = appendText(appendText(p, o.Container), o.Unit)
	}
	p = binary.AppendUvarint(p, uint64(len(b.Entries)))
	for i := range b.Entries {
		e := &b.Entries[i]
		p = le.AppendUint64(p, uint64(e.Time))
		for _, t := range [2]Tuple{e.Orig, e.Reply} {
			p = appendAddr(appendAddr(p, t.Src), t.Dst)
			p = le.AppendUint16(le.AppendUint16(p, t.SrcPort), t.DstPort)
		}
		p = append(p, byte(e.Kind), e.Proto, e.Flags)
		p = le.AppendUint16(le.AppendUint16(p, places[e.Owner[0]]), places[e.Owner[1]])
	}
	return p
}

func appendText(p []byte, s string) []byte {
	s = s[:min(len(s), maxOwnerText)]
	return append(binary.AppendUvarint(p, uint64(len(s))), s...)
}

func appendAddr(p []byte, a flow.Addr) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(p, a.Hi), a.Lo)
}

var errTracks = errors.New("a frame of connections that contradicts itself")

// DecodeTracks reads what AppendTracks wrote. It keeps nothing of p.
func DecodeTracks(p []byte) (*Tracks, error) {
	if len(p) < 2 || p[0] != tracksVersion {
		return nil, errors.New("a frame of connections of another version of wharfwatch")
	}
	d := trackDecoder{p: p[2:]}
	b := &Tracks{Mark: TracksMark(p[1]), Engine: d.text(), Time: int64(d.number()), From: int64(d.number())}
	for range d.count(16) {
		b.Host = append(b.Host, flow.Addr{Hi: d.number(), Lo: d.number()})
	}
	list := []Owner{{}}
	for range d.count(2) {
		list = append(list, Owner{d.text(), d.text()})
	}
	n := d.count(trackSize)
	if n > 0 {
		b.Entries = make([]Track, n)
	}
	for i := range b.Entries {
		if !b.Entries[i].decode(d.take(trackSize), list) {
			return nil, errTracks
		}
	}
	if d.bad || len(d.p) != 0 || b.Mark > MarkHost {
		return nil, errTracks
	}
	return b, nil
}

func (e *Track) decode(b []byte, list []Owner) bool {
	le := binary.LittleEndian
	tuple := func(b []byte) Tuple {
		return Tuple{
			flow.Addr{Hi: le.Uint64(b), Lo: le.Uint64(b[8:])},
			flow.Addr{Hi: le.Uint64(b[16:]), Lo: le.Uint64(b[24:])},
			le.Uint16(b[32:]), le.Uint16(b[34:]),
		}
	}
	e.Time, e.Orig, e.Reply = int64(le.Uint64(b)), tuple(b[8:]), tuple(b[44:])
	e.Kind, e.Proto, e.Flags = TrackKind(b[80]), b[81], b[82]
	o := [2]int{int(le.Uint16(b[83:])), int(le.Uint16(b[85:]))}
	if max(o[0], o[1]) >= len(list) {
		return false
	}
	e.Owner = [2]Owner{list[o[0]], list[o[1]]}
	return true
}

// trackDecoder takes values off a payload; once it is too short, all that follows is zero and bad is set.
type trackDecoder struct {
	p   []byte
	bad bool
}

func (d *trackDecoder) take(n int) []byte {
	if n > len(d.p) {
		d.p, d.bad = nil, true
		return make([]byte, n)
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

func (d *trackDecoder) number() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

// count reads how many items follow; they cannot be more than would fit at size bytes each.
func (d *trackDecoder) count(size int) int {
	v, n := binary.Uvarint(d.p)
	if n <= 0 || v > uint64((len(d.p)-n)/size) {
		d.p, d.bad = nil, true
		return 0
	}
	d.p = d.p[n:]
	return int(v)
}

func (d *trackDecoder) text() string {
	n := d.count(1)
	if n > maxOwnerText {
		d.p, d.bad = nil, true
		return ""
	}
	return string(d.take(n))
}
