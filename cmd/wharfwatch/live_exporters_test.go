package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/rig"
)

const (
	samplingRate = 10 // 1:N of those that sample at random
	// everyRate is that of softflowd, which takes every Nth packet: a prime, so that packets that alternate do not fall into its step.
	everyRate = 11
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
	s.serveAll()

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
	second := func(w *tapped) { w.pieces = true }
	sampled := func(w *tapped) { w.pieces, w.sampling = true, samplingRate }
	pmacct := s.pmacctd(watch("pmacct-v9", plain), watch("pmacct-ipfix", second), watch("pmacct-v9-sampled", sampled), watch("pmacct-ipfix-sampled", sampled), watch("pmacct-sflow", sflow))
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
		out, err := exec.Command("tcpdump", "-Z", "root", "-r", exports, "udp[4:2] = 9").Output() // the ends of all collectors: a byte each
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
	want = s.fold(want)
	maps.DeleteFunc(want, func(k tuple, _ *sums) bool { return !s.own(k) })
	for k, n := range known {
		if want[k] == nil || want[k].packets != n.packets || want[k].bytes != n.bytes {
			t.Errorf("tcpdump has %+v of %v, of which %+v was sent: it is no truth", want[k], k, n)
		}
	}
	for _, w := range all {
		t.Run(w.name, func(t *testing.T) {
			w.compare(t, s, want)
			s.replayed(t, w, exports)
		})
	}
}

// replayed checks that `replay --records` says of the exporter's datagrams what came out of the socket.
func (s *scene) replayed(t *testing.T, w *tapped, exports string) {
	file := filepath.Join(s.dir, w.name+".pcap")
	if out, err := exec.Command("tcpdump", "-Z", "root", "-r", exports, "-w", file, "udp dst port "+w.port()+" and greater 60").CombinedOutput(); err != nil {
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
