package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/rig"
)

const (
	samplingRate = 10 // 1:N of those that sample at random
	// everyRate is that of softflowd, which takes every Nth packet: a prime, so that packets that alternate do not fall into its step.
	everyRate = 11
	// sigmas is the bound of what is estimated from samples: with some hundred comparisons in a run, 5 standard deviations are passed by
	// chance once in some ten thousand runs, 4 once in some hundred.
	sigmas = 5
	// fewSamples is how many samples of a tuple are needed for its estimate to be judged alone; tuples below it are judged in sum.
	fewSamples = 100
	// tolerance is for what counts every packet.
	tolerance = .01
)

// TestLiveExporters lets real exporters and tcpdump watch the same traffic: what is decoded of the exports must be what tcpdump saw, in
// bytes and packets of each tuple.
func TestLiveExporters(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes a minute")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, command := range []string{"ethtool", "ovs-vsctl", "ovs-vswitchd", "ovsdb-server", "pmacctd", "softflowd", "sysctl", "tcpdump", "tshark"} {
		if _, err := exec.LookPath(command); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed: scripts/setup.sh test", command)
			}
			t.Skipf("%s is not installed: scripts/setup.sh test", command)
		}
	}
	s := &scene{Rig: rig.Start(t, rig.Options{NoEngine: true}), t: t, dir: t.TempDir(), inbox: newInbox()}
	binary, err := rig.ActorBinary()
	if err != nil {
		t.Fatal(err)
	}
	s.binary = binary
	bridge := s.openVSwitch()
	s.serve(s.RouterAddr)
	s.serve(s.six(1))

	var all []*tapped
	watch := func(name string, change func(*tapped)) *tapped {
		w := &tapped{name: name, sampling: 1, seen: map[uint16]bool{}, marked: map[uint16]bool{}}
		change(w)
		w.open(s)
		all = append(all, w)
		return w
	}
	plain := func(*tapped) {}
	sflow := func(w *tapped) { w.sflow, w.sampling = true, samplingRate }

	soft := []*exec.Cmd{
		s.softflowd("5", watch("softflowd-v5", func(w *tapped) { w.ipv4 = true })),
		s.softflowd("9", watch("softflowd-v9", plain)),
		s.softflowd("10", watch("softflowd-ipfix", plain)),
		s.softflowd("5", watch("softflowd-v5-sampled", func(w *tapped) { w.ipv4, w.sampling = true, everyRate })),
		s.softflowd("9", watch("softflowd-v9-sampled", func(w *tapped) { w.sampling = everyRate })),
		s.softflowd("10", watch("softflowd-ipfix-sampled", func(w *tapped) { w.sampling = everyRate })),
	}
	sampled := func(w *tapped) { w.sampling = samplingRate }
	pmacct := s.pmacctd(watch("pmacct-v9", plain), watch("pmacct-ipfix", plain), watch("pmacct-v9-sampled", sampled), watch("pmacct-ipfix-sampled", sampled), watch("pmacct-sflow", sflow))
	bridge.export(watch("ovs-ipfix", func(w *tapped) {
		w.known = []string{`wharfwatch_flow_parts_refused_total{reason="no_address"}`} // ARP is a flow to it
	}), watch("ovs-sflow", sflow))
	dump, exports := filepath.Join(s.dir, "truth.pcap"), filepath.Join(s.dir, "exports.pcap")
	tcpdump := func(name, device, file string, args ...string) *exec.Cmd {
		return s.start(name, s.HostExec(t.Context(), append([]string{"tcpdump", "-Z", "root", "-i", device, "-B", "65536", "-U", "-w", file}, args...)...))
	}
	truth := tcpdump("truth", s.Uplink, dump, "-s", "128", "ip or ip6")
	witness := tcpdump("witness", "lo", exports, "-s", "0", "udp")
	for _, name := range []string{"truth", "witness"} {
		s.eventually(10*time.Second, "tcpdump listens", func() bool {
			said, _ := os.ReadFile(filepath.Join(s.dir, name+".log"))
			return strings.Contains(string(said), "listening on")
		})
	}
	s.markUntil("all watch", all, readyPort)

	begin := time.Now()
	known := s.traffic()
	t.Logf("traffic for %s", time.Since(begin).Round(time.Millisecond))

	s.markUntil("all have read the last packet", all, endPort)
	for _, cmd := range append(soft, pmacct) {
		cmd.Process.Signal(syscall.SIGINT)
	}
	bridge.stop()
	for _, cmd := range append(soft, pmacct) {
		cmd.Wait()
	}
	for _, w := range all {
		w.stop(s)
	}
	s.eventually(10*time.Second, "the witness has written all", func() bool {
		out, err := exec.Command("tcpdump", "-r", exports, "udp[4:2] = 9").Output() // the ends of all collectors: a byte each
		return err == nil && strings.Count(string(out), "\n") == len(all)
	})
	for _, cmd := range []*exec.Cmd{truth, witness} {
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
	}

	want := readTruth(t, dump)
	if !want.has(endPort) {
		t.Fatal("tcpdump's file ends before the traffic does")
	}
	maps.DeleteFunc(want, func(k tuple, _ *sums) bool { return !s.own(k) })
	for k, n := range known {
		if want[k] == nil || want[k].packets != n.packets || want[k].bytes != n.bytes {
			t.Errorf("tcpdump has %+v of %v, of which %+v was sent: it is no truth", want[k], k, n)
		}
	}
	for _, w := range all {
		t.Run(w.name, func(t *testing.T) {
			w.compare(t, want, s.own)
			s.replayed(t, w, exports)
		})
	}
}

// tapped is one exporter's collector: a monitor's own socket, and what came out of it.
type tapped struct {
	name     string
	sflow    bool
	sampling uint32
	ipv4     bool     // the format has no IPv6
	known    []string // counters of losses and refusals that this exporter moves, and why that is right

	set       *metrics.Set
	collector *flow.Collector
	done      chan error
	cancel    context.CancelFunc
	marked    map[uint16]bool // ports of marks that came out
	mu        sync.Mutex      // protects what follows
	records   []flow.Record
	seen      map[uint16]bool // destination ports
}

// open binds the socket in the host's namespace, as `run` would.
func (w *tapped) open(s *scene) {
	s.t.Helper()
	c := flow.Default()
	c.Netflow, c.SFlow, c.Interfaces, c.ExplicitNetflow, c.ExplicitSFlow = []string{"127.0.0.1:0"}, []string{"off"}, []string{"off"}, true, true
	if w.sflow {
		c.Netflow, c.SFlow = c.SFlow, c.Netflow
	}
	w.set = metrics.NewSet()
	s.InHost(func() error {
		sources, _, err := c.Open(flow.NewPool(8), w.set, nil)
		if err == nil {
			w.collector = sources[0].(*flow.Collector)
		}
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.done = cancel, make(chan error, 1)
	s.t.Cleanup(cancel)
	go func() {
		w.done <- w.collector.Run(ctx, func(b *flow.Batch) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records = append(w.records, b.Records...)
			for i := range b.Records {
				w.seen[b.Records[i].DstPort] = true
			}
			b.Free()
		})
	}()
}

func (w *tapped) address() string { return w.collector.Addr().String() }

func (w *tapped) port() string { return strconv.Itoa(int(w.collector.Addr().Port())) }

func (w *tapped) has(port uint16) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[port]
}

// counters returns the counters above 0 whose names begin so, a line each.
func (w *tapped) counters(prefix string) (out []string) {
	var text strings.Builder
	w.set.WritePrometheus(&text)
	for line := range strings.Lines(text.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, prefix) && !strings.HasSuffix(line, " 0") {
			out = append(out, line)
		}
	}
	return out
}

// stop ends the collector when it has read all: a datagram that is none is the last in the socket.
func (w *tapped) stop(s *scene) {
	s.t.Helper()
	s.InHost(func() error {
		c, err := net.Dial("udp", w.address())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte{0})
		return err
	})
	s.eventually(10*time.Second, w.name+" has read all", func() bool { return len(w.counters("wharfwatch_flow_datagrams_malformed_total")) > 0 })
	w.cancel()
	if err := <-w.done; err != nil {
		s.t.Error(err)
	}
}

// compare holds the totals of the decoded records against the truth, per tuple.
func (w *tapped) compare(t *testing.T, want totals, own func(tuple) bool) {
	got, otherRate := w.totals()
	if otherRate > 0 {
		t.Errorf("%d of %d records say another sampling rate than 1:%d", otherRate, len(w.records), w.sampling)
	}
	for _, name := range []string{"wharfwatch_flow_kernel_drops_total", "wharfwatch_flow_sequence_lost_total", "wharfwatch_flow_parts_refused_total"} {
		for _, line := range w.counters(name) {
			if !slices.ContainsFunc(w.known, func(k string) bool { return strings.HasPrefix(line, k) }) {
				t.Error(line)
			}
		}
	}
	c := comparison{sampling: uint64(w.sampling)}
	var few, fewGot sums
	for k, n := range want {
		if w.ipv4 && k.src.Is6() {
			continue
		}
		have := got[k]
		if have == nil {
			have = &sums{}
		}
		if n.packets < fewSamples*c.sampling && c.sampling > 1 {
			few.packets, few.bytes, few.squares = few.packets+n.packets, few.bytes+n.bytes, few.squares+n.squares
			fewGot.packets, fewGot.bytes = fewGot.packets+have.packets, fewGot.bytes+have.bytes
			continue
		}
		c.judge(k.String(), *n, *have)
	}
	if c.sampling > 1 {
		c.judge("the small ones together", few, fewGot)
	}
	for k, n := range got {
		if want[k] == nil && own(k) {
			c.wrong = append(c.wrong, fmt.Sprintf("%v: %d packets, %d bytes that tcpdump has not seen", k, n.packets, n.bytes))
		}
	}
	for _, line := range c.wrong[:min(len(c.wrong), 20)] {
		t.Error(line)
	}
	unit := "%"
	if c.sampling > 1 {
		unit = "standard deviations"
	}
	t.Logf("%d records, %d totals judged, %d wrong, the worst is %.3f %s off", len(w.records), c.judged, len(c.wrong), c.worst, unit)
}

// totals sums up what was decoded, scaled, and counts the records with another sampling rate than the exporter's.
func (w *tapped) totals() (sum totals, otherRate int) {
	sum = totals{}
	for i := range w.records {
		r := &w.records[i]
		if r.Sampling != w.sampling {
			otherRate++
		}
		rate := uint64(r.Sampling)
		sum.add(tuple{r.Src.Netip(), r.Dst.Netip(), r.SrcPort, r.DstPort, r.Proto}, r.Packets*rate, r.Bytes*rate)
	}
	return sum, otherRate
}

// comparison judges totals.
type comparison struct {
	sampling uint64
	judged   int
	worst    float64 // percent, or standard deviations of what is estimated
	wrong    []string
}

// judge compares packets and bytes. Of n packets each is taken with the probability 1/N: the estimate of a sum of x has the variance
// (N-1) * sum of x*x. Where all packets are of one size, so are the samples, and no chance is in that.
func (c *comparison) judge(what string, want, got sums) {
	c.judged++
	for _, x := range []struct {
		name               string
		want, got, squares uint64
	}{{"packets", want.packets, got.packets, want.packets}, {"bytes", want.bytes, got.bytes, want.squares}} {
		d, limit := math.Abs(float64(x.got)-float64(x.want)), float64(x.want)*tolerance
		off := d / float64(x.want) * 100
		if c.sampling > 1 {
			sigma := math.Sqrt(float64(c.sampling-1) * float64(x.squares))
			limit, off = sigmas*sigma, d/sigma
		}
		if d > limit {
			c.wrong = append(c.wrong, fmt.Sprintf("%s: %d %s, tcpdump has %d, which may differ by %.0f", what, x.got, x.name, x.want, limit))
		}
		c.worst = max(c.worst, off)
	}
	if want.packets*want.squares == want.bytes*want.bytes && got.bytes*want.packets != want.bytes*got.packets {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: all packets have %d bytes, the records say %.2f", what, want.bytes/want.packets, float64(got.bytes)/float64(got.packets)))
	}
}

// replayed checks that `replay --records` says of the exporter's datagrams what came out of the socket.
func (s *scene) replayed(t *testing.T, w *tapped, exports string) {
	file := filepath.Join(s.dir, w.name+".pcap")
	if out, err := exec.Command("tcpdump", "-r", exports, "-w", file, "udp dst port "+w.port()+" and greater 60").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	live, _ := w.totals()
	replayed := totals{}
	for _, text := range lines(s.must("replay", "--records", "--format", "netflow", file)) {
		var r struct {
			Src, Dst                 netip.Addr
			Sport, Dport             uint16
			Proto                    uint8
			Bytes, Packets, Sampling uint64
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		replayed.add(tuple{r.Src, r.Dst, r.Sport, r.Dport, r.Proto}, r.Packets*r.Sampling, r.Bytes*r.Sampling)
	}
	for k, n := range live {
		if m := replayed[k]; m == nil || m.packets != n.packets || m.bytes != n.bytes {
			t.Errorf("%v: %+v came out of the socket, replay --records says %+v", k, n, m)
		}
	}
	if len(live) != len(replayed) {
		t.Errorf("%d tuples came out of the socket, replay --records has %d", len(live), len(replayed))
	}
}

// softflowd exports what it sees on the uplink. https://github.com/irino/softflowd
func (s *scene) softflowd(version string, w *tapped) *exec.Cmd {
	args := []string{
		"softflowd", "-d", "-i", s.Uplink, "-v", version, "-n", w.address(), "-A", "milli", "-B", "33554432",
		"-p", filepath.Join(s.dir, w.name+".pid"), "-c", "none",
	}
	for _, timeout := range []string{"maxlife=8", "expint=1", "tcp=4", "tcp.fin=2", "tcp.rst=2", "udp=3", "icmp=3", "general=3"} {
		args = append(args, "-t", timeout)
	}
	if w.sampling > 1 {
		args = append(args, "-s", fmt.Sprint(w.sampling))
	}
	if w.ipv4 {
		args = append(args, "ip") // IPv6 packets that version 5 cannot say would disturb the sampling: see docs/howto/exporters.md
	}
	return s.start(w.name, s.HostExec(s.t.Context(), args...))
}

// pmacctd exports in several formats at once. https://github.com/pmacct/pmacct/blob/master/CONFIG-KEYS
func (s *scene) pmacctd(v9, ipfix, v9Sampled, ipfixSampled, sflow *tapped) *exec.Cmd {
	var plugins []string
	var text strings.Builder
	for _, p := range []struct {
		w       *tapped
		version int
	}{{v9, 9}, {ipfix, 10}, {v9Sampled, 9}, {ipfixSampled, 10}} {
		name := strings.TrimPrefix(p.w.name, "pmacct-")
		plugins = append(plugins, "nfprobe["+name+"]")
		fmt.Fprintf(&text, "aggregate[%[1]s]: src_host, dst_host, src_port, dst_port, proto, tcpflags, tos\n"+
			"nfprobe_version[%[1]s]: %[2]d\nnfprobe_receiver[%[1]s]: %[3]s\n"+
			"nfprobe_timeouts[%[1]s]: maxlife=8:expint=1:tcp=4:tcp.fin=2:tcp.rst=2:udp=3:icmp=3:general=3\n", name, p.version, p.w.address())
		if p.w.sampling > 1 {
			fmt.Fprintf(&text, "sampling_rate[%s]: %d\n", name, p.w.sampling)
		}
	}
	fmt.Fprintf(&text, "sfprobe_receiver[sflow]: %s\nsfprobe_agentip[sflow]: 127.0.0.1\nsampling_rate[sflow]: %d\n", sflow.address(), sflow.sampling)
	fmt.Fprintf(&text, "daemonize: false\npcap_interface: %s\nplugin_pipe_size: 67108864\nplugin_buffer_size: 65536\nplugins: %s, sfprobe[sflow]\n",
		s.Uplink, strings.Join(plugins, ", "))
	config := filepath.Join(s.dir, "pmacctd.conf")
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.start("pmacctd", s.HostExec(s.t.Context(), "pmacctd", "-f", config))
}
