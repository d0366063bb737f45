package enrich

// speech is what is being said, and to whom.
type speech struct {
	out   Sink
	n     int
	flows [strideSize]Flow
}

// flush hands over the flows that have gathered.
func (s *speech) flush() {
	if s.n > 0 {
		s.out.Flows(s.flows[:s.n])
		s.n = 0
	}
}

// next is the place of the next flow.
func (s *speech) next() *Flow {
	if s.n == len(s.flows) {
		s.flush()
	}
	s.n++
	return &s.flows[s.n-1]
}

// report says an item for each side that has a container.
func (t *Table) report(c *conn, it *item) {
	if it.kind&Open != 0 {
		t.orient(c)
		t.reached(c)
	}
	for side := range 2 {
		if c.owner[side] != 0 {
			t.fill(t.speech.next(), c, side, it)
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
func (t *Table) fill(f *Flow, c *conn, side int, it *item) {
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
	// Every field in its place: a literal is made elsewhere and copied.
	f.Kind, f.Time, f.Start, f.Conn = it.kind, it.time, c.start, it.id
	f.Container, f.Holder, f.Local, f.LocalPort = m.c, c.owner[side], c.ends[side], c.ports[side]
	f.Peer, f.PeerPort, f.Proto = c.ends[o], c.ports[o], c.proto
	f.PeerIs, f.PeerName, f.Opener = peer, t.peerName(m, c.ends[o], it.time), opener
	f.Asked, f.JA4 = t.said.of(c, it.time)
	f.Sent, f.Received = c.bytes[side], c.bytes[o]
	f.PacketsSent, f.PacketsReceived = c.packets[side], c.packets[o]
	f.TotalSent, f.TotalReceived = c.total[side]+c.bytes[side], c.total[o]+c.bytes[o]
	f.Method, f.Confidence, f.Partition = c.how[side], c.sure[side], m.partition
	f.Midstream, f.Sampled = c.midstream(), c.bits&bitSampled != 0
	f.NoReply, f.TCPFlags = c.evidence[answered]&sawAny == 0, c.tcp[0]|c.tcp[1]
}
