package flow

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// innermost is what the data pack says, and what is compared: sums for source, destination and protocol.
type innermost struct {
	Packets, Bytes uint64
	VLAN, VNI      string // the outermost
}

// Where this parser says something else than the data pack, on purpose. nil: nothing is reported, and the frame is counted as ignored.
var decapDeviations = map[string]struct {
	reason string
	want   map[string]innermost
}{
	"tcpdump-gre-heapoverflow-1":                 {"an IPv4 header whose length contradicts itself is no flow", nil},
	"zeek-ip4-trunc":                             {"an IP header that is cut is no flow", nil},
	"zeek-ip6-trunc":                             {"the same", nil},
	"zeek-ip6-ext-trunc":                         {"the packet is shorter than its extension header says", nil},
	"zeek-ipv4-truncated-broken-header":          {"an IP header that is cut is no flow", nil},
	"zeek-ipv4-internally-truncated-header":      {"the header says that it is longer than 20 bytes and the options are cut; the addresses are there", map[string]innermost{"163.253.48.183 192.150.187.43 6": {Packets: 1, Bytes: 114}}},
	"zeek-mpls-6in6-6in6-4in6-trunc":             {"the innermost header is cut: the packet around it is the flow", map[string]innermost{"ff00:0:6929::6904:ff:3bbf ffff:0:69:2900:0:69:400:ff3b 4": {Packets: 1, Bytes: 44}}},
	"zeek-mpls-6in6-6in6-4in6-invalid-version-4": {"the innermost header is none: the packet around it is the flow", map[string]innermost{"ff00:0:6929::6904:ff:3bbf ffff:0:69:2900:0:69:400:ff3b 4": {Packets: 1, Bytes: 44}}},
	"zeek-vlan-collisions": {"one connection without a tag and within a VLAN: the record says the VLAN", map[string]innermost{
		"141.142.228.5 192.150.187.43 6": {Packets: 21, Bytes: 1536, VLAN: "42"},
		"192.150.187.43 141.142.228.5 6": {Packets: 21, Bytes: 16137, VLAN: "42"},
	}},
	"zeek-gtp9_unknown_or_too_short_payload": {"one packet says 1480 bytes in an envelope of 172, which is no fragment: 172 were on the wire", map[string]innermost{
		"10.131.119.38 217.20.156.4 6":    {Packets: 8, Bytes: 10532},
		"173.86.159.28 213.72.147.186 17": {Packets: 8, Bytes: 1595},
		"217.20.156.4 10.131.119.38 6":    {Packets: 3, Bytes: 120},
	}},
}

// readTable reads a file of tab-separated values with a header line.
func readTable(t *testing.T, name string) (rows []map[string]string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(bytes.NewReader(b))
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	lines, err := r.ReadAll()
	if err != nil || len(lines) == 0 {
		t.Fatalf("%s: %d lines, %v", name, len(lines), err)
	}
	for _, line := range lines[1:] {
		row := make(map[string]string)
		for i, column := range lines[0] {
			row[column] = line[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// outermost is the first of a list of tags, "" for none: 0 is none as well.
func outermost(list string) string {
	for tag := range strings.SplitSeq(list, "|") {
		n, err := strconv.ParseUint(tag, 0, 32)
		if err == nil && n != 0 {
			return strconv.FormatUint(n, 10)
		}
	}
	return ""
}

// Every capture of the data pack yields its innermost flows, as two other decoders see them. What is not compared: bytes where the packet
// says no length; the protocol of later IPv6 fragments, which we know from the first; tags of an envelope that held no IP; the VLAN in an
// ERSPAN header, which the pack does not list.
func TestDecap(t *testing.T) {
	dir := filepath.Join(dataDir(t), "decap")
	for _, capture := range readTable(t, filepath.Join(dir, "INDEX.tsv")) {
		name := strings.TrimSuffix(filepath.Base(capture["expected"]), ".tsv")
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, capture["capture"]))
			if err != nil {
				t.Fatal(err)
			}
			got, want := make(map[string]innermost), make(map[string]innermost)
			anyProto, anyBytes, anyTag := make(map[string]bool), make(map[string]bool), make(map[string]bool)
			add := func(m map[string]innermost, src, dst, proto string, s innermost) {
				pair := src + " " + dst
				key := pair + " " + proto
				if anyProto[pair] {
					key = pair
				}
				if anyBytes[pair] {
					s.Bytes = 0
				}
				if anyTag[pair] {
					s.VLAN, s.VNI = "", ""
				}
				if capture["category"] == "erspan" {
					s.VLAN = ""
				}
				old := m[key]
				s.Packets += old.Packets
				s.Bytes += old.Bytes
				s.VLAN, s.VNI = cmp.Or(old.VLAN, s.VLAN), cmp.Or(old.VNI, s.VNI)
				m[key] = s
			}
			rows := readTable(t, filepath.Join(dir, capture["expected"]))
			for _, row := range rows {
				pair := row["src"] + " " + row["dst"]
				anyProto[pair] = anyProto[pair] || row["proto"] == "-"
				anyBytes[pair] = anyBytes[pair] || row["frames_without_ip_length"] != "0"
				anyTag[pair] = anyTag[pair] || row["non_ip_inside"] == "yes"
			}
			for _, row := range rows {
				frames, err1 := strconv.ParseUint(row["frames"], 10, 64)
				bytes, err2 := strconv.ParseUint(row["inner_ip_bytes"], 10, 64)
				if err := errors.Join(err1, err2); err != nil {
					t.Fatal(err)
				}
				add(want, row["src"], row["dst"], row["proto"], innermost{frames, bytes, outermost(row["vlan"]), outermost(row["vni"])})
			}
			if d, deviates := decapDeviations[name]; deviates {
				t.Log(d.reason)
				want = d.want
			}
			set := metrics.NewSet()
			err = OpenPcap("test", bytes.NewReader(b), NewPool(4), set).Run(context.Background(), func(b *Batch) {
				for _, r := range b.Records {
					tags := [2]string{outermost(strconv.Itoa(int(r.VLAN))), outermost(strconv.Itoa(int(r.VNI)))}
					add(got, r.Src.String(), r.Dst.String(), strconv.Itoa(int(r.Proto)), innermost{r.Packets, r.Bytes, tags[0], tags[1]})
				}
				b.Free()
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: -want +got\n%s", capture["category"], diff)
			}
		})
	}
}
