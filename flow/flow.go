// Package flow turns what arrives (export datagrams, packets, files, recorded streams) into Records and Names.
//
// It knows wires and the clocks of exporters, and no container. Everything it reads is hostile: every length is checked,
// every table is bounded, and what cannot be used is counted by reason.
package flow

import "context"

// A Source reads one kind of input until ctx ends or the input does.
//
// emit takes over the batch; the receiver gives it back with Batch.Free. A source calls emit from one goroutine at a time.
// Run returns nil at a clean end (end of file, ctx done) and an error that names the input otherwise.
type Source interface {
	Run(ctx context.Context, emit func(*Batch)) error
}

// Batch is what a source hands over at once, in the order read. Its slices are recycled: after Free they must not be touched.
type Batch struct {
	// Source names the origin for Clock, metrics and doctor: "netflow:192.0.2.1/0", "capture:docker0", "pcap:day.pcap".
	Source string
	// Arrival is when the input reached this machine, ns; for files it is the time written in the file.
	Arrival int64
	// Watermark is how far the event time of this source has come, ns: the export time (offset corrected) for datagrams, the
	// timestamp of the newest packet for captures, the present for an idle capture.
	Watermark int64

	Records []Record
	Names   []Name
	Gaps    []Gap
	Sights  []Sight

	home chan *Batch
}

// Gap says that a source lost input, or was not watching, between two times: a missed beat in it is no evidence.
type Gap struct {
	Source   string `json:"source"`
	From, To int64  // event time, ns
	Lost     uint64 // records or packets; 0 where unknown
	Reason   string // "sequence", "kernel", "restart", "capture"
}

// Pool recycles batches between a source and the engine. It never blocks: an empty pool allocates, a full one forgets.
type Pool chan *Batch

// NewPool makes a pool that keeps up to n batches.
func NewPool(n int) Pool { return make(Pool, n) }

// Get returns an empty batch.
func (p Pool) Get() *Batch {
	select {
	case b := <-p:
		return b
	default:
		return &Batch{home: p}
	}
}

// Free empties the batch and gives it back to its pool.
func (b *Batch) Free() {
	b.Records, b.Names, b.Gaps, b.Sights = b.Records[:0], b.Names[:0], b.Gaps[:0], b.Sights[:0]
	b.Source, b.Arrival, b.Watermark = "", 0, 0
	select {
	case b.home <- b:
	default:
	}
}
