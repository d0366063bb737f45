package enrich

// drop forgets a conn.
func (t *Table) drop(s *shard, i uint32, c *conn) {
	if c.bits&bitDetached == 0 {
		s.remove(t.seed.tuple(c.ends[0], c.ends[1], c.ports[0], c.ports[1], c.proto), i)
	}
	t.give(c, 0, 0)
	t.give(c, 1, 0)
	s.giveBack(i)
}

// leaver is a conn to drop at the end of an Advance.
type leaver struct {
	hash  uint64
	conn  uint32
	shard uint8
}

// dropAll drops in blocks: first the places of all in the index are touched, so that the cache misses overlap.
func (t *Table) dropAll() {
	for block := t.gave; len(block) > 0; {
		n := min(len(block), strideSize)
		for k := range block[:n] {
			l := &block[k]
			s := t.shards[l.shard]
			c := s.conn(l.conn)
			l.hash = t.seed.tuple(c.ends[0], c.ends[1], c.ports[0], c.ports[1], c.proto)
			t.touched += int64(s.slots[uint32(l.hash)&uint32(len(s.slots)-1)].conn)
		}
		for k := range block[:n] {
			l := &block[k]
			s := t.shards[l.shard]
			c := s.conn(l.conn)
			if c.bits&bitDetached == 0 {
				s.remove(l.hash, l.conn)
			}
			t.give(c, 0, 0)
			t.give(c, 1, 0)
			s.giveBack(l.conn)
		}
		block = block[n:]
	}
	t.gave = t.gave[:0]
}

// evict gives up a connection of one container, or of anybody, but not the one to keep. What it has to say waits for the next Advance.
func (t *Table) evict(s *shard, owner, keep uint32) bool {
	i := s.victim(owner, keep)
	if i == 0 {
		return false
	}
	c := s.conn(i)
	t.count.evicted++
	if c.state == connPending {
		t.settle(c)
	}
	if c.owned() && (c.state == connPending || c.state == connOpen) {
		if len(t.gone) < maxGone {
			t.gone = append(t.gone, *c)
			t.keep(c, 1)
		} else {
			t.count.unreported++
		}
	}
	t.drop(s, i, c)
	return true
}

// keep counts the evicted ones that still name a member.
func (t *Table) keep(c *conn, n int32) {
	for _, o := range c.owner {
		t.roster.members[o].evicted += n
	}
}
