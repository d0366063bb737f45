package enrich

import (
	"math/bits"

	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	chunkBits   = 15
	chunkSize   = 1 << chunkBits // conns allocated at once, 6 MiB that the kernel fills as they are used; they never move
	staleTimers = 1 << 14        // that may heap up besides twice the live conns
	wheelSize   = 512            // seconds: most idle times fit, so that a quiet connection is looked at once more, when it is over
)

// slot is one place of the open-addressed index: a tag of the hash and which conn.
type slot struct{ tag, conn uint32 } // conn 0 is an empty slot

// timer is an entry of the wheel. It is stale when the conn has another gen: removing one costs nothing.
type timer struct{ conn, gen uint32 }

// shard is the part of the connection table that holds the tuples of one residue of the hash.
type shard struct {
	slots  []slot
	used   int // slots taken
	chunks []*[chunkSize]conn
	made   uint32   // conns ever handed out, slot 0 included
	free   []uint32 // conns given back
	live   int
	most   int

	wheel  [wheelSize][]timer
	spare  [][]timer // emptied seconds, newest last: warm memory for the next
	timers int       // entries, stale ones included
	second uint32    // the last one looked at
	busy   bool      // in advance: the wheel must not be swept
	hand   uint32    // of the eviction clock

	touched int64
}

func newShard(most int) *shard {
	return &shard{slots: make([]slot, 1024), chunks: []*[chunkSize]conn{new([chunkSize]conn)}, made: 1, most: most}
}

func (s *shard) conn(i uint32) *conn { return &s.chunks[i>>chunkBits][i&(chunkSize-1)] }

// find returns the conn of a tuple and the direction of a record with that source; 0 when there is none.
func (s *shard) find(h uint64, src, dst flow.Addr, sp, dp uint16, proto uint8) (uint32, int) {
	mask := uint32(len(s.slots) - 1)
	for i := uint32(h) & mask; ; i = (i + 1) & mask {
		sl := s.slots[i]
		if sl.conn == 0 {
			return 0, 0
		}
		if sl.tag == uint32(h) {
			if d, ok := s.conn(sl.conn).direction(src, dst, sp, dp, proto); ok {
				return sl.conn, d
			}
		}
	}
}

// insert puts a conn into the index, which is kept at most 5/8 full.
func (s *shard) insert(h uint64, c uint32) {
	if s.used*8 >= len(s.slots)*5 {
		old := s.slots
		s.slots = make([]slot, 2*len(old))
		for _, sl := range old {
			if sl.conn != 0 {
				s.put(sl)
			}
		}
	}
	s.put(slot{uint32(h), c})
	s.used++
}

func (s *shard) put(sl slot) {
	mask := uint32(len(s.slots) - 1)
	i := sl.tag & mask
	for s.slots[i].conn != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = sl
}

// remove takes a conn out of the index and closes the hole.
func (s *shard) remove(h uint64, c uint32) {
	mask := uint32(len(s.slots) - 1)
	i := uint32(h) & mask
	for s.slots[i].conn != c {
		if s.slots[i].conn == 0 {
			return
		}
		i = (i + 1) & mask
	}
	s.used--
	for j := (i + 1) & mask; s.slots[j].conn != 0; j = (j + 1) & mask {
		if (j-s.slots[j].tag)&mask >= (j-i)&mask {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = slot{}
}

// alloc hands out a conn, or 0 when the bound is reached. Its gen survives, so that old timers stay stale.
func (s *shard) alloc() uint32 {
	if s.live >= s.most {
		return 0
	}
	s.live++
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	i := s.made
	if int(i>>chunkBits) == len(s.chunks) {
		s.chunks = append(s.chunks, new([chunkSize]conn))
	}
	s.made++
	return i
}

// giveBack frees a conn that is no longer in the index.
func (s *shard) giveBack(i uint32) {
	c := s.conn(i)
	c.state = connFree
	c.gen++
	s.free = append(s.free, i)
	s.live--
}

// at sets the conn's timer to a second, at least the next one. What lies beyond the wheel is looked at on the way.
func (s *shard) at(i uint32, second uint32) {
	second = min(max(second, s.second+1), s.second+wheelSize-2)
	c := s.conn(i)
	c.gen++
	c.due = second
	s.push(second, timer{i, c.gen})
	if !s.busy && s.timers > 2*s.live+staleTimers {
		s.sweep()
	}
}

func (s *shard) push(second uint32, t timer) {
	b := &s.wheel[second%wheelSize]
	if n := len(s.spare); *b == nil && n > 0 {
		*b, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	*b = append(*b, t)
	s.timers++
}

// sweep drops stale timers, which a flood of evictions can heap up while time stands still.
func (s *shard) sweep() {
	s.timers = 0
	for b := range s.wheel {
		kept := s.wheel[b][:0]
		for _, t := range s.wheel[b] {
			if s.conn(t.conn).gen == t.gen {
				kept = append(kept, t)
			}
		}
		s.wheel[b] = kept
		s.timers += len(kept)
	}
}

// advance calls look for every conn whose timer is due by second. look sets a new timer or gives the conn back.
func (s *shard) advance(second uint32, look func(i uint32, c *conn)) {
	if second <= s.second {
		return
	}
	from := s.second + 1
	if second-s.second > wheelSize {
		from = second - wheelSize + 1
	}
	s.second, s.busy = second, true
	for b := from; b <= second; b++ {
		w := &s.wheel[b%wheelSize]
		n := len(*w)
		for k := range n { // what is added meanwhile comes behind
			if k%strideSize == 0 {
				s.touch((*w)[k:min(k+strideSize, n)])
			}
			t := (*w)[k]
			s.timers--
			c := s.conn(t.conn)
			switch {
			case c.gen != t.gen:
			case c.due > second:
				s.push(c.due, t)
			default:
				look(t.conn, c)
			}
		}
		if *w = (*w)[:copy(*w, (*w)[n:])]; len(*w) == 0 && *w != nil {
			s.spare = append(s.spare, *w)
			*w = nil
		}
	}
	s.busy = false
}

// touch loads the lines of some conns at once, so that their cache misses overlap: the first of all, the others of those that are
// likely to have something to say.
func (s *shard) touch(list []timer) {
	sum := int64(0)
	for _, t := range list {
		sum += s.conn(t.conn).last
	}
	for _, t := range list {
		if c := s.conn(t.conn); c.bits&(bitCut|bitDirty) != bitCut {
			sum += int64(c.checked) + c.start
		}
	}
	s.touched = sum
}

// victim picks the conn to give up: of some that the hand passes, the one worth least, and of those the one that is quiet longest.
// Worth is no container, then asked once and never answered, then the rest: a spray evicts itself before it evicts others.
// owner 0 looks among all, else among that container's; keep is not picked. It looks at 256 at most, so that it may find none.
func (s *shard) victim(owner, keep uint32) uint32 {
	const sample, most = 8, 256
	var best uint32
	var bestWorth int
	seen := 0
	for range min(uint32(most), s.made) {
		s.hand++
		if s.hand >= s.made {
			s.hand = 1
		}
		c := s.conn(s.hand)
		if c.state == connFree || s.hand == keep || owner != 0 && c.owner[0] != owner && c.owner[1] != owner {
			continue
		}
		w := c.worth()
		if best == 0 || w < bestWorth || w == bestWorth && c.last < s.conn(best).last {
			best, bestWorth = s.hand, w
		}
		if seen++; seen == sample {
			break
		}
	}
	return best
}

func (c *conn) worth() int {
	switch {
	case c.state == connClosed || c.state == connNobody:
		return 0
	case c.evidence[0]&c.evidence[1]&sawAny == 0:
		return 1
	}
	return 2
}

// shardOf spreads tuples over n shards, the same way in every process.
func shardOf(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}
