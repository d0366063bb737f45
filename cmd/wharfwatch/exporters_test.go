package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/flow"
)

// choice is how this program reads a set on which the two oracles (tshark and nfdump, expected/NOTES.md) disagree, or which contradicts
// itself, with the reason. Sets that are not listed must come out exactly as both oracles have them.
type choice struct {
	why      string
	records  int           // how many come out, instead of those expected; -1 none
	more     int           // how many come out beyond those expected
	timeless bool          // the oracles' times are not ours
	offset   time.Duration // what the clock of the exporter is corrected by, once it is learned
	once     bool          // an event that repeats a connection's totals adds nothing
}

var choices = map[string]choice{
	"juniper-mx80-v5":  {why: "nfdump multiplies by the header's interval of 1000: raw counts, the rate beside them"},
	"graylog-netflow5": {why: "the same with 100"},
	"logstash-v5":      {why: "twelve messages glued into one datagram: a datagram is one message, the rest is no header's; logstash-v5-split has the values", records: 2},
	"graylog-v5-1":     {why: "the bytes of logstash-v5", records: 2},
	"logstash-v5-split": {
		why:      "a start of 0xffffffff is before boot: just before it, neither 49.7 days later (tshark) nor earlier (nfdump)",
		timeless: true,
	},
	"invalid01-v5":               {why: "the header promises more records than there are: tshark reads junk, nfdump and we refuse and count", records: -1},
	"invalid02-v5":               {why: "the same", records: -1},
	"graylog-v9-1":               {why: "the header's count is too small: follow the length, as nfdump does"},
	"invalid01-v9":               {why: "the same"},
	"graylog-netflow9":           {why: "the same: tshark misses a template and three records"},
	"h3c-v9":                     {why: "a field of length 0xffff in v9: read as IPFIX has it, as nfdump does; tshark stops after one record"},
	"h3c-varstring-v9":           {why: "the same"},
	"iptnetflow-reduced-size-v9": {why: "what follows the records looks like six sets without template: counted"},
	"netscaler-ipfix":            {why: "microseconds are NTP by RFC 7011, plain ones where that lies years from the export: nfdump reads 0"},
	"viptela-ipfix":              {why: "nfdump does not know seconds (150, 151): tshark's"},
	"unknown-tpl266-292-v9":      {why: "the same"},
	"procera-ipfix":              {why: "nfdump reads zero addresses from vendor fields: tshark's"},
	"graylog-nprobe-netflow9":    {why: "uptime 0 is unknown: export time, neither boot (tshark) nor 1970 (nfdump)", timeless: true},
	"graylog-nprobe-netflow9-2":  {why: "the same", timeless: true},
	"graylog-nprobe-netflow9-4":  {why: "two datagrams before their template: both oracles drop them, we hold them and read 14 records more", more: 14},
	"graylog-v9-3-incomplete":    {why: "no template at all: held to the end, then counted"},
	"cisco-asa2-nsel-v9":         {why: "update and delete both state a connection's totals: counted once, the oracles list both", once: true},
	"fortigate-521-v9":           {why: "the data's times are a week before its export, the capture has them at one: clamped to the arrival", timeless: true},
	"nprobe-dpi-v9":              {why: "the clock of the exporter was never set (1970): export time", timeless: true},
	"graylog-netgraph-netflow5":  {why: "the exporter's clock is 16 s behind that of the capture: corrected once that is sure", offset: 16034 * time.Millisecond},
}

// TestReplayExporters walks the export datagrams of some 60 real exporters through `replay --records` and holds every record against what
// two independent decoders read.
func TestReplayExporters(t *testing.T) {
	dir := filepath.Join(cmp.Or(os.Getenv("WHARFWATCH_DATA"), filepath.Join("..", "..", "..", "shared", "data")), "exporters")
	files, err := filepath.Glob(filepath.Join(dir, "pcap", "*.pcap"))
	if err != nil || len(files) == 0 {
		t.Skipf("the export datagrams of real exporters are absent: no captures below %s (WHARFWATCH_DATA names the data pack)", dir)
	}
	c := &cli{t: t, data: t.TempDir()}
	walked, records := 0, 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".pcap")
		t.Run(name, func(t *testing.T) {
			c.t = t
			out, _ := c.run(0, "replay", "--records", "--format", "netflow", file)
			got := exported(t, out)
			walked, records = walked+1, records+len(got)
			choice := choices[name]
			if choice.records != 0 {
				if len(got) != max(choice.records, 0) {
					t.Errorf("%d records, want %d: %s", len(got), choice.records, choice.why)
				}
				return
			}
			for _, want := range oracle(t, filepath.Join(dir, "expected", name+".tsv"), choice) {
				near, at := "none is left", -1
				for i := range got {
					diff := want.differs(&got[i])
					if diff == "" {
						at = i
						break
					}
					near = diff
				}
				if at < 0 {
					t.Errorf("no record is\n     %+v\nlast %s", want, near)
					continue
				}
				got = slices.Delete(got, at, at+1)
			}
			if len(got) != choice.more {
				t.Errorf("%d records too many, first %+v", len(got)-choice.more, got)
			}
		})
	}
	t.Logf("exporters: the data pack is here: %d sets, %d records, %d sets read by a choice of ours", walked, records, len(choices))
	for name := range choices {
		if !slices.ContainsFunc(files, func(f string) bool { return filepath.Base(f) == name+".pcap" }) {
			t.Errorf("a choice about %s, which is not in the data pack", name)
		}
	}
}

func exported(t *testing.T, out string) (all []line) {
	d := json.NewDecoder(strings.NewReader(out))
	for {
		var l line
		if err := d.Decode(&l); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
}

// expectation is one record of an oracle; what it does not state ("-") is not looked at.
type expectation struct {
	columns  map[string]string
	timeless bool
	offset   time.Duration
}

// oracle reads the flows of one set; what has no address is no flow. The answer of a biflow is a record of its own.
func oracle(t *testing.T, file string, choice choice) (all []expectation) {
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
	told := map[string]bool{}
	for _, row := range rows[1:] {
		e := expectation{columns: map[string]string{}, timeless: choice.timeless, offset: choice.offset}
		for i, v := range row {
			e.columns[rows[0][i]] = v
		}
		c := e.columns
		if c["kind"] != "flow" {
			continue
		}
		connection := fmt.Sprint(c["src"], c["dst"], c["sport"], c["dport"], c["proto"], c["first"], c["bytes"])
		if choice.once && c["bytes"] != "-" && told[connection] {
			c["bytes"], c["rev_bytes"] = "0", "0"
		}
		told[connection] = true
		all = append(all, e)
		bytes, packets := number(c["rev_bytes"]), number(c["rev_packets"])
		if bytes > 0 || packets > 0 {
			all = append(all, expectation{timeless: true, columns: map[string]string{
				"src": c["dst"], "dst": c["src"], "sport": c["dport"], "dport": c["sport"], "proto": c["proto"], "bytes": c["rev_bytes"], "packets": c["rev_packets"],
			}})
		}
	}
	return all
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		return -1
	}
	return n
}

// differs says how a record is not the expected one. Times may differ by the second that headers do not say.
func (e expectation) differs(l *line) string {
	for key, got := range map[string]flow.Addr{"src": l.Src, "dst": l.Dst} {
		if want, err := flow.ParseAddr(e.columns[key]); err == nil && want != got {
			return fmt.Sprintf("%s: got %v, want %v", key, got, want)
		}
	}
	numbers := map[string]int64{"proto": int64(l.Proto), "packets": int64(l.Packets), "bytes": int64(l.Bytes), "tcp_flags": int64(l.TCPFlags)}
	if l.Proto != flow.ICMP && l.Proto != flow.ICMPv6 {
		numbers["sport"], numbers["dport"] = int64(l.SrcPort), int64(l.DstPort)
	}
	for key, got := range numbers {
		if want := number(e.columns[key]); want >= 0 && want != got {
			return fmt.Sprintf("%s: got %d, want %d in %+v", key, got, want, *l)
		}
	}
	if e.timeless {
		return ""
	}
	for key, text := range map[string]string{"first": l.First, "last": l.Last} {
		got, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return err.Error()
		}
		off := got.Sub(time.UnixMilli(number(e.columns[key])))
		if number(e.columns[key]) >= 0 && off.Abs() > 1100*time.Millisecond && (off-e.offset).Abs() > 1100*time.Millisecond {
			want := number(e.columns[key])
			return fmt.Sprintf("%s: got %v, want %v", key, got, time.UnixMilli(want).UTC())
		}
	}
	return ""
}
