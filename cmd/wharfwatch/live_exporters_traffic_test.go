package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/wharfwatch/wharfwatch/rig"
)

const (
	tcpPort            = 8080
	echoPort           = 7
	dumpPort           = 8200
	readyPort, endPort = 9001, 9002 // for packets that only show who has read them
)

// six is an IPv6 address of the rig's uplink, ::2 the host and ::1 the router.
func (s *scene) six(host byte) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd00:99:0:%x::%d", s.Number, host))
}

// own says whether a tuple is of the test's traffic: between host and router, no neighbour discovery and no mark.
func (s *scene) own(k tuple) bool {
	if k.dport == readyPort || k.dport == endPort || k.proto == 58 && k.dport>>8 != 128 && k.dport>>8 != 129 {
		return false
	}
	mine := func(a netip.Addr) bool {
		return a == s.HostAddr || a == s.RouterAddr || a == s.six(1) || a == s.six(2) || s.isPieces(a)
	}
	return mine(k.src) && mine(k.dst)
}

// pieces are more addresses of the router, for traffic in fragments.
func (s *scene) pieces() []netip.Addr { return []netip.Addr{s.HostAddr.Next(), s.six(3)} }

func (s *scene) isPieces(a netip.Addr) bool { return slices.Contains(s.pieces(), a) }

// fold makes one tuple of all that goes from an address to one of pieces: exporters agree how many fragments there were, not on whether all
// of them have the ports, which stand in the first alone.
func (s *scene) fold(t totals) totals {
	out := totals{}
	for k, n := range t {
		if s.isPieces(k.dst) {
			k.sport, k.dport, k.proto = 0, 0, 17
		}
		if out[k] == nil {
			out[k] = &sums{}
		}
		*out[k] = sums{out[k].packets + n.packets, out[k].bytes + n.bytes, out[k].squares + n.squares}
	}
	return out
}

// traffic makes a mixture of TCP, UDP and ICMP in IPv4 and IPv6, for some 20 seconds. It returns the tuples of which it knows every packet.
func (s *scene) traffic() totals {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		known = totals{}
	)
	for i, a := range []struct{ host, router netip.Addr }{{s.HostAddr, s.RouterAddr}, {s.six(2), s.six(1)}} {
		header := uint64(20)
		if a.router.Is6() {
			header = 40
		}
		for _, part := range []func() error{
			func() error { return s.upload(a.router, 600, 16<<10, 20) },   // for 12 seconds and more than one active timeout
			func() error { return s.upload(a.router, 100, 4<<10, 600e3) }, // and as much back
			func() error {
				for range 100 {
					if err := s.upload(a.router, 1, 300, 2000); err != nil {
						return err
					}
				}
				return nil
			},
			func() error { return s.datagrams(a.router, dumpPort, 40000, 300, &mu, known, header) },
			func() error { return s.datagrams(a.router, echoPort, 4000, 1000, &mu, known, header) },
			func() error {
				for i := range 100 {
					if err := s.datagrams(a.router, echoPort, 1+i%3, 40+i, &mu, known, header); err != nil {
						return err
					}
				}
				return nil
			},
			func() error { return s.datagrams(s.pieces()[i], dumpPort, 500, 3000, &mu, totals{}, header) }, // three fragments each
			func() error { return s.ping(a.host, a.router, 40, 200, &mu, known, header) },
		} {
			all.Go(func() {
				if err := part(); err != nil {
					s.t.Error(err)
				}
			})
		}
	}
	all.Wait()
	return known
}

// pace calls f n times in bursts that keep to a rate, so that no exporter on a small machine has to drop anything.
func pace(n, perSecond int, f func() error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	burst := max(1, perSecond/200)
	for i := range n {
		if i%burst == 0 {
			<-tick.C
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// serveAll answers on the addresses of the router.
func (s *scene) serveAll() {
	s.t.Helper()
	for i, bits := range []int{24, 64} {
		a := s.pieces()[i]
		if out, err := s.RouterExec(s.t.Context(), "ip", "addr", "add", netip.PrefixFrom(a, bits).String(), "dev", s.RouterLink, "nodad").CombinedOutput(); err != nil {
			s.t.Fatalf("%v: %s", err, out)
		}
		s.serve(a)
	}
	s.serve(s.RouterAddr)
	s.serve(s.six(1))
}

// serve answers on the router: a TCP server that is asked for as many bytes as it shall send back, an echo, and a port that takes all.
func (s *scene) serve(a netip.Addr) {
	s.t.Helper()
	var l net.Listener
	var echo net.PacketConn
	var sinks []net.PacketConn
	s.InRouter(func() (err error) {
		if l, err = net.Listen("tcp", netip.AddrPortFrom(a, tcpPort).String()); err != nil {
			return err
		}
		if echo, err = net.ListenPacket("udp", netip.AddrPortFrom(a, echoPort).String()); err != nil {
			return err
		}
		for _, port := range []uint16{dumpPort, readyPort, endPort} {
			c, err := net.ListenPacket("udp", netip.AddrPortFrom(a, port).String())
			if err != nil {
				return err
			}
			sinks = append(sinks, c)
		}
		return nil
	})
	for _, c := range append(sinks, echo) {
		s.t.Cleanup(func() { c.Close() })
	}
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var head [16]byte
				if _, err := io.ReadFull(c, head[:]); err != nil {
					return
				}
				sent, back := int64(binary.BigEndian.Uint64(head[:])), int(binary.BigEndian.Uint64(head[8:]))
				if _, err := io.CopyN(io.Discard, c, sent); err != nil {
					return
				}
				chunk := make([]byte, min(back, 4<<10))
				pace(back/max(1, len(chunk)), 200, func() error { _, err := c.Write(chunk); return err })
			}()
		}
	}()
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			echo.WriteTo(b[:n], from)
		}
	}()
	for _, c := range sinks {
		go io.Copy(io.Discard, c.(*net.UDPConn))
	}
}

func (s *scene) dial(network, to string) (c net.Conn, err error) {
	err = rig.Enter(s.HostNS, func() error {
		c, err = net.Dial(network, to)
		return err
	})
	return c, err
}

// upload sends chunks at 50 a second and reads back what it asks for.
func (s *scene) upload(to netip.Addr, chunks, size, back int) error {
	c, err := s.dial("tcp", netip.AddrPortFrom(to, tcpPort).String())
	if err != nil {
		return err
	}
	defer c.Close()
	head := binary.BigEndian.AppendUint64(nil, uint64(chunks*size))
	if _, err := c.Write(binary.BigEndian.AppendUint64(head, uint64(back))); err != nil {
		return err
	}
	chunk := make([]byte, size)
	if err := pace(chunks, 50, func() error { _, err := c.Write(chunk); return err }); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}

// datagrams sends n of a size from one port; an echo is awaited one by one.
func (s *scene) datagrams(to netip.Addr, port, n, size int, mu *sync.Mutex, known totals, header uint64) error {
	c, err := s.dial("udp", netip.AddrPortFrom(to, uint16(port)).String())
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, max(size, 2048))
	err = pace(n, 2500, func() error {
		if _, err := c.Write(b[:size]); err != nil || port != echoPort {
			return err
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err := c.Read(b)
		return err
	})
	from := c.LocalAddr().(*net.UDPAddr).AddrPort()
	k := tuple{from.Addr().Unmap(), to, from.Port(), uint16(port), 17}
	bytes := uint64(n) * (uint64(size) + 8 + header)
	mu.Lock()
	defer mu.Unlock()
	known.add(k, uint64(n), bytes)
	if port == echoPort {
		known.add(tuple{k.dst, k.src, k.dport, k.sport, 17}, uint64(n), bytes)
	}
	return err
}

// ping sends echo requests and waits for each reply.
func (s *scene) ping(from, to netip.Addr, n, size int, mu *sync.Mutex, known totals, header uint64) error {
	network, ask, answer, proto := "ip4:icmp", byte(8), byte(0), uint8(1)
	if to.Is6() {
		network, ask, answer, proto = "ip6:ipv6-icmp", 128, 129, 58
	}
	c, err := s.dial(network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, max(size, 2048))
	sequence := uint16(0)
	err = pace(n, 20, func() error {
		sequence++
		m := make([]byte, size)
		m[0] = ask
		binary.BigEndian.PutUint16(m[6:], sequence)
		if !to.Is6() { // else the kernel does it
			sum := uint32(ask)<<8 + uint32(sequence)
			binary.BigEndian.PutUint16(m[2:], ^uint16(sum+sum>>16))
		}
		if _, err := c.Write(m); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		for {
			if got, _, err := c.(*net.IPConn).ReadFrom(b); err != nil || got == size && b[0] == answer && binary.BigEndian.Uint16(b[6:]) == sequence {
				return err
			}
		}
	})
	bytes := uint64(n) * (uint64(size) + header)
	mu.Lock()
	defer mu.Unlock()
	known.add(tuple{from, to, 0, uint16(ask) << 8, proto}, uint64(n), bytes)
	known.add(tuple{to, from, 0, uint16(answer) << 8, proto}, uint64(n), bytes)
	return err
}

// markUntil sends packets to a port, from a new source port each time so that they time out, until all have exported some: whoever has,
// has read all that came before.
func (s *scene) markUntil(what string, all []*tapped, port uint16) {
	s.t.Helper()
	begin := time.Now()
	heard := func(w *tapped) bool {
		if w.has(port) && !w.marked[port] {
			w.marked[port] = true
			s.t.Logf("%s: after %s in %s", what, time.Since(begin).Round(100*time.Millisecond), w.name)
		}
		return w.marked[port]
	}
	s.eventually(30*time.Second, what, func() bool {
		c, err := s.dial("udp", netip.AddrPortFrom(s.RouterAddr, port).String())
		if err != nil {
			s.t.Fatal(err)
		}
		defer c.Close()
		for range 400 {
			if _, err := c.Write([]byte("mark")); err != nil {
				s.t.Fatal(err)
			}
		}
		waiting := 0
		for _, w := range all {
			if !heard(w) {
				waiting++
			}
		}
		return waiting == 0
	})
}
