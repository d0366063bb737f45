package baseline

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// dataDir is the data pack with real traffic beside the project, see its README.
func dataDir(t *testing.T) string {
	dir := os.Getenv("WHARFWATCH_DATA")
	if dir == "" {
		dir = "../../shared/data"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no data pack: %v (WHARFWATCH_DATA names its folder)", err)
	}
	return dir
}

// zeekCalls reads a conn.log as calls of the containers of its inventory.
func zeekCalls(t *testing.T, dir, kind, name string) (calls []call) {
	t.Helper()
	inventory, err := os.ReadFile(filepath.Join(dir, "inventory", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name            string
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress, NetworkID string }
		}
	}
	if err := json.Unmarshal(inventory, &list); err != nil {
		t.Fatal(err)
	}
	boxes := map[string]*enrich.Container{}
	for _, c := range list {
		for _, n := range c.NetworkSettings.Networks {
			boxes[n.IPAddress] = box(strings.TrimPrefix(c.Name, "/"), "name:"+c.Name, n.NetworkID)
		}
	}
	file, err := os.Open(filepath.Join(dir, kind, name+".conn.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	number := func(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n }
	in := bufio.NewScanner(file)
	first := math.Inf(1)
	var starts []float64
	for in.Scan() {
		f := strings.Split(in.Text(), "\t")
		if strings.HasPrefix(in.Text(), "#") || len(f) < 12 || boxes[f[2]] == nil {
			continue
		}
		ts, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		proto := map[string]uint8{"tcp": flow.TCP, "udp": flow.UDP, "icmp": flow.ICMP}[f[6]]
		calls = append(calls, call{
			from: boxes[f[2]], to: boxes[f[4]], addr: f[4], port: uint16(number(f[5])), proto: proto,
			sent: number(f[9]), recv: number(f[10]),
		})
		starts = append(starts, ts)
		first = min(first, ts)
	}
	for i := range calls {
		calls[i].at = int64((starts[i]-first)*1000) * 1e6
	}
	return inOrder(calls)
}

// TestBeaconRealTraffic: command and control as captured must be told, and a day of hosts without any must bring no high finding.
func TestBeaconRealTraffic(t *testing.T) {
	dir := dataDir(t)
	for _, test := range []struct {
		name, subject string
		least         Severity
		period        float64
	}{
		{"http-beacon-27s", "68.183.138.51:80/tcp", High, 27.1},
		{"njrat-001", "41.108.179.197:1177/tcp", High, 11.5},
		{"poshc2-csv", "198.51.100.1:80/tcp", High, 5.02},
		{"empire-csv", "198.51.100.1:80/tcp", Medium, 5.05},
		{"c2-retry-test18", "66.63.168.35:5888/tcp", Medium, .53},
		{"quasarrat", "86.136.67.231:1337/tcp", Medium, 3.54},
		{"empire-lab-a", "192.168.1.161:80/tcp", Low, 5.08}, // even, and to a private address
		{"empire-lab-c", "192.168.1.161:80/tcp", Low, 5.08},
	} {
		findings := told(Default(), zeekCalls(t, dir, "c2", test.name))
		if !slices.ContainsFunc(findings, func(f Finding) bool {
			return f.Subject == test.subject && f.Severity >= test.least && math.Abs(f.Evidence["period_seconds"].(float64)-test.period) < .1*test.period
		}) {
			t.Errorf("%s: %s is not told: %v", test.name, test.subject, lines(findings))
		}
	}
	for _, name := range []string{"ctu-normal-40-day1", "ctu-normal-42-day2", "ctu-linux-2023-02-20"} {
		for _, f := range told(Default(), zeekCalls(t, dir, "benign", name)) {
			if f.Severity >= High {
				t.Errorf("%s: %s", name, f.Summary)
			}
		}
	}
}
