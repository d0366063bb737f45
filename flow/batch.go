package flow

import "slices"

// room makes place for up to n records in the batch of the current domain and returns it. The records hold old values.
func (d *exportDecoder) room(n int) []Record {
	if len(d.batch.Records) >= batchLimit {
		s, arrival, watermark := d.owner, d.batch.Arrival, d.batch.Watermark
		d.send()
		d.open(s, arrival, watermark)
	}
	n = min(n, batchLimit)
	have := len(d.batch.Records)
	d.batch.Records = slices.Grow(d.batch.Records, n)[:have+n]
	return d.batch.Records[have:]
}

// open makes the current batch one of s, and hands over one of somebody else.
func (d *exportDecoder) open(s *domain, arrival, watermark int64) {
	if d.batch != nil && (d.owner != s || len(d.batch.Records) >= batchLimit) {
		d.send()
	}
	if d.batch == nil {
		d.batch, d.owner, d.opened = d.pool.Get(), s, arrival
		d.batch.Source = s.source
		if d.gap.Reason != "" {
			d.batch.Gaps = append(d.batch.Gaps, d.gap)
			d.gap = Gap{}
		}
	}
	d.batch.Arrival = max(d.batch.Arrival, arrival)
	d.batch.Watermark = max(d.batch.Watermark, min(watermark, arrival))
}

// flush hands over what has been decoded.
func (d *exportDecoder) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.batch != nil {
		d.send()
	}
}

// end is for the end of the input: what waits for a template waits no longer.
func (d *exportDecoder) end() {
	d.flush()
	d.giveUpAll()
}

// send must be called with the lock held; it gives it up while the receiver works.
func (d *exportDecoder) send() {
	b := d.batch
	d.batch, d.owner = nil, nil
	d.mu.Unlock()
	defer d.mu.Lock()
	d.emit(b)
}

// account records a loss in the batch and in the exporter's counter. What a late datagram gives back is only in the status.
func (d *exportDecoder) account(s *domain, lost, from, to int64) {
	if lost < 0 {
		return
	}
	unit := s.sequence.unit.String()
	label := s.exporter.label + " " + unit
	c := d.lost[label]
	if c == nil {
		c = d.stats.lost(s.exporter.label, unit)
		d.lost[label] = c
	}
	c.Add(int(lost))
	d.batch.Gaps = append(d.batch.Gaps, Gap{Source: s.source, From: from, To: max(from, min(to, d.batch.Arrival)), Lost: s.sequence.inRecords(lost), Reason: "sequence"})
}

// kernelGap notes datagrams that the socket dropped; which exporters they came from nobody knows.
func (d *exportDecoder) kernelGap(socket string, from, to int64, n uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gap.Reason == "" {
		d.gap = Gap{Source: socket, From: from, Reason: "kernel"}
	}
	d.gap.To = to
	d.gap.Lost += uint64(n)
}
