package baseline

import (
	"fmt"
	"testing"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

func TestDomainOf(t *testing.T) {
	f := func(name, want string, real bool) {
		t.Helper()
		if got, ok := domainOf(name); got != want || ok != real {
			t.Errorf("%s: %q %v, want %q %v", name, got, ok, want, real)
		}
	}
	f("a.b.example.com", "example.com", true)
	f("a.b.example.co.uk", "example.co.uk", true)
	f("bucket.s3.amazonaws.com", "bucket.s3.amazonaws.com", true)
	f("x.someone.github.io", "someone.github.io", true)
	f("example.com", "example.com", true)
	f("com", "com", false)
	f("redis", "redis", false)
	f("", "", false)
	f("web.shop.svc.cluster.local", "cluster.local", false)
	f("4.3.2.1.in-addr.arpa", "in-addr.arpa", false)
	f("api.github.com.corp", "com.corp", false)
	f("a..b", ".b", false)
}

func TestLooksRandom(t *testing.T) {
	for label, want := range map[string]bool{
		"qkxjwzvbtrpd": true, "x7f3k9q2": true, "umttbneeadzlui": true, "jgqkbjxbhslm": true, "a1b2c3d4e5": true,
		"example": false, "cloudflare": false, "googleusercontent": false, "strengths": true, "abc": false, "stackoverflow": false, "office365": true,
	} {
		if got := looksRandom(label); got != want {
			t.Errorf("%s: %v, want %v", label, got, want)
		}
	}
}

// asks sends DNS answers for one workload.
func asks(e *Engine, c *enrich.Container, at int64, name string, rcode uint8) {
	e.Name(&enrich.Name{Container: c, Name: flow.Name{Time: at, Kind: flow.NameDNS, Name: name, RCode: rcode, QType: 1, Port: 53}})
}

// A workload that asks below a million domains pushes out its own, not those of others; in all no more than max_domains stay.
func TestDNSTunnelIsBounded(t *testing.T) {
	c := Default()
	c.DNSTunnel.MaxDomains, c.DNSTunnel.MaxDomainsPerWorkload = 100, 40
	e := New(c, nil, func(Finding) {})
	quiet := box("quiet", "name:quiet", "")
	asks(e, quiet, epoch, "www.example.com", 0)
	for w := range 3 {
		loud := box(fmt.Sprint("loud", w), fmt.Sprint("name:loud", w), "")
		for i := range 1000 {
			asks(e, loud, epoch+int64(i)*sec, fmt.Sprintf("a.domain%d.com", i), 0)
		}
	}
	d := detectorOf[*dnsTunnel](e)
	total := 0
	for _, a := range d.byIndex {
		if total += len(a.domains); len(a.domains) > 40 {
			t.Errorf("%s has %d domains", a.w.name, len(a.domains))
		}
	}
	if total != 100 || d.count != total {
		t.Errorf("%d domains, counted %d, want 100", total, d.count)
	}
	if got := len(d.of(e.env.learning.named("name:quiet")).domains); got != 1 {
		t.Errorf("the quiet one has %d domains", got)
	}
	if want := uint64(3001 - total); d.evicted.Get() != want {
		t.Errorf("evicted %d, want %d", d.evicted.Get(), want)
	}
	d.forget(e.env.learning.named("name:loud0"))
	if d.count >= total {
		t.Error("nothing was forgotten")
	}
}

func TestDGARestore(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	for i := range 40 {
		asks(e, box("a", "name:a", ""), epoch+int64(i)*sec, fmt.Sprintf("xkqjwrtz%d.com", i), nxDomain)
	}
	e.Tick(epoch + hour)
	checkRoundTrip(t, e, "dga", func(e *Engine) { touchAll(&detectorOf[*dga](e).memory) })
}

// On the fourth day of dead domains it is the workload's way; ten times as many are told again.
func TestDGAHabit(t *testing.T) {
	told := map[int64]int{}
	e := New(Default(), nil, func(f Finding) { told[(f.Time-epoch)/dayNS]++ })
	for day := range int64(8) {
		n := 12
		if day == 7 {
			n = 60
		}
		for i := range n {
			asks(e, box("a", "name:a", ""), epoch+day*dayNS+int64(i)*sec, fmt.Sprintf("dead-shop-%d.com", i), nxDomain)
		}
		e.Tick(epoch + day*dayNS + hour)
	}
	for day, want := range []int{1, 1, 1, 0, 0, 0, 0, 1} {
		if told[int64(day)] != want {
			t.Errorf("day %d: told %d times, want %d", day, told[int64(day)], want)
		}
	}
}

func TestDNSBypassRestore(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	for i := range 5 {
		c := call{from: box("a", "name:a", ""), addr: fmt.Sprintf("203.0.113.%d", i), port: 53, proto: flow.UDP}
		e.Flow(c.flow())
	}
	e.Tick(epoch + dayNS)
	checkRoundTrip(t, e, "dns-bypass", func(e *Engine) {
		d := detectorOf[*dnsBypass](e)
		if len(d.askers) != 5 {
			t.Errorf("%d resolvers are known, want 5", len(d.askers))
		}
		touchAll(&d.memory)
	})
	d := detectorOf[*dnsBypass](e)
	d.forget(e.env.learning.named("name:a"))
	if len(d.askers) != 0 {
		t.Errorf("%d resolvers of a forgotten workload", len(d.askers))
	}
}
