package flow

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A TPACKET_V3 ring (https://docs.kernel.org/networking/packet_mmap.html). The kernel fills blocks and gives them to us whole;
// only the block bounds what is kept of a packet, ringSnap at most.
const (
	ringBlock    = 128 << 10
	ringLeast    = 2 // blocks of a ring when there is no memory left for more
	ringStart    = 8 // blocks of a new ring: 1 MiB
	ringMost     = 128
	ringFrame    = 2048 // the kernel wants it named; V3 does not use it
	ringRetire   = 20   // ms after which a block that is not full is given to us
	ringPoll     = 100  // ms: how long a stop can take
	ringSnap     = 2048 // bytes kept of a packet: headers and a DNS answer
	statusUser   = 1    // TP_STATUS_USER: the block is ours
	statusVLAN   = 1 << 4
	packetOut    = 4 // PACKET_OUTGOING
	sockaddrAt   = (int(unsafe.Sizeof(unix.Tpacket3Hdr{})) + 15) &^ 15
	arpEthernet  = 1
	arpLoopback  = 772
	bigEndianAll = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // htons
)

// ring reads one interface. The goroutine that calls next also closes it: unmapping under a reader would kill the process.
type ring struct {
	fd       int
	mem      []byte
	blocks   int
	after    int64  // packets until then were in the ring that this one replaced
	last     int64  // time of the newest packet that was read
	pressed  bool   // more than half of it was full at once
	block    int    // the next one to be filled
	at       []byte // what is left of the block being read, nil for none
	packets  uint32 // left in it
	loopback bool   // skip outgoing duplicates
	link     uint32
}

// ringPacket is one captured packet; frame is valid until the next call of next.
type ringPacket struct {
	frame []byte
	wire  int
	time  int64
	vlan  uint16
	skip  bool // an outgoing duplicate, or one that the ring before this one held
}

// openRing captures on an interface into a ring of so many blocks. promiscuous makes a bridge show the traffic between its ports.
func openRing(index int, promiscuous bool, blocks int, ignore []ignoreRule) (r *ring, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // protocol 0: nothing before bind
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	r = &ring{fd: fd, blocks: blocks, link: linkRaw2}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_VERSION", err)
	}
	if err := r.recognise(index); err != nil {
		return nil, err
	}
	if err := r.filter(ignore, ringSnap); err != nil {
		return nil, err
	}
	req := unix.TpacketReq3{
		Block_size: ringBlock, Block_nr: uint32(blocks), Frame_size: ringFrame, Frame_nr: uint32(ringBlock / ringFrame * blocks),
		Retire_blk_tov: ringRetire,
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_RX_RING", err)
	}
	if r.mem, err = unix.Mmap(fd, 0, ringBlock*blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	if promiscuous {
		mreq := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			return nil, os.NewSyscallError("setsockopt PACKET_MR_PROMISC", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndianAll, Ifindex: index}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return r, nil
}

// recognise finds out what the interface's frames begin with. The socket is bound to no protocol for that, so nothing is captured yet.
func (r *ring) recognise(index int) error {
	if err := unix.Bind(r.fd, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(r.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if ll, ok := name.(*unix.SockaddrLinklayer); ok && (ll.Hatype == arpEthernet || ll.Hatype == arpLoopback) {
		r.link, r.loopback = linkEthernet, ll.Hatype == arpLoopback
	}
	return nil
}

// filter sets the kernel's filter: what is not ignored is kept to snap bytes, which is the way to say a snap length. 0 drops everything.
func (r *ring) filter(ignore []ignoreRule, snap uint32) error {
	program, err := ignoreProgram(ignore, r.link == linkEthernet, snap)
	if err != nil {
		return fmt.Errorf("the filter of flow.ignore: %w", err)
	}
	code := make([]unix.SockFilter, len(program))
	for i, in := range program {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}); err != nil {
		return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
	}
	return nil
}

var errRingCorrupt = errors.New("the packet ring contradicts itself")

// next returns a packet, or false when there is none at the moment: then wait.
func (r *ring) next(p *ringPacket) (bool, error) {
	for r.packets == 0 {
		if r.at != nil { // give the block back
			atomic.StoreUint32(r.status(), 0)
			r.at = nil
			r.block = (r.block + 1) % r.blocks
			if half := r.mem[(r.block+r.blocks/2)%r.blocks*ringBlock:]; atomic.LoadUint32((*uint32)(unsafe.Pointer(&half[8])))&statusUser != 0 {
				r.pressed = true
			}
		}
		if atomic.LoadUint32(r.status())&statusUser == 0 {
			return false, nil
		}
		block := r.mem[r.block*ringBlock : (r.block+1)*ringBlock]
		h := (*unix.TpacketHdrV1)(unsafe.Pointer(&block[8])) // behind version and offset_to_priv
		if h.Offset_to_first_pkt > ringBlock {
			return false, errRingCorrupt
		}
		r.packets, r.at = h.Num_pkts, block[h.Offset_to_first_pkt:]
	}
	if len(r.at) < sockaddrAt+20 {
		return false, errRingCorrupt
	}
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&r.at[0]))
	end := int(h.Mac) + int(h.Snaplen)
	if end > len(r.at) || int(h.Next_offset) > len(r.at) {
		return false, errRingCorrupt
	}
	p.frame = r.at[h.Mac:end:end]
	p.wire = int(h.Len)
	p.time = int64(h.Sec)*1e9 + int64(h.Nsec)
	p.vlan = 0
	if h.Status&statusVLAN != 0 {
		p.vlan = uint16(h.Hv1.Vlan_tci)
	}
	ll := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&r.at[sockaddrAt]))
	p.skip = r.loopback && ll.Pkttype == packetOut
	if r.after != 0 {
		if p.time > r.after {
			r.after = 0
		} else {
			p.skip = true
		}
	}
	r.last = max(r.last, p.time)
	r.packets--
	r.at = r.at[h.Next_offset:]
	return true, nil
}

func (r *ring) status() *uint32 {
	return (*uint32)(unsafe.Pointer(&r.mem[r.block*ringBlock+8]))
}

// wait blocks until a block is ready or the poll time is over.
func (r *ring) wait() error {
	fds := [1]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN | unix.POLLERR}}
	n, err := unix.Poll(fds[:], ringPoll)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	if n == 1 && fds[0].Revents&unix.POLLERR != 0 {
		// The interface went down, for now or for good. Reading the error clears it.
		if _, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
			return os.NewSyscallError("getsockopt SO_ERROR", err)
		}
	}
	return nil
}

// stats returns what the kernel counted since the last call: packets that passed, that it dropped, and how often the ring was full.
func (r *ring) stats() (packets, drops, freezes uint32, err error) {
	s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0, 0, os.NewSyscallError("getsockopt PACKET_STATISTICS", err)
	}
	return s.Packets, s.Drops, s.Freeze_q_cnt, nil
}

func (r *ring) close() error {
	var err error
	if r.mem != nil {
		err = unix.Munmap(r.mem)
		r.mem = nil
	}
	return errors.Join(err, unix.Close(r.fd))
}
