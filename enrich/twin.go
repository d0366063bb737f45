package enrich

// twin says that a conn is one that is already counted under its other name: the same connection is seen on both sides of its host's
// translation. The first to come counts; the records of the other one are duplicates.
func (t *Table) twin(c *conn) bool {
	if t.tracks.used == 0 || !c.owned() {
		return false
	}
	var found [8]match
	own := Tuple{c.ends[0], c.ends[1], c.ports[0], c.ports[1]}
	for _, h := range t.tracksOf(c.query(0, c.start, c.last), int64(t.c.Addresses.Tolerance), found[:0]) {
		e := &t.tracks.entries[h.track]
		for view := range uint32(2) {
			v := e.view(view)
			if v == own || v.reverse() == own {
				continue
			}
			s := t.shards[shardOf(plain.tuple(v.Src, v.Dst, v.SrcPort, v.DstPort, c.proto), len(t.shards))]
			i, _ := s.find(t.seed.tuple(v.Src, v.Dst, v.SrcPort, v.DstPort, c.proto), v.Src, v.Dst, v.SrcPort, v.DstPort, c.proto)
			if i == 0 {
				continue
			}
			if o := s.conn(i); o != c && o.owned() && o.has(c) {
				return true
			}
		}
	}
	return false
}

// has says that two conns have an owner in common.
func (c *conn) has(o *conn) bool {
	for _, a := range c.owner {
		if a != 0 && (a == o.owner[0] || a == o.owner[1]) {
			return true
		}
	}
	return false
}
