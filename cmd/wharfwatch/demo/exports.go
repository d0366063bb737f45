package demo

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// Slice is one direction of a connection, or some minutes of it, as a router exports it.
type Slice struct {
	Src, Dst         netip.Addr // IPv4
	SrcPort, DstPort uint16
	First, Last      time.Time
	Bytes, Packets   uint32
	Proto, Flags     uint8
}

// Exports is a capture file of the NetFlow v5 datagrams of one router: a datagram when 30 records wait, or a minute is over.
// https://www.cisco.com/c/en/us/td/docs/net_mgmt/netflow_collection_engine/3-6/user/guide/format.html
type Exports struct {
	Records  int // written so far
	file     bytes.Buffer
	boot     time.Time
	sequence uint32
}

// NewExports begins a file. The router's clock counts from boot: records must be younger than that, by 49 days at most.
func NewExports(boot time.Time) *Exports {
	x := &Exports{boot: boot}
	x.header()
	return x
}

func (x *Exports) header() {
	x.file.Write([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}) // pcap, microseconds, Ethernet
}

// Bytes is the file so far.
func (x *Exports) Bytes() []byte { return x.file.Bytes() }

// Take returns the file so far and begins another, in which the same router goes on.
func (x *Exports) Take() []byte {
	out := slices.Clone(x.file.Bytes())
	x.file.Reset()
	x.header()
	return out
}

// Write sorts slices by their ends and exports them.
func (x *Exports) Write(all []Slice) {
	slices.SortStableFunc(all, func(a, b Slice) int { return a.Last.Compare(b.Last) })
	for len(all) > 0 {
		n, limit := 1, all[0].Last.Add(time.Minute)
		for n < len(all) && n < 30 && all[n].Last.Before(limit) {
			n++
		}
		x.datagram(all[n-1].Last.Add(200*time.Millisecond), all[:n])
		all = all[n:]
	}
}

func (x *Exports) datagram(at time.Time, records []Slice) {
	be := binary.BigEndian
	d := be.AppendUint16(nil, 5)
	d = be.AppendUint16(d, uint16(len(records)))
	d = be.AppendUint32(d, x.uptime(at))
	d = be.AppendUint32(d, uint32(at.Unix()))
	d = be.AppendUint32(d, uint32(at.Nanosecond()))
	d = be.AppendUint32(d, x.sequence)
	d = append(d, 0, 0, 0, 0)
	for _, r := range records {
		b := make([]byte, 48)
		copy(b, r.Src.AsSlice())
		copy(b[4:], r.Dst.AsSlice())
		be.PutUint32(b[16:], r.Packets)
		be.PutUint32(b[20:], r.Bytes)
		be.PutUint32(b[24:], x.uptime(r.First))
		be.PutUint32(b[28:], x.uptime(r.Last))
		be.PutUint16(b[32:], r.SrcPort)
		be.PutUint16(b[34:], r.DstPort)
		b[37], b[38] = r.Flags, r.Proto
		d = append(d, b...)
	}
	x.sequence += uint32(len(records))
	x.Records += len(records)
	x.frame(at, d)
}

func (x *Exports) uptime(at time.Time) uint32 { return uint32(at.Sub(x.boot).Milliseconds()) }

// frame puts a datagram of the router, 192.0.2.1, into the file.
func (x *Exports) frame(at time.Time, payload []byte) {
	be, le := binary.BigEndian, binary.LittleEndian
	f := append(make([]byte, 12, 64+len(payload)), 8, 0, 0x45, 0)
	f = be.AppendUint16(f, uint16(28+len(payload)))
	f = append(f, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2)
	f = append(be.AppendUint16(f, 50_000), 0x08, 0x07) // to port 2055
	f = be.AppendUint16(f, uint16(8+len(payload)))
	f = append(append(f, 0, 0), payload...)
	h := le.AppendUint32(nil, uint32(at.Unix()))
	h = le.AppendUint32(h, uint32(at.Nanosecond()/1000))
	h = le.AppendUint32(h, uint32(len(f)))
	x.file.Write(append(le.AppendUint32(h, uint32(len(f))), f...))
}
