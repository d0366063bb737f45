package enrich

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/wharfwatch/wharfwatch/flow"
)

// load makes second after second of traffic of 512 containers: 60 % of the records are new short connections, 30 % belong to long
// ones, 10 % answer the new ones.
type load struct {
	*rig
	sink  null
	batch []flow.Record
	long  int
	step  uint64 // through the long connections; a large prime leaves a prefetcher nothing to guess
	known bool   // only records of long connections
	at    int64
	n     uint64
	turn  uint64 // of the long connections in mix
}

func newLoad(perSecond int, r *rig) *load {
	l := &load{rig: r, batch: make([]flow.Record, perSecond), long: perSecond, step: 1, at: t0}
	for i := range 512 {
		r.connect(fmt.Sprintf("c%d", i), fmt.Sprintf("172.18.%d.%d", i/250, 2+i%250), t0-second)
	}
	return l
}

func local(i uint64) flow.Addr {
	i %= 512
	return flow.Addr4(0xac120000 | uint32(i/250)<<8 | uint32(2+i%250))
}

func (l *load) record(x *flow.Record, i uint64, long bool) {
	*x = flow.Record{
		Src: local(i), Dst: flow.Addr4(0xcb007100 + uint32(i>>9)%4096), SrcPort: uint16(i), DstPort: 443, Proto: flow.TCP,
		First: l.at, Last: l.at + second/2, Bytes: 1000, Packets: 10, Sampling: 1, Exporter: flow.Addr4(0xc0000201), InIf: 1,
		TCPFlags: flow.SYN | flow.ACK | flow.FIN,
	}
	if long {
		x.DstPort, x.TCPFlags = 8443, flow.ACK
	}
}

// second takes one second of records and says what there is to say.
func (l *load) second() {
	for j := range l.batch {
		x := &l.batch[j]
		switch {
		case l.known || j%10 >= 6 && j%10 < 9:
			l.n++
			l.record(x, l.n*l.step%uint64(l.long), true)
		case j%10 == 9:
			l.record(x, 1<<40+l.n, false)
			x.Src, x.Dst, x.SrcPort, x.DstPort = x.Dst, x.Src, x.DstPort, x.SrcPort
			x.First += 1e6
		default:
			l.n++
			l.record(x, 1<<40+l.n, false)
		}
		x.First += int64(j) * (second / 2) / int64(len(l.batch))
		x.Last = x.First + 1e6
	}
	for b := l.batch; len(b) > 0; { // as datagrams bring them
		n := min(len(b), 30)
		l.Records(b[:n])
		b = b[n:]
	}
	l.at += second
	l.Advance(l.at, &l.sink)
}

// cpu is what the process used so far, ns: on a busy machine the figure to compare.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func benchLoad(b *testing.B, live, perSecond int, known bool) {
	l := newLoad(perSecond, newRig(nil))
	l.long = live
	l.known = true
	for range live/perSecond + 2 {
		l.second()
	}
	l.known, l.step = known, 7919
	for range 40 { // as many come as go
		l.second()
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for i := 0; i < b.N; i += perSecond {
		l.second()
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(l.shards[0].live), "live")
}

// Nanoseconds per record, Advance included. The input is made inside the measured loop; BenchmarkInput says what that takes.
func BenchmarkRecordsKnown(b *testing.B) {
	b.Run("1e3", func(b *testing.B) { benchLoad(b, 1_000, 20_000, true) })
	b.Run("1e5", func(b *testing.B) { benchLoad(b, 100_000, 20_000, true) })
}

func BenchmarkRecordsNew(b *testing.B) {
	b.Run("1e3", func(b *testing.B) { benchLoad(b, 1_000, 1_000, false) })
	b.Run("1e5", func(b *testing.B) { benchLoad(b, 100_000, 5_000, false) })
}

// mix is what an exporter with an active timeout of five minutes shows of long connections: one record every five minutes, as long
// as the timeout. The short ones are as in load, the answers apart.
func (l *load) mix() {
	const timeout = 300
	for j := range l.batch {
		x := &l.batch[j]
		switch {
		case j%10 >= 6 && j%10 < 9:
			l.turn++
			l.record(x, l.turn%uint64(l.long), true)
			x.First, x.Last = l.at-timeout*second+1, l.at
		default:
			l.n++
			l.record(x, 1<<40+l.n, false)
			x.First += int64(j) * (second / 2) / int64(len(l.batch))
			x.Last = x.First + 1e6
		}
	}
	for b := l.batch; len(b) > 0; {
		n := min(len(b), 36)
		l.Records(b[:n])
		b = b[n:]
	}
	l.at += second
	l.Advance(l.at, &l.sink)
}

// Few records a second, so that most of the work is that of a second and of looking whether long connections go on.
func BenchmarkRecordsMix(b *testing.B) {
	const perSecond = 104
	l := newLoad(perSecond, newRig(nil))
	l.long = 9_000
	for range 1000 {
		l.mix()
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for i := 0; i < b.N; i += perSecond {
		l.mix()
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(l.shards[0].live), "live")
}

func BenchmarkInput(b *testing.B) {
	l := newLoad(20_000, newRig(nil))
	for i := 0; b.Loop(); i++ {
		l.record(&l.batch[i%len(l.batch)], uint64(i), false)
	}
}
