package enrich

import (
	"encoding/binary"

	"github.com/wharfwatch/wharfwatch/flow"
)

// Messages of sock_diag, by https://github.com/torvalds/linux/blob/master/include/uapi/linux/inet_diag.h
//
//	inet_diag_req_v2   family u8  protocol u8  extensions u8  pad u8  states u32  sockid
//	inet_diag_sockid   sport be16  dport be16  src 16 bytes  dst 16 bytes  interface u32  cookie 2 x u32
//	inet_diag_msg      family u8  state u8  timer u8  retrans u8  sockid  expires u32  rqueue u32  wqueue u32  uid u32  inode u32  attributes
const (
	sockDiagByFamily  = 20
	sockRequestSize   = nlHeader + 56
	sockMessageSize   = 72
	inetDiagCgroup    = 21 // INET_DIAG_CGROUP_ID, since Linux 5.9
	inetDiagSkV6Only  = 11
	tcpTimeWait       = 6
	tcpListen         = 10
	tcpNewSynReceived = 12
)

// socket is one socket as the kernel tells it.
type socket struct {
	local, remote         flow.Addr // zero for "any"
	localPort, remotePort uint16
	state                 uint8
	uid, inode            uint32
	cgroup                uint64 // 0 unknown
	v6, v6only            bool
}

const (
	familyInet  = 2  // AF_INET
	familyInet6 = 10 // AF_INET6
)

// sockRequest writes the question for the one socket of a tuple; dump asks for all of a family in the states of a mask instead.
//
// The kernel takes a UDP tuple for an incoming packet, and TCP's as the socket sees it: for UDP the remote end goes first. The natural
// order would find a server that is bound to the remote's port number, an innocent.
func sockRequest(b []byte, seq uint32, proto uint8, family uint8, local, remote flow.Addr, localPort, remotePort uint16, dump bool, states uint32) []byte {
	b = append(b[:0], make([]byte, sockRequestSize)...)
	ne, flags := binary.NativeEndian, uint16(1) // NLM_F_REQUEST
	if dump {
		flags |= 0x300 // NLM_F_DUMP
	}
	ne.PutUint32(b, sockRequestSize)
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], flags)
	ne.PutUint32(b[8:], seq)
	r := b[nlHeader:]
	r[0], r[1] = family, proto
	ne.PutUint32(r[4:], states)
	if proto == flow.UDP {
		local, remote, localPort, remotePort = remote, local, remotePort, localPort
	}
	id := r[8:]
	binary.BigEndian.PutUint16(id, localPort)
	binary.BigEndian.PutUint16(id[2:], remotePort)
	putDiagAddr(id[4:], local, family)
	putDiagAddr(id[20:], remote, family)
	for i := 40; i < 48; i++ {
		id[i] = 0xff // no cookie
	}
	return b
}

func putDiagAddr(b []byte, a flow.Addr, family uint8) {
	if family == familyInet {
		binary.BigEndian.PutUint32(b, uint32(a.Lo))
		return
	}
	if !a.IsZero() {
		binary.BigEndian.PutUint64(b, a.Hi)
		binary.BigEndian.PutUint64(b[8:], a.Lo)
	}
}

// parseSocket reads the payload of an answer.
func parseSocket(b []byte) (s socket, ok bool) {
	if len(b) < sockMessageSize {
		return s, false
	}
	s.v6 = b[0] == familyInet6
	addr := func(b []byte) flow.Addr {
		a := flow.Addr16(b)
		if !s.v6 {
			a = flow.Addr4(binary.BigEndian.Uint32(b))
		}
		if a == flow.Addr4(0) {
			return flow.Addr{}
		}
		return a
	}
	s.state = b[1]
	s.localPort, s.remotePort = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	s.local, s.remote = addr(b[8:]), addr(b[24:])
	s.uid, s.inode = binary.NativeEndian.Uint32(b[64:]), binary.NativeEndian.Uint32(b[68:])
	for b = b[sockMessageSize:]; len(b) > 0; {
		kind, v, rest, whole := attribute(b)
		if !whole {
			return s, false
		}
		switch {
		case kind == inetDiagCgroup && len(v) == 8:
			s.cgroup = binary.NativeEndian.Uint64(v)
		case kind == inetDiagSkV6Only && len(v) >= 1:
			s.v6only = v[0] != 0
		}
		b = rest
	}
	return s, true
}

// owns says that an answer is about the local end that was asked for, and not about a socket that is gone already.
func (s *socket) owns(addr flow.Addr, port uint16) bool {
	return s.localPort == port && (s.local == addr || s.local.IsZero()) && s.state != tcpTimeWait
}
