package flow

// lru is a bounded map that forgets the entry touched longest ago. It is not safe for concurrent use.
type lru[K comparable, V any] struct {
	limit int
	table map[K]*lruNode[K, V]
	root  lruNode[K, V] // root.next is the newest, root.prev the oldest
}

type lruNode[K comparable, V any] struct {
	key        K
	value      V
	prev, next *lruNode[K, V]
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	l := &lru[K, V]{limit: limit, table: map[K]*lruNode[K, V]{}}
	l.root.prev, l.root.next = &l.root, &l.root
	return l
}

func (l *lru[K, V]) len() int { return len(l.table) }

// get touches the entry.
func (l *lru[K, V]) get(k K) (v V, ok bool) {
	n := l.root.next
	if n == &l.root || n.key != k {
		if n, ok = l.table[k]; !ok {
			return v, false
		}
		n.unlink()
		l.front(n)
	}
	return n.value, true
}

// put adds an entry that get did not find, after making room with evict, which sees the oldest.
func (l *lru[K, V]) put(k K, v V, evict func(K, V)) {
	for len(l.table) >= l.limit {
		k, v := l.dropOldest()
		evict(k, v)
	}
	n := &lruNode[K, V]{key: k, value: v}
	l.table[k] = n
	l.front(n)
}

// dropOldest must not be called on an empty table.
func (l *lru[K, V]) dropOldest() (K, V) {
	n := l.root.prev
	n.unlink()
	delete(l.table, n.key)
	return n.key, n.value
}

// drop forgets an entry, if it is there.
func (l *lru[K, V]) drop(k K) {
	if n, ok := l.table[k]; ok {
		n.unlink()
		delete(l.table, k)
	}
}

// each goes from the newest to the oldest.
func (l *lru[K, V]) each(f func(K, V)) {
	for n := l.root.next; n != &l.root; n = n.next {
		f(n.key, n.value)
	}
}

func (l *lru[K, V]) front(n *lruNode[K, V]) {
	n.prev, n.next = &l.root, l.root.next
	n.prev.next, n.next.prev = n, n
}

func (n *lruNode[K, V]) unlink() { n.prev.next, n.next.prev = n.next, n.prev }
