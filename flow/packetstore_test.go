package flow

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"
)

// cutTimes reads a slice back: times of its packets in seconds after base, and their bytes.
func cutTimes(t *testing.T, dir string, f PacketFilter) (times []int64, frames [][]byte) {
	t.Helper()
	var out bytes.Buffer
	n, err := CutPackets(dir, f, &out)
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		if out.Len() != 0 {
			t.Error("no packet, and something is written")
		}
		return nil, nil
	}
	var r frameReader
	if err := r.open(&out); err != nil {
		t.Fatal(err)
	}
	for {
		_, frame, _, at, err := r.next()
		if err != nil {
			break
		}
		times, frames = append(times, (at-base)/second), append(frames, bytes.Clone(frame))
	}
	if len(times) != n {
		t.Errorf("%d packets said, %d read", n, len(times))
	}
	return times, frames
}

// What captures keep can be cut out by time, by the ends of the innermost packet and by port, whichever capture and file it is in.
func TestPacketStore(t *testing.T) {
	dir := t.TempDir()
	set := metrics.NewSet()
	s, err := openPacketStore(dir, LeastPacketRing, set, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop := s.start()
	a, b := s.tape(), s.tape()
	plain := serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(40000, 443, "PA"), payload(100))
	overlay := wrappedFrames(t)[0].frame
	for i := range int64(10) {
		at := base + i*second
		a.packet(linkEthernet, plain, len(plain)+500, 0, at)
		b.packet(linkEthernet, overlay, 0, 77, at+second/2)
		b.packet(linkRaw2, plain[14:], 0, 0, at+second/4)
		b.packet(linkEthernet, serialize(t, ethernet(layers.EthernetTypeARP), payload(28)), 0, 0, at)
	}
	a.flush()
	b.flush()
	stop()
	host := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	for name, c := range map[string]struct {
		filter PacketFilter
		want   []int64
	}{
		"by time":            {PacketFilter{From: base + 3*second, To: base + 3*second}, []int64{3, 3}},
		"inner packets":      {PacketFilter{To: base + 2*second, Hosts: host("10.9.0.0/24")}, []int64{0, 1}},
		"not the envelope's": {PacketFilter{To: base + 100*second, Hosts: host("10.0.0.0/24"), Port: 4789}, nil},
		"both ends":          {PacketFilter{From: base + 8*second, To: base + 100*second, Hosts: append(host("10.0.0.1/32"), host("10.0.0.2/32")...)}, []int64{8, 8, 9, 9}},
		"an end that is not": {PacketFilter{To: base + 100*second, Hosts: append(host("10.0.0.1/32"), host("10.0.0.3/32")...)}, nil},
		"by port":            {PacketFilter{From: base + 9*second, To: base + 100*second, Port: 443}, []int64{9, 9}},
		"before everything":  {PacketFilter{To: base - 1}, nil},
	} {
		if got, _ := cutTimes(t, dir, c.filter); !cmp.Equal(c.want, got) {
			t.Errorf("%s: packets at %v, want %v", name, got, c.want)
		}
	}
	_, frames := cutTimes(t, dir, PacketFilter{To: base + second, Hosts: host("10.9.0.1/32")})
	if len(frames) != 1 || !bytes.Equal(frames[0], append(append(bytes.Clone(overlay[:12]), 0x81, 0, 0, 77), overlay[12:]...)) {
		t.Errorf("the tag is not put back: %x", frames)
	}
	if got := set.GetOrCreateCounter("wharfwatch_flow_packets_stored_total").Get(); got != 40 {
		t.Errorf("%d packets stored", got)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 { // one for each link type
		t.Fatalf("%d files, %v", len(files), err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// The bound holds, the oldest files go, a killed monitor's file is taken over, and kept = sent.
func TestPacketStoreBound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "packets")
	frame := serialize(t, ethernet(typeIPv4), ip4(TCP), tcp(40000, 443, "PA"), payload(1400))
	fill := func(from int64, n int) *packetStore {
		s, err := openPacketStore(dir, LeastPacketRing, metrics.NewSet(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			c := &chunk{}
			(&tape{s, c}).packet(linkEthernet, frame, 0, 0, base+from+int64(i)*second)
			c.link, c.first, c.last = linkEthernet, base+from+int64(i)*second, base+from+int64(i)*second
			if err := s.write(c); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	fill(0, 10) // never closed
	s := fill(100*second, 14_000)
	if s.removed.Get() == 0 {
		t.Error("nothing removed")
	}
	total := int64(0)
	files, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := 0
	for _, f := range files {
		total += f.size
		if f.open {
			open++
		}
	}
	if total > LeastPacketRing || total < LeastPacketRing*3/4 || total != s.total || open != 1 {
		t.Errorf("%d bytes in %d files, %d open, counted %d", total, len(files), open, s.total)
	}
	all, _ := cutTimes(t, dir, PacketFilter{To: base + 20_000*second})
	if len(all) < 8000 || all[len(all)-1] != 14_099 {
		t.Errorf("%d packets", len(all))
	}
	for i := range all[1:] {
		if all[i+1] != all[i]+1 {
			t.Fatalf("after %d comes %d", all[i], all[i+1])
		}
	}
}

// A disk that cannot be written costs packets, which are counted, and nothing else.
func TestPacketStoreFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "packets")
	set := metrics.NewSet()
	s, err := openPacketStore(dir, LeastPacketRing, set, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	a := s.tape()
	for range storeQueue + 2 { // nobody writes: two more than there is room for
		a.packet(linkRaw, []byte{0x45}, 0, 0, base)
		a.flush()
	}
	if got := s.dropped.Get(); got != 2 {
		t.Errorf("%d dropped, want 2", got)
	}
	s.start()()
	if got := s.dropped.Get() + s.stored.Get(); got != storeQueue+2 || s.stored.Get() != 0 {
		t.Errorf("%d stored, %d dropped", s.stored.Get(), s.dropped.Get())
	}
	if _, err := CutPackets(dir, PacketFilter{}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cut from nothing: %v", err)
	}
	(*packetStore)(nil).tape().packet(linkRaw, nil, 0, 0, 0) // off
	(*packetStore)(nil).start()()
}

// Keeping a packet allocates nothing once the chunks go round.
func TestPacketStoreAllocatesNothing(t *testing.T) {
	s, err := openPacketStore(t.TempDir(), LeastPacketRing, metrics.NewSet(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a, frame := s.tape(), make([]byte, 1400)
	a.packet(linkEthernet, frame, 0, 5, base)
	if n := testing.AllocsPerRun(100, func() { a.packet(linkEthernet, frame, 0, 5, base) }); n != 0 {
		t.Errorf("%g allocations per packet", n)
	}
}
