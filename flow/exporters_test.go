package flow

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// dataDir is the data pack, which lies beside the repository; it is the one thing that tests may lack.
func dataDir(t *testing.T) string {
	dir := os.Getenv("WHARFWATCH_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no data pack at %s: set WHARFWATCH_DATA", dir)
	}
	return dir
}

// readDatagrams decodes a capture of export datagrams.
func readDatagrams(t *testing.T, file string) (records []Record, set *metrics.Set, status []ExporterStatus) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set = metrics.NewSet()
	s := OpenDatagrams(file, bytes.NewReader(b), NewPool(4), set)
	err = s.Run(context.Background(), func(b *Batch) {
		records = append(records, b.Records...)
		b.Free()
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, set, s.Exporters()
}

// The records of some 45 real exporters are those that two independent decoders see. Sets with more in them than this decoder is
// meant to read yet stand in the list, with what is asked of them instead.
func TestExporters(t *testing.T) {
	dir := filepath.Join(dataDir(t), "exporters")
	files, err := filepath.Glob(filepath.Join(dir, "pcap", "*.pcap"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures in %s", dir)
	}
	timeless := map[string]string{
		"fortigate-521-v9":          "the capture puts the data a week before their export time",
		"graylog-nprobe-netflow9":   "uptime 0 means unknown here: export time, not boot time",
		"graylog-nprobe-netflow9-2": "the same",
		"logstash-v5-split":         "a start before boot is just before boot, not 49.7 days later",
	}
	counts := map[string]int{
		"graylog-v5-1":  2, // twelve messages glued into one datagram: the first is read
		"logstash-v5":   2, // the same bytes
		"invalid01-v5":  0, // header and length contradict each other
		"invalid02-v5":  0,
		"nprobe-dpi-v9": 1,
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".pcap")
		t.Run(name, func(t *testing.T) {
			got, set, status := readDatagrams(t, file)
			if want, special := counts[name]; special {
				if len(got) != want {
					t.Errorf("%d records, want %d", len(got), want)
				}
				return
			}
			got = slices.DeleteFunc(got, func(r Record) bool { return r.Flags&FlagReply != 0 })
			left := got
			for _, want := range expectedRecords(t, filepath.Join(dir, "expected", name+".tsv")) {
				if timeless[name] != "" {
					want["first"], want["last"] = "-", "-"
				}
				var near string
				at := slices.IndexFunc(left, func(r Record) bool {
					diff := want.differs(&r, status)
					if diff != "" && near == "" {
						near = fmt.Sprintf("%s: %+v", diff, r)
					}
					return diff == ""
				})
				if at < 0 {
					t.Errorf("no record is\n     %+v\nnext %s", want, near)
					continue
				}
				left = slices.Delete(slices.Clone(left), at, at+1)
			}
			if len(left) > 0 {
				t.Errorf("%d records too many, first %+v", len(left), left[0])
			}
			if t.Failed() {
				var m bytes.Buffer
				set.WritePrometheus(&m)
				t.Log(nonZero(m.String()))
			}
		})
	}
}

func nonZero(m string) string {
	var keep []string
	for line := range strings.Lines(m) {
		if !strings.HasSuffix(line, " 0\n") {
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "")
}

type expected map[string]string

// expectedRecords reads the flows of one set; options and layer 2 records are none.
func expectedRecords(t *testing.T, file string) (all []expected) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	if err != nil || len(rows) == 0 {
		t.Fatalf("%s: %v", file, err)
	}
	for _, row := range rows[1:] {
		e := expected{}
		for i, v := range row {
			e[rows[0][i]] = v
		}
		if e["kind"] == "flow" {
			all = append(all, e)
		}
	}
	return all
}

// differs compares what the oracles state; "-" is unset. Times may differ by the second that headers do not say, and by the offset
// that was learned for the exporter's clock.
func (e expected) differs(r *Record, status []ExporterStatus) string {
	number := func(key string, got uint64) string {
		if want, err := strconv.ParseUint(e[key], 0, 64); err == nil && want != got {
			return key + ": got " + strconv.FormatUint(got, 10) + ", want " + e[key]
		}
		return ""
	}
	for _, a := range []struct {
		key string
		got Addr
	}{{"src", r.Src}, {"dst", r.Dst}} {
		if want, err := ParseAddr(e[a.key]); err == nil && want != a.got {
			return a.key + ": got " + a.got.String() + ", want " + e[a.key]
		}
	}
	checks := []string{
		number("proto", uint64(r.Proto)), number("packets", r.Packets), number("bytes", r.Bytes), number("tcp_flags", uint64(r.TCPFlags)),
	}
	if r.Proto != ICMP && r.Proto != ICMPv6 {
		checks = append(checks, number("sport", uint64(r.SrcPort)), number("dport", uint64(r.DstPort)))
	}
	for _, c := range checks {
		if c != "" {
			return c
		}
	}
	for key, got := range map[string]int64{"first": r.First, "last": r.Last} {
		want, err := strconv.ParseInt(e[key], 10, 64)
		near := func(s ExporterStatus) bool { return abs(want*milli+int64(s.Offset)-got) < 1100*milli }
		if err == nil && !near(ExporterStatus{}) && !slices.ContainsFunc(status, near) {
			return key + " differs"
		}
	}
	return ""
}
