package flow

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// clientHello is what crypto/tls sends first, with its record header.
func clientHello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		tls.Client(client, c).Handshake() // it fails: nobody answers
		client.Close()
	}()
	b := make([]byte, 1<<14)
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	for n < 5+int(binary.BigEndian.Uint16(b[3:])) {
		more, err := server.Read(b[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += more
	}
	return b[:n]
}

// quicHello is the first CRYPTO data of a client of crypto/tls.
func quicHello(t testing.TB, name string) []byte {
	t.Helper()
	c := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{ServerName: name, NextProtos: []string{"h3"}, MinVersion: tls.VersionTLS13}})
	c.SetTransportParameters([]byte{1, 2, 0x40, 0x64})
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for {
		switch e := c.NextEvent(); e.Kind {
		case tls.QUICWriteData:
			return bytes.Clone(e.Data)
		case tls.QUICNoEvent:
			t.Fatal("no data")
		}
	}
}

// seal makes the Initial of a client out of frames.
func seal(t testing.TB, v2 bool, dcid []byte, number uint32, frames []byte) []byte {
	t.Helper()
	first, version := byte(0xc3), uint32(quicV1)
	if v2 {
		first, version = 0xd3, quicV2
	}
	header := binary.BigEndian.AppendUint32([]byte{first}, version)
	header = append(append(header, byte(len(dcid))), dcid...)
	header = append(header, 2, 7, 7, 0) // a source id, no token
	frames = append(bytes.Clone(frames), make([]byte, max(0, 1200-len(frames)-len(header)))...)
	header = binary.BigEndian.AppendUint16(header, 0x4000|uint16(4+len(frames)+16))
	at := len(header)
	header = binary.BigEndian.AppendUint32(header, number)
	key, iv, hp, err := quicKeys(v2, dcid)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	for i := range 4 {
		iv[8+i] ^= header[at+i]
	}
	out := aead.Seal(bytes.Clone(header), iv, frames, header)
	block, _ = aes.NewCipher(hp)
	mask := make([]byte, 16)
	block.Encrypt(mask, out[at+4:at+20])
	out[0] ^= mask[0] & 15
	for i := range 4 {
		out[at+i] ^= mask[1+i]
	}
	return out
}

// cryptoFrame carries a part of the handshake.
func cryptoFrame(at int, part []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{6}, 0x80000000|uint32(at))
	return append(binary.BigEndian.AppendUint32(b, 0x80000000|uint32(len(part))), part...)
}

// sniffed feeds frames to a tap, a millisecond apart, and returns the names.
func sniffed(t testing.TB, frames ...[]byte) ([]Name, *metrics.Set) {
	t.Helper()
	set, c := metrics.NewSet(), &collected{}
	p := newTap("test", NewPool(4), 100, set, c.take)
	for i, f := range frames {
		p.frame(linkEthernet, f, 0, 0, base+int64(i)*milli)
	}
	p.drain()
	p.publish()
	return c.names, set
}

func tcpFrame(t testing.TB, sport, dport uint16, seq uint32, data []byte) []byte {
	h := tcp(sport, dport, "PA")
	h.Seq = seq
	return serialize(t, ethernet(typeIPv4), ip4(TCP), h, gopacket.Payload(data))
}

func udpFrame(t testing.TB, sport, dport uint16, data []byte) []byte {
	return serialize(t, ethernet(typeIPv4), ip4(UDP), udp(sport, dport), gopacket.Payload(data))
}

func skippedNames(set *metrics.Set, reason string) uint64 {
	return set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_names_skipped_total{reason=%q}", reason)).Get()
}

// The server name and first protocol of a real client come out, however its hello is cut into segments and in whatever order they come.
func TestSniffTLS(t *testing.T) {
	b := clientHello(t, &tls.Config{ServerName: "API.Example.com", NextProtos: []string{"h2", "http/1.1"}})
	if len(b) < 600 {
		t.Fatalf("%d bytes are short for this test", len(b))
	}
	whole, _ := sniffed(t, tcpFrame(t, 40000, 443, 100, b))
	if len(whole) != 1 || !strings.HasPrefix(whole[0].JA4, "t13d") || len(whole[0].JA4) != ja4Size {
		t.Fatalf("%+v", whole)
	}
	want := whole[0]
	want.JA4 = ""
	if diff := cmp.Diff(Name{Time: base, Kind: NameTLS, Client: want.Client, Server: want.Server, ClientPort: 40000, Port: 443, Proto: TCP, Name: "api.example.com", ALPN: "h2"}, want); diff != "" {
		t.Error(diff)
	}
	records := func() []byte { // the same in three TLS records
		var out []byte
		for part := range slices.Chunk(b[5:], (len(b)-5)/3+1) {
			out = binary.BigEndian.AppendUint16(append(out, b[:3]...), uint16(len(part)))
			out = append(out, part...)
		}
		return out
	}()
	seq := uint32(0xffffffff - 300) // it wraps
	part := func(from, to int) []byte { return tcpFrame(t, 40000, 443, seq+uint32(from), b[from:to]) }
	for name, frames := range map[string][][]byte{
		"two segments":         {part(0, 500), part(500, len(b))},
		"three, swapped":       {part(0, 200), part(400, len(b)), part(200, 400)},
		"overlapping":          {part(0, 300), part(0, 300), part(200, len(b))},
		"three records":        {tcpFrame(t, 40000, 443, 1, records)},
		"records and segments": {tcpFrame(t, 40000, 443, 1, records[:333]), tcpFrame(t, 40000, 443, 334, records[333:])},
		"other traffic":        {part(0, 300), tcpFrame(t, 40001, 443, seq+300, b[300:]), udpFrame(t, 40000, 443, b[300:]), part(300, len(b))},
		"sent again":           {tcpFrame(t, 40000, 443, 100, b), tcpFrame(t, 40000, 443, 100, b)},
	} {
		got, _ := sniffed(t, frames...)
		if len(got) != 1 {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		got[0].Time = whole[0].Time
		if diff := cmp.Diff(whole[0], got[0]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// What never comes whole still says its name, but has no fingerprint.
	got, set := sniffed(t, part(0, len(b)-1))
	if len(got) != 1 || got[0].JA4 != "" || got[0].Name != "api.example.com" && got[0].Name != "" || skippedNames(set, "unfinished") != 1 {
		t.Errorf("without its end: %+v", got)
	}
}

// The example of JA4's own description: what Chrome sent, built from the lists given there.
func TestJA4(t *testing.T) {
	words := func(s string) (out []byte) {
		for _, w := range strings.Split(s, ",") {
			b, err := hex.DecodeString(w)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b...)
		}
		return out
	}
	vector := func(width int, b []byte) []byte {
		if width == 1 {
			return append([]byte{byte(len(b))}, b...)
		}
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	build := func(alpn string) []byte {
		exts := map[string][]byte{
			"0000": vector(2, append([]byte{0}, vector(2, []byte("example.com"))...)),
			"0010": vector(2, vector(1, []byte(alpn))),
			"000d": vector(2, words("0403,0804,0401,0503,0805,0501,0806,0601")),
			"002b": vector(1, words("1a1a,0304,0303")),
		}
		var all []byte
		for _, kind := range strings.Split("1a1a,001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015,2a2a", ",") {
			if kind == "0010" && alpn == "" {
				continue
			}
			all = append(append(all, words(kind)...), vector(2, exts[kind])...)
		}
		body := append(words("0303"), make([]byte, 32)...)
		body = append(body, vector(1, make([]byte, 32))...)
		body = append(body, vector(2, words("3a3a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"))...)
		body = append(body, 1, 0)
		body = append(body, vector(2, all)...)
		return append([]byte{tlsClient, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	}
	for _, c := range []struct {
		alpn      string
		transport byte
		want      string
	}{
		{"h2", 't', "t13d1516h2_8daaf6152771_e5627efa2ab1"},
		{"h3", 'q', "q13d1516h3_8daaf6152771_e5627efa2ab1"},
		{"http/1.1", 't', "t13d1516h1_8daaf6152771_e5627efa2ab1"},
		{"\xab", 't', "t13d1516ab_8daaf6152771_e5627efa2ab1"},
		{"0\xab", 't', "t13d15163b_8daaf6152771_e5627efa2ab1"},
		{"", 't', "t13d151500_8daaf6152771_e5627efa2ab1"},
	} {
		var h hello
		message := build(c.alpn)
		if !h.parse(message) || !h.whole {
			t.Fatalf("%q: not whole", c.alpn)
		}
		if got := h.ja4(c.transport); got != c.want {
			t.Errorf("%q: %s, want %s", c.alpn, got, c.want)
		}
		if ja4Text([]byte(c.want)) != c.want {
			t.Errorf("%s is refused", c.want)
		}
		for n := range message {
			if h.parse(message[:n]) && h.whole {
				t.Fatalf("whole at %d of %d", n, len(message))
			}
		}
	}
	var h hello
	old := append(append([]byte{tlsClient, 0, 0, 39, 3, 1}, make([]byte, 32)...), 0, 0, 2, 0, 5, 1, 0) // TLS 1.0 without extensions
	old[3] = byte(len(old) - 4)
	if !h.parse(old) || h.ja4('t') != "t10i010000_"+ja4Hash([]uint16{5}, nil)+"_000000000000" {
		t.Errorf("without extensions: %s", h.ja4('t'))
	}
}

// Keys as RFC 9001 A.1 and RFC 9369 A.1 print them.
func TestQUICKeys(t *testing.T) {
	dcid, _ := hex.DecodeString("8394c8f03e515708")
	for v2, want := range map[bool]string{
		false: "1f369613dd76d5467730efcbe3b1a22d fa044b2f42a3fd3b46fb255c 9f50449e04a0e810283a1e9933adedd2",
		true:  "8b1a0bc121284290a29e0971b5cd045d 91f73e2351d8fa91660e909f 45b95e15235d6f45a6b19cbcb0294ba9",
	} {
		key, iv, hp, err := quicKeys(v2, dcid)
		if got := fmt.Sprintf("%x %x %x", key, iv, hp); got != want || err != nil {
			t.Errorf("version 2 %v: %s, want %s (%v)", v2, got, want, err)
		}
	}
}

// The hello of a real client in Initials of both versions: in one, scrambled, over two, and with what a server sends between.
func TestSniffQUIC(t *testing.T) {
	b, dcid := quicHello(t, "quic.example.com"), []byte{1, 2, 3, 4, 5, 6, 7, 8}
	n := len(b)
	scrambled := slices.Concat(cryptoFrame(n-50, b[n-50:]), []byte{1, 0, 0}, cryptoFrame(100, b[100:n-50]), cryptoFrame(0, b[:100]))
	for _, v2 := range []bool{false, true} {
		one := seal(t, v2, dcid, 0, cryptoFrame(0, b))
		first, second := seal(t, v2, dcid, 0, cryptoFrame(0, b[:90])), seal(t, v2, dcid, 1, slices.Concat([]byte{2, 0, 0, 0, 0}, cryptoFrame(90, b[90:])))
		for name, frames := range map[string][][]byte{
			"one":       {udpFrame(t, 50000, 443, one)},
			"scrambled": {udpFrame(t, 50000, 443, seal(t, v2, dcid, 7, scrambled))},
			"two":       {udpFrame(t, 50000, 443, first), udpFrame(t, 443, 50000, one), udpFrame(t, 50000, 443, second)},
			"swapped":   {udpFrame(t, 50000, 443, second), udpFrame(t, 50000, 443, first)},
		} {
			got, _ := sniffed(t, frames...)
			if len(got) != 1 || got[0].Kind != NameQUIC || got[0].Name != "quic.example.com" || got[0].ALPN != "h3" || !strings.HasPrefix(got[0].JA4, "q13d") || got[0].Proto != UDP || got[0].ClientPort != 50000 {
				t.Errorf("version 2 %v, %s: %+v", v2, name, got)
			}
		}
		for i := range one { // any bit of it
			bad := bytes.Clone(one)
			bad[i] ^= 1
			if got, _ := sniffed(t, udpFrame(t, 50000, 443, bad)); len(got) > 0 && i > 0 {
				t.Fatalf("version 2 %v: byte %d changed and still %+v", v2, i, got)
			}
		}
	}
}

func TestSniffHTTP(t *testing.T) {
	for _, c := range []struct{ in, host, method, agent string }{
		{"GET / HTTP/1.1\r\nHost: WWW.Example.com:8080\r\nUser-Agent: curl/8.0\r\n\r\n", "www.example.com", "GET", "curl/8.0"},
		{"POST /x HTTP/1.0\nuser-agent:  a\tb \nhost: x.example.\n\nHost: body.example", "x.example", "POST", `a\009b`},
		{"CONNECT api.example.com:443 HTTP/1.1\r\n\r\n", "api.example.com", "CONNECT", ""},
		{"GET http://p.example/ HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nUser-Ag", "2001:db8::1", "GET", ""},
		{"GET / HTTP/1.1\r\n\r\n", "", "GET", ""},
		{"GET / RTSP/1.0\r\nHost: x\r\n\r\n", "", "", ""},
		{"GET me a beer\r\n", "", "", ""},
		{"POST", "", "", ""},
	} {
		names, _ := sniffed(t, tcpFrame(t, 40000, 8080, 1, []byte(c.in)))
		var got Name
		if len(names) > 0 {
			got = names[0]
		}
		if got.Name != c.host || got.Method != c.method || got.Agent != c.agent || (len(names) == 1) != (c.method != "") {
			t.Errorf("%q: %+v", c.in, names)
		}
	}
	get := []byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	names, set := sniffed(t, tcpFrame(t, 40000, 80, 1, get), tcpFrame(t, 40000, 80, 40, get), tcpFrame(t, 40001, 80, 40, get))
	if len(names) != 2 || skippedNames(set, "repeated") != 1 {
		t.Errorf("a connection that asks again: %+v", names)
	}
}

// DNS over TCP: messages behind their length, over segments, several in one; questions are told when nobody answered them.
func TestSniffDNS(t *testing.T) {
	message := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	answer := message([]byte(compressed))
	ask := func(id uint16, name string) []byte {
		b := dnsMessage(t, 0, question(name, layers.DNSTypeTXT))
		binary.BigEndian.PutUint16(b, id)
		b[2] &= 0x7f // a question
		return b
	}
	frames := [][]byte{
		tcpFrame(t, 53, 4000, 10, append(bytes.Clone(answer), answer[:20]...)),
		tcpFrame(t, 53, 4000, 10+uint32(len(answer))+20, answer[20:]),
		udpFrame(t, 5000, 53, ask(1, "lost.example")),
		udpFrame(t, 5000, 53, ask(1, "lost.example")), // sent again
		udpFrame(t, 5353, 5353, ask(1, "multicast.example")),
		tcpFrame(t, 5002, 53, 1, message(ask(3, "tcp.example"))),
	}
	names, _ := sniffed(t, frames...)
	var got []string
	for _, n := range names {
		got = append(got, fmt.Sprint(n.Kind, " ", n.Name, " ", n.QType, " ", n.Proto, " ", n.ClientPort, " ", n.Port, " ", len(n.Addrs)))
	}
	want := []string{
		"dns www.example.com 1 6 4000 53 2",
		"dns www.example.com 1 6 4000 53 2",
		"dns-question lost.example 16 17 5000 53 0",
		"dns-question tcp.example 16 6 5002 53 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// An answered question is not told.
	q := ask(9, "x.example")
	a := bytes.Clone(q)
	a[2] |= 0x80
	if names, _ := sniffed(t, udpFrame(t, 5000, 53, q), reversed(t, 53, 5000, a)); len(names) != 1 || names[0].Kind != NameDNS {
		t.Errorf("%+v", names)
	}
}

// reversed is a frame from the server of the others to their client.
func reversed(t testing.TB, sport, dport uint16, data []byte) []byte {
	ip := ip4(UDP)
	ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
	return serialize(t, ethernet(typeIPv4), ip, udp(sport, dport), gopacket.Payload(data))
}

// A flood of beginnings that never end, of questions, of hellos: what is kept stays within its bounds, the rate too.
func TestSniffBounds(t *testing.T) {
	b := clientHello(t, &tls.Config{ServerName: "a.example"})
	set, c := metrics.NewSet(), &collected{}
	p := newTap("test", NewPool(4), 1000, set, c.take)
	for i := range 3 * askedBound {
		p.frame(linkEthernet, tcpFrame(t, uint16(i), 443, 1, b[:300]), 0, 0, base+int64(i)*milli)
		q := dnsMessage(t, 0, question("q.example", layers.DNSTypeA))
		binary.BigEndian.PutUint16(q, uint16(i))
		q[2] &= 0x7f
		p.frame(linkEthernet, udpFrame(t, uint16(1024+i), 53, q), 0, 0, base+int64(i)*milli)
		s := &p.sniffer
		if len(s.streams) > sniffStreams || len(s.queue) > 4*sniffStreams || len(s.asked.queue) > askedBound || len(s.asked.at) > askedBound || len(s.spare) > sniffStreams {
			t.Fatalf("%d streams, %d queued, %d questions", len(s.streams), len(s.queue), len(s.asked.queue))
		}
	}
	p.drain()
	p.publish()
	s := &p.sniffer
	if len(s.streams) != 0 || len(s.asked.at) != 0 || skippedNames(set, "unfinished") == 0 {
		t.Errorf("at the end %d streams, %d questions", len(s.streams), len(s.asked.at))
	}
	for _, n := range s.filter {
		if n != 0 {
			t.Fatal("the filter does not fall back to nothing")
		}
	}
	one := tcpFrame(t, 40000, 443, 1, b)
	frames := make([][]byte, sniffRate+5)
	for i := range frames {
		frames[i] = one
	}
	set = metrics.NewSet()
	p = newTap("test", NewPool(4), 1000, set, (*Batch).Free)
	for _, f := range frames {
		p.frame(linkEthernet, f, 0, 0, base)
	}
	p.publish()
	if got := skippedNames(set, "rate"); got != 5 {
		t.Errorf("%d over the rate, want 5", got)
	}
}

// Parts in any order give what a straight copy gives, as long as their holes are few.
func TestPieces(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	want := make([]byte, pieceBytes)
	for i := range want {
		want[i] = byte(random.Uint32())
	}
	for range 200 {
		var p pieces
		size := 1 + random.IntN(pieceBytes)
		var cuts []int
		for range 10 {
			cuts = append(cuts, random.IntN(size))
		}
		slices.Sort(cuts)
		cuts = append(append([]int{0}, cuts...), size)
		for _, i := range random.Perm(len(cuts) - 1) {
			if !p.add(cuts[i], want[cuts[i]:cuts[i+1]]) {
				t.Fatal("too many holes")
			}
		}
		if !bytes.Equal(p.start(), want[:size]) {
			t.Fatalf("%d of %d bytes", len(p.start()), size)
		}
	}
}

func checkName(t *testing.T, n *Name) {
	if len(n.Name) > dnsNameLength || len(n.ALPN) > maxALPN || len(n.Agent) > maxAgent || len(n.Method) > maxMethod || n.JA4 != "" && ja4Text([]byte(n.JA4)) == "" {
		t.Errorf("%+v", n)
	}
	for _, text := range []string{n.Name, n.ALPN, n.Agent, n.Method} {
		for i := range len(text) {
			if text[i] < ' ' || text[i] > '~' {
				t.Errorf("%q", text)
			}
		}
	}
}

// FuzzSniff gives two payloads of one TCP or UDP direction to a tap.
func FuzzSniff(f *testing.F) {
	b := clientHello(f, &tls.Config{ServerName: "a.example", NextProtos: []string{"h2"}})
	f.Add(b[:200], b[200:], uint16(443), false)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), []byte(""), uint16(80), false)
	f.Add(append([]byte{0, byte(len(compressed))}, compressed...), []byte("x"), uint16(53), false)
	q := quicHello(f, "q.example")
	f.Add(seal(f, false, []byte("12345678"), 0, cryptoFrame(0, q[:100])), seal(f, false, []byte("12345678"), 1, cryptoFrame(100, q[100:])), uint16(443), true)
	f.Fuzz(func(t *testing.T, one, two []byte, port uint16, overUDP bool) {
		if len(one)+len(two) > 60000 {
			return
		}
		frame := func(seq int, data []byte) []byte {
			if overUDP {
				return udpFrame(t, 40000, port, data)
			}
			return tcpFrame(t, 40000, port, uint32(seq), data)
		}
		names, _ := sniffed(t, frame(0, one), frame(len(one), two))
		for i := range names {
			checkName(t, &names[i])
		}
	})
}

// FuzzHello reads ClientHellos and the frames of QUIC that carry them, without the encryption around them.
func FuzzHello(f *testing.F) {
	f.Add(clientHello(f, &tls.Config{ServerName: "a.example", NextProtos: []string{"h2"}})[5:])
	f.Add(cryptoFrame(0, quicHello(f, "q.example")))
	f.Add([]byte{3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h hello
		if h.parse(b) {
			n := Name{Name: hostText(h.server), ALPN: printable(h.alpn, maxALPN, false), JA4: h.ja4('t')}
			checkName(t, &n)
		}
		var p pieces
		quicCrypto(b, p.add)
		if len(p.b) > pieceBytes || len(p.have) > pieceRanges+1 {
			t.Errorf("%d bytes in %d parts", len(p.b), len(p.have))
		}
	})
}

// BenchmarkTap is the way of a frame with payload that carries no name, as nearly all do.
func BenchmarkTap(b *testing.B) {
	var frames [][]byte
	for i := range 64 {
		data := bytes.Repeat([]byte{byte(0x80 + i)}, 1200)
		frames = append(frames, tcpFrame(b, uint16(40000+i), 443, 1, data))
	}
	p := newTap("bench", NewPool(4), 1000, metrics.NewSet(), (*Batch).Free)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		p.frame(linkEthernet, frames[i&63], 1254, 0, base+int64(i)*1000)
	}
}

// BenchmarkHello is what one TLS connection costs.
func BenchmarkHello(b *testing.B) {
	hello := clientHello(b, &tls.Config{ServerName: "api.example.com", NextProtos: []string{"h2"}})
	var frames [][]byte
	for i := range 1024 {
		frames = append(frames, tcpFrame(b, uint16(i), 443, 1, hello))
	}
	p := newTap("bench", NewPool(4), 100000, metrics.NewSet(), (*Batch).Free)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		p.frame(linkEthernet, frames[i&1023], 0, 0, base+int64(i)*milli)
	}
}
