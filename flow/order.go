package flow

import "container/heap"

// orderBound is how many records and names of a file wait for their turn: logs are written when connections end and not by their
// time. Some 60 MiB when it is full.
const orderBound = 1 << 18

// order hands over records by their end and names by their time, as far as a bounded wait allows. What comes later than that is
// handed over at once: it is late, not lost. One goroutine uses it.
type order struct {
	name  string // of the source
	pool  Pool
	emit  func(*Batch)
	bound int

	queue   waitingHeap
	records []Record
	names   []Name
	free    [2][]uint32 // places in records and names
	taken   uint64      // breaks ties: what was read first goes first
	passed  int64       // the newest time that was handed over
	began   bool
	out     *Batch
}

// waiting is one record or name in the heap.
type waiting struct {
	at    int64
	taken uint64
	place uint32
	kind  uint8 // 0 a record, 1 a name
}

func newOrder(name string, pool Pool, emit func(*Batch)) *order {
	return &order{name: name, pool: pool, emit: emit, bound: orderBound}
}

func (o *order) record(r *Record) {
	i := o.place(0, len(o.records))
	if int(i) == len(o.records) {
		o.records = append(o.records, Record{})
	}
	o.records[i] = *r
	o.push(r.Last, i, 0)
}

// sayName takes a name; its Addrs are kept.
func (o *order) sayName(n *Name) {
	i := o.place(1, len(o.names))
	if int(i) == len(o.names) {
		o.names = append(o.names, Name{})
	}
	o.names[i] = *n
	o.push(n.Time, i, 1)
}

func (o *order) place(kind, fresh int) uint32 {
	if f := o.free[kind]; len(f) > 0 {
		o.free[kind] = f[:len(f)-1]
		return f[len(f)-1]
	}
	return uint32(fresh)
}

func (o *order) push(at int64, place uint32, kind uint8) {
	o.taken++
	heap.Push(&o.queue, waiting{at, o.taken, place, kind})
	if len(o.queue) > o.bound {
		o.pop()
	}
}

// pop hands over what ends first.
func (o *order) pop() {
	w := heap.Pop(&o.queue).(waiting)
	if o.out != nil && len(o.out.Records)+len(o.out.Names) > 0 && (len(o.out.Records)+len(o.out.Names) >= batchRecords || w.at-o.out.Watermark >= batchWait) {
		o.flush()
	}
	if o.out == nil {
		o.out = o.pool.Get()
		o.out.Source = o.name
		o.out.Watermark = w.at
	}
	if !o.began || w.at > o.passed {
		o.passed, o.began = w.at, true
	}
	o.out.Watermark, o.out.Arrival = o.passed, o.passed
	o.free[w.kind] = append(o.free[w.kind], w.place)
	if w.kind == 1 {
		o.out.Names = append(o.out.Names, o.names[w.place])
		o.names[w.place] = Name{}
		return
	}
	o.out.Records = append(o.out.Records, o.records[w.place])
}

func (o *order) flush() {
	if b := o.out; b != nil {
		o.out = nil
		o.emit(b)
	}
}

// drain hands over everything, at the end of the input.
func (o *order) drain() {
	for len(o.queue) > 0 {
		o.pop()
	}
	o.flush()
}

type waitingHeap []waiting

func (h waitingHeap) Len() int { return len(h) }

func (h waitingHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].taken < h[j].taken
}

func (h waitingHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *waitingHeap) Push(x any) { *h = append(*h, x.(waiting)) }

func (h *waitingHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	*h = old[:len(old)-1]
	return w
}
