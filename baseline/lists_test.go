package baseline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

func TestLists(t *testing.T) {
	for name, text := range map[string]string{"tunnel-tools": tunnelToolsText, "mining-pools": miningPoolsText} {
		e, err := parseEndpoints(text)
		if err != nil || len(e.domains) < 40 || len(e.ports) < 5 {
			t.Errorf("%s: %d domains, %d ports, %v", name, len(e.domains), len(e.ports), err)
		}
		lines := 0
		for line := range strings.Lines(text) {
			if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
				lines++
			}
		}
		if lines != len(e.domains)+len(e.ports) {
			t.Errorf("%s: %d lines, %d entries: one stands twice", name, lines, len(e.domains)+len(e.ports))
		}
	}
	f := func(text, want string) {
		t.Helper()
		if _, err := parseEndpoints(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	f("domain a.example\n", "line 1: a line is")
	f("# x\nname a.example x\n", `line 2: unknown kind "name"`)
	f("domain .Example x\n", "line 1: a domain is in lower case")
	f("port 70000/tcp x\n", `line 1: "70000/tcp" is no port`)
	f("port 7000/sctp x\n", `line 1: "7000/sctp" is no port`)
}

func TestNearest(t *testing.T) {
	domains := map[string]string{"ngrok.io": "ngrok", "b.example.com": "b"}
	for name, want := range map[string]string{
		"ngrok.io": "ngrok", "a.b.ngrok.io": "ngrok", "notngrok.io": "", "io": "", "": "", ".": "", "a..ngrok.io": "ngrok", "c.example.com": "", "b.example.com": "b",
	} {
		if got, _ := nearest(domains, name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { nearest(domains, "a.b.c.d.ngrok.io") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestExposedAPIRestore(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	for i := range 80 {
		c := call{from: box("a", "name:a", ""), addr: fmt.Sprintf("203.0.113.%d", i), port: 2375, proto: flow.TCP}
		f := c.flow()
		f.TotalReceived = 1000
		e.Flow(f)
	}
	e.Tick(epoch + dayNS)
	if n := len(detectorOf[*exposedAPI](e).byIndex[0].v.known); n != maxContacts {
		t.Errorf("%d contacts are kept, want %d", n, maxContacts)
	}
	checkRoundTrip(t, e, "exposed-api", func(e *Engine) { touchAll(&detectorOf[*exposedAPI](e).memory) })
}

func TestTunnelToolRestore(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	for _, name := range []string{"a.ngrok.io", "b.loca.lt", "c.serveo.net"} {
		e.Name(&enrich.Name{Container: box("a", "name:a", ""), Name: flow.Name{Time: epoch, Kind: flow.NameTLS, Name: name}})
	}
	e.Tick(epoch + dayNS)
	checkRoundTrip(t, e, "tunnel-tool", func(e *Engine) { touchAll(&detectorOf[*tunnelTool](e).memory) })
}

// A pool is told once a day, and again when it is called and not only looked up.
func TestMinerTellsOnceADay(t *testing.T) {
	var told []Severity
	e := New(Default(), nil, func(f Finding) { told = append(told, f.Severity) })
	for hours := range int64(48) {
		for _, kind := range []flow.NameKind{flow.NameDNS, flow.NameTLS, flow.NameDNS} {
			e.Name(&enrich.Name{Container: box("a", "name:a", ""), Name: flow.Name{Time: epoch + hours*hour, Kind: kind, Name: "xmr.2miners.com"}})
		}
		e.Tick(epoch + hours*hour + sec)
	}
	if fmt.Sprint(told) != "[medium high medium high]" {
		t.Errorf("told %v", told)
	}
	d := detectorOf[*miner](e)
	d.forget(e.env.learning.named("name:a"))
	if d.byIndex[0] != nil {
		t.Error("not forgotten")
	}
}
