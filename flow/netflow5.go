package flow

import "encoding/binary"

// NetFlow v5, https://www.cisco.com/c/en/us/td/docs/net_mgmt/netflow_collection_engine/3-6/user/guide/format.html
//
//	header  0 version  2 count  4 uptime ms  8 seconds  12 nanoseconds  16 sequence  20 engine type  21 engine id  22 sampling
//	record  0 src  4 dst  8 next hop  12 in  14 out  16 packets  20 bytes  24 first  28 last  32 sport  34 dport
//	        37 flags  38 protocol  39 tos  40 AS  44 masks
const (
	v5Header = 24
	v5Record = 48
)

// v5 reads the records and returns how many.
func (d *exportDecoder) v5(b []byte, h *header, r *reading) int {
	x := b[v5Header:]
	for left := h.count; left > 0; {
		recs := d.room(left)
		for i := range recs {
			readV5((*[v5Record]byte)(x), &recs[i], r)
			x = x[v5Record:]
		}
		r.from.byInterface(recs)
		left -= len(recs)
	}
	return h.count
}

func readV5(x *[v5Record]byte, r *Record, c *reading) {
	be := binary.BigEndian
	*r = Record{
		Src: Addr4(be.Uint32(x[0:])), Dst: Addr4(be.Uint32(x[4:])),
		Packets: uint64(be.Uint32(x[16:])), Bytes: uint64(be.Uint32(x[20:])),
		SrcPort: be.Uint16(x[32:]), DstPort: be.Uint16(x[34:]),
		InIf: uint32(be.Uint16(x[12:])), OutIf: uint32(be.Uint16(x[14:])),
		TCPFlags: x[37], Proto: x[38],
		Exporter: c.exporter, Domain: c.domain, Sampling: c.rate, Flags: c.flags,
	}
	c.times(r, c.uptimeAt(be.Uint32(x[24:])), c.uptimeAt(be.Uint32(x[28:])))
}
