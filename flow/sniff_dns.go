package flow

import "encoding/binary"

const (
	askedBound = 4096
	askedWait  = 5 * sec // a question without an answer is told after this
)

// questions are those whose answer was not seen yet. Answers repeat their question, so an answered one need not be told.
type questions struct {
	at    map[questionKey]uint64 // number in the queue
	queue []openQuestion         // oldest first
	first uint64                 // number of queue[0]
}

type questionKey struct {
	client, server Addr
	port           uint16 // of the client
	id             uint16
	proto          uint8
}

type openQuestion struct {
	key      questionKey
	name     Name
	answered bool
}

// dns takes one message over UDP.
func (t *tap) dns(key *streamKey, b []byte, cut bool, now int64) {
	if key.sport == portDNS {
		t.answer(key, b, cut, now)
		return
	}
	n := key.name(now)
	if id, ok := parseQuestion(b, &n); ok {
		t.ask(questionKey{n.Client, n.Server, n.ClientPort, id, n.Proto}, &n, now)
	}
}

// messages takes those over TCP, each behind its length (RFC 1035 4.2.2), and returns what is left over.
func (t *tap) messages(key *streamKey, b []byte, cut bool, now int64) (rest []byte) {
	for len(b) >= 2 {
		size := int(binary.BigEndian.Uint16(b))
		if size < 12 {
			return nil // no beginning of a message
		}
		if size > len(b)-2 {
			if !cut {
				return b
			}
			t.dns(key, b[2:], true, now)
			return nil
		}
		t.dns(key, b[2:2+size], false, now)
		b = b[2+size:]
	}
	return b
}

func (t *tap) answer(key *streamKey, b []byte, cut bool, now int64) {
	n := Name{Time: now, Kind: NameDNS, Client: key.dst, Server: key.src, ClientPort: key.dport, Port: key.sport, Proto: key.proto}
	switch parseAnswer(b, cut, &n) {
	case dnsAnswer:
		t.sniffer.asked.answered(questionKey{n.Client, n.Server, n.ClientPort, binary.BigEndian.Uint16(b), n.Proto})
		t.sniffer.count.answers++
		t.say(&n, now)
	case dnsMalformed:
		t.sniffer.count.dnsMalformed++
	}
}

// ask notes a question. A full table tells its oldest early.
func (t *tap) ask(key questionKey, n *Name, now int64) {
	q := &t.sniffer.asked
	if q.at == nil {
		q.at = make(map[questionKey]uint64)
	}
	if _, again := q.at[key]; again {
		return
	}
	t.unanswered(now)
	for len(q.queue) >= askedBound {
		t.tell()
	}
	q.at[key] = q.first + uint64(len(q.queue))
	q.queue = append(q.queue, openQuestion{key: key, name: *n})
}

func (q *questions) answered(key questionKey) {
	if i, ok := q.at[key]; ok {
		q.queue[i-q.first].answered = true
		delete(q.at, key)
	}
}

// unanswered tells the questions that waited for long enough.
func (t *tap) unanswered(now int64) {
	q := &t.sniffer.asked
	for len(q.queue) > 0 && (q.queue[0].answered || now-q.queue[0].name.Time >= askedWait) {
		t.tell()
	}
}

// tell takes the oldest question out, and tells it unless it was answered.
func (t *tap) tell() {
	q := &t.sniffer.asked
	old := &q.queue[0]
	if !old.answered {
		delete(q.at, old.key)
		t.append(&old.name)
	}
	*old = openQuestion{}
	q.queue = q.queue[1:]
	q.first++
}
