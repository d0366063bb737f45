package enrich

// report says an item for each side that has a container.
func (t *Table) report(c *conn, it *item, out Sink) {
	if it.kind&Open != 0 {
		t.orient(c)
	}
	for side := range 2 {
		if c.owner[side] != 0 {
			t.fill(c, side, it)
			out.Flow(&t.flow)
		}
	}
	c.total[0] += c.bytes[0]
	c.total[1] += c.bytes[1]
	c.bytes, c.packets = [2]uint64{}, [2]uint64{}
	c.bits &^= bitDirty
}

// orient settles who opened and learns where containers listen.
func (t *Table) orient(c *conn) {
	opener, strong := c.orient(func(side int) bool {
		return c.owner[side] != 0 && t.roster.members[c.owner[side]].serves(c.ports[side], c.proto)
	})
	c.opener = opener
	if strong {
		if o := c.owner[1-opener]; o != 0 {
			t.roster.members[o].served(c.ports[1-opener], c.proto)
		}
	}
}

// fill makes the Flow of one side.
func (t *Table) fill(c *conn, side int, it *item) {
	m := &t.roster.members[c.owner[side]]
	o := 1 - side
	var peer *Container
	if c.owner[o] != 0 {
		peer = t.roster.members[c.owner[o]].c
	}
	opener := OpenerUnknown
	answered := o
	switch int(c.opener) {
	case side:
		opener = OpenerLocal
	case o:
		opener, answered = OpenerRemote, side
	}
	t.flow = Flow{
		Kind: it.kind, Time: it.time, Start: c.start, Conn: it.id,
		Container: m.c, Local: c.ends[side], LocalPort: c.ports[side],
		Peer: c.ends[o], PeerPort: c.ports[o], Proto: c.proto,
		PeerIs: peer, PeerName: m.names.of(c.ends[o], it.time), Opener: opener,
		Sent: c.bytes[side], Received: c.bytes[o], PacketsSent: c.packets[side], PacketsReceived: c.packets[o],
		TotalSent: c.total[side] + c.bytes[side], TotalReceived: c.total[o] + c.bytes[o],
		Method: c.how[side], Confidence: c.sure[side], Partition: m.partition,
		Midstream: c.midstream(), Sampled: c.bits&bitSampled != 0,
		NoReply: c.evidence[answered]&sawAny == 0, TCPFlags: c.tcp[0] | c.tcp[1],
	}
}
