package enrich

import (
	"log/slog"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/flow"
)

// TestShedOrder gives up sockets in a flood and goes on telling translations.
func TestShedOrder(t *testing.T) {
	set := metrics.NewSet()
	w := &watch{Kernel: NewKernel(EngineConfig{Name: "e"}, set, slog.New(slog.DiscardHandler)), local: map[flow.Addr]bool{ipAddr("198.51.100.1"): true}}
	own := tuple("198.51.100.1", 50000, "203.0.113.9", 443)
	orig, reply := tuple("172.17.0.2", 40000, "203.0.113.9", 443), tuple("203.0.113.9", 443, "198.51.100.1", 46840)
	routed := tuple("172.17.0.2", 40001, "203.0.113.9", 443)
	lo := tuple("127.0.0.1", 1, "127.0.0.1", 2)
	var b []byte
	for _, m := range [][]byte{
		ctMessage(ctNew, own, own.reverse(), flow.TCP), ctMessage(ctNew, orig, reply, flow.TCP), ctMessage(ctNew, routed, routed.reverse(), flow.TCP),
		ctMessage(ctNew, lo, lo.reverse(), flow.TCP), ctMessage(ctDelete, orig, reply, flow.TCP), ctMessage(ctNew, own, Tuple{}, 0),
	} {
		b = append(b, m...)
	}
	if n := w.take(b, true); n != 6 || len(w.out) != 3 {
		t.Fatalf("%d messages read, told %+v", n, w.out)
	}
	if k := w.out[0]; k.Flags != TrackAsked0 || k.Owner != [2]Owner{} || k.Orig != own {
		t.Errorf("the host's own is %+v", k)
	}
	if k := w.out[1]; k.Kind != TrackBegin || k.Orig != orig || k.Reply != reply || k.Flags != 0 {
		t.Errorf("the translation is %+v", k)
	}
	if k := w.out[2]; k.Kind != TrackEnd || k.Orig != orig {
		t.Errorf("its end is %+v", k)
	}
	for name, want := range map[string]uint64{"events": 6, "malformed": 1, "sockets_shed": 1, "sockets_asked": 0} {
		if got := set.GetOrCreateCounter(`wharfwatch_conntrack_` + name + `_total{engine="e"}`).Get(); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// TestCounting turns counters into what was added since the last look.
func TestCounting(t *testing.T) {
	var got []flow.Record
	pool := flow.NewPool(1)
	x := counting{source: "conntrack:e", pool: pool, seen: map[countKey]counted{}, emit: func(b *flow.Batch) { got = append(got, b.Records...) }}
	c := conntrack{
		orig: tuple("172.17.0.2", 40000, "203.0.113.9", 443), reply: tuple("203.0.113.9", 443, "198.51.100.1", 46840), proto: flow.TCP, id: 7, counted: true,
	}
	old := c
	old.id, old.orig.SrcPort, old.packets, old.bytes = 8, 1, [2]uint64{9, 9}, [2]uint64{900, 900}
	x.take(&old, 100, false) // before the first look: it was going on already
	x.swept()
	x.begin(&c, 200)
	c.packets, c.bytes = [2]uint64{2, 1}, [2]uint64{200, 100}
	x.take(&c, 300, false)
	x.take(&c, 400, false) // nothing new
	c.packets, c.bytes = [2]uint64{3, 1}, [2]uint64{350, 100}
	x.take(&c, 500, true)
	x.send(600)
	if len(got) != 6 || len(x.seen) != 1 {
		t.Fatalf("%d records, %d remembered: %+v", len(got), len(x.seen), got)
	}
	if got[0].TCPFlags != flow.ACK || got[0].Bytes != 900 {
		t.Errorf("what was going on is %+v", got[0])
	}
	up, down, last := got[2], got[3], got[4]
	if up.TCPFlags != flow.SYN || up.First != 200 || up.Last != 300 || up.Bytes != 200 || up.NATSrc != ipAddr("198.51.100.1") || up.Src != c.orig.Src {
		t.Errorf("the first look gives %+v", up)
	}
	if down.Flags != flow.FlagReply || down.Src != c.reply.Src || down.Dst != c.orig.Src || down.DstPort != 40000 || down.Bytes != 100 || down.NATDst != ipAddr("198.51.100.1") {
		t.Errorf("and back %+v", down)
	}
	if last.Bytes != 150 || last.Packets != 1 || last.Flags&flow.FlagEnd == 0 || last.TCPFlags&flow.FIN == 0 || got[5].Bytes != 0 {
		t.Errorf("the end gives %+v and %+v", last, got[5])
	}
}
