package flow

import (
	"encoding/binary"
	"errors"
)

// The payload of a batch frame: source, arrival, watermark, then records of a fixed width, names, gaps, sights, each list with its count.

// AppendBatch appends the recorded form of a batch.
func AppendBatch(p []byte, b *Batch) []byte {
	p = appendText(p, b.Source)
	p = appendInt64(p, b.Arrival)
	p = appendInt64(p, b.Watermark)
	p = binary.AppendUvarint(p, uint64(len(b.Records)))
	for i := range b.Records {
		p = appendRecord(p, &b.Records[i])
	}
	p = binary.AppendUvarint(p, uint64(len(b.Names)))
	for i := range b.Names {
		p = appendName(p, &b.Names[i])
	}
	p = binary.AppendUvarint(p, uint64(len(b.Gaps)))
	for i := range b.Gaps {
		g := &b.Gaps[i]
		p = appendText(p, g.Source)
		p = appendInt64(p, g.From)
		p = appendInt64(p, g.To)
		p = binary.LittleEndian.AppendUint64(p, g.Lost)
		p = appendText(p, g.Reason)
	}
	p = binary.AppendUvarint(p, uint64(len(b.Sights)))
	for i := range b.Sights {
		p = appendSight(p, &b.Sights[i])
	}
	return p
}

func appendSight(p []byte, s *Sight) []byte {
	p = appendInt64(p, s.Time)
	p = appendAddr(p, s.Addr)
	p = appendAddr(p, s.Peer)
	p = binary.LittleEndian.AppendUint64(p, uint64(s.MAC))
	p = binary.LittleEndian.AppendUint64(p, uint64(s.Told))
	p = binary.LittleEndian.AppendUint16(p, s.Port)
	bridge := byte(0)
	if s.Bridge {
		bridge = 1
	}
	return append(p, byte(s.Kind), s.Proto, bridge)
}

func appendInt64(p []byte, v int64) []byte { return binary.LittleEndian.AppendUint64(p, uint64(v)) }

func appendText(p []byte, s string) []byte {
	s = s[:min(len(s), maxString)]
	return append(binary.AppendUvarint(p, uint64(len(s))), s...)
}

func appendAddr(p []byte, a Addr) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(p, a.Hi), a.Lo)
}

func appendRecord(p []byte, r *Record) []byte {
	le := binary.LittleEndian
	p = appendInt64(p, r.First)
	p = appendInt64(p, r.Last)
	p = appendAddr(p, r.Src)
	p = appendAddr(p, r.Dst)
	p = appendAddr(p, r.NATSrc)
	p = appendAddr(p, r.NATDst)
	p = le.AppendUint64(p, r.Bytes)
	p = le.AppendUint64(p, r.Packets)
	p = appendAddr(p, r.Exporter)
	p = le.AppendUint32(p, r.Domain)
	p = le.AppendUint32(p, r.Sampling)
	p = le.AppendUint32(p, r.InIf)
	p = le.AppendUint32(p, r.OutIf)
	p = le.AppendUint32(p, r.VNI)
	p = le.AppendUint16(p, r.SrcPort)
	p = le.AppendUint16(p, r.DstPort)
	p = le.AppendUint16(p, r.NATSrcPort)
	p = le.AppendUint16(p, r.NATDstPort)
	p = le.AppendUint16(p, r.VLAN)
	p = append(p, r.Proto, r.TCPFlags, r.Flags)
	return le.AppendUint32(p, r.VRF)
}

func appendName(p []byte, n *Name) []byte {
	p = appendInt64(p, n.Time)
	p = append(p, byte(n.Kind), n.RCode)
	p = appendAddr(p, n.Client)
	p = appendAddr(p, n.Server)
	p = binary.LittleEndian.AppendUint16(p, n.Port)
	p = binary.LittleEndian.AppendUint16(p, n.QType)
	p = binary.LittleEndian.AppendUint32(p, n.TTL)
	p = binary.LittleEndian.AppendUint16(p, n.ClientPort)
	p = append(p, n.Proto)
	for _, text := range []string{n.Name, n.ALPN, n.JA4, n.Method, n.Agent} {
		p = appendText(p, text)
	}
	p = binary.AppendUvarint(p, uint64(len(n.Addrs)))
	for _, a := range n.Addrs {
		p = appendAddr(p, a)
	}
	return p
}

var errBatch = errors.New("a batch frame that contradicts itself")

// decodeBatch reads the payload of a batch frame into b, whose slices are used again. Nothing of p is kept.
func decodeBatch(p []byte, b *Batch, source func([]byte) string) error {
	d := decoder{p: p}
	b.Records, b.Names, b.Gaps, b.Sights = b.Records[:0], b.Names[:0], b.Gaps[:0], b.Sights[:0]
	b.Source = source(d.text())
	b.Arrival, b.Watermark = d.int64(), d.int64()
	for range d.count(recordSize) {
		b.Records = append(b.Records, Record{})
		d.record(&b.Records[len(b.Records)-1])
	}
	for range d.count(nameSize) {
		b.Names = append(b.Names, d.name())
	}
	for range d.count(26) {
		b.Gaps = append(b.Gaps, Gap{Source: source(d.text()), From: d.int64(), To: d.int64(), Lost: d.uint64(), Reason: string(d.text())})
	}
	for range d.count(sightSize) {
		b.Sights = append(b.Sights, d.sight())
	}
	if d.bad || len(d.p) != 0 {
		return errBatch
	}
	return nil
}

// decoder takes values off a payload; once it is too short, all that follows is zero and bad is set.
type decoder struct {
	p   []byte
	bad bool
}

var zeros [recordSize]byte

func (d *decoder) take(n int) []byte {
	if n > len(d.p) {
		d.p, d.bad = nil, true
		return zeros[:min(n, len(zeros))]
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.p)
	if n <= 0 {
		d.p, d.bad = nil, true
		return 0
	}
	d.p = d.p[n:]
	return v
}

// count reads how many items follow; they cannot be more than would fit at size bytes each.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.p)/size) {
		d.p, d.bad = nil, true
		return 0
	}
	return int(n)
}

func (d *decoder) text() []byte {
	n := d.uvarint()
	if n > maxString || n > uint64(len(d.p)) {
		d.p, d.bad = nil, true
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) uint64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }
func (d *decoder) int64() int64   { return int64(d.uint64()) }
func (d *decoder) addr() Addr     { return Addr{d.uint64(), d.uint64()} }

func (d *decoder) record(r *Record) {
	le := binary.LittleEndian
	b := d.take(recordSize)
	addr := func(at int) Addr { return Addr{le.Uint64(b[at:]), le.Uint64(b[at+8:])} }
	r.First, r.Last = int64(le.Uint64(b)), int64(le.Uint64(b[8:]))
	r.Src, r.Dst, r.NATSrc, r.NATDst = addr(16), addr(32), addr(48), addr(64)
	r.Bytes, r.Packets = le.Uint64(b[80:]), le.Uint64(b[88:])
	r.Exporter = addr(96)
	r.Domain, r.Sampling, r.InIf, r.OutIf, r.VNI = le.Uint32(b[112:]), le.Uint32(b[116:]), le.Uint32(b[120:]), le.Uint32(b[124:]), le.Uint32(b[128:])
	r.SrcPort, r.DstPort = le.Uint16(b[132:]), le.Uint16(b[134:])
	r.NATSrcPort, r.NATDstPort = le.Uint16(b[136:]), le.Uint16(b[138:])
	r.VLAN = le.Uint16(b[140:])
	r.Proto, r.TCPFlags, r.Flags = b[142], b[143], b[144]
	r.VRF = le.Uint32(b[145:])
}

func (d *decoder) sight() Sight {
	s := Sight{Time: d.int64(), Addr: d.addr(), Peer: d.addr(), MAC: MAC(d.uint64()), Told: MAC(d.uint64())}
	b := d.take(5)
	s.Port, s.Kind, s.Proto, s.Bridge = binary.LittleEndian.Uint16(b), SightKind(b[2]), b[3], b[4] != 0
	return s
}

func (d *decoder) name() Name {
	n := Name{Time: d.int64()}
	b := d.take(2)
	n.Kind, n.RCode = NameKind(b[0]), b[1]
	n.Client, n.Server = d.addr(), d.addr()
	n.Port, n.QType = binary.LittleEndian.Uint16(d.take(2)), binary.LittleEndian.Uint16(d.take(2))
	n.TTL = binary.LittleEndian.Uint32(d.take(4))
	n.ClientPort, n.Proto = binary.LittleEndian.Uint16(d.take(2)), d.take(1)[0]
	for _, text := range []*string{&n.Name, &n.ALPN, &n.JA4, &n.Method, &n.Agent} {
		*text = string(d.text())
	}
	if count := d.count(16); count > 0 {
		n.Addrs = make([]Addr, count)
		for i := range n.Addrs {
			n.Addrs[i] = d.addr()
		}
	}
	return n
}
