package main

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// TestNoAllocationPerRecord sends IPFIX of known connections through a real socket and the whole engine, and counts what the process
// allocates: nothing per record once keys and templates are known.
func TestNoAllocationPerRecord(t *testing.T) {
	set := metrics.NewSet()
	log := slog.New(slog.DiscardHandler)
	c := configs.Default()
	c.Flow.Netflow, c.Flow.SFlow, c.Flow.Interfaces = []string{"127.0.0.1:0"}, []string{"off"}, []string{"off"}
	sources, _, err := c.Flow.Open(flow.NewPool(16), set, log)
	if err != nil {
		t.Fatal(err)
	}
	incidents, err := alerts.NewManager(c.Alerts, &alerts.Memory{}, set, log)
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{table: enrich.NewTable(c.Enrich, set), incidents: incidents}
	e.detectors = baseline.New(c.Baseline, set, e.tell)
	network := []enrich.Attachment{{NetworkID: "n", Network: "n", Addrs: []flow.Addr{flow.Addr4(0x0a000001)}}}
	container := &enrich.Container{ID: "c", Name: "c", Engine: "i", Workload: "name:c", Image: "c", Started: 1, Running: true, Attachments: network}
	for _, ev := range []enrich.Event{
		{Time: 1, Kind: enrich.Listed, Engine: "i", Container: container},
		{Time: 1, Kind: enrich.Connected, Engine: "i", Container: container, Binding: &enrich.Binding{NetworkID: "n", Network: "n", Addrs: network[0].Addrs}},
		{Time: 1, Kind: enrich.Synced, Engine: "i"},
	} {
		e.event(&ev)
	}

	ctx, cancel := context.WithCancel(t.Context())
	batches := make(chan *flow.Batch, 16)
	done := make(chan error, 1)
	go func() { done <- sources[0].Run(ctx, func(b *flow.Batch) { batches <- b }) }()
	conn, err := net.Dial("udp", sources[0].(*flow.Collector).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	const (
		records = 24
		burst   = 200 // datagrams sent at once; they fit into the socket's buffer
	)
	x := newIPFIX(records, time.Now().Add(-time.Hour))
	if _, err := conn.Write(x.template()); err != nil {
		t.Fatal(err)
	}
	exchange := func(bursts int) {
		for range bursts {
			for range burst {
				if _, err := conn.Write(x.data()); err != nil {
					t.Fatal(err)
				}
			}
			for got := 0; got < burst*records; {
				b := <-batches
				got += len(b.Records)
				at := b.Watermark
				e.batch(b)
				e.advance(at)
			}
		}
	}
	exchange(20) // the connections, their workload, timers and bins become known
	var before, after runtime.MemStats
	const datagrams = 20 * burst
	runtime.GC()
	runtime.ReadMemStats(&before)
	exchange(20)
	runtime.ReadMemStats(&after)
	if e.records != 2*datagrams*records {
		t.Errorf("%d records came through, want %d", e.records, 2*datagrams*records)
	}
	// The clock of the test machine may let a metric or a map grow once: a handful in all, not one per record or datagram.
	if n := after.Mallocs - before.Mallocs; n > datagrams/20 {
		t.Errorf("%d allocations for %d records in %d datagrams, want none per record", n, datagrams*records, datagrams)
	} else {
		t.Logf("%d allocations for %d records", n, datagrams*records)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// ipfix makes messages about long connections of one container: every message is the next slice of the same ones.
type ipfix struct {
	records  int
	at       time.Time
	sequence uint32
	buf      []byte
}

func newIPFIX(records int, at time.Time) *ipfix { return &ipfix{records: records, at: at} }

func (x *ipfix) header(length int) []byte {
	b := binary.BigEndian.AppendUint16(x.buf[:0], 10)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = binary.BigEndian.AppendUint32(b, uint32(x.at.Unix()))
	b = binary.BigEndian.AppendUint32(b, x.sequence)
	return binary.BigEndian.AppendUint32(b, 1)
}

// template: source, destination, ports, protocol, flags, bytes, packets, start and end in milliseconds (RFC 7012).
func (x *ipfix) template() []byte {
	fields := []uint16{8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 6, 1, 1, 4, 2, 4, 152, 8, 153, 8}
	b := x.header(16 + 8 + 2*len(fields))
	for _, v := range append([]uint16{2, uint16(8 + 2*len(fields)), 256, uint16(len(fields) / 2)}, fields...) {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	x.buf = b
	return b
}

// data is one message; the next one is a second later.
func (x *ipfix) data() []byte {
	const size = 4 + 4 + 2 + 2 + 1 + 1 + 4 + 4 + 8 + 8
	b := x.header(16 + 4 + x.records*size)
	b = binary.BigEndian.AppendUint16(b, 256)
	b = binary.BigEndian.AppendUint16(b, uint16(4+x.records*size))
	for i := range x.records {
		b = binary.BigEndian.AppendUint32(b, 0x0a000001)
		b = binary.BigEndian.AppendUint32(b, 0xc6336400+uint32(i))
		b = binary.BigEndian.AppendUint16(b, uint16(40000+i))
		b = binary.BigEndian.AppendUint16(b, 443)
		b = append(b, 6, 0x18)
		b = binary.BigEndian.AppendUint32(b, 1500)
		b = binary.BigEndian.AppendUint32(b, 3)
		b = binary.BigEndian.AppendUint64(b, uint64(x.at.UnixMilli()-1000))
		b = binary.BigEndian.AppendUint64(b, uint64(x.at.UnixMilli()))
	}
	x.buf, x.at, x.sequence = b, x.at.Add(time.Second), x.sequence+uint32(x.records)
	return b
}
