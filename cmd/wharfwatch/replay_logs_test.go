package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dataPack is the data pack beside the repository; it is the one thing that tests may lack.
func dataPack(t *testing.T) string {
	dir := cmp.Or(os.Getenv("WHARFWATCH_DATA"), "../../../shared/data")
	if _, err := os.Stat(filepath.Join(dir, "c2")); err != nil {
		t.Skipf("no data pack at %s: set WHARFWATCH_DATA", dir)
	}
	return dir
}

// What known command and control looks like in Zeek's logs is found by replay, and told of the container that an inventory names.
func TestReplayZeekData(t *testing.T) {
	dir := dataPack(t)
	for _, c := range []struct{ name, workload, subject string }{
		{"http-beacon-27s", "compose:http-beacon-27s/workload-a", "68.183.138.51:80/tcp"},
		{"njrat-001", "compose:njrat-001/workload-a", "41.108.179.197:1177/tcp"}, // times begin at 0
		{"poshc2-csv", "compose:poshc2-csv/workload-a", "198.51.100.1:80/tcp"},
		{"quasarrat", "compose:quasarrat/workload-a", "86.136.67.231:1337/tcp"},
		{"caldera-manx-udp", "", ""}, // both ends are containers; too few beats to be told
	} {
		out, errs := replayed(t, 0, nil, "--findings", "--inventory", filepath.Join(dir, "inventory", c.name+".json"), filepath.Join(dir, "c2", c.name+".conn.log"))
		found := false
		for _, line := range lines(out) {
			var f struct{ Workload, Subject, Detector string }
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(f.Workload, "compose:"+c.name+"/") {
				t.Errorf("%s: told of %s", c.name, f.Workload)
			}
			found = found || f.Detector == "beacon" && f.Workload == c.workload && f.Subject == c.subject
		}
		if !found && c.subject != "" {
			t.Errorf("%s: no beacon of %s to %s in\n%s%s", c.name, c.workload, c.subject, out, errs)
		}
	}
}

// Files as nfcapd and Zeek write them are known by their content: plain, packed, beside each other, from standard input.
func TestReplayLogs(t *testing.T) {
	dir := t.TempDir()
	conn := "#separator \\x09\n#unset_field\t-\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\thistory\n" +
		"1772442000.5\t172.18.0.2\t40000\t203.0.113.9\t443\ttcp\t1.0\t5\t300\t4\t260\tShADadFf\n"
	dns := "#separator \\x09\n#unset_field\t-\n#path\tdns\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tquery\tqtype\trcode\tanswers\n" +
		"1772442000.1\t172.18.0.2\t40000\t172.18.0.1\t53\tudp\tapi.example.com\t1\t0\t203.0.113.9\n"
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(conn)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	plain, gz, names := write(t, filepath.Join(dir, "conn.log"), []byte(conn)), write(t, filepath.Join(dir, "conn.log.gz"), packed.Bytes()), write(t, filepath.Join(dir, "dns.log"), []byte(dns))
	eve := write(t, filepath.Join(dir, "eve.json"), []byte(`{"timestamp":"2026-03-02T09:00:02+0000","event_type":"flow","src_ip":"172.18.0.2","src_port":40000,"dest_ip":"203.0.113.9","dest_port":443,"proto":"TCP","flow":{"pkts_toserver":5,"pkts_toclient":4,"bytes_toserver":300,"bytes_toclient":260,"start":"2026-03-02T09:00:00.5+0000","end":"2026-03-02T09:00:01.5+0000"},"tcp":{"tcp_flags_ts":"1b","tcp_flags_tc":"1b"}}`+"\n"))
	want, errs := replayed(t, 0, nil, "--records", plain)
	if strings.Count(want, "\n") != 2 || !strings.Contains(errs, "records 2\n") {
		t.Fatalf("%s%s", want, errs)
	}
	for _, args := range [][]string{{gz}, {plain, names}, {names, plain}, {"--format", "zeek", plain}} {
		if got, errs := replayed(t, 0, nil, append([]string{"--records"}, args...)...); got != want {
			t.Errorf("%v:\n%s%s\nwant\n%s", args, got, errs, want)
		}
	}
	if got, _ := replayed(t, 0, packed.Bytes(), "--records", "-"); got != want {
		t.Errorf("standard input:\n%s", got)
	}
	got, errs := replayed(t, 0, nil, "--records", eve)
	if strings.ReplaceAll(got, `"domain":2`, `"domain":1`) != want {
		t.Errorf("eve:\n%s%s\nwant\n%s", got, errs, want)
	}
	for name, n := range map[string]int{"plain": 13, "lzo": 13, "sampled": 13} {
		if got, errs := replayed(t, 0, nil, "--records", "../../flow/testdata/"+name+".nfcapd"); strings.Count(got, "\n") != n {
			t.Errorf("%s.nfcapd:\n%s%s", name, got, errs)
		}
	}
	_, errs = replayed(t, 0, nil, "--records", write(t, filepath.Join(dir, "odd.log"), []byte(conn+"x\ty\n")))
	if !strings.Contains(errs, "1 rows are not what the format says") {
		t.Errorf("a row that is none: %s", errs)
	}
}
