package flow

func (key *streamKey) name(now int64) Name {
	return Name{Time: now, Client: key.src, Server: key.dst, ClientPort: key.sport, Port: key.dport, Proto: key.proto}
}

// sayHello reads a ClientHello, or what there is of it.
func (t *tap) sayHello(key *streamKey, kind NameKind, message []byte, now int64) {
	s := &t.sniffer
	if !s.hello.parse(message) {
		s.count.malformed++
		return
	}
	n := key.name(now)
	n.Kind, n.Name, n.ALPN = kind, hostText(s.hello.server), printable(s.hello.alpn, maxALPN, false)
	transport := byte('t')
	if kind == NameQUIC {
		transport = 'q'
	}
	n.JA4 = s.hello.ja4(transport)
	if n.Name != "" || n.JA4 != "" {
		t.sayOnce(key, &n, now)
	}
}

// hash is alike in every process: what is said must not depend on chance. Who chooses collisions hides a repetition of itself.
func (n *Name) hash(key *streamKey) (place, sum uint64) {
	h := uint64(key.sport)<<32 | uint64(key.dport)<<8 | uint64(key.proto)
	for _, v := range [4]uint64{key.src.Hi, key.src.Lo, key.dst.Hi, key.dst.Lo} {
		h = (h ^ v) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	sum = h
	for _, text := range [4]string{n.Name, n.JA4, n.Method, n.Agent} {
		for i := range len(text) {
			sum = (sum ^ uint64(text[i])) * 0x100000001b3
		}
		sum ^= sum >> 31
	}
	return h % sniffSaid, sum | 1
}

// sayOnce says a name of a connection unless that was the last that the connection said.
func (t *tap) sayOnce(key *streamKey, n *Name, now int64) {
	s := &t.sniffer
	if s.said == nil {
		s.said = make([]uint64, sniffSaid)
	}
	place, sum := n.hash(key)
	if s.said[place] == sum {
		s.count.repeated++
		return
	}
	s.said[place] = sum
	t.say(n, now)
}

// say hands a name over, behind what is older.
func (t *tap) say(n *Name, now int64) {
	t.advance(now)
	t.append(n)
}

func (t *tap) append(n *Name) {
	t.sniffer.count.kinds[n.Kind]++
	b := t.assembler.batch()
	b.Names = append(b.Names, *n)
}
