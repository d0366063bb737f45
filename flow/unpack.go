package flow

import "errors"

var errUnpack = errors.New("the compressed data contradicts itself")

// unpackLZ4 appends the content of one raw LZ4 block, https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md, at most bound bytes.
func unpackLZ4(out, in []byte, bound int) ([]byte, error) {
	base := len(out)
	// more reads the bytes that lengthen a count of 15.
	more := func(n int) (int, bool) {
		if n != 15 {
			return n, true
		}
		for len(in) > 0 && n <= bound {
			c := in[0]
			in = in[1:]
			if n += int(c); c != 255 {
				return n, true
			}
		}
		return 0, false
	}
	for len(in) > 0 {
		token := in[0]
		in = in[1:]
		literals, ok := more(int(token >> 4))
		if !ok || literals > len(in) || len(out)-base+literals > bound {
			return out, errUnpack
		}
		out, in = append(out, in[:literals]...), in[literals:]
		if len(in) == 0 { // the last sequence has no match
			return out, nil
		}
		if len(in) < 2 {
			return out, errUnpack
		}
		back := int(in[0]) | int(in[1])<<8
		in = in[2:]
		length, ok := more(int(token & 15))
		if out, ok = repeat(out, base, back, length+4, bound, ok); !ok {
			return out, errUnpack
		}
	}
	return out, errUnpack
}

// repeat appends length bytes from back bytes before the end; the two may overlap.
func repeat(out []byte, base, back, length, bound int, ok bool) ([]byte, bool) {
	if !ok || back <= 0 || back > len(out)-base || len(out)-base+length > bound {
		return out, false
	}
	for from := len(out) - back; length > 0; {
		n := min(length, len(out)-from)
		out = append(out, out[from:from+n]...)
		from, length = from+n, length-n
	}
	return out, true
}

// unpackLZO appends the content of one LZO1X stream, at most bound bytes. The format:
// https://www.kernel.org/doc/Documentation/staging/lzo.rst. Its instructions depend on how many literals came before.
func unpackLZO(out, in []byte, bound int) ([]byte, error) {
	base, at, state := len(out), 0, 0
	ok := true
	next := func() int {
		if at >= len(in) {
			ok = false
			return 0
		}
		at++
		return int(in[at-1])
	}
	// long reads a count whose bits in the instruction are all 0.
	long := func(n, mask int) int {
		if n &= mask; n != 0 {
			return n
		}
		for n = mask; ok && n <= bound; n += 255 {
			if c := next(); c != 0 {
				return n + c
			}
		}
		ok = false
		return 0
	}
	literals := func(n int) {
		if !ok || n > len(in)-at || len(out)-base+n > bound {
			ok = false
			return
		}
		out = append(out, in[at:at+n]...)
		at += n
	}
	if len(in) > 0 && in[0] > 17 {
		n := next() - 17
		literals(n)
		if state = n; n > 3 {
			state = 4
		}
	}
	for ok {
		c := next()
		back, length, follow := 0, 0, 0
		switch {
		case c >= 64:
			length = c>>5 + 1
			back = next()<<3 + c>>2&7 + 1
			follow = c & 3
		case c >= 32:
			length = long(c, 31) + 2
			low := next()
			back = (low|next()<<8)>>2 + 1
			follow = low & 3
		case c >= 16:
			length = long(c, 7) + 2
			low := next()
			back = c&8<<11 + (low|next()<<8)>>2
			if back == 0 { // the end of the stream
				if !ok || at != len(in) || length != 3 {
					return out, errUnpack
				}
				return out, nil
			}
			back += 16384
			follow = low & 3
		case state == 0: // literals, four and more
			literals(long(c, 15) + 3)
			state = 4
			continue
		case state == 4:
			length, back, follow = 3, next()<<2+c>>2+2049, c&3
		default:
			length, back, follow = 2, next()<<2+c>>2+1, c&3
		}
		if out, ok = repeat(out, base, back, length, bound, ok); ok {
			literals(follow)
			state = follow
		}
	}
	return out, errUnpack
}
