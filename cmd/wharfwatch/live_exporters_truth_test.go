package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// tuple is one direction of a flow. ICMP has its type and code in dport, as NetFlow does.
type tuple struct {
	src, dst     netip.Addr
	sport, dport uint16
	proto        uint8
}

func (k tuple) String() string {
	return fmt.Sprintf("%s > %s proto %d", netip.AddrPortFrom(k.src, k.sport), netip.AddrPortFrom(k.dst, k.dport), k.proto)
}

// sums are of IP packets, headers included. squares are of the bytes.
type sums struct{ packets, bytes, squares uint64 }

type totals map[tuple]*sums

func (t totals) add(k tuple, packets, bytes uint64) {
	n := t[k]
	if n == nil {
		n = &sums{}
		t[k] = n
	}
	n.packets, n.bytes, n.squares = n.packets+packets, n.bytes+bytes, n.squares+bytes*bytes
}

// has reports whether anything went to a port.
func (t totals) has(port uint16) bool {
	for k := range t {
		if k.dport == port {
			return true
		}
	}
	return false
}

// readTruth sums up what tcpdump wrote, by tshark's dissectors and without a line of the parser under test.
func readTruth(t *testing.T, file string) totals {
	t.Helper()
	args := []string{"-n", "-r", file, "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE", "-T", "fields", "-E", "occurrence=f"}
	for _, f := range []string{
		"ip.src", "ip.dst", "ip.proto", "ip.len", "ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.plen",
		"tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code",
	} {
		args = append(args, "-e", f)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	sum := totals{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		number := func(i int) uint64 {
			n, err := strconv.ParseUint(f[i], 0, 32)
			if err != nil {
				t.Fatalf("tshark: %v in %q", err, line)
			}
			return n
		}
		at, bytes := 0, uint64(0)
		if f[0] == "" {
			at, bytes = 4, 40
		}
		k := tuple{src: netip.MustParseAddr(f[at]), dst: netip.MustParseAddr(f[at+1]), proto: uint8(number(at + 2))}
		bytes += number(at + 3)
		switch {
		case f[8] != "":
			k.sport, k.dport = uint16(number(8)), uint16(number(9))
		case f[10] != "":
			k.sport, k.dport = uint16(number(10)), uint16(number(11))
		case f[12] != "":
			k.dport = uint16(number(12)<<8 | number(13))
		case f[14] != "":
			k.dport = uint16(number(14)<<8 | number(15))
		}
		sum.add(k, 1, bytes)
	}
	return sum
}
