package flow

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// inNamespace runs f in a network namespace of its own, on a thread that ends with it. f may start goroutines with enter.
func inNamespace(t *testing.T, f func(t *testing.T, enter func(func()))) {
	t.Helper()
	lacks := func(what string, err error) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: %v", what, err)
		}
		t.Skipf("%s: %v", what, err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		lacks("the test needs iproute2", err)
	}
	done := make(chan struct{})
	var skip error
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if skip = unix.Unshare(unix.CLONE_NEWNET); skip != nil {
			return
		}
		ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(ns)
		for _, c := range []string{"all", "default"} { // no neighbour discovery between our packets
			os.WriteFile("/proc/sys/net/ipv6/conf/"+c+"/disable_ipv6", []byte("1"), 0)
		}
		f(t, func(g func()) {
			runtime.LockOSThread()
			if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			g()
		})
	}()
	<-done
	if skip != nil {
		lacks("a network namespace needs root", skip)
	}
}

func ip(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", line, err, out)
	}
}

// sender puts frames onto an interface.
func sender(t *testing.T, name string) (send func(frame []byte), closed func()) {
	t.Helper()
	n, err := net.InterfaceByName(name)
	if err != nil {
		t.Error(err)
		return func([]byte) {}, func() {}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return func([]byte) {}, func() {}
	}
	to := &unix.SockaddrLinklayer{Ifindex: n.Index}
	return func(frame []byte) {
		for {
			err := unix.Sendto(fd, frame, 0, to)
			if err != unix.ENOBUFS {
				if err != nil {
					t.Errorf("send: %v", err)
				}
				return
			}
			runtime.Gosched()
		}
	}, func() { unix.Close(fd) }
}

// watched is a running capture; what it hands over is collected.
type watched struct {
	set  *metrics.Set
	note string

	mu      sync.Mutex
	changed *sync.Cond
	got     collected
	gaps    []Gap
	hold    bool // emit blocks
	held    bool // it did
	sources map[string]int

	stop func() time.Duration // ends the capture and says how long that took
}

func watch(t *testing.T, enter func(func()), patterns string) *watched {
	t.Helper()
	return watchWith(t, enter, captureOptions{patterns: patterns, ringBytes: Default().RingBytes})
}

func watchWith(t *testing.T, enter func(func()), o captureOptions) *watched {
	t.Helper()
	w := &watched{set: metrics.NewSet(), sources: make(map[string]int)}
	w.changed = sync.NewCond(&w.mu)
	s, note, err := openCapture(o, NewPool(8), w.set, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	w.note = note
	s.(*capture).start = func(f func()) { go enter(f) } // a larger ring is opened there
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go enter(func() {
		ended <- s.Run(ctx, func(b *Batch) {
			w.mu.Lock()
			for w.hold {
				w.held = true
				w.changed.Broadcast()
				w.changed.Wait()
			}
			w.sources[b.Source]++
			w.gaps = append(w.gaps, b.Gaps...)
			w.got.take(b)
			w.changed.Broadcast()
			w.mu.Unlock()
		})
	})
	w.stop = sync.OnceValue(func() time.Duration {
		begin := time.Now()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the capture does not end")
		}
		return time.Since(begin)
	})
	return w
}

// until waits for something that the capture hands over.
func (w *watched) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(10*time.Second, func() {
		w.mu.Lock()
		late = true
		w.changed.Broadcast()
		w.mu.Unlock()
	})
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !ok() {
		if late {
			t.Errorf("no %s within 10 s", what)
			return
		}
		w.changed.Wait()
	}
}

func (w *watched) counter(name string) uint64 { return w.set.GetOrCreateCounter(name).Get() }

// packets sums what the records hold for a destination port.
func (w *watched) packets(dport uint16) (n uint64) {
	for _, r := range w.got.records {
		if r.DstPort == dport {
			n += r.Packets
		}
	}
	return n
}

// conserved checks the counters once the capture has ended. What the kernel took while the ring was being closed nobody saw.
func (w *watched) conserved(t *testing.T, closing uint64) {
	t.Helper()
	packets, _ := sums(w.got.records)
	for v := used + 1; v < numVerdict; v++ {
		packets += w.counter(fmt.Sprintf("wharfwatch_flow_packets_ignored_total{reason=%q}", verdictNames[v]))
	}
	seen, kernel, drops := w.counter("wharfwatch_flow_packets_total"), w.counter("wharfwatch_flow_capture_packets_total"), w.counter("wharfwatch_flow_capture_drops_total")
	if packets != seen {
		t.Errorf("%d packets seen, %d in records or ignored", seen, packets)
	}
	if kernel < seen+drops || kernel > seen+drops+closing {
		t.Errorf("the kernel passed %d packets: %d seen, %d dropped", kernel, seen, drops)
	}
}

// On a veth: packets in = packets in records, nothing is dropped, event time moves on in silence, names and tags arrive, an
// interface that goes away and comes back is captured again.
func TestCapture(t *testing.T) {
	inNamespace(t, func(t *testing.T, enter func(func())) {
		ip(t, "link add ww-a type veth peer name ww-b")
		ip(t, "link set ww-a up")
		ip(t, "link set ww-b up")
		w := watch(t, enter, "ww-a")
		if w.note != "capturing on ww-a: ww-a" {
			t.Errorf("note %q", w.note)
		}
		w.until(t, "heartbeat", func() bool { return len(w.got.marks) > 0 })
		send, closed := sender(t, "ww-b")
		const n = 2000
		frame := serialize(t, ethernet(typeIPv4), ip4(UDP), udp(4000, 5000), payload(100))
		for i := range n {
			if i%500 == 499 { // the backlog of a veth holds 1000
				w.until(t, "progress", func() bool { return w.counter("wharfwatch_flow_packets_total") >= uint64(i) })
			}
			send(frame)
		}
		send(serialize(t, ethernet(typeIPv4), ip4(UDP), udp(53, 4001), gopacket.Payload(compressed)))
		send(serialize(t, ethernet(typeVLAN), &layers.Dot1Q{VLANIdentifier: 7, Type: typeIPv4}, ip4(UDP), udp(4000, 5001), payload(9)))
		w.until(t, "records", func() bool {
			return w.counter("wharfwatch_flow_packets_total") >= n+2 && w.packets(5001) == 1 && len(w.got.names) == 1
		})
		w.mu.Lock()
		for _, r := range w.got.records {
			age := time.Since(time.Unix(0, r.First))
			if r.DstPort == 5001 && (r.VLAN != 7 || r.Bytes != 37) || age < 0 || age > time.Minute || r.Flags&FlagPackets == 0 {
				t.Errorf("record %+v", r)
			}
		}
		if w.got.names[0].Name != "www.example.com" {
			t.Errorf("name %+v", w.got.names)
		}
		silent := len(w.got.marks)
		w.mu.Unlock()
		w.until(t, "heartbeat in silence", func() bool { return len(w.got.marks) >= silent+3 })
		w.mu.Lock()
		for i, m := range w.got.marks[silent:] {
			if lag := time.Since(time.Unix(0, m)); m < w.got.marks[silent+i-1] || lag < time.Duration(captureMargin) || lag > 10*time.Second {
				t.Errorf("a watermark %v behind", lag)
			}
		}
		w.mu.Unlock()
		closed()

		ip(t, "link del ww-a")
		ip(t, "link add ww-a type veth peer name ww-b")
		ip(t, "link set ww-a up")
		ip(t, "link set ww-b up")
		send, closed = sender(t, "ww-b")
		again := serialize(t, ethernet(typeIPv4), ip4(UDP), udp(4000, 5002), payload(100))
		w.until(t, "packet of the new interface", func() bool {
			w.mu.Unlock()
			send(again) // until the capture has found it
			w.mu.Lock()
			return w.packets(5002) > 0
		})
		closed()
		w.stop()
		w.conserved(t, 0)
		if got := w.packets(5000); got != n {
			t.Errorf("%d packets of %d", got, n)
		}
		if d := w.counter("wharfwatch_flow_capture_drops_total"); d != 0 || len(w.gaps) != 0 {
			t.Errorf("%d drops, gaps %+v", d, w.gaps)
		}
		if diff := cmp.Diff(1, len(w.sources)); diff != "" || w.sources["capture:ww-a"] == 0 {
			t.Errorf("sources %v", w.sources)
		}
		if w.counterGauge() != 0 {
			t.Errorf("%g interfaces after the end", w.counterGauge())
		}
	})
}

func (w *watched) counterGauge() float64 {
	return w.set.GetOrCreateGauge("wharfwatch_flow_capture_interfaces", nil).Get()
}

// A capture ends at once although packets keep coming, and what it had seen is in its records.
func TestCaptureStopsUnderTraffic(t *testing.T) {
	inNamespace(t, func(t *testing.T, enter func(func())) {
		ip(t, "link add ww-a type veth peer name ww-b")
		ip(t, "link set ww-a up")
		ip(t, "link set ww-b up")
		w := watch(t, enter, "ww-*,!")
		w.until(t, "heartbeats", func() bool { return len(w.sources) == 2 })
		ctx, cancel := context.WithCancel(context.Background())
		flooded := make(chan struct{})
		go enter(func() {
			defer close(flooded)
			send, closed := sender(t, "ww-b")
			defer closed()
			frame := serialize(t, ethernet(typeIPv4), ip4(UDP), udp(4000, 5000), payload(1000))
			for ctx.Err() == nil {
				send(frame)
			}
		})
		w.until(t, "traffic", func() bool { return w.packets(5000) > 0 })
		if took := w.stop(); took > 2*time.Second {
			t.Errorf("the end took %v", took)
		}
		cancel()
		<-flooded
		w.conserved(t, 10_000)
	})
}

// What the kernel drops because nobody reads is counted and becomes a gap.
func TestCaptureDrops(t *testing.T) {
	inNamespace(t, func(t *testing.T, enter func(func())) {
		ip(t, "link add ww-a type veth peer name ww-b")
		ip(t, "link set ww-a up")
		ip(t, "link set ww-b up")
		w := watch(t, enter, "ww-a")
		w.until(t, "heartbeat", func() bool { return len(w.got.marks) > 0 })
		w.mu.Lock()
		w.hold = true
		w.mu.Unlock()
		send, closed := sender(t, "ww-b")
		frame := serialize(t, ethernet(typeIPv4), ip4(UDP), udp(4000, 5000), payload(1400))
		const n = 2 * ringBlock * ringStart / 1500
		for range n {
			send(frame)
		}
		closed()
		w.mu.Lock()
		w.hold = false
		w.changed.Broadcast()
		w.mu.Unlock()
		w.until(t, "gap", func() bool { return len(w.gaps) > 0 })
		w.stop()
		w.conserved(t, 0)
		drops, lost := w.counter("wharfwatch_flow_capture_drops_total"), uint64(0)
		for _, g := range w.gaps {
			lost += g.Lost
			if g.Reason != "capture" || g.Source != "capture:ww-a" || g.To <= g.From {
				t.Errorf("gap %+v", g)
			}
		}
		if drops == 0 || lost != drops || w.counter("wharfwatch_flow_capture_freezes_total") == 0 {
			t.Errorf("%d drops, %d in gaps", drops, lost)
		}
		if got := w.packets(5000); got == 0 || got+drops > n {
			t.Errorf("%d packets and %d drops of %d", got, drops, n)
		}
	})
}

// Loopback shows every packet twice; one of them counts.
func TestCaptureLoopback(t *testing.T) {
	inNamespace(t, func(t *testing.T, enter func(func())) {
		ip(t, "link set lo up")
		w := watch(t, enter, "lo")
		w.until(t, "heartbeat", func() bool { return len(w.got.marks) > 0 })
		c, err := net.Dial("udp", "127.0.0.1:5000")
		if err != nil {
			t.Error(err)
			return
		}
		const n = 50
		for range n {
			c.Write([]byte("x")) // nobody listens: ICMP errors come back, which the socket reports here
		}
		c.Close()
		w.until(t, "records", func() bool { return w.packets(5000) >= n/2 })
		w.stop()
		w.conserved(t, 0)
		skipped := w.counter(`wharfwatch_flow_packets_ignored_total{reason="outgoing"}`)
		if packets, _ := sums(w.got.records); skipped != packets || packets == 0 {
			t.Errorf("%d packets, %d skipped", packets, skipped)
		}
	})
}

// checksummed fills in the checksum of an IPv4 header, which the firewall of a bridge looks at.
func checksummed(frame []byte) []byte {
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[i:]))
	}
	binary.BigEndian.PutUint16(frame[24:], ^uint16(sum+sum>>16))
	return frame
}

// A bridge shows what its ports say to each other; a port is left out when its bridge matches.
func TestCaptureBridge(t *testing.T) {
	inNamespace(t, func(t *testing.T, enter func(func())) {
		ip(t, "link add br-x type bridge")
		ip(t, "link set br-x up")
		for _, port := range []string{"1", "2"} {
			ip(t, "link add ww-p"+port+" type veth peer name end"+port)
			ip(t, "link set ww-p"+port+" master br-x up")
			ip(t, "link set end"+port+" up")
		}
		w := watch(t, enter, "br-*,ww-*")
		if want := "capturing on br-*,ww-*: br-x; ww-p1 is left out: it is a port of br-x; ww-p2 is left out: it is a port of br-x"; w.note != want {
			t.Errorf("note %q", w.note)
		}
		w.until(t, "heartbeat", func() bool { return len(w.got.marks) > 0 })
		learn, closed1 := sender(t, "end2") // the bridge learns where the second address is
		back := ethernet(typeIPv4)
		back.SrcMAC, back.DstMAC = back.DstMAC, back.SrcMAC
		answer := checksummed(serialize(t, back, ip4(UDP), udp(1, 5001), payload(100)))
		w.until(t, "flooded packet", func() bool {
			learn(answer) // until the ports forward
			return w.packets(5001) > 0
		})
		send, closed2 := sender(t, "end1")
		for range 10 {
			send(checksummed(serialize(t, ethernet(typeIPv4), ip4(UDP), udp(4000, 5000), payload(100))))
		}
		vxlan := wrappedFrames(t)[0].frame // on a bridge the envelope is the flow
		send(checksummed(vxlan))
		w.until(t, "unicast between ports", func() bool { return w.packets(5000) == 10 && w.packets(4789) == 1 })
		closed1()
		closed2()
		w.stop()
		w.conserved(t, 0)
		if len(w.sources) != 1 {
			t.Errorf("sources %v", w.sources)
		}
	})
}

// Without the capability it is said at the start what to do.
func TestCapturePermission(t *testing.T) {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // capabilities belong to threads; this one ends with the goroutine
		none := [2]unix.CapUserData{}
		if err = unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			return
		}
		_, _, err = openCapture(captureOptions{patterns: "docker0"}, NewPool(1), metrics.NewSet(), slog.New(slog.DiscardHandler))
	}()
	<-done
	if want := "no permission to capture on docker0: run as root, or give the program CAP_NET_RAW and CAP_NET_ADMIN"; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestCapturePatterns(t *testing.T) {
	c := &capture{patterns: []string{"docker0", "br-*", "veth*"}}
	chosen, notes := c.choose([]iface{
		{1, "lo", "", false, 0},
		{2, "eth0", "", false, 0},
		{3, "docker0", "", true, 0},
		{4, "veth1", "docker0", false, 0},
		{5, "br-1", "", true, 0},
		{6, "veth2", "other", false, 0},
		{7, "veth3", "", false, 0},
	})
	var names []string
	for _, n := range chosen {
		names = append(names, n.name)
	}
	if diff := cmp.Diff([]string{"docker0", "br-1", "veth2", "veth3"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"veth1 is left out: it is a port of docker0"}, notes); diff != "" {
		t.Error(diff)
	}
	if _, _, err := openCapture(captureOptions{patterns: "br-["}, NewPool(1), metrics.NewSet(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a bad pattern opened")
	}
}

// A ring that was more than half full is replaced by a larger one, and no packet is lost or counted twice on the way; the budget holds, and is
// given back.
func TestCaptureGrows(t *testing.T) {
	inNamespace(t, func(t *testing.T, enter func(func())) {
		ip(t, "link add ww-a type veth peer name ww-b")
		ip(t, "link set ww-a up")
		ip(t, "link set ww-b up")
		w := watchWith(t, enter, captureOptions{patterns: "ww-a", ringBytes: 8 << 20})
		used := func() float64 { return w.set.GetOrCreateGauge("wharfwatch_flow_capture_ring_bytes", nil).Get() }
		w.until(t, "heartbeat", func() bool { return len(w.got.marks) > 0 && used() == ringStart*ringBlock })
		send, closed := sender(t, "ww-b")
		frame := serialize(t, ethernet(typeIPv4), ip4(UDP), udp(4000, 5000), payload(1400))
		w.mu.Lock()
		w.hold = true
		w.mu.Unlock()
		w.until(t, "halt", func() bool { return w.held })
		const burst = 7 * ringBlock / 1600
		for range burst {
			send(frame)
		}
		w.mu.Lock()
		w.hold = false
		w.changed.Broadcast()
		w.mu.Unlock()
		sent := uint64(burst)
		w.until(t, "larger ring", func() bool {
			w.mu.Unlock()
			send(frame) // also while the rings change
			sent++
			w.mu.Lock()
			return w.counter("wharfwatch_flow_capture_ring_grown_total") == 1
		})
		w.until(t, "all packets", func() bool { return w.counter("wharfwatch_flow_packets_total") >= sent })
		if used() != 4*ringStart*ringBlock {
			t.Errorf("%g bytes of rings", used())
		}
		closed()
		w.stop()
		w.conserved(t, 0)
		if got := w.packets(5000); got != sent {
			t.Errorf("%d packets, sent %d", got, sent)
		}
		if used() != 0 {
			t.Errorf("%g bytes of rings after the end", used())
		}
	})
}

// Sixty bridges fit into the budget; those that do not are said.
func TestCaptureBudget(t *testing.T) {
	inNamespace(t, func(t *testing.T, enter func(func())) {
		for i := range 6 {
			ip(t, fmt.Sprintf("link add br-%d type bridge", i))
			ip(t, fmt.Sprintf("link set br-%d up", i))
		}
		w := watchWith(t, enter, captureOptions{patterns: "br-*", ringBytes: (2*ringStart + ringStart/2 + ringStart/4) * ringBlock})
		w.until(t, "four captures", func() bool { return w.counterGauge() == 4 && len(w.sources) == 4 })
		if got := w.set.GetOrCreateGauge("wharfwatch_flow_capture_ring_bytes", nil).Get(); got != (2*ringStart+ringStart/2+ringStart/4)*ringBlock {
			t.Errorf("%g bytes of rings", got)
		}
		ip(t, "link del br-0")
		w.until(t, "a capture of one that had none", func() bool { return len(w.sources) == 5 })
		w.stop()
	})
}

// The kernel drops what flow.ignore names; the rest is kept on disk where that is asked for.
func TestCaptureIgnores(t *testing.T) {
	inNamespace(t, func(t *testing.T, enter func(func())) {
		ip(t, "link add ww-a type veth peer name ww-b")
		ip(t, "link set ww-a up")
		ip(t, "link set ww-b up")
		rule, err := parseIgnore("10.0.0.0/30:5000")
		if err != nil {
			t.Error(err)
		}
		dir := t.TempDir()
		store, err := openPacketStore(dir, LeastPacketRing, metrics.NewSet(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Error(err)
		}
		w := watchWith(t, enter, captureOptions{patterns: "ww-a", ringBytes: 1 << 20, ignore: []ignoreRule{rule}, store: store})
		w.until(t, "heartbeat", func() bool { return len(w.got.marks) > 0 })
		send, closed := sender(t, "ww-b")
		for _, port := range []uint16{5000, 5000, 5001} {
			send(serialize(t, ethernet(typeIPv4), ip4(UDP), udp(4000, port), payload(100)))
		}
		w.until(t, "the packet behind them", func() bool { return w.packets(5001) == 1 })
		closed()
		w.stop()
		w.conserved(t, 0)
		if n := w.counter("wharfwatch_flow_capture_packets_total"); n != 1 {
			t.Errorf("the kernel passed %d packets", n)
		}
		if times, _ := cutTimes(t, dir, PacketFilter{To: 1<<63 - 1, Port: 5001}); len(times) != 1 {
			t.Errorf("%d packets kept", len(times))
		}
	})
}

// A block of the ring as the kernel fills it: packets that the ring before had are marked, up to the first that it had not.
func TestRingAfter(t *testing.T) {
	const size = 256 // of each packet
	r := &ring{mem: make([]byte, ringBlock), blocks: 1, link: linkEthernet, after: 20}
	at := 64
	ne := binary.NativeEndian
	ne.PutUint32(r.mem[8:], statusUser)
	ne.PutUint32(r.mem[12:], 4)
	ne.PutUint32(r.mem[16:], uint32(at))
	for i := range uint32(4) { // at 10, 20, 30 and 15 ns: only in the new ring does time begin at 30
		b := r.mem[at+int(i)*size:]
		for field, v := range []uint32{size, 0, []uint32{10, 20, 30, 15}[i], 60, 60, statusUser} { // next, s, ns, kept, length, status
			ne.PutUint32(b[4*field:], v)
		}
		ne.PutUint16(b[24:], 128) // where the frame begins
	}
	var got []bool
	var p ringPacket
	for {
		ok, err := r.next(&p)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got = append(got, p.skip)
	}
	if diff := cmp.Diff([]bool{true, true, false, false}, got); diff != "" || r.last != 30 {
		t.Errorf("last %d, skipped -want +got\n%s", r.last, diff)
	}
}
