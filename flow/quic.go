package flow

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// The first packets of a QUIC client are encrypted with keys that everybody can derive who saw their connection id: RFC 9001 5.2 for
// version 1, RFC 9369 for version 2.
const (
	quicV1    = 0x00000001
	quicV2    = 0x6b3343cf
	quicLeast = 1200 // a client pads its datagrams with Initials to this, RFC 9000 14.1
)

var (
	quicSaltV1 = []byte("\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a")
	quicSaltV2 = []byte("\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9")
)

// quicInitial is an Initial packet of a client, still protected.
type quicInitial struct {
	v2     bool
	dcid   []byte
	packet []byte // to the end that its length says
	number int    // where the packet number stands
}

// parseInitial reads the header of the first packet of a datagram, RFC 9000 17.2.2.
func parseInitial(b []byte) (p quicInitial, ok bool) {
	if len(b) < 7 || b[0]&0xc0 != 0xc0 {
		return p, false
	}
	switch kind := b[0] >> 4 & 3; binary.BigEndian.Uint32(b[1:]) {
	case quicV1:
		ok = kind == 0
	case quicV2:
		ok, p.v2 = kind == 1, true
	}
	if !ok {
		return p, false
	}
	at := 5
	id := func() []byte {
		if at >= len(b) || b[at] > 20 || at+1+int(b[at]) > len(b) {
			ok = false
			return nil
		}
		part := b[at+1 : at+1+int(b[at])]
		at += 1 + len(part)
		return part
	}
	number := func() int {
		v, n := quicVarint(b[min(at, len(b)):])
		ok = ok && n > 0 && v <= uint64(len(b))
		at += n
		return int(min(v, uint64(len(b))))
	}
	p.dcid = id()
	id()
	at += number() // the token
	size := number()
	if !ok || size < 20 || at+size > len(b) { // 4 for the packet number, 16 for the sample
		return p, false
	}
	p.packet, p.number = b[:at+size], at
	return p, true
}

// quicVarint reads RFC 9000 16; n is 0 when b is too short.
func quicVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 || len(b) < 1<<(b[0]>>6) {
		return 0, 0
	}
	n = 1 << (b[0] >> 6)
	v = uint64(b[0] & 63)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}

// quicKeys derives what protects the Initials of a client.
func quicKeys(v2 bool, dcid []byte) (key, iv, hp []byte, err error) {
	salt, prefix := quicSaltV1, "quic "
	if v2 {
		salt, prefix = quicSaltV2, "quicv2 "
	}
	initial, err := hkdf.Extract(sha256.New, dcid, salt)
	if err != nil {
		return nil, nil, nil, err
	}
	expand := func(secret []byte, label string, size int) []byte {
		label = "tls13 " + label
		info := append([]byte{0, byte(size), byte(len(label))}, label...)
		out, e := hkdf.Expand(sha256.New, secret, string(append(info, 0)), size)
		if e != nil {
			err = e
		}
		return out
	}
	client := expand(initial, "client in", 32)
	return expand(client, prefix+"key", 16), expand(client, prefix+"iv", 12), expand(client, prefix+"hp", 16), err
}

// open returns the frames of the packet. It fails for the packets of servers too, which have other keys.
func (p *quicInitial) open() ([]byte, bool) {
	key, iv, hp, err := quicKeys(p.v2, p.dcid)
	if err != nil {
		return nil, false
	}
	block, err := aes.NewCipher(hp)
	if err != nil {
		return nil, false
	}
	var mask [aes.BlockSize]byte
	block.Encrypt(mask[:], p.packet[p.number+4:p.number+4+aes.BlockSize])
	first := p.packet[0] ^ mask[0]&0x0f
	size := int(first&3) + 1
	header := append([]byte(nil), p.packet[:p.number+size]...)
	header[0] = first
	for i := range size {
		header[p.number+i] ^= mask[1+i]
		iv[len(iv)-size+i] ^= header[p.number+i]
	}
	if block, err = aes.NewCipher(key); err != nil {
		return nil, false
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, false
	}
	frames, err := aead.Open(nil, iv, p.packet[p.number+size:], header)
	return frames, err == nil
}

// quicCrypto hands over the parts of the handshake that frames carry. Frames that no Initial may have end it: RFC 9000 12.4.
func quicCrypto(b []byte, part func(at int, data []byte) bool) bool {
	number := func() (uint64, bool) {
		v, n := quicVarint(b)
		b = b[n:]
		return v, n > 0
	}
	for len(b) > 0 {
		kind := b[0]
		b = b[1:]
		switch kind {
		case 0, 1: // padding, ping
		case 2, 3: // acknowledgements
			skip := 4
			for i := 0; i < skip; i++ {
				v, ok := number()
				if !ok {
					return false
				}
				if i == 2 {
					if v > uint64(len(b)) {
						return false
					}
					skip += 2 * int(v)
				}
			}
			for range int(kind-2) * 3 {
				if _, ok := number(); !ok {
					return false
				}
			}
		case 6:
			at, ok := number()
			size, ok2 := number()
			if !ok || !ok2 || size > uint64(len(b)) {
				return false
			}
			if at < pieceBytes && !part(int(at), b[:size]) {
				return false
			}
			b = b[size:]
		default:
			return true
		}
	}
	return true
}
