package flow

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// maxIgnore bounds the rules of flow.ignore: the filter runs for every packet, and the kernel takes 4,096 instructions.
const maxIgnore = 32

// ignoreRule is traffic that captures do not look at: packets from or to an address of prefix at port. The zero prefix is every address,
// port 0 is every protocol and port.
type ignoreRule struct {
	prefix netip.Prefix
	port   uint16
}

// parseIgnore reads "192.0.2.1", "192.0.2.0/24", "192.0.2.1:8470", "[2001:db8::/32]:8470" and ":8470".
func parseIgnore(s string) (r ignoreRule, err error) {
	bad := func() (ignoreRule, error) {
		return r, fmt.Errorf("%q is not an address, a prefix, or one of them with a port, like 192.0.2.1:8470, [2001:db8::/32]:8470 or :8470", s)
	}
	if r.prefix, err = parsePrefix(s); err == nil {
		return r, nil
	}
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		return bad()
	}
	port, err := strconv.ParseUint(s[at+1:], 10, 16)
	if err != nil || port == 0 {
		return bad()
	}
	r.port = uint16(port)
	host := s[:at]
	if host == "" {
		return r, nil
	}
	if strings.Contains(host, ":") != (host[0] == '[') {
		return bad()
	}
	if r.prefix, err = parsePrefix(strings.Trim(host, "[]")); err != nil {
		return bad()
	}
	return r, nil
}

// ignoreProgram is the kernel's filter for frames with an Ethernet header, or without any: it drops what a rule names and keeps snap bytes
// of the rest. Each rule is a block that ends by dropping the packet or falling through to the next. Packets in envelopes, behind tags that
// the interface does not take out, and behind IPv6 extension headers are kept.
func ignoreProgram(rules []ignoreRule, ethernet bool, snap uint32) ([]bpf.RawInstruction, error) {
	var p []bpf.Instruction
	for _, r := range rules {
		for _, six := range [2]bool{false, true} {
			if r.prefix.IsValid() && r.prefix.Addr().Is4() == six {
				continue
			}
			for _, dst := range [2]bool{false, true} {
				p = append(p, ignoreBlock(r, ethernet, six, dst)...)
			}
		}
	}
	return bpf.Assemble(append(p, bpf.RetConstant{Val: snap}))
}

// ignoreBlock is one rule for one IP version and one side.
func ignoreBlock(r ignoreRule, ethernet, six, dst bool) []bpf.Instruction {
	var p []bpf.Instruction
	miss := func(cond bpf.JumpTest, value uint32) { p = append(p, bpf.JumpIf{Cond: cond, Val: value}) } // to the end: filled in below
	base, version, protocol := uint32(0), uint32(4), uint32(9)
	if six {
		version, protocol = 6, 6
	}
	if ethernet {
		base = 14
		p = append(p, bpf.LoadAbsolute{Off: 12, Size: 2})
		miss(bpf.JumpNotEqual, map[bool]uint32{false: typeIPv4, true: typeIPv6}[six])
	} else {
		p = append(p, bpf.LoadAbsolute{Off: 0, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4})
		miss(bpf.JumpNotEqual, version)
	}
	if r.prefix.IsValid() {
		at := base + 12
		if six {
			at = base + 8
		}
		address := r.prefix.Addr().AsSlice()
		if dst {
			at += uint32(len(address))
		}
		for bits := r.prefix.Bits(); bits > 0; bits -= 32 {
			mask := ^uint32(0)
			if bits < 32 {
				mask <<= 32 - bits
			}
			p = append(p, bpf.LoadAbsolute{Off: at, Size: 4}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
			miss(bpf.JumpNotEqual, binary.BigEndian.Uint32(address)&mask)
			address, at = address[4:], at+4
		}
	}
	if r.port != 0 {
		p = append(p, bpf.LoadAbsolute{Off: base + protocol, Size: 1}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: TCP, SkipTrue: 1})
		miss(bpf.JumpNotEqual, UDP)
		side := uint32(0)
		if dst {
			side = 2
		}
		if six {
			p = append(p, bpf.LoadAbsolute{Off: base + 40 + side, Size: 2})
		} else {
			p = append(p, bpf.LoadAbsolute{Off: base + 6, Size: 2})
			miss(bpf.JumpBitsSet, 0x1fff) // a later fragment
			p = append(p, bpf.LoadMemShift{Off: base}, bpf.LoadIndirect{Off: base + side, Size: 2})
		}
		miss(bpf.JumpNotEqual, uint32(r.port))
	}
	p = append(p, bpf.RetConstant{Val: 0})
	for i, in := range p {
		if j, is := in.(bpf.JumpIf); is && j.SkipTrue == 0 {
			j.SkipTrue = uint8(len(p) - 1 - i)
			p[i] = j
		}
	}
	return p
}
