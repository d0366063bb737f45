package baseline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wharfwatch/wharfwatch/flow"
)

func TestIndicators(t *testing.T) {
	var x Indicators
	ok := func(line, kind, value string) {
		t.Helper()
		n := x.Len()
		if err := x.ParseLine("l", line); err != nil || x.Len() != n+1 || x.all[n].Kind != kind || x.all[n].Value != value {
			t.Errorf("%q: %v, %+v", line, err, x.all[n:])
		}
	}
	bad := func(line, want string) {
		t.Helper()
		if err := x.ParseLine("l", line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", line, err, want)
		}
	}
	ok("203.0.113.9", "ip", "203.0.113.9")
	ok("ip:203.0.113.10 x", "ip", "203.0.113.10")
	ok("2001:db8::1", "ip", "2001:db8::1")
	ok("198.51.100.0/24", "network", "198.51.100.0/24")
	ok("198.51.100.128/25;narrow", "network", "198.51.100.128/25")
	ok("2001:db8:1::/48", "network", "2001:db8:1::/48")
	ok("Evil[.]Example.COM, c2", "domain", "Evil[.]Example.COM")
	ok("*.other.example.com", "domain", "*.other.example.com")
	ok("0.0.0.0 hosts.example.net", "domain", "hosts.example.net")
	ok("sni:name.example.org", "sni", "name.example.org")
	ok("t13d1516h2_8daaf6152771_e5627efa2ab1", "ja4", "t13d1516h2_8daaf6152771_e5627efa2ab1")
	n := x.Len()
	for _, line := range []string{"", "  ", "# comment", "203.0.113.9 again"} {
		if err := x.ParseLine("l", line); err != nil || x.Len() != n {
			t.Errorf("%q: %v", line, err)
		}
	}
	bad("0.0.0.0/0", "too wide")
	bad("10.0.0.1", "no public address")
	bad("127.0.0.1", "nobody's")
	bad("co.uk", "nobody's own domain")
	bad("localhost", "neither")
	bad("http://example.com/path", "neither")
	bad("ip:example.com", "no address")
	bad("ja4:abc", "no JA4")
}

func TestIndicatorsFind(t *testing.T) {
	var x Indicators
	for _, line := range []string{"198.51.100.0/24 wide", "198.51.100.128/25 narrow", "2001:db8:1::/48 six", "203.0.113.9 one"} {
		if err := x.ParseLine("l", line); err != nil {
			t.Fatal(err)
		}
	}
	for addr, want := range map[string]string{
		"198.51.100.1": "wide", "198.51.100.200": "narrow", "203.0.113.9": "one", "203.0.113.8": "", "2001:db8:1::5": "six", "2001:db8:2::5": "",
	} {
		a, err := flow.ParseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if hit := x.ofAddr(a); hit != nil {
			got = hit.Text
		}
		if got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
		if n := testing.AllocsPerRun(50, func() { x.ofAddr(a); x.ofName("a.b.c.example.com", true) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// Lists can be exchanged while the engine runs, and a workload is told with at most so many in a day.
func TestIntelIsBounded(t *testing.T) {
	told := 0
	e := New(Default(), nil, func(f Finding) {
		if f.Detector == "intel" {
			told++
		}
	})
	var x Indicators
	for i := range 200 {
		if err := x.ParseLine("l", fmt.Sprintf("203.0.113.%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	all := func() int {
		told = 0
		for i := range 200 {
			c := call{from: box("a", "name:a", ""), addr: fmt.Sprintf("203.0.113.%d", i), port: 443, proto: flow.TCP}
			e.Flow(c.flow())
		}
		e.Tick(e.env.now + dayNS*40000)
		return told
	}
	if n := all(); n != 0 {
		t.Errorf("told %d times without a list", n)
	}
	e.SetIndicators(&x)
	if n := all(); n != maxHits {
		t.Errorf("told %d times, want %d", n, maxHits)
	}
}
