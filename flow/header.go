package flow

import "encoding/binary"

// header is what the three versions say at the start of a datagram.
//
//	v9     0 version  2 count  4 uptime ms  8 seconds  12 sequence  16 source id      RFC 3954
//	IPFIX  0 version  2 length  4 seconds  8 sequence  12 observation domain         RFC 7011
type header struct {
	version   uint16
	count     int // v5: records
	length    int // v9, IPFIX: of the whole message
	size      int // of the header
	export    int64
	uptime    uint32
	hasUptime bool
	sequence  uint32
	domain    uint32
	sampling  uint32 // v5
	options   int    // v9, IPFIX: records of options data that were read in the message
	cut       bool   // the datagram ends before the message
}

func parseHeader(b []byte, cut bool) (h header, why reason) {
	be := binary.BigEndian
	if len(b) < 4 {
		return h, badShort
	}
	h.version = be.Uint16(b)
	switch h.version {
	case 5:
		if len(b) < v5Header {
			return h, badShort
		}
		h.size, h.count = v5Header, int(be.Uint16(b[2:]))
		h.uptime, h.hasUptime = be.Uint32(b[4:]), true
		h.export = int64(be.Uint32(b[8:]))*sec + int64(be.Uint32(b[12:]))
		h.sequence = be.Uint32(b[16:])
		h.domain = uint32(be.Uint16(b[20:])) // engine type and id
		h.sampling = uint32(be.Uint16(b[22:]) & 0x3fff)
		if have := (len(b) - v5Header) / v5Record; h.count > have {
			if !cut {
				return h, badCount
			}
			h.count, h.cut = have, true
		}
	case 9:
		if len(b) < 20 {
			return h, badShort
		}
		h.size, h.length, h.cut = 20, len(b), cut
		h.uptime, h.hasUptime = be.Uint32(b[4:]), true
		h.export = int64(be.Uint32(b[8:])) * sec
		h.sequence, h.domain = be.Uint32(b[12:]), be.Uint32(b[16:])
	case 10:
		if len(b) < 16 {
			return h, badShort
		}
		h.size, h.length = 16, int(be.Uint16(b[2:]))
		if h.length < 16 {
			return h, badLength
		}
		h.cut = h.length > len(b)
		h.length = min(h.length, len(b))
		h.export = int64(be.Uint32(b[4:])) * sec
		h.sequence, h.domain = be.Uint32(b[8:]), be.Uint32(b[12:])
	default:
		return h, badVersion
	}
	return h, fine
}

// LooksLikeExport tells a datagram of NetFlow v5, v9, IPFIX or sFlow from other UDP traffic by its own structure, whatever its port.
func LooksLikeExport(payload []byte) bool {
	if isSFlow(payload) {
		return looksLikeSFlow(payload)
	}
	h, why := parseHeader(payload, false)
	if why != fine || h.cut {
		return false
	}
	plausible := h.export > 946684800*sec // 2000: there was no NetFlow v5 before, and clocks that were never set are rare
	if h.version == 5 {
		return h.count > 0 && plausible
	}
	if len(payload)-h.size < 4 {
		return false
	}
	id, size := binary.BigEndian.Uint16(payload[h.size:]), int(binary.BigEndian.Uint16(payload[h.size+2:]))
	if size < 4 || h.size+size > h.length {
		return false
	}
	if h.version == 9 && id <= 1 || h.version == 10 && (id == 2 || id == 3) {
		_, _, fits := templateSize(payload[h.size+4:h.size+size], h.version, id&1 == 1)
		return fits
	}
	return id >= 256 && plausible
}
