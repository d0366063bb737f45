package flow

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// openLoopback opens collectors on ports that the kernel chooses.
func openLoopback(t *testing.T, c Config, addresses ...string) (*metrics.Set, []*Collector, []string) {
	t.Helper()
	c.Netflow, c.SFlow, c.Interfaces = addresses, []string{"off"}, []string{"off"}
	set := metrics.NewSet()
	sources, notes, err := c.Open(NewPool(8), set, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []*Collector
	for _, s := range sources {
		all = append(all, s.(*Collector))
	}
	return set, all, notes
}

// run runs a collector until stop, which returns what it emitted.
func run(t *testing.T, c *Collector, seen chan<- int) (stop func() ([]Record, []Gap)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var records []Record
	var gaps []Gap
	go func() {
		done <- c.Run(ctx, func(b *Batch) {
			records = append(records, b.Records...)
			gaps = append(gaps, b.Gaps...)
			n := len(b.Records)
			b.Free()
			if seen != nil {
				seen <- n
			}
		})
	}()
	return func() ([]Record, []Gap) {
		cancel()
		begin := time.Now()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("stopped after %v", d)
		}
		return records, gaps
	}
}

// Real sockets, IPv4 and IPv6, wildcard and not: all three versions arrive, and exporters are known by their address alone.
func TestCollector(t *testing.T) {
	for listen, via := range map[string][]string{"127.0.0.1:0": {"127.0.0.1"}, "[::1]:0": {"::1"}, ":0": {"127.0.0.1", "::1"}} {
		t.Run(listen, func(t *testing.T) {
			_, all, notes := openLoopback(t, Default(), listen)
			if len(all) != 1 || !strings.Contains(notes[0], all[0].Addr().String()) {
				t.Fatalf("notes %q", notes)
			}
			seen := make(chan int, 64)
			stop := run(t, all[0], seen)
			want := 0
			for _, host := range via {
				c, err := net.Dial("udp", net.JoinHostPort(host, strconv.Itoa(int(all[0].Addr().Port()))))
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"v5", "v9", "ipfix"} {
					template, data, n := benchDatagrams(name)
					for _, b := range [][]byte{template, data} {
						if b != nil {
							if _, err := c.Write(b); err != nil {
								t.Fatal(err)
							}
						}
					}
					want += n
				}
				c.Close()
			}
			for got := 0; got < want; {
				select {
				case n := <-seen:
					got += n
				case <-time.After(5 * time.Second):
					t.Fatalf("%d records of %d arrived", got, want)
				}
			}
			records, _ := stop()
			exporters := map[Addr]int{}
			for _, r := range records {
				exporters[r.Exporter]++
			}
			if len(exporters) != len(via) || exporters[Addr{}] != 0 {
				t.Errorf("exporters %v", exporters)
			}
			for _, s := range all[0].Exporters() {
				if s.Records == 0 || !strings.HasPrefix(s.Source, "netflow:"+s.Exporter.String()+"/") {
					t.Errorf("status %+v", s)
				}
			}
		})
	}
}

// What the kernel drops is seen: received and dropped make up what was sent.
func TestKernelDrops(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the portable receiver cannot see what the kernel drops")
	}
	c := Default()
	c.ReceiveBufferBytes = 16 << 10
	set, all, notes := openLoopback(t, c, "127.0.0.1:0")
	if all[0].Buffer() > 1<<20 || !strings.Contains(strings.Join(notes, "\n"), "net.core.rmem_max") {
		t.Errorf("buffer %d, notes %q", all[0].Buffer(), notes)
	}
	conn, err := net.Dial("udp", all[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, data, _ := benchDatagrams("v5")
	const sent = 500
	for range sent {
		if _, err := conn.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	received := set.GetOrCreateCounter("wharfwatch_flow_datagrams_received_total")
	dropped := set.GetOrCreateCounter(`wharfwatch_flow_kernel_drops_total{socket="127.0.0.1:0"}`)
	seen := make(chan int, sent)
	stop := run(t, all[0], seen)
	for received.Get()+dropped.Get() < sent {
		select {
		case <-seen:
		case <-time.After(5 * time.Second):
			t.Fatalf("%d received and %d dropped of %d", received.Get(), dropped.Get(), sent)
		}
	}
	if _, err := conn.Write(data); err != nil { // the gap goes with the next batch
		t.Fatal(err)
	}
	for received.Get()+dropped.Get() < sent+1 {
		select {
		case <-seen:
		case <-time.After(5 * time.Second):
			t.Fatal("the last datagram did not arrive")
		}
	}
	_, gaps := stop()
	if dropped.Get() == 0 {
		t.Fatal("nothing was dropped: the test shows nothing")
	}
	lost := uint64(0)
	for _, g := range gaps {
		if g.Reason == "kernel" && g.To >= g.From {
			lost += g.Lost
		}
	}
	if lost != dropped.Get() {
		t.Errorf("gaps tell %d, the counter %d", lost, dropped.Get())
	}
}

// An address that a person chose and somebody else has is an error that says whom to ask; a default one is a note.
func TestOpenTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.LocalAddr().String()
	c := Config{Netflow: []string{"127.0.0.1:0", address}, Interfaces: []string{"off"}, ReceiveBufferBytes: 1 << 20}
	sources, _, err := c.Open(NewPool(1), metrics.NewSet(), nil)
	if err == nil || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "ss -ulpn") || sources != nil {
		t.Errorf("sources %v, error %v", sources, err)
	}

	c = Default()
	c.Interfaces, c.SFlow = []string{"off"}, []string{"off"}
	blocker, err := net.ListenPacket("udp", ":2055")
	if err == nil {
		defer blocker.Close()
	}
	sources, notes, err := c.Open(NewPool(1), metrics.NewSet(), nil)
	if err != nil || !strings.Contains(strings.Join(notes, "\n"), "listen netflow udp :2055") {
		t.Errorf("notes %q, error %v", notes, err)
	}
	for _, s := range sources {
		s.(*Collector).Close()
	}
	c.ExplicitNetflow = true
	if _, _, err := c.Open(NewPool(1), metrics.NewSet(), nil); err == nil {
		t.Error("the default address was asked for, is taken, and nothing is said")
	}
}

func TestAllowedExporters(t *testing.T) {
	l := newLab(t, Config{Exporters: []string{"192.0.2.0/24", "2001:db8::1"}})
	l.send(v5(0, 100_000, 0, 2))
	l.from = Addr4(0xc6336401).Netip()
	l.send(v5(0, 100_000, 0, 2))
	if len(l.records) != 2 || l.refused(dropNotAllowed) != 1 {
		t.Errorf("%d records, %d refused", len(l.records), l.refused(dropNotAllowed))
	}
	l.conserved()
}

func TestConfigValidate(t *testing.T) {
	var got []string
	report := func(path, message string) { got = append(got, path) }
	Default().Validate(report)
	if len(got) != 0 {
		t.Errorf("the defaults are wrong: %v", got)
	}
	Config{
		Netflow: []string{"2055", "off", ":99999"}, SFlow: []string{"off", "6343"}, Ignore: []string{"x"}, PacketRingBytes: 1, Unwrap: "x", Interfaces: []string{"off", "eth0", ""}, ReceiveBufferBytes: 1,
		Exporters: []string{"192.0.2.0/33"}, Sampling: []SamplingRate{{Exporter: "x"}}, SlackSeconds: -1, Workers: 65,
	}.Validate(report)
	want := "netflow[0] netflow[1] netflow[2] sflow[0] sflow[1] interfaces[0] interfaces[2] ring_bytes unwrap packet_ring_bytes ignore[0] receive_buffer_bytes workers exporters[0] sampling[0].exporter sampling[0].rate active_timeout_seconds slack_seconds"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("problems at %s\nwant %s", s, want)
	}
}
