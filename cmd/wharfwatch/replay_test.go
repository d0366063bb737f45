package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/cmd/wharfwatch/demo"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// replayed runs wharfwatch replay in this process. stdin may be nil.
func replayed(t *testing.T, want int, stdin []byte, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	if code := execute(t.Context(), append([]string{"replay"}, args...), bytes.NewReader(stdin), &out, &errs, nil); code != want {
		t.Errorf("replay %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// beaconDay is a capture of a router's exports in which one container of three calls home, and the inventory of the containers.
func beaconDay(t *testing.T, dir string) (file, inventory string) {
	t.Helper()
	s := newSite(9, "web", "worker", "mail")
	begin := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	var all []demo.Slice
	at := begin
	for i := range 60 {
		at = at.Add(54*time.Second + time.Duration(s.random.IntN(12_000))*time.Millisecond)
		all = append(all, s.call("worker", netip.MustParseAddr("203.0.113.9"), at, 400*time.Millisecond, 1200)...)
		for _, service := range []string{"web", "mail"} {
			at := begin.Add(time.Duration(s.random.IntN(3600)) * time.Second)
			all = append(all, s.call(service, netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 7)}), at, time.Second, 9000)...)
		}
	}
	x := newExports(begin.Add(-time.Hour))
	x.Write(all)
	return x.save(t, filepath.Join(dir, "router.pcap")), s.inventory(t, filepath.Join(dir, "inventory.json"), nil)
}

// fieldsOf gives the names in a JSON object, in their order.
func fieldsOf(t *testing.T, raw []byte) (out []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		key, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			t.Fatalf("no JSON object: %s", raw)
		}
		out = append(out, key.(string))
	}
	return out
}

func object(t *testing.T, raw []byte) (out map[string]json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return out
}

// TestReplayContract holds what replay prints against the contract of the command line: the names, their order, and what is in them.
func TestReplayContract(t *testing.T) {
	file, inventory := beaconDay(t, t.TempDir())
	has := func(t *testing.T, raw []byte, want ...string) {
		t.Helper()
		got := fieldsOf(t, raw)
		for _, k := range want {
			if !slices.Contains(got, k) {
				t.Errorf("no %q in %s", k, raw)
			}
		}
	}

	t.Run("incidents", func(t *testing.T) {
		out, errs := replayed(t, 0, nil, "--inventory", inventory, file)
		if strings.Count(out, "\n") != 1 {
			t.Fatalf("want one incident, got\n%s", out)
		}
		if !strings.HasPrefix(errs, "records 360\nfindings ") {
			t.Errorf("stderr says %q", errs)
		}
		has(t, []byte(out), "id", "state", "severity", "confidence", "first_seen", "last_seen", "workload", "container", "summary", "attack", "attribution", "findings")
		i := object(t, []byte(out))
		has(t, i["container"], "id", "name", "image")
		has(t, i["attribution"], "method", "confidence")
		var findings []json.RawMessage
		if err := json.Unmarshal(i["findings"], &findings); err != nil || len(findings) != 1 {
			t.Fatalf("findings %s", i["findings"])
		}
		has(t, findings[0], "id", "detector", "time", "subject", "score", "severity", "learning", "summary", "attack", "evidence")
		for k, want := range map[string]string{"state": `"open"`, "workload": `"compose:shop/worker"`} {
			if string(i[k]) != want {
				t.Errorf("%s is %s, want %s", k, i[k], want)
			}
		}
		for _, k := range []string{"first_seen", "last_seen"} {
			var at time.Time
			if err := json.Unmarshal(i[k], &at); err != nil || at.Year() != 2026 || at.Location() != time.UTC {
				t.Errorf("%s is %s: %v", k, i[k], err)
			}
		}
		var incident alerts.Incident
		if err := json.Unmarshal([]byte(out), &incident); err != nil {
			t.Fatal(err)
		}
		f := incident.Findings[0]
		if f.Detector != "beacon" || f.Subject != "203.0.113.9:443/tcp" || incident.Container.Name != "shop-worker-1" || incident.Container.Image != "acme/worker:1" {
			t.Errorf("told %s", out)
		}
		var e struct {
			Period float64 `json:"period_seconds"`
		}
		if err := json.Unmarshal(f.Evidence, &e); err != nil || e.Period < 57 || e.Period > 63 {
			t.Errorf("period %v of %s", e.Period, f.Evidence)
		}
	})
	t.Run("findings", func(t *testing.T) {
		out, _ := replayed(t, 0, nil, "--findings", "--inventory", inventory, file)
		all := lines(out)
		if len(all) == 0 {
			t.Fatal("no finding")
		}
		for _, line := range all {
			has(t, []byte(line), "id", "detector", "time", "subject", "score", "severity", "learning", "summary", "attack", "evidence", "workload", "container", "attribution")
		}
	})
	t.Run("records", func(t *testing.T) {
		out, _ := replayed(t, 0, nil, "--records", file)
		first, _, _ := strings.Cut(out, "\n")
		want := []string{"first", "last", "src", "sport", "dst", "dport", "proto", "tcp_flags", "bytes", "packets", "sampling", "exporter", "domain", "vlan", "vni"}
		if got := fieldsOf(t, []byte(first)); !slices.Equal(got, want) {
			t.Errorf("names %q\nwant  %q", got, want)
		}
		if n := strings.Count(out, "\n"); n != 360 {
			t.Errorf("%d records, want 360", n)
		}
		if !strings.Contains(out, `"src":"172.20.0.11","sport":`) || !strings.Contains(out, `"dst":"203.0.113.9","dport":443,"proto":6,"tcp_flags":27,"bytes":1200,"packets":6,"sampling":1,"exporter":"192.0.2.1","domain":0,"vlan":0,"vni":0}`) {
			t.Errorf("records:\n%.600s", out)
		}
	})
	t.Run("tables", func(t *testing.T) {
		for _, c := range []struct{ flag, head, row string }{
			{"--records", "FIRST  ", "203.0.113.9:443"},
			{"--findings", "TIME  ", "compose:shop/worker"},
			{"--fail-on=critical", "FIRST SEEN  ", "compose:shop/worker"},
		} {
			out, _ := replayed(t, 0, nil, c.flag, "-o", "table", "--inventory", inventory, file)
			if !strings.HasPrefix(out, c.head) || !strings.Contains(out, c.row) {
				t.Errorf("%s -o table:\n%.400s", c.flag, out)
			}
		}
	})
	t.Run("twice", func(t *testing.T) {
		for _, flag := range []string{"--records", "--findings", "-o=jsonl", "-o=table"} {
			one, _ := replayed(t, 0, nil, flag, "--inventory", inventory, file)
			two, _ := replayed(t, 0, nil, flag, "--inventory", inventory, file)
			if one != two || one == "" {
				t.Errorf("%s: two runs give %d and %d bytes", flag, len(one), len(two))
			}
		}
	})
	t.Run("fail-on", func(t *testing.T) {
		for flag, want := range map[string]int{"low": exitFound, "medium": exitFound, "critical": 0} {
			replayed(t, want, nil, "--fail-on", flag, "--inventory", inventory, file)
			replayed(t, want, nil, "--fail-on", flag, "--findings", "--inventory", inventory, file)
		}
	})
}

// TestReplayInputs reads every kind of input from a file and from standard input, with the format found and with it named.
func TestReplayInputs(t *testing.T) {
	dir := t.TempDir()
	testdata := filepath.Join("..", "..", "flow", "testdata")
	stream := filepath.Join(dir, "stream")
	recording(t, stream)
	for _, c := range []struct {
		path, format string
		records      int // as printed by --records
		taken        int // as counted: packets of captures
	}{
		{filepath.Join(testdata, "traffic.pcap"), "pcap", 18, 34},
		{filepath.Join(testdata, "softflowd-v5.pcap"), "netflow", 11, 11},
		{filepath.Join(testdata, "softflowd-v9.pcap"), "netflow", 13, 13},
		{filepath.Join(testdata, "softflowd-ipfix.pcap"), "netflow", 13, 13},
		{filepath.Join(stream, "stream-000001.wws"), "stream", 2, 2},
	} {
		t.Run(filepath.Base(c.path), func(t *testing.T) {
			content, err := os.ReadFile(c.path)
			if err != nil {
				t.Fatal(err)
			}
			found, errs := replayed(t, 0, nil, "--records", c.path)
			if n := strings.Count(found, "\n"); n != c.records || errs != fmt.Sprintf("records %d\nfindings 0\n", c.taken) {
				t.Errorf("%d records printed, want %d; stderr %q", n, c.records, errs)
			}
			named, _ := replayed(t, 0, nil, "--records", "--format", c.format, c.path)
			piped, _ := replayed(t, 0, content, "--records", "-")
			both, _ := replayed(t, 0, content, "--records", "--format", c.format, "-")
			if named != found || piped != found || both != found {
				t.Errorf("the same input gives %d, %d, %d and %d bytes", len(found), len(named), len(piped), len(both))
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		dir, _ := replayed(t, 0, nil, "--records", stream)
		file, _ := replayed(t, 0, nil, "--records", filepath.Join(stream, "stream-000001.wws"))
		if dir != file || dir == "" {
			t.Errorf("a directory gives\n%s\nits file\n%s", dir, file)
		}
	})
	t.Run("several", func(t *testing.T) {
		traffic, v5, v9 := filepath.Join(testdata, "traffic.pcap"), filepath.Join(testdata, "softflowd-v5.pcap"), filepath.Join(testdata, "softflowd-v9.pcap")
		out, errs := replayed(t, 0, nil, "--records", traffic, v5, v9, stream)
		var want string
		for _, f := range []string{traffic, v5, v9, stream} {
			one, _ := replayed(t, 0, nil, "--records", f)
			want += one
		}
		if out != want || !strings.HasSuffix(errs, "records 60\nfindings 0\n") { // 34 packets, 11 + 13 + 2 records
			t.Errorf("%d bytes, want %d; stderr %q", len(out), len(want), errs)
		}
		_, errs = replayed(t, 0, nil, "--records", v5, traffic)
		if !strings.Contains(errs, "note: "+traffic+" begins at 2026-01-02T03:04:0") {
			t.Errorf("files in the wrong order are not noted: %q", errs)
		}
	})
}

// recording is a recorded stream of two records and a container.
func recording(t *testing.T, dir string) {
	t.Helper()
	w, err := flow.NewStreamWriter(dir, 1<<30, metrics.NewSet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{w: w}
	r.start()
	r.alerts(&alerts.Saved{})
	c := *worker
	c.Started = 1
	r.event(&enrich.Event{Kind: enrich.Listed, Time: 1, Engine: "local", Container: &c})
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
	b := flow.NewPool(1).Get()
	b.Source, b.Arrival, b.Watermark = "netflow:192.0.2.1/0", now, now
	for i := range 2 {
		b.Records = append(b.Records, flow.Record{
			First: now - second, Last: now, Src: flow.Addr4(0xac120005), Dst: flow.Addr4(0xcb007109), SrcPort: uint16(40_000 + i), DstPort: 443, Proto: 6, Bytes: 100, Packets: 1, Sampling: 1,
		})
	}
	r.batch(b)
	r.watermark(now)
	r.close()
}

// TestReplaySeam checks that what goes on over the seam of two files counts as in the middle of one: event time must not run ahead there.
func TestReplaySeam(t *testing.T) {
	dir := t.TempDir()
	s := newSite(4, "web", "worker", "mail")
	begin := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	inventory := s.inventory(t, filepath.Join(dir, "inventory.json"), nil)
	var all []demo.Slice
	for i := range 120 {
		all = append(all, s.call("web", netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 9)}), begin.Add(time.Duration(i)*17*time.Second), time.Second, 9000)...)
	}
	all = append(all, s.transfer("worker", netip.MustParseAddr("203.0.113.9"), begin.Add(17*time.Minute), 3, 50e6)...)
	all = append(all, s.transfer("worker", netip.MustParseAddr("203.0.113.9"), begin.Add(21*time.Minute), 9, 200e6)...)
	x := newExports(begin.Add(-time.Hour))
	x.Write(all)
	b := x.Bytes()
	whole := x.save(t, filepath.Join(dir, "whole.pcap"))
	seam, cut := begin.Add(20*time.Minute).Unix(), 24
	for int64(binary.LittleEndian.Uint32(b[cut:])) < seam {
		cut += 16 + int(binary.LittleEndian.Uint32(b[cut+8:]))
	}
	first := write(t, filepath.Join(dir, "first.pcap"), b[:cut])
	rest := write(t, filepath.Join(dir, "rest.pcap"), append(b[:24:24], b[cut:]...))
	want, _ := replayed(t, 0, nil, "--findings", "--inventory", inventory, whole)
	got, errs := replayed(t, 0, nil, "--findings", "--inventory", inventory, first, rest)
	if got != want || want == "" {
		t.Errorf("in two files:\n%s\nin one:\n%s\n%s", got, want, errs)
	}
}

// TestReplayRefuses checks exit codes and what is said about inputs and flags that do not work.
func TestReplayRefuses(t *testing.T) {
	dir := t.TempDir()
	file, inventory := beaconDay(t, dir)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stream := filepath.Join(dir, "stream")
	recording(t, stream)
	recorded, err := os.ReadFile(filepath.Join(stream, "stream-000001.wws"))
	if err != nil {
		t.Fatal(err)
	}
	garbled := slices.Clone(recorded)
	garbled[16] = 0x07
	put := func(name, text string) string { return write(t, filepath.Join(dir, name), []byte(text)) }
	empty, text, header := put("empty", ""), put("text", "hello, this is no capture"), put("header", string(whole[:30]))
	cut, bad := put("cut", string(whole[:len(whole)-5])), put("bad.wws", string(garbled))
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		say  string
	}{
		{"", exitUsage, "at least 1 arg"},
		{"--bogus " + file, exitUsage, "unknown flag: --bogus"},
		{"--format csv " + file, exitUsage, "known are auto, pcap, netflow, nfcapd, zeek, eve and stream"},
		{"--format nfcapd " + file, exitRuntime, "it is not what --format nfcapd reads"},
		{"--format zeek " + file, exitRuntime, "it is not what --format zeek reads"},
		{"--format eve " + file, exitRuntime, "it is not what --format eve reads"},
		{"-o xml " + file, exitUsage, "known are jsonl and table"},
		{"--findings --records " + file, exitUsage, "exclude each other"},
		{"--fail-on awful " + file, exitUsage, "--fail-on"},
		{"--set nonsense=1 " + file, exitUsage, "nonsense"},
		{filepath.Join(dir, "nowhere"), exitRuntime, "nowhere: there is no such file"},
		{file + " " + filepath.Join(dir, "nowhere"), exitRuntime, "records 0\n"}, // before hours are spent
		{empty, exitRuntime, "empty: it is empty"},
		{text, exitRuntime, "text: it is no capture (pcap, pcapng), no nfcapd file"},
		{"--format netflow " + text, exitRuntime, "text: it is no pcap or pcapng file, which --format netflow reads"},
		{"--format stream " + text, exitRuntime, "text: not a recorded stream"},
		{header, exitRuntime, "header"},
		{header, exitRuntime, "cut off before its first packet ended"},
		{folder, exitRuntime, "folder: it is a directory without a recorded stream: name the files in it"},
		{bad, exitRuntime, "bad.wws at byte 16"},
		{put("old.nfcapd", "\x0c\xa5\x01\x00rest of an nfcapd file"), exitRuntime, "old.nfcapd: the header"},
		{put("older.nfcapd", "\x0c\xa5\x01\x00"+strings.Repeat("x", 60)), exitRuntime, "nfdump 1.6: convert it"},
		{put("zstd.nfcapd", "\x0c\xa5\x02\x00"+strings.Repeat("\x00", 12)+"\x04"+strings.Repeat("\x00", 40)), exitRuntime, "compressed with ZSTD"},
		{put("day.pcap.xz", "\xfd7zXZ rest"), exitRuntime, "it is compressed: unpack it"},
		{put("day.pcap.gz", "\x1f\x8b\x08\x00rest"), exitRuntime, "day.pcap.gz: unpack"},
		{"--inventory " + filepath.Join(dir, "nowhere.json") + " " + file, exitRuntime, "nowhere.json"},
		{"--inventory " + text + " " + file, exitRuntime, "line 1, column 1"},
		{"--inventory " + put("half.json", `[{"Id":"`) + " " + file, exitRuntime, "half.json"},
	} {
		out, errs := replayed(t, c.code, nil, strings.Fields(c.args)...)
		if !strings.Contains(errs, c.say) || out != "" {
			t.Errorf("replay %s: want %q in\n%s%s", c.args, c.say, errs, out)
		}
	}
	_, errs := replayed(t, exitRuntime, []byte{}, "-")
	if !strings.Contains(errs, "replay -: it is empty") {
		t.Errorf("empty standard input: %s", errs)
	}

	// What could be read counts, and the cut is noted.
	for _, format := range []string{"netflow", "pcap"} {
		out, errs := replayed(t, 0, nil, "--records", "--format", format, cut)
		if !strings.Contains(errs, "note: "+cut+" ends in the middle of a packet") || out == "" {
			t.Errorf("a file that is cut off, as %s: %d bytes, %q", format, len(out), errs)
		}
	}
	// What was found before a file that cannot be read is printed.
	out, errs := replayed(t, exitRuntime, nil, "--inventory", inventory, file, text)
	if !strings.Contains(out, "compose:shop/worker") || !strings.Contains(errs, "text: it is no capture") {
		t.Errorf("a bad file after a good one: %s%s", out, errs)
	}
	// A directory without baselines judges without them.
	_, errs = replayed(t, 0, nil, "--data-dir", folder, "--inventory", inventory, file)
	if !strings.Contains(errs, "judged without baselines") {
		t.Errorf("an empty data directory: %q", errs)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("replay left %v in the data directory (%v)", left, err)
	}
	_, errs = replayed(t, 0, nil, file)
	if !strings.Contains(errs, "no container is known") {
		t.Errorf("without an inventory: %q", errs)
	}
}

// TestProgress draws at most every five seconds off a terminal, knows how much is left where that can be known, and counts over files.
func TestProgress(t *testing.T) {
	dir := t.TempDir()
	one, two := write(t, filepath.Join(dir, "one"), make([]byte, 6e6)), write(t, filepath.Join(dir, "two"), make([]byte, 2e6))
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	var shown strings.Builder
	g := &globals{stderr: &shown, now: func() time.Time { return now }}
	event := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).UnixNano()
	p := newProgress(g, []string{one, two})
	p.next()
	r := p.reader(bytes.NewReader(make([]byte, 6e6)))
	for range 12 { // one read of half a megabyte a second
		io.CopyN(io.Discard, r, 5e5)
		now = now.Add(time.Second)
		p.show(event)
	}
	p.next()
	p.at(1e6, 2e6) // an input that counts by itself
	now = now.Add(3 * time.Second)
	p.show(event)
	p.done()
	want := []string{
		"[=========                     ]  31 %, 0 MB/s, 11s left, event time 2026-01-01 12:00:00",
		"[==================            ]  62 %, 0 MB/s, 6s left, event time 2026-01-01 12:00:00",
		"[==========================    ]  88 %, 0 MB/s, 2s left, event time 2026-01-01 12:00:00",
	}
	if got := strings.Split(strings.TrimSuffix(shown.String(), "\n"), "\n"); !slices.Equal(got, want) {
		t.Errorf("shown\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	shown.Reset()
	p = newProgress(g, []string{"-"})
	p.next()
	io.CopyN(io.Discard, p.reader(bytes.NewReader(make([]byte, 9e6))), 9e6)
	now = now.Add(6 * time.Second)
	p.show(event)
	if got := shown.String(); got != "9 MB, 2 MB/s, event time 2026-01-01 12:00:00\n" {
		t.Errorf("standard input shows %q", got)
	}
}
