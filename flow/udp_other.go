//go:build !linux

package flow

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// socket is the portable receiver: one datagram per call, and no counter of what the kernel dropped.
type socket struct {
	conn            *net.UDPConn
	addr            netip.AddrPort
	buffer          int
	drops, reported uint32
	slots           [1]datagram
}

func openSocket(a *net.UDPAddr, buffer int, _ bool) (*socket, error) {
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		return nil, err
	}
	if c.SetReadBuffer(buffer) != nil {
		buffer = 0
	}
	s := &socket{conn: c, addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), buffer: buffer}
	s.slots[0].buf = make([]byte, datagramSize+slack)
	return s, nil
}

func (s *socket) read() ([]datagram, error) {
	s.conn.SetReadDeadline(time.Now().Add(idle))
	d := &s.slots[0]
	n, from, err := s.conn.ReadFromUDPAddrPort(d.buf[:datagramSize])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d.n, d.from = n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	return s.slots[:], nil
}

func (s *socket) pollDrops() uint32 { return s.drops }

func (s *socket) close() error { return s.conn.Close() }
