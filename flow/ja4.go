package flow

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

const ja4Size = 36

// ja4 is the JA4 fingerprint of a whole ClientHello, as https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md describes it; ""
// for one that is not whole. transport is 't' for TCP and 'q' for QUIC. JA4 itself (not the rest of JA4+) is under the BSD 3-clause licence,
// Copyright (c) 2023, FoxIO, LLC; nothing of its code is used.
func (h *hello) ja4(transport byte) string {
	if !h.whole {
		return ""
	}
	var room [128]byte
	ciphers := sorted16(h.ciphers)
	exts := make([]uint16, 0, len(h.exts))
	server, count := byte('i'), 0
	for _, e := range h.exts {
		switch {
		case grease(e):
			continue
		case e == extServer:
			server = 'd'
		case e != extALPN:
			exts = append(exts, e)
		}
		count++
	}
	slices.Sort(exts)
	out := append(room[:0], transport)
	out = append(out, ja4Version(h)...)
	out = append(out, server)
	out = append(out, two(len(ciphers))...)
	out = append(out, two(count)...)
	out = append(out, ja4ALPN(h.alpn)...)
	out = append(append(out, '_'), ja4Hash(ciphers, nil)...)
	var algs []uint16
	for b := h.sigAlgs; len(b) >= 2; b = b[2:] {
		if v := binary.BigEndian.Uint16(b); !grease(v) {
			algs = append(algs, v)
		}
	}
	if count == 0 {
		exts, algs = nil, nil
	}
	out = append(append(out, '_'), ja4Hash(exts, algs)...)
	return string(out)
}

// ja4Text takes a JA4 that somebody else computed: a_b_c. "" for what is none.
func ja4Text(b []byte) string {
	if len(b) != ja4Size || b[10] != '_' || b[23] != '_' {
		return ""
	}
	for _, c := range b {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	return string(b)
}

// grease are the values of RFC 8701, which mean nothing.
func grease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

func sorted16(b []byte) []uint16 {
	out := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		if v := binary.BigEndian.Uint16(b); !grease(v) {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out
}

func two(n int) []byte {
	n = min(n, 99)
	return []byte{'0' + byte(n/10), '0' + byte(n%10)}
}

// ja4Version is the highest version that the client offers.
func ja4Version(h *hello) string {
	v := h.version
	if all := sorted16(h.versions); len(all) > 0 {
		v = all[len(all)-1]
	}
	switch v {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	case 0xfeff:
		return "d1"
	case 0xfefd:
		return "d2"
	case 0xfefc:
		return "d3"
	}
	return "00"
}

// ja4ALPN is the first and the last character of the first protocol; of its hexadecimal form where one of the two is no letter or digit.
func ja4ALPN(b []byte) string {
	if len(b) == 0 {
		return "00"
	}
	first, last := b[0], b[len(b)-1]
	if alphanumeric(first) && alphanumeric(last) {
		return string([]byte{first, last})
	}
	const digits = "0123456789abcdef"
	return string([]byte{digits[first>>4], digits[last&15]})
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// ja4Hash is the beginning of the SHA-256 of two lists in hexadecimal; zeros for nothing.
func ja4Hash(a, b []uint16) string {
	if len(a) == 0 && len(b) == 0 {
		return "000000000000"
	}
	text := make([]byte, 0, 5*(len(a)+len(b)))
	add := func(list []uint16) {
		for i, v := range list {
			if i > 0 {
				text = append(text, ',')
			}
			text = hex.AppendEncode(text, []byte{byte(v >> 8), byte(v)})
		}
	}
	add(a)
	if len(b) > 0 {
		text = append(text, '_')
		add(b)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}
