package flow

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const socketSlots = 64

// socket is a blocking UDP socket read with recvmmsg. Only pollDrops and read are called while it is read, by one thread.
type socket struct {
	fd       int
	addr     netip.AddrPort
	buffer   int
	drops    uint32 // as the kernel counts them since the socket was made; wraps
	reported uint32

	slots   [socketSlots]datagram
	headers [socketSlots]mmsghdr
	vectors [socketSlots]unix.Iovec
	names   [socketSlots]unix.RawSockaddrInet6
	control [socketSlots][controlSize]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

const controlSize = 64 // CMSG_SPACE of one counter, with room

// openSocket binds. A wildcard takes IPv4 and IPv6 where the host has both. A shared address may be bound again by this user.
func openSocket(a *net.UDPAddr, buffer int, shared bool) (*socket, error) {
	at := a.AddrPort()
	wild := a.IP == nil || a.IP.IsUnspecified() && a.IP.To4() == nil
	family := unix.AF_INET6
	if !wild && at.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	fd, err := bindUDP(family, a, wild, shared)
	if err != nil && wild && a.IP == nil { // a host without IPv6
		family = unix.AF_INET
		var err4 error
		if fd, err4 = bindUDP(family, a, wild, shared); err4 != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	s := &socket{fd: fd}
	if err := s.prepare(buffer); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func bindUDP(family int, a *net.UDPAddr, dual, shared bool) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	var sa unix.Sockaddr
	if family == unix.AF_INET {
		s := &unix.SockaddrInet4{Port: a.Port}
		copy(s.Addr[:], a.IP.To4())
		sa = s
	} else {
		s := &unix.SockaddrInet6{Port: a.Port}
		copy(s.Addr[:], a.IP.To16())
		if i, err := net.InterfaceByName(a.Zone); a.Zone != "" && err == nil {
			s.ZoneId = uint32(i.Index)
		}
		sa = s
		only := 1
		if dual {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("set IPV6_V6ONLY: %w", err)
		}
	}
	if shared {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("set SO_REUSEPORT: %w", err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *socket) prepare(buffer int) error {
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return fmt.Errorf("set SO_RCVBUF: %w", err)
		}
	}
	granted, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return fmt.Errorf("read SO_RCVBUF back: %w", err)
	}
	s.buffer = granted
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1); err != nil {
		return fmt.Errorf("set SO_RXQ_OVFL: %w", err)
	}
	wait := unix.NsecToTimeval(int64(idle))
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return fmt.Errorf("set SO_RCVTIMEO: %w", err)
	}
	bound, err := unix.Getsockname(s.fd)
	if err != nil {
		return fmt.Errorf("read the bound address: %w", err)
	}
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		s.addr = netip.AddrPortFrom(netip.AddrFrom4(b.Addr), uint16(b.Port))
	case *unix.SockaddrInet6:
		s.addr = netip.AddrPortFrom(netip.AddrFrom16(b.Addr).Unmap(), uint16(b.Port))
	}
	memory := make([]byte, socketSlots*(datagramSize+slack))
	for i := range s.headers {
		buf := memory[i*(datagramSize+slack):][:datagramSize+slack]
		s.slots[i].buf = buf
		s.vectors[i].Base = &buf[0]
		s.vectors[i].SetLen(datagramSize)
		h := &s.headers[i]
		h.Iov = &s.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Control = &s.control[i][0]
	}
	return nil
}

// read waits for at least one datagram, or returns none after the idle time. What it returns is valid until the next call.
func (s *socket) read() ([]datagram, error) {
	for i := range s.headers {
		h := &s.headers[i]
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSize)
		h.Flags = 0
	}
	r, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.headers[0])), socketSlots, unix.MSG_WAITFORONE, 0, 0)
	switch e {
	case 0:
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED:
		return nil, nil
	default:
		return nil, e
	}
	n := int(r)
	for i := range n {
		h, d := &s.headers[i], &s.slots[i]
		d.n = int(h.n)
		d.cut = h.Flags&unix.MSG_TRUNC != 0
		d.from = peer(&s.names[i])
	}
	if n > 0 {
		s.overflow(&s.headers[n-1])
	}
	return s.slots[:n], nil
}

// peer reads the sender; v4-mapped addresses come out as IPv4.
func peer(n *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&n.Port))[:])
	if n.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(n)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(n.Addr).Unmap(), port)
}

// overflow reads the SO_RXQ_OVFL counter, which the kernel attaches once it is not 0.
func (s *socket) overflow(h *mmsghdr) {
	const head = unix.SizeofCmsghdr
	if int(h.Controllen) < head+4 {
		return
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(h.Control))
	if c.Level == unix.SOL_SOCKET && c.Type == unix.SO_RXQ_OVFL {
		s.drops = *(*uint32)(unsafe.Add(unsafe.Pointer(h.Control), head))
	}
}

// pollDrops asks for the counter, because SO_RXQ_OVFL comes only with the next datagram.
func (s *socket) pollDrops() uint32 {
	var info [16]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	if e == 0 && size > 4*unix.SK_MEMINFO_DROPS {
		s.drops = info[unix.SK_MEMINFO_DROPS]
	}
	return s.drops
}

func (s *socket) close() error {
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}
