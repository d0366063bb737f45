package flow

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxWorkers bounds what flow.workers may ask for: a socket with its buffer and a thread each.
const maxWorkers = 64

// steer makes the kernel choose among n sockets on one address by the sender's address alone. Its own choice (SO_REUSEPORT) is by the
// ports as well, and an exporter that sends from several ports, or from a new one after a restart, would have its templates in one worker,
// its data in another, and its sequence numbers in both.
//
// The program is of classic BPF, SO_ATTACH_REUSEPORT_CBPF of socket(7). It runs over the payload; SKF_NET_OFF reaches the IP header.
func (s *socket) steer(n int) error {
	const net = 0xfff00000 // SKF_NET_OFF
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: net + off}
	}
	keep := unix.SockFilter{Code: unix.BPF_MISC | unix.BPF_TAX}
	fold := unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_XOR | unix.BPF_X}
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: net}, // version, header length
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 4, Jf: 2},
		load(12),
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 10},
		load(8), keep, load(12), fold, keep, load(16), fold, keep, load(20), fold,
		{Code: unix.BPF_ALU | unix.BPF_MUL | unix.BPF_K, K: 0x9e3779b1}, // neighbours are spread
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 16},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &f); err != nil {
		return fmt.Errorf("set SO_ATTACH_REUSEPORT_CBPF: %w", err)
	}
	return nil
}
