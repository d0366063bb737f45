package flow

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Several workers share one address: a sender stays with one of them whatever its port, so that its templates are known and its sequence
// numbers make sense, and senders are spread.
func TestWorkers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("several workers need Linux")
	}
	for _, listen := range []string{"127.0.0.1:0", ":0"} {
		t.Run(listen, func(t *testing.T) {
			c := Default()
			c.Workers, c.ReceiveBufferBytes = 4, 1<<20
			_, all, _ := openLoopback(t, c, listen)
			seen := make(chan int, 1024)
			stop := run(t, all[0], seen)
			template, data := newMessage(9).template(256, 8, 4, 12, 4).bytes(), newMessage(9)
			want := 0
			const senders = 24
			for sender := range senders {
				for i := range 6 { // each from a port of its own
					conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 1, byte(sender))}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(all[0].Addr().Port())})
					if err != nil {
						t.Fatal(err)
					}
					b := template
					if i > 0 {
						data.sequence, data.body, data.sets = uint32(i), nil, 0
						b = data.set(256, u32(1, 2)).bytes()
						want++
					}
					if _, err := conn.Write(b); err != nil {
						t.Fatal(err)
					}
					conn.Close()
				}
			}
			for got := 0; got < want; {
				select {
				case n := <-seen:
					got += n
				case <-time.After(5 * time.Second):
					t.Fatalf("%d records of %d arrived", got, want)
				}
			}
			stop()
			used := 0
			for _, w := range all[0].workers {
				if len(w.decoder.exportersStatus()) > 0 {
					used++
				}
			}
			status := all[0].Exporters()
			for _, s := range status {
				if s.Records != 5 || s.Lost != 0 || s.Restarts != 0 || s.WithoutTemplate != 0 {
					t.Errorf("status %+v", s)
				}
			}
			if len(status) != senders || used < 3 {
				t.Errorf("%d exporters in %d workers", len(status), used)
			}
		})
	}
}

// Two exporters behind one address are one, unless their ports count.
func TestKeyPort(t *testing.T) {
	for _, byPort := range []bool{false, true} {
		l := newLab(t, Config{KeyPort: byPort})
		for i := range 50 {
			for _, port := range []uint16{40001, 40002} { // the same template id, and sequences far apart
				l.port = port
				m := newMessage(10)
				m.sequence = uint32(port-40000)*1e8 + uint32(i)
				fields := []uint16{8, 4, 12, 4}
				if port == 40002 {
					fields = []uint16{12, 4, 8, 4}
				}
				l.send(m.template(256, fields...).set(256, u32(1, 2)).bytes())
			}
		}
		status := l.decoder.exportersStatus()
		if !byPort {
			if len(status) != 1 || status[0].Restarts < 90 || status[0].Source != "netflow:192.0.2.1/1" {
				t.Errorf("by address: %+v", status)
			}
			continue
		}
		if len(status) != 2 {
			t.Fatalf("by port: %+v", status)
		}
		for i, s := range status {
			if s.Restarts != 0 || s.Lost != 0 || s.Source != fmt.Sprintf("netflow:192.0.2.1:%d/1", 40002-i) {
				t.Errorf("by port: %+v", s)
			}
		}
		if l.decoder.stats.templateChanges.Get() != 0 {
			t.Error("one exporter's template replaced the other's")
		}
	}
	if n := senderName(newLab(t, Config{}).sender()); strings.Contains(n, ":") {
		t.Errorf("name %q", n)
	}
}
