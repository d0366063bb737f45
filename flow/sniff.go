package flow

// Bounds of what one tap looks at and keeps.
const (
	sniffRate     = 20000   // payloads looked at in a second of packet time; one of QUIC counts for ten
	sniffQUIC     = 10      //
	sniffStreams  = 512     // beginnings that wait for their next segment, pieceBytes each
	sniffSegments = 8       // most segments of one
	sniffWait     = 3 * sec // how long one waits
	sniffSaid     = 4096    // conversations whose last name is remembered, so that it is said once
	sniffHead     = 6       // bytes of a payload that show a ClientHello
)

// sniffer finds names in payloads: DNS, TLS, QUIC, HTTP. One tap uses it. What it says depends on the packets only.
type sniffer struct {
	second  int64
	spent   int
	streams map[streamKey]*stream
	queue   []streamKey // of the streams, oldest first; those that are done stay until their turn
	filter  [256]uint16 // streams by a hash of their ports: most packets need not ask the map
	spare   []*stream
	asked   questions
	said    []uint64
	hello   hello
	scratch []byte
	pieces  pieces
	count   nameCount
}

// streamKey is one direction of a conversation.
type streamKey struct {
	src, dst     Addr
	sport, dport uint16
	proto        uint8
}

func keyOf(k *packet) streamKey { return streamKey{k.src, k.dst, k.sport, k.dport, k.proto} }

// stream is a beginning that is not whole yet.
type stream struct {
	pieces
	since    int64
	base     uint32 // sequence number of the first byte
	segments int
}

func lineOf(sport, dport uint16) uint8 { return uint8(sport ^ sport>>8 ^ dport*31) }

// wants says whether a payload may carry a name. It is asked of every packet.
func (s *sniffer) wants(k *packet, frame []byte) bool {
	if k.length == 0 {
		return false
	}
	switch k.proto {
	case TCP:
		at := k.payload
		if at+sniffHead > len(frame) {
			return s.filter[lineOf(k.sport, k.dport)] != 0
		}
		switch c := frame[at]; {
		case c == tlsHandshake:
			return looksLikeHello(frame[at:]) || s.filter[lineOf(k.sport, k.dport)] != 0
		case c >= 'C' && c <= 'P':
			return looksLikeRequest(frame[at:]) || s.filter[lineOf(k.sport, k.dport)] != 0 || k.sport == portDNS || k.dport == portDNS
		}
		return k.sport == portDNS || k.dport == portDNS || s.filter[lineOf(k.sport, k.dport)] != 0
	case UDP:
		return k.sport == portDNS || k.dport == portDNS || k.length >= quicLeast && k.payload < len(frame) && frame[k.payload]&0xc0 == 0xc0 && k.sport != 443
	}
	return false
}

// listen looks at a payload that may carry a name.
func (t *tap) listen(k *packet, frame []byte, now int64) {
	s := &t.sniffer
	payload := k.transportPayload(frame)
	if len(payload) == 0 {
		return // cut off by the snap length
	}
	cost := 1
	if k.proto == UDP && k.sport != portDNS && k.dport != portDNS {
		cost = sniffQUIC
	}
	if now/sec != s.second {
		s.second, s.spent = now/sec, 0
	}
	if s.spent += cost; s.spent > sniffRate {
		s.count.rate++
		return
	}
	cut := len(payload) < k.length || k.partial
	key := keyOf(k)
	switch {
	case k.proto == UDP && cost == 1:
		t.dns(&key, payload, cut, now)
	case k.proto == UDP:
		if !cut {
			t.quic(&key, payload, now)
		}
	default:
		t.segment(&key, k.seq, payload, cut, now)
	}
}

// segment takes one of TCP.
func (t *tap) segment(key *streamKey, seq uint32, payload []byte, cut bool, now int64) {
	s := &t.sniffer
	w := s.streams[*key]
	dns := key.sport == portDNS || key.dport == portDNS
	switch {
	case w != nil:
		w.segments++
		if !w.add(int(int32(seq-w.base)), payload) {
			w.segments = sniffSegments
		}
		if t.advanceStream(key, w, dns, cut || w.segments >= sniffSegments, now) {
			s.drop(key)
		}
	case dns:
		rest := t.messages(key, payload, cut, now)
		if len(rest) > 0 && !cut {
			t.wait(key, seq+uint32(len(payload)-len(rest)), rest, now)
		}
	case looksLikeHello(payload):
		message, whole, ok := helloOf(payload, s.scratch)
		switch {
		case !ok:
			s.count.malformed++
		case whole || cut:
			t.sayHello(key, NameTLS, message, now)
		default:
			t.wait(key, seq, payload, now)
		}
	case looksLikeRequest(payload):
		n := key.name(now)
		if parseRequest(payload, &n) {
			t.sayOnce(key, &n, now)
		}
	}
}

// advanceStream looks whether a beginning is whole now; last says that no more of it will come. It reports that it is done with.
func (t *tap) advanceStream(key *streamKey, w *stream, dns, last bool, now int64) bool {
	s := &t.sniffer
	b := w.start()
	last = last || len(b) == pieceBytes
	if dns {
		rest := t.messages(key, b, last, now)
		if len(rest) < len(b) && len(rest) > 0 && !last { // go on with what follows
			left, base := append(s.scratch[:0], rest...), w.base+uint32(len(b)-len(rest))
			w.reset()
			w.add(0, left)
			w.base, w.segments, w.since = base, 0, now
			s.scratch = left[:0]
			return false
		}
		return last || len(rest) == 0
	}
	message, whole, ok := helloOf(b, s.scratch)
	switch {
	case !ok:
		s.count.malformed++
	case whole:
		t.sayHello(key, NameTLS, message, now)
	case last:
		s.count.unfinished++
		t.sayHello(key, NameTLS, message, now)
	default:
		return false
	}
	return true
}

// quic takes a datagram that may hold the Initial of a client.
func (t *tap) quic(key *streamKey, payload []byte, now int64) {
	s := &t.sniffer
	p, ok := parseInitial(payload)
	if !ok {
		return
	}
	frames, ok := p.open()
	if !ok { // of a server, or after a retry that was not seen
		s.count.opaque++
		return
	}
	w := s.streams[*key]
	parts := &s.pieces
	if w != nil {
		parts = &w.pieces
		w.segments++
	} else {
		parts.reset()
	}
	if !quicCrypto(frames, parts.add) {
		s.count.malformed++
		if w != nil {
			s.drop(key)
		}
		return
	}
	b := parts.start()
	whole := len(b) >= 4 && len(b) >= 4+int(b[1])<<16+int(b[2])<<8+int(b[3])
	switch last := len(b) == pieceBytes || w != nil && w.segments >= sniffSegments; {
	case whole || last:
		t.sayHello(key, NameQUIC, b, now)
		if w != nil {
			s.drop(key)
		}
	case w == nil && len(parts.have) > 0:
		w := t.wait(key, 0, nil, now)
		w.pieces, s.pieces = s.pieces, w.pieces
	}
}

// wait keeps the beginning of a stream until more of it comes.
func (t *tap) wait(key *streamKey, base uint32, part []byte, now int64) *stream {
	s := &t.sniffer
	t.expireStreams(now)
	if s.streams == nil {
		s.streams = make(map[streamKey]*stream)
	}
	if len(s.streams) >= sniffStreams {
		t.giveUp(now)
	}
	var w *stream
	if n := len(s.spare); n > 0 {
		w, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		w = &stream{}
	}
	w.reset()
	w.since, w.base, w.segments = now, base, 1
	w.add(0, part)
	s.streams[*key] = w
	s.queue = append(s.queue, *key)
	s.filter[lineOf(key.sport, key.dport)]++
	return w
}

// drop forgets a stream; its place in the queue goes when its turn comes.
func (s *sniffer) drop(key *streamKey) {
	w := s.streams[*key]
	if w == nil {
		return
	}
	delete(s.streams, *key)
	s.filter[lineOf(key.sport, key.dport)]--
	s.spare = append(s.spare, w)
}

// expireStreams gives up those that wait too long.
func (t *tap) expireStreams(now int64) {
	s := &t.sniffer
	for len(s.queue) > 0 {
		w := s.streams[s.queue[0]]
		if w != nil && now-w.since < sniffWait && now >= w.since && len(s.queue) <= 4*sniffStreams {
			return
		}
		t.giveUp(now)
	}
}

// giveUp says what the oldest stream gave so far.
func (t *tap) giveUp(now int64) {
	s := &t.sniffer
	for len(s.queue) > 0 {
		key := s.queue[0]
		s.queue = s.queue[1:]
		w := s.streams[key]
		if w == nil {
			continue
		}
		s.count.unfinished++
		if b := w.start(); key.proto == UDP {
			t.sayHello(&key, NameQUIC, b, now)
		} else if key.sport != portDNS && key.dport != portDNS {
			if message, _, ok := helloOf(b, s.scratch); ok {
				t.sayHello(&key, NameTLS, message, now)
			}
		}
		s.drop(&key)
		return
	}
}
