package flow

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

func BenchmarkParser(b *testing.B) {
	frames := [][]byte{
		serialize(b, ethernet(typeIPv4), ip4(TCP), tcp(40000, 443, "PA"), payload(80)),
		serialize(b, ethernet(typeIPv4), ip4(UDP), udp(4000, 443), payload(80)),
		serialize(b, ethernet(typeIPv6), ip6(TCP), tcp(40000, 443, "A"), payload(60)),
	}
	var p parser
	var k packet
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.parse(&k, linkEthernet, frames[i%3], 0, 0, 1)
	}
}

// 50,000 conversations, in and out of order of their entries.
func BenchmarkAssembler(b *testing.B) {
	ks, times := traffic(1, 1<<18, 50_000)
	a := newAssembler("test", NewPool(4), 1<<20, (*Batch).Free)
	last := times[len(times)-1] - times[0] + second
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n := i & (1<<18 - 1)
		a.add(&ks[n], a.key(&ks[n]), times[n]+int64(i>>18)*last)
		if a.ready() {
			a.flush()
		}
	}
}

// A whole file: read, parse, assemble, conversations of about 40 packets of which 10,000 go on at a time. Reported per packet.
func BenchmarkPcap(b *testing.B) {
	const packets, each, open = 1 << 19, 40, 10_000
	request := serialize(b, ethernet(typeIPv4), ip4(TCP), tcp(1, 443, "PA"), payload(74))
	r := rand.New(rand.NewPCG(1, 1))
	file := bytes.NewBuffer(pcapFile(binary.LittleEndian, false, linkEthernet, nil))
	type conversation struct{ id, sent int }
	live := make([]conversation, open)
	for i := range live {
		live[i] = conversation{i, r.IntN(each)}
	}
	next := open
	for i := range packets {
		c := &live[r.IntN(open)]
		client, flags := Addr4(0x0a000000+uint32(c.id)*2654435761>>8), byte(PSH|ACK)
		switch c.sent {
		case 0:
			flags = SYN
		case each - 2, each - 1:
			flags = FIN | ACK
		}
		server, ports := Addr4(0xc0a80000+uint32(c.id%1021)), [2]uint16{uint16(1024 + c.id%60000), 443}
		if c.sent&1 == 1 {
			client, server, ports[0], ports[1] = server, client, ports[1], ports[0]
		}
		binary.BigEndian.PutUint32(request[26:], uint32(client.Lo))
		binary.BigEndian.PutUint32(request[30:], uint32(server.Lo))
		binary.BigEndian.PutUint16(request[34:], ports[0])
		binary.BigEndian.PutUint16(request[36:], ports[1])
		request[47] = flags
		file.Write(pcapFile(binary.LittleEndian, false, linkEthernet, []timed{{base + int64(i)*100_000, request, 0}})[24:])
		if c.sent++; c.sent == each {
			*c = conversation{id: next}
			next++
		}
	}
	pool := NewPool(4)
	b.ResetTimer()
	for b.Loop() {
		if err := OpenPcap("bench", bytes.NewReader(file.Bytes()), pool, metrics.NewSet()).Run(context.Background(), (*Batch).Free); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packets, "ns/packet")
}
