package flow

import "strconv"

// logZeek and logEVE stand in Record.Domain, so that a log and a capture of the same packets count as two observation points.
const (
	logZeek = 1
	logEVE  = 2
)

func (z *zeek) row(path zeekPath, out rowSink) (string, int64) {
	switch path {
	case zeekConn:
		return z.conn(out)
	case zeekDNS, zeekSSL, zeekQUIC, zeekHTTP:
		return z.name(path, out)
	}
	return rowOther, 0
}

// tuple reads what every log begins with.
func (z *zeek) tuple() (at int64, src, dst Addr, sport, dport uint16, ok bool) {
	at, ok = zeekTime(z.get(zTS))
	src, err := ParseAddr(string(z.get(zOrigH)))
	dst, err2 := ParseAddr(string(z.get(zRespH)))
	sport, ok2 := portOf(z.get(zOrigP))
	dport, ok3 := portOf(z.get(zRespP))
	return at, src, dst, sport, dport, ok && err == nil && err2 == nil && ok2 && ok3
}

// zeekTime reads a time: seconds, or ISO 8601 in JSON when it was set so. Times near 0 are relative, and good.
func zeekTime(b []byte) (int64, bool) {
	if ns, ok := decimalTime(b); ok {
		return ns, true
	}
	return textTime(string(b))
}

func (z *zeek) number(f zeekField) uint64 {
	n, _ := decimal(z.get(f)) // unset is nothing counted
	return n
}

// conn makes a record for each direction of a connection that Zeek saw packets of.
func (z *zeek) conn(out rowSink) (string, int64) {
	c := conversation{domain: logZeek, ended: true}
	var ok bool
	if c.first, c.src, c.dst, c.sport, c.dport, ok = z.tuple(); !ok {
		return rowMalformed, 0
	}
	if c.proto, ok = protocolOf(string(z.get(zProto))); !ok {
		if c.proto, ok = protocolOf(string(z.get(zIPProto))); !ok {
			return rowProtocol, 0
		}
	}
	c.last = c.first
	if d := z.get(zDuration); d != nil {
		length, ok := decimalTime(d)
		if !ok || length < 0 || c.first > maxLogTime-length {
			return rowMalformed, 0
		}
		c.last += length
	}
	if v, ok := portOf(z.get(zVLAN)); ok {
		c.vlan = v & 0xfff
	}
	c.bytes = [2]uint64{z.number(zOrigIP), z.number(zRespIP)}
	c.packets = [2]uint64{z.number(zOrigPkts), z.number(zRespPkts)}
	payload := [2]uint64{z.number(zOrigBytes), z.number(zRespBytes)}
	history := z.get(zHistory)
	if history != nil {
		c.read(history)
	} else {
		c.state(string(z.get(zState)))
	}
	for way := range 2 {
		if c.bytes[way] == 0 { // conn.log without sizes of packets
			c.bytes[way] = payload[way]
		}
		c.spoke[way] = c.spoke[way] || c.packets[way]|c.bytes[way] != 0
	}
	if !c.spoke[0] && !c.spoke[1] {
		c.spoke[0] = true // it is there since somebody spoke
	}
	if c.proto == ICMP || c.proto == ICMPv6 {
		if !c.src.Is4() {
			c.proto = ICMPv6
		}
		c.typecode = zeekICMP(c.proto, c.sport, c.dport)
	}
	if c.proto != TCP {
		c.flags = [2]uint8{}
	}
	c.say(out)
	return rowUsed, c.last
}

// read takes the history column: who sent what, capitals are the originator's.
func (c *conversation) read(history []byte) {
	for _, x := range history {
		way := 0
		if x >= 'a' && x <= 'z' {
			way, x = 1, x-'a'+'A'
		}
		switch x {
		case 'S':
			c.flags[way] |= SYN
		case 'H':
			c.flags[way] |= SYN | ACK
		case 'A':
			c.flags[way] |= ACK
		case 'D':
			c.flags[way] |= PSH | ACK
		case 'F':
			c.flags[way] |= FIN | ACK
		case 'R':
			c.flags[way] |= RST
		case 'I': // SYN and RST, or SYN and FIN
			c.flags[way] |= SYN | RST
		case 'C', 'G', 'T', 'W', 'Q': // a bad checksum, a gap, sent again, window zero, flags without sense
		default:
			continue
		}
		c.spoke[way] = true
	}
}

// state is what is known without a history.
func (c *conversation) state(s string) {
	if c.proto != TCP {
		return
	}
	switch s {
	case "S0":
		c.flags = [2]uint8{SYN, 0}
	case "S1":
		c.flags = [2]uint8{SYN | ACK, SYN | ACK}
	case "S2":
		c.flags = [2]uint8{SYN | ACK | FIN, SYN | ACK}
	case "S3":
		c.flags = [2]uint8{SYN | ACK, SYN | ACK | FIN}
	case "SF":
		c.flags = [2]uint8{SYN | ACK | FIN, SYN | ACK | FIN}
	case "REJ":
		c.flags = [2]uint8{SYN, RST | ACK}
	case "RSTO":
		c.flags = [2]uint8{SYN | ACK | RST, SYN | ACK}
	case "RSTR":
		c.flags = [2]uint8{SYN | ACK, SYN | ACK | RST}
	case "RSTOS0":
		c.flags = [2]uint8{SYN | RST, 0}
	case "RSTRH":
		c.flags = [2]uint8{0, SYN | ACK | RST}
	case "SH":
		c.flags = [2]uint8{SYN | FIN, 0}
	case "SHR":
		c.flags = [2]uint8{0, SYN | ACK | FIN}
	}
	for way, f := range c.flags {
		c.spoke[way] = f != 0
	}
}

// zeekICMP: the ports are the type, and the code; for a question with an answer, the answer's type.
func zeekICMP(proto uint8, kind, code uint16) [2]uint16 {
	question := kind << 8
	if answer := icmpAnswer(proto, question); answer != question {
		return [2]uint16{question, answer}
	}
	if proto == ICMP && kind == 0 || proto == ICMPv6 && kind == 129 { // the answer came first
		return [2]uint16{question, icmpRequest(proto, question)}
	}
	return [2]uint16{kind<<8 | code&0xff, kind<<8 | code&0xff}
}

// name makes a Name of a row of the other logs.
func (z *zeek) name(path zeekPath, out rowSink) (string, int64) {
	at, src, dst, sport, dport, ok := z.tuple()
	if !ok {
		return rowMalformed, 0
	}
	n := Name{Time: at, Client: src, Server: dst, ClientPort: sport, Port: dport, Proto: TCP}
	switch path {
	case zeekDNS:
		return z.dns(&n, out)
	case zeekHTTP:
		n.Kind, n.Name = NameHTTP, hostText(z.get(zHost))
		n.Method, n.Agent = printable(z.get(zMethod), maxMethod, false), printable(z.get(zAgent), maxAgent, false)
	case zeekSSL, zeekQUIC:
		n.Kind, n.Name = NameTLS, hostText(z.get(zServer))
		n.ALPN, n.JA4 = printable(z.get(zNextProtocol), maxALPN, false), ja4Text(z.get(zJA4))
		if path == zeekQUIC {
			n.Kind, n.Proto = NameQUIC, UDP
		}
	}
	if n.Name == "" && n.JA4 == "" && n.Agent == "" {
		return rowOther, at
	}
	out.sayName(&n)
	return rowUsed, at
}

func (z *zeek) dns(n *Name, out rowSink) (string, int64) {
	at := n.Time
	if multicastNames(n.Port) {
		return rowOther, at
	}
	query := z.get(zQuery)
	if query == nil {
		return rowOther, at
	}
	n.Name = hostText(query)
	if t, ok := portOf(z.get(zQType)); ok {
		n.QType = t
	}
	if string(z.get(zProto)) == "udp" {
		n.Proto = UDP
	}
	rcode, answered := decimal(z.get(zRCode))
	if !answered {
		n.Kind = NameQuery
		out.sayName(n)
		return rowUsed, at
	}
	n.Kind, n.RCode = NameDNS, uint8(rcode&15)
	if rtt, ok := decimalTime(z.get(zRTT)); ok && rtt >= 0 && rtt < int64(60*sec) {
		n.Time += rtt
	}
	for _, a := range z.list(zAnswers) {
		if addr, err := ParseAddr(a); err == nil && len(n.Addrs) < dnsAddrs {
			n.Addrs = append(n.Addrs, addr)
		}
	}
	for i, t := range z.list(zTTLs) {
		if ttl, err := strconv.ParseFloat(t, 64); err == nil && ttl >= 0 && ttl < 1<<32 && (i == 0 || uint32(ttl) < n.TTL) {
			n.TTL = uint32(ttl)
		}
	}
	out.sayName(n)
	return rowUsed, n.Time
}
