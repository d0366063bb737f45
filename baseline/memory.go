package baseline

// memory keeps one value per workload for a detector that embeds it: found by the workload's dense index, put and taken back by name,
// dropped when the table of workloads forgets it, which is its bound. One goroutine uses it.
type memory[T any] struct {
	env     *env
	version byte
	encode  func(*T, *writer)
	decode  func(*reader, *T)
	byIndex []*remembered[T] // nil where nothing is known
	queue   []*remembered[T] // dirty, oldest change first
	gone    []string
}

type remembered[T any] struct {
	v                T
	w                *workload
	dirty, forgotten bool
}

func newMemory[T any](env *env, version byte, encode func(*T, *writer), decode func(*reader, *T)) memory[T] {
	return memory[T]{env: env, version: version, encode: encode, decode: decode}
}

// at is what is known of a workload, nil when nothing is.
func (m *memory[T]) at(w *workload) *remembered[T] {
	if w.index < len(m.byIndex) {
		return m.byIndex[w.index]
	}
	return nil
}

// of is at, made where there is nothing.
func (m *memory[T]) of(w *workload) *remembered[T] {
	if s := m.at(w); s != nil {
		return s
	}
	for len(m.byIndex) <= w.index {
		m.byIndex = append(m.byIndex, nil)
	}
	s := &remembered[T]{w: w}
	m.byIndex[w.index] = s
	return s
}

// touch says that a value changed in what is put.
func (m *memory[T]) touch(s *remembered[T]) {
	if !s.dirty {
		s.dirty = true
		m.queue = append(m.queue, s)
	}
}

func (m *memory[T]) forget(w *workload) {
	s := m.at(w)
	if s == nil {
		return
	}
	m.byIndex[w.index] = nil
	s.dirty, s.forgotten = false, true
	m.gone = append(m.gone, w.name)
}

// Dirty yields what changed.
func (m *memory[T]) Dirty(yield func(key string, blob []byte) bool) {
	for len(m.gone) > 0 {
		if w := m.env.learning.byName[m.gone[0]]; (w == nil || m.at(w) == nil) && !yield(m.gone[0], nil) {
			return
		}
		m.gone = m.gone[1:]
	}
	var out writer
	for len(m.queue) > 0 {
		s := m.queue[0]
		if !s.forgotten {
			out.reset(m.version)
			m.encode(&s.v, &out)
			if !yield(s.w.name, out.b) {
				return
			}
		}
		s.dirty = false
		m.queue = m.queue[1:]
	}
}

// Restore takes a workload back.
func (m *memory[T]) Restore(key string, blob []byte) error {
	r := newReader(blob, m.version)
	var v T
	m.decode(r, &v)
	if err := r.done(); err != nil {
		return err
	}
	m.of(m.env.learning.named(key)).v = v
	return nil
}

// remember adds a value to a list that holds the last limit different ones, oldest first, and reports whether it was there.
func remember[T comparable](list *[]T, v T, limit int) (known bool) {
	for _, have := range *list {
		if have == v {
			return true
		}
	}
	if len(*list) >= limit {
		*list = append((*list)[:0], (*list)[1:]...)
	}
	*list = append(*list, v)
	return false
}

// hashes writes a list of hashes; the method of reader takes it back.
func (w *writer) hashes(list []uint64) {
	w.uint(uint64(len(list)))
	for _, h := range list {
		w.uint(h)
	}
}

func (r *reader) hashes(limit int) (list []uint64) {
	for range r.count(1, limit) {
		list = append(list, r.uint())
	}
	return list
}
