package enrich

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// netlink is one netlink socket, bound to the network namespace it was opened in. One goroutine uses it.
type netlink struct {
	fd  int
	seq uint32
	buf []byte
}

// netlinkRead is how much is taken at once, bytes.
const netlinkRead = 256 << 10

// openNetlink binds a socket to multicast groups, which the address names by bits. wait bounds a read.
func openNetlink(family int, groups uint32, receive int, wait time.Duration) (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, fmt.Errorf("netlink socket of family %d: %w", family, err)
	}
	n := &netlink{fd: fd, buf: make([]byte, netlinkRead)}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receive) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receive)
	}
	t := unix.NsecToTimeval(int64(wait))
	if err = errors.Join(err, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t)); err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("bind netlink socket of family %d: %w", family, err)
	}
	return n, nil
}

func (n *netlink) close() { unix.Close(n.fd) }

var errNobody = errors.New("nothing came")

// read takes what came, the kernel's only; errNobody when nothing did in time. The bytes are valid until the next call.
func (n *netlink) read(flags int) ([]byte, error) {
	for {
		size, from, err := unix.Recvfrom(n.fd, n.buf, flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil, errNobody
		case err != nil:
			return nil, err
		}
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid != 0 {
			continue // only the kernel is believed
		}
		return n.buf[:size], nil
	}
}

// errGone is the kernel's ENOENT: there is no such thing.
var errGone = errors.New("no such entry")

// ask sends a request whose sequence number is n.seq, and gives every message of the answer to use. A dump ends by itself.
// whole is false when the kernel says that what it dumped changed meanwhile.
func (n *netlink) ask(request []byte, dump bool, use func(kind, flags uint16, payload []byte)) (whole bool, err error) {
	if err := unix.Sendto(n.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, fmt.Errorf("netlink request: %w", err)
	}
	whole = true
	for {
		b, err := n.read(0)
		if err != nil {
			return false, err
		}
		for {
			kind, flags, seq, payload, rest, ok := netlinkMessage(b)
			if !ok {
				break
			}
			b = rest
			if seq != n.seq {
				continue // left over from an earlier question
			}
			switch kind {
			case nlDone:
				return whole, nil
			case nlError:
				if len(payload) < 4 {
					return false, io.ErrUnexpectedEOF
				}
				switch code := -int32(binary.NativeEndian.Uint32(payload)); code {
				case 0:
					return whole, nil
				case int32(unix.ENOENT):
					return whole, errGone
				default:
					return false, fmt.Errorf("netlink answer: %w", unix.Errno(code))
				}
			}
			whole = whole && flags&unix.NLM_F_DUMP_INTR == 0
			use(kind, flags, payload)
			if !dump {
				return whole, nil
			}
		}
	}
}

// conntrackDump is the request for all connections of both families.
func (n *netlink) conntrackDump() []byte {
	n.seq++
	b := make([]byte, nlHeader+4)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], ctGet)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(b[8:], n.seq)
	return b // family AF_UNSPEC, version 0
}
