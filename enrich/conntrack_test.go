package enrich

import (
	"bytes"
	"encoding/binary"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/flow"
)

// attr writes an attribute: number or nested list.
func attr(kind uint16, values ...[]byte) []byte {
	v := bytes.Join(values, nil)
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(v)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, v...)
	return append(b, make([]byte, -len(b)&3)...)
}

func be(v any) []byte {
	b, err := binary.Append(nil, binary.BigEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

// ctTuple writes a tuple as the kernel does, with the nested bit set.
func ctTuple(kind uint16, t Tuple, proto uint8) []byte {
	src, dst := t.Src.Netip().AsSlice(), t.Dst.Netip().AsSlice()
	at := uint16(1)
	if len(src) == 16 {
		at = 3
	}
	ports := [][]byte{attr(1, []byte{proto}), attr(2, be(t.SrcPort)), attr(3, be(t.DstPort))}
	if icmp(proto) {
		ports = [][]byte{attr(1, []byte{proto}), attr(4, be(uint16(77))), attr(5, []byte{8}), attr(6, []byte{0})}
	}
	return attr(kind|0x8000, attr(1|0x8000, attr(at, src), attr(at+1, dst)), attr(2|0x8000, ports...))
}

func tuple(src string, sp uint16, dst string, dp uint16) Tuple {
	return Tuple{ipAddr(src), ipAddr(dst), sp, dp}
}

// ctMessage is a whole message about a connection.
func ctMessage(kind uint16, orig, reply Tuple, proto uint8, more ...[]byte) []byte {
	b := append([]byte{2, 0, 0, 0}, ctTuple(ctaTupleOrig, orig, proto)...)
	b = append(b, ctTuple(ctaTupleReply, reply, proto)...)
	b = append(b, bytes.Join(more, nil)...)
	h := binary.NativeEndian.AppendUint32(nil, uint32(nlHeader+len(b)))
	h = binary.NativeEndian.AppendUint16(h, kind)
	return append(append(h, make([]byte, 10)...), b...)
}

func TestConntrackMessage(t *testing.T) {
	f := func(name string, message []byte, want conntrack, ok bool) {
		t.Helper()
		_, _, _, payload, rest, whole := netlinkMessage(message)
		if !whole || len(rest) != 0 {
			t.Fatalf("%s: message is not whole, or %d bytes are left", name, len(rest))
		}
		got, is := parseConntrack(payload)
		if is != ok {
			t.Fatalf("%s: read: %t, want %t", name, is, ok)
		}
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(conntrack{})); ok && diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	orig, reply := tuple("172.17.0.2", 40000, "203.0.113.9", 443), tuple("203.0.113.9", 443, "192.0.2.1", 46840)
	f("masquerade", ctMessage(ctNew, orig, reply, flow.TCP,
		attr(ctaStatus, be(uint32(0x18e))), attr(ctaID, be(uint32(7))), attr(ctaProtoInfo|0x8000, attr(1|0x8000, attr(1, []byte{3}))),
		attr(ctaCountersOrig|0x8000, attr(1, be(uint64(5))), attr(2, be(uint64(500)))), attr(ctaCountersReply|0x8000, attr(1, be(uint64(4))), attr(2, be(uint64(4000)))),
		attr(ctaTimestamp|0x8000, attr(1, be(uint64(1000))), attr(2, be(uint64(2000)))), attr(99, []byte{1})),
		conntrack{
			orig: orig, reply: reply, proto: flow.TCP, status: 0x18e, id: 7, tcpState: 3,
			packets: [2]uint64{5, 4}, bytes: [2]uint64{500, 4000}, counted: true, start: 1000, stop: 2000,
		}, true)
	six, back := tuple("fd00:29::2", 1, "2001:db8::9", 53), tuple("2001:db8::9", 53, "fd00:29::2", 1)
	f("IPv6", ctMessage(ctNew, six, back, flow.UDP), conntrack{orig: six, reply: back, proto: flow.UDP}, true)
	ping, pong := tuple("172.17.0.2", 0, "203.0.113.9", 0), tuple("203.0.113.9", 0, "192.0.2.1", 0)
	f("ICMP without its id", ctMessage(ctDelete, ping, pong, flow.ICMP), conntrack{orig: ping, reply: pong, proto: flow.ICMP}, true)
	f("two protocols", ctMessage(ctNew, orig, Tuple{}, 0), conntrack{}, false)

	whole := ctMessage(ctNew, orig, reply, flow.TCP)
	for n := range len(whole) {
		if _, _, _, _, _, ok := netlinkMessage(whole[:n]); ok {
			t.Fatalf("a message cut at %d is taken for whole", n)
		}
		if _, ok := parseConntrack(whole[nlHeader:max(n, nlHeader)]); ok {
			t.Fatalf("a payload cut at %d is taken for whole", n)
		}
	}
}

func FuzzConntrack(f *testing.F) {
	orig, reply := tuple("172.17.0.2", 40000, "203.0.113.9", 443), tuple("203.0.113.9", 443, "192.0.2.1", 46840)
	f.Add(ctMessage(ctNew, orig, reply, flow.TCP, attr(ctaTimestamp, attr(1, be(uint64(1))))))
	f.Add(ctMessage(ctDelete, tuple("fd00::2", 1, "2001:db8::9", 53), tuple("2001:db8::9", 53, "fd00::2", 1), flow.UDP, attr(ctaProtoInfo, attr(1))))
	f.Fuzz(func(t *testing.T, b []byte) {
		for range 1 + len(b)/nlHeader {
			_, _, _, payload, rest, ok := netlinkMessage(b)
			if !ok {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("the rest does not get shorter")
			}
			if c, ok := parseConntrack(payload); ok && (c.orig.Src.IsZero() || c.orig.Dst.IsZero() || c.reply.Src.IsZero() || c.reply.Dst.IsZero()) {
				t.Fatalf("a connection without an address: %+v", c)
			}
			b = rest
		}
		t.Fatal("more messages than fit")
	})
}

// sockMessage is an answer of sock_diag.
func sockMessage(family, state uint8, local string, lp uint16, remote string, rp uint16, attrs ...[]byte) []byte {
	b := make([]byte, sockMessageSize)
	b[0], b[1] = family, state
	binary.BigEndian.PutUint16(b[4:], lp)
	binary.BigEndian.PutUint16(b[6:], rp)
	putDiagAddr(b[8:], ipAddr(local), family)
	putDiagAddr(b[24:], ipAddr(remote), family)
	binary.NativeEndian.PutUint32(b[64:], 1000)
	binary.NativeEndian.PutUint32(b[68:], 4711)
	return append(b, bytes.Join(attrs, nil)...)
}

func TestSocketMessage(t *testing.T) {
	group := attr(inetDiagCgroup, binary.NativeEndian.AppendUint64(nil, 1<<40+3))
	f := func(name string, message []byte, want socket, asked string, port uint16, owns bool) {
		t.Helper()
		got, ok := parseSocket(message)
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(socket{})); !ok || diff != "" {
			t.Errorf("%s: %t (-want +got):\n%s", name, ok, diff)
		}
		if got.owns(ipAddr(asked), port) != owns {
			t.Errorf("%s: owns %s:%d is %t, want %t", name, asked, port, !owns, owns)
		}
	}
	want := socket{
		local: ipAddr("192.0.2.1"), remote: ipAddr("203.0.113.9"), localPort: 50000, remotePort: 443, state: 1, uid: 1000, inode: 4711, cgroup: 1<<40 + 3,
	}
	f("TCP", sockMessage(familyInet, 1, "192.0.2.1", 50000, "203.0.113.9", 443, attr(8, []byte{0}), group), want, "192.0.2.1", 50000, true)
	want.v6 = true
	f("dual-stack", sockMessage(familyInet6, 1, "::ffff:192.0.2.1", 50000, "::ffff:203.0.113.9", 443, group), want, "192.0.2.1", 50000, true)
	want.v6, want.state = false, tcpTimeWait
	f("TIME_WAIT", sockMessage(familyInet, tcpTimeWait, "192.0.2.1", 50000, "203.0.113.9", 443, group), want, "192.0.2.1", 50000, false)
	want = socket{localPort: 53, state: udpClosed, uid: 1000, inode: 4711, v6: true, v6only: true}
	f("every address", sockMessage(familyInet6, udpClosed, "::", 53, "::", 0, attr(inetDiagSkV6Only, []byte{1})), want, "192.0.2.1", 53, true)
	f("another port", sockMessage(familyInet6, udpClosed, "::", 53, "::", 0, attr(inetDiagSkV6Only, []byte{1})), want, "192.0.2.1", 54, false)
}

const udpClosed = 7

// TestSocketRequest pins the order of ends: TCP as the socket sees them, UDP as an incoming packet has them.
func TestSocketRequest(t *testing.T) {
	local, remote := ipAddr("192.0.2.1"), ipAddr("203.0.113.9")
	f := func(proto uint8, sport, dport uint16, src, dst flow.Addr) {
		t.Helper()
		b := sockRequest(nil, 9, proto, familyInet, local, remote, 50000, 53, false, 1)
		id := b[nlHeader+8:]
		if len(b) != sockRequestSize || binary.BigEndian.Uint16(id) != sport || binary.BigEndian.Uint16(id[2:]) != dport ||
			flow.Addr4(binary.BigEndian.Uint32(id[4:])) != src || flow.Addr4(binary.BigEndian.Uint32(id[20:])) != dst {
			t.Errorf("protocol %d asks for % x", proto, id[:36])
		}
	}
	f(flow.TCP, 50000, 53, local, remote)
	f(flow.UDP, 53, 50000, remote, local)
}

func FuzzSocket(f *testing.F) {
	f.Add(sockMessage(familyInet6, 1, "::ffff:192.0.2.1", 50000, "2001:db8::1", 443, attr(inetDiagCgroup, make([]byte, 8))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseSocket(b); ok && s.owns(flow.Addr4(1), s.localPort+1) {
			t.Fatal("a socket owns a port that it does not have")
		}
	})
}

func TestOwnerOf(t *testing.T) {
	id := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	f := func(group string, want Owner) {
		t.Helper()
		if got := ownerOf(group); got != want {
			t.Errorf("%s is %+v, want %+v", group, got, want)
		}
	}
	f("/docker/"+id, Owner{Container: id})
	f("/docker/"+id+"/init/deeper", Owner{Container: id})
	f("/system.slice/docker-"+id+".scope", Owner{Container: id})
	f("/machine.slice/libpod-"+id+".scope/container", Owner{Container: id})
	f("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-"+id+".scope", Owner{Container: id})
	f("/kubepods/burstable/pod1/"+id, Owner{Container: id})
	f("/system.slice/sshd.service", Owner{Unit: "sshd.service"})
	f("/user.slice/user-1000.slice/user@1000.service/app.slice/firefox.service", Owner{Unit: "user@1000.service"})
	f("/user.slice/user-0.slice/session-47.scope", Owner{Unit: "session.scope"})
	f("/system.slice/run-rb4d5c2f.service", Owner{Unit: "run.service"})
	f("/system.slice", Owner{Unit: "system"})
	f("/mine/jobs", Owner{Unit: "mine/jobs"})
	f("/", Owner{Unit: "root"})
	f("", Owner{Unit: "root"})
}

func TestLegacyMount(t *testing.T) {
	f := func(mounts, want string) {
		t.Helper()
		if got := legacyMount(mounts); got != want {
			t.Errorf("%q has containers below %q, want %q", mounts, got, want)
		}
	}
	f("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n", "")
	f("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n", "/sys/fs/cgroup/memory")
	f("torn\ncgroup\n", "")
}

func FuzzTracks(f *testing.F) {
	some := &Tracks{Engine: "local", Time: 7, From: 3, Mark: MarkHost, Host: []flow.Addr{ipAddr("192.0.2.1")}, Entries: []Track{
		{Time: 5, Orig: tuple("172.17.0.2", 1, "203.0.113.9", 443), Reply: tuple("203.0.113.9", 443, "192.0.2.1", 2), Kind: TrackBegin, Proto: flow.TCP},
		{Time: 6, Orig: tuple("192.0.2.1", 1, "203.0.113.9", 443), Owner: [2]Owner{{Unit: "sshd.service"}, {Container: "x"}}, Kind: TrackFound, Flags: TrackAsked0},
	}}
	f.Add(AppendTracks(nil, some))
	got, err := DecodeTracks(AppendTracks(nil, some))
	if diff := gocmp.Diff(some, got); err != nil || diff != "" {
		f.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := DecodeTracks(p)
		if err != nil {
			return
		}
		again, err := DecodeTracks(AppendTracks(nil, b))
		if diff := gocmp.Diff(b, again); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
		newTable(Default(), metrics.NewSet(), seed{1, 3, 5, 7}).Tracks(b)
	})
}
