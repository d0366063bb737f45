package flow

import "encoding/binary"

// hello is what a ClientHello says, as slices of it.
type hello struct {
	server   []byte // SNI
	alpn     []byte // first protocol
	version  uint16 // of the record's body
	ciphers  []byte // two bytes each
	exts     []uint16
	sigAlgs  []byte // two bytes each
	versions []byte
	whole    bool // everything was there
}

const (
	tlsHandshake = 22
	tlsClient    = 1 // handshake type
	tlsExts      = 128

	extServer   = 0
	extSigAlgs  = 13
	extALPN     = 16
	extVersions = 43
)

// looksLikeHello says whether a TCP payload begins a TLS record with a ClientHello: RFC 8446 5.1 and 4.
func looksLikeHello(b []byte) bool {
	return len(b) >= 6 && b[0] == tlsHandshake && b[1] == 3 && b[5] == tlsClient
}

// helloOf takes the handshake message out of the TLS records at the beginning of a stream; whole is false while some of it is missing. The
// message lies in b, or in scratch when more than one record carries it.
func helloOf(b, scratch []byte) (message []byte, whole, ok bool) {
	if !looksLikeHello(b) {
		return nil, false, len(b) < 6
	}
	first := true
	message = scratch[:0]
	for len(b) >= 5 {
		size := int(binary.BigEndian.Uint16(b[3:]))
		if b[0] != tlsHandshake || b[1] != 3 || size == 0 || size > 1<<14+256 {
			return message, false, false
		}
		part := b[5:min(5+size, len(b))]
		if first {
			message, first = part, false
		} else {
			message = append(append(scratch[:0], message...), part...)
		}
		if len(message) >= 4 {
			if need := 4 + int(message[1])<<16 + int(message[2])<<8 + int(message[3]); len(message) >= need {
				return message[:need], true, true
			}
		}
		b = b[min(5+size, len(b)):]
	}
	return message, false, true
}

// parse reads a ClientHello message (RFC 8446 4.1.2), or the beginning of one: then whole stays false and what was read counts. It
// reports false for what cannot be one. It keeps slices of b and allocates nothing but h.exts, which it uses again.
func (h *hello) parse(b []byte) bool {
	*h = hello{exts: h.exts[:0]}
	if len(b) < 4 || b[0] != tlsClient {
		return false
	}
	size := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	cut := size > len(b)-4
	b = b[4:min(4+size, len(b))]
	// take cuts n bytes off; what is missing is hostile only where nothing was cut.
	take := func(n int) []byte {
		if n > len(b) {
			b = nil
			return nil
		}
		part := b[:n]
		b = b[n:]
		return part
	}
	vector := func(width int) []byte {
		n := 0
		for _, c := range take(width) {
			n = n<<8 | int(c)
		}
		return take(n)
	}
	if v := take(2); v != nil {
		h.version = binary.BigEndian.Uint16(v)
	}
	if h.version>>8 != 3 && h.version>>8 != 0xfe || take(32) == nil {
		return false
	}
	if len(vector(1)) > 32 {
		return false
	}
	h.ciphers = vector(2)
	if len(h.ciphers) < 2 || len(h.ciphers)%2 != 0 {
		return cut
	}
	if vector(1) == nil {
		return cut
	}
	if len(b) == 0 { // before extensions were invented
		h.whole = !cut
		return true
	}
	all := len(b) >= 2 && int(binary.BigEndian.Uint16(b)) == len(b)-2
	if take(2) == nil {
		return cut
	}
	for len(b) >= 4 && len(h.exts) < tlsExts {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b)-4 {
			return cut
		}
		take(4)
		h.exts = append(h.exts, kind)
		h.extension(kind, take(n))
	}
	h.whole = all && len(b) == 0 && !cut
	return h.whole || cut
}

// extension reads the four that matter; a malformed one says nothing.
func (h *hello) extension(kind uint16, b []byte) {
	list := func(width int) []byte { // a vector that fills the extension
		if len(b) < width {
			return nil
		}
		n := int(b[0])
		if width == 2 {
			n = int(binary.BigEndian.Uint16(b))
		}
		return b[width:min(width+n, len(b))]
	}
	switch kind {
	case extServer: // RFC 6066 3: a list, in practice of one host name
		if l := list(2); len(l) > 3 && l[0] == 0 {
			h.server = l[3:min(3+int(binary.BigEndian.Uint16(l[1:])), len(l))]
		}
	case extALPN: // RFC 7301
		if l := list(2); len(l) > 1 {
			h.alpn = l[1:min(1+int(l[0]), len(l))]
		}
	case extSigAlgs:
		h.sigAlgs = list(2)
	case extVersions:
		h.versions = list(1)
	}
}
