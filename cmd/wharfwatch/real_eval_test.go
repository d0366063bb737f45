package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/cmd/wharfwatch/demo"
	"github.com/wharfwatch/wharfwatch/eval"
)

// row is one connection of a Zeek log.
type row struct {
	at, length       float64 // s
	from, to         netip.Addr
	fromPort, toPort uint16
	proto            string
	history          string
	packets, bytes   [2]uint32 // of the opener, of the other side
}

// zeekRows reads a conn.log with its 21 standard columns, by time.
func zeekRows(t *testing.T, path string) (out []row) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") || len(f) < 20 {
			continue
		}
		number := func(i int) float64 { v, _ := strconv.ParseFloat(f[i], 64); return v } // "-" is unset: 0
		from, to := netip.MustParseAddr(f[2]), netip.MustParseAddr(f[4])
		out = append(out, row{
			number(0), number(8), from, to, uint16(number(3)), uint16(number(5)), f[6], f[15],
			[2]uint32{uint32(number(16)), uint32(number(18))},
			[2]uint32{uint32(number(17)), uint32(number(19))},
		})
	}
	slices.SortStableFunc(out, func(a, b row) int { return strings.Compare(fmt.Sprintf("%020.6f", a.at), fmt.Sprintf("%020.6f", b.at)) })
	return out
}

// later is added to every time of an export, because some logs begin at 0 and a router's clock does not.
const later = 1_000_000_000

// asExports is the log as a router exports it, in NetFlow version 5: every connection, each way, cut at the active timeout.
func asExports(rows []row, timeout float64) []byte {
	x := demo.NewExports(time.Unix(later+int64(rows[0].at)-600, 0))
	var all []demo.Slice
	moment := func(s float64) time.Time { return time.Unix(later, 0).Add(time.Duration(s * 1e9)) }
	for _, r := range rows {
		if !r.from.Is4() {
			continue
		}
		proto := map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1}[r.proto]
		for side := range 2 {
			if r.packets[side] == 0 {
				continue
			}
			n := uint32(r.length/timeout) + 1
			n = min(n, r.packets[side])
			for i := range n {
				s := demo.Slice{
					Src: r.from, Dst: r.to, SrcPort: r.fromPort, DstPort: r.toPort, Proto: proto,
					First: moment(r.at + float64(i)*timeout), Last: moment(r.at + min(r.length, float64(i+1)*timeout-.001)),
					Bytes: r.bytes[side] / n, Packets: max(1, r.packets[side]/n),
				}
				if side == 1 {
					s.Src, s.Dst, s.SrcPort, s.DstPort = s.Dst, s.Src, s.DstPort, s.SrcPort
				}
				if proto == 6 {
					if strings.ContainsAny(r.history, []string{"AD", "ahd"}[side]) {
						s.Flags = 0x10
					}
					if i == 0 && strings.ContainsAny(r.history, []string{"S", "hH"}[side]) {
						s.Flags |= 2
					}
					if i == n-1 && strings.ContainsAny(r.history, []string{"FR", "fr"}[side]) {
						s.Flags |= 1
					}
				}
				all = append(all, s)
			}
		}
	}
	x.Write(all)
	return x.Bytes()
}

// saysSampled writes a rate of 1 in n into every version 5 header of a capture.
func saysSampled(capture []byte, n uint16) []byte {
	for at := 24; at+16 <= len(capture); {
		size := int(capture[at+8]) | int(capture[at+9])<<8
		header := at + 16 + 42 + 22
		capture[header], capture[header+1] = 0x40|byte(n>>8), byte(n)
		at += 16 + size
	}
	return capture
}

type realFinding struct {
	Detector, Subject, Severity, Workload, Summary string
	Time                                           time.Time
}

func realFindings(t *testing.T, args ...string) (out []realFinding) {
	t.Helper()
	text, _ := replayed(t, 0, nil, append([]string{"--findings", "-o", "jsonl"}, args...)...)
	for _, line := range lines(text) {
		var f realFinding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// missing says why a set is not found; a set that is neither found nor here fails the test.
var missing = map[string]string{
	"androidtester-003": "12 uploads without a rhythm, within an hour of learning and under the floors of egress",
	"simda-005":         "the log shows connections; the generated names are in its DNS log, and six minutes are short",
	"caldera-manx-udp":  "11 beats of a minute between two containers that belong together: a health check looks the same",
	"caldera-ragdoll":   "12 beats within 6 minutes, 41 s ± 15 s, between two containers that belong together",
	"caldera-manx-tcp":  "one connection: its beats are inside, and the log has no packets",
	"caldera-sandcat":   "one connection: its beats are inside, and the log has no packets",
	"empire-lab-b":      "an operator works through the same connections: no rhythm of its own",
}

// TestRealEval replays the captures with their inventories, as logs and as NetFlow: what is command and control must be told, nothing on
// the benign hosts may page, and sampled exports must invent no rhythm.
func TestRealEval(t *testing.T) {
	dir := dataPack(t)
	full := eval.Full() != ""
	part := eval.Part{
		Order: 3, ID: "real", Title: "Real captures, as logs and as routers export them",
		Text: []string{
			"Public captures of command and control and of hosts without any, each declared as a container, go through `replay`. Beats and minutes count from\n" +
				"the first connection of the pair to the finding. The same connections as NetFlow version 5, cut at active timeouts of 60, 300 and 1800 s,\n" +
				"must give the same; of exports that say \"1 in 100\" no timing may be judged.",
		},
		Bounds: []string{
			"The hosts that page are alone in their captures: with no other workload to compare with, rarity says little, and updaters that call every few minutes with a spread of 5 to 20 % keep time as an implant does.",
			"Calls between containers that belong together are left alone when they are even or few: the lab's command and control between two neighbours looks like a health check.",
			"The captures are few and short; what is not listed in their labels is assumed normal, not proven.",
		},
	}
	found := eval.Table{Title: "Command and control", Columns: []string{"set", "kind", "found", "by", "after beats", "after minutes", "60 s", "300 s", "1800 s", "1:100"}}
	labels, err := os.ReadFile(filepath.Join(dir, "c2", "labels.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	timeouts := []float64{60, 300, 1800}
	hits, n, hitsBy, sampledTold := 0, 0, make([]int, len(timeouts)), 0
	for line := range strings.Lines(string(labels)) {
		f := strings.Split(line, "\t")
		name, ok := strings.CutSuffix(f[0], ".conn.log")
		if !ok || f[5] == "beacon-reply" {
			continue
		}
		inventory, log := filepath.Join(dir, "inventory", name+".json"), filepath.Join(dir, "c2", name+".conn.log")
		rows := zeekRows(t, log)
		matches := func(v realFinding) bool {
			if f[2] == "*" { // no pair of its own: the detector of its kind must speak
				kind := map[string]string{"scan": "scan", "dga": "dga", "rat-exfil": "egress"}[f[5]]
				return v.Severity != "info" && strings.HasPrefix(v.Detector, kind)
			}
			return v.Severity != "info" && strings.HasPrefix(v.Subject, f[2])
		}
		all := realFindings(t, "--inventory", inventory, log)
		n++
		cells := []string{name, f[5], "no: " + missing[name], "", "", ""}
		if i := slices.IndexFunc(all, matches); i >= 0 {
			hits++
			beats, first := 0, -1.
			for _, r := range rows {
				if r.from.String() == f[1] && (f[2] == "*" || r.to.String() == f[2]) && r.at <= float64(all[i].Time.UnixMicro())/1e6 {
					if first < 0 {
						first = r.at
					}
					beats++
				}
			}
			minutes := (float64(all[i].Time.UnixMicro())/1e6 - first) / 60
			cells = []string{name, f[5], all[i].Severity, all[i].Detector, fmt.Sprint(beats), fmt.Sprintf("%.1f", minutes)}
		} else if missing[name] == "" {
			t.Errorf("%s is not found, and no reason is known: %v", name, all)
		}
		if full {
			for k, timeout := range append(timeouts, 0) {
				capture := asExports(rows, max(timeout, 60))
				if timeout == 0 {
					capture = saysSampled(capture, 100)
				}
				path := write(t, filepath.Join(t.TempDir(), "router.pcap"), capture)
				said := realFindings(t, "--inventory", inventory, "--format", "netflow", path)
				cell := "no"
				if slices.ContainsFunc(said, matches) {
					cell = "yes"
					if timeout > 0 {
						hitsBy[k]++
					}
				}
				if timeout == 0 {
					for _, v := range said {
						if v.Detector == "beacon" {
							sampledTold++
						}
					}
				}
				cells = append(cells, cell)
			}
		}
		found.Rows = append(found.Rows, cells)
		eval.Progress("real: %s", strings.Join(cells, ", "))
	}
	exact := func(f eval.Figure) eval.Figure { f.Exact = true; return f }
	part.Add("c2.found", exact(eval.Share(hits, n)))
	if full {
		for k, timeout := range timeouts {
			f := exact(eval.Share(hitsBy[k], n))
			f.Floor = float64(hits)/float64(n) - .05
			part.Add(fmt.Sprintf("c2.found_netflow_%.0f", timeout), f)
		}
		part.Add("c2.beacons_of_sampled", eval.Figure{Value: float64(sampledTold), N: n, Lower: true, Exact: true})
	}
	part.Tables = append(part.Tables, found, benignHosts(t, dir, &part))
	if err := part.Save(); err != nil {
		t.Fatal(err)
	}
}

// benignHosts counts what is told of hosts without command and control, in incidents.
func benignHosts(t *testing.T, dir string, part *eval.Part) eval.Table {
	table := eval.Table{Title: "Hosts without any", Columns: []string{"set", "hours", "pages", "inbox incidents (low or medium)", "per host-day", "what"}}
	pages, inbox, days := 0, 0, 0.
	for _, name := range []string{"ctu-normal-40-day1", "ctu-normal-42-day2", "ctu-linux-2023-02-20"} {
		log := filepath.Join(dir, "benign", name+".conn.log")
		rows := zeekRows(t, log)
		hours := (rows[len(rows)-1].at - rows[0].at) / 3600
		text, _ := replayed(t, 0, nil, "-o", "jsonl", "--inventory", filepath.Join(dir, "inventory", name+".json"), log)
		high, low, what := 0, 0, []string{}
		for _, line := range lines(text) {
			var v realFinding
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatal(err)
			}
			switch v.Severity {
			case "high", "critical":
				high++
			case "low", "medium":
				low++
			default:
				continue
			}
			what = append(what, strings.ReplaceAll(v.Summary, "|", "/"))
		}
		pages, inbox, days = pages+high, inbox+low, days+hours/24
		table.Rows = append(table.Rows, []string{name, fmt.Sprintf("%.1f", hours), fmt.Sprint(high), fmt.Sprint(low), fmt.Sprintf("%.2f", float64(low)/hours*24), strings.Join(what, "; ")})
	}
	if pages > 2 { // those that are known and published
		t.Errorf("%d pages of hosts without command and control: %v", pages, table.Rows)
	}
	rate, page := eval.Rate(inbox, days), eval.Rate(pages, days)
	rate.Exact, page.Exact, rate.Floor = true, true, 1
	page.Floor = .001 // none
	part.Add("benign.inbox_per_host_day", rate)
	part.Add("benign.pages_per_host_day", page)
	table.Rows = append(table.Rows, []string{"all", fmt.Sprintf("%.1f", 24*days), fmt.Sprint(pages), fmt.Sprint(inbox), rate.Digits(2), ""})
	return table
}
