package enrich

import "github.com/wharfwatch/wharfwatch/flow"

// another says that a record which begins gap behind a conn's end belongs to a new connection of the same tuple: a SYN after more
// than a SYN (a lone SYN-ACK may be a repetition), a silence, or an address that has passed to another container.
func (t *Table) another(c *conn, r *flow.Record, d int, gap int64) bool {
	ended := c.bits&bitEnded != 0
	if r.Proto == flow.TCP && r.TCPFlags&flow.SYN != 0 {
		if ended || gap > second && c.tcp[d]&(flow.ACK|flow.FIN|flow.RST) != 0 && r.TCPFlags != flow.SYN|flow.ACK {
			return true
		}
	}
	if ended {
		return gap > int64(t.c.Connections.Linger)
	}
	if gap > t.idle(c) {
		return true
	}
	return gap > second && c.state >= connOpen && (c.checked != t.index.moved || c.tracked()) && t.passed(c, r)
}

// passed says that one of a conn's addresses has another holder by the time of a record.
func (t *Table) passed(c *conn, r *flow.Record) bool {
	for side, owner := range c.owner {
		if owner == 0 {
			continue
		}
		if v := t.resolve(c.query(side, r.First, r.Last)); v.confidence == Exact && v.holder != owner {
			return true
		}
	}
	c.checked = t.index.moved
	return false
}

// detach makes way for another connection of the same tuple.
func (t *Table) detach(s *shard, i uint32, c *conn, h uint64) {
	s.remove(h, i)
	c.bits |= bitDetached | bitEnded | bitRipe
	if c.state != connPending || c.due > s.second+1 {
		s.at(i, s.second+1)
	}
}

// finish notes an end: FIN from both sides, RST, or the word of the source for what is not TCP or has no flags.
func (t *Table) finish(s *shard, i uint32, c *conn, r *flow.Record, d int) {
	seen := c.tcp[0] | c.tcp[1]
	switch {
	case c.proto == flow.TCP && seen != 0:
		both := c.tcp[0]&c.tcp[1]&flow.FIN != 0 || r.Flags&(flow.FlagEnd|flow.FlagReply|flow.FlagPackets) == flow.FlagEnd|flow.FlagReply
		if seen&flow.RST == 0 && !both { // the reverse half of a biflow carries no flags and speaks for both
			return
		}
	case r.Flags&flow.FlagEnd == 0 || r.Flags&flow.FlagPackets == 0:
		return // exporters call a silence of 15 s an end
	}
	c.bits |= bitEnded
	if c.state == connOpen || c.due > s.second+1 {
		s.at(i, s.second+1)
	}
}

const longSlice = 30 * second // no exporter cuts sooner

// cut marks conns whose newest slice was cut by the active timeout, by the exporter's word or by its length against the longest slice
// seen, from which the timeout is learned.
func (t *Table) cut(c *conn, r *flow.Record) {
	c.bits &^= bitCut
	if r.Flags&flow.FlagForced != 0 {
		c.bits |= bitCut
	}
	length := r.Last - r.First
	if length < longSlice {
		return
	}
	x := &t.exporter.list[t.exporterOf(r)]
	x.longest = min(max(x.longest, length), 2*3600*second)
	if length >= x.longest/5*4 {
		c.bits |= bitCut
	}
}

// halfDone is the most silence that a TCP connection survives after one side's FIN: exporters often show one direction only.
const halfDone = 20 * second

// halfDone says that an exporter showed one side's FIN and whole slices only. The other side's word is waited for, so that most such
// connections are reported once, with their end, not twice.
func (c *conn) halfDone() bool {
	return c.proto == flow.TCP && c.bits&(bitPackets|bitCut|bitEnded|bitDetached) == 0 && (c.tcp[0]|c.tcp[1])&flow.FIN != 0
}

// idle is the silence in ns after which a conn is over.
func (t *Table) idle(c *conn) int64 {
	n := &t.c.Connections
	base := n.OtherIdle
	switch c.proto {
	case flow.TCP:
		base = n.TCPIdle
	case flow.UDP:
		base = n.UDPIdle
	}
	if c.bits&bitCut == 0 {
		if c.proto == flow.TCP {
			switch seen := c.tcp[0] | c.tcp[1]; {
			case seen&flow.FIN != 0:
				return min(int64(base), halfDone)
			case seen == flow.SYN: // nobody answers
				return int64(min(base, n.OtherIdle))
			}
		}
		return int64(base)
	}
	return max(int64(max(base, n.ExportedIdle)), t.exporter.list[c.exporter].longest*3/2)
}

// takeover is the silence in seconds after which another observation point may count.
func (t *Table) takeover(c *conn) int64 {
	return max(int64(t.c.Connections.ExportedIdle), t.exporter.list[c.exporter].longest*3/2) / second
}
