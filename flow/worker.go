package flow

import (
	"context"
	"net/netip"
	"runtime"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// worker is one socket and its decoder, in one thread: reading and decoding are never apart, so the order of a sender's datagrams holds.
type worker struct {
	socket  *socket
	decoder *exportDecoder
	name    string           // of the socket with its kind, in gaps
	kernel  *metrics.Counter // what the kernel dropped
}

// datagram is one received datagram. buf is readable for 8 bytes past n.
type datagram struct {
	buf  []byte
	n    int
	cut  bool // the kernel had more
	from netip.AddrPort
}

// run receives until ctx ends, and closes the socket.
func (w *worker) run(ctx context.Context, emit func(*Batch)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer w.socket.close()
	w.decoder.emit = emit
	defer w.decoder.end()
	last, polled := time.Now().UnixNano(), int64(0)
	for ctx.Err() == nil {
		slots, err := w.socket.read()
		if err != nil {
			return err
		}
		now := time.Now().UnixNano()
		drops := w.socket.drops
		if len(slots) == 0 || now-polled > int64(time.Second) {
			drops, polled = w.socket.pollDrops(), now
		}
		if n := drops - w.socket.reported; n != 0 { // 32 bits that wrap
			w.socket.reported = drops
			w.kernel.Add(int(n))
			w.decoder.kernelGap(w.name, last, now, n)
		}
		last = now
		for i := range slots {
			s := &slots[i]
			w.decoder.datagram(s.buf, s.n, s.cut, s.from, now)
		}
		if len(slots) == 0 || now-w.decoder.opened > holdBatch {
			w.decoder.flush()
		}
	}
	return nil
}
