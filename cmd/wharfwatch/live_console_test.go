package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/cmd/wharfwatch/demo"
	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/rig"
)

const hostile = `<img src=x onerror="document.title='owned'"><script>alert(1)</script>`

// playInto plays the demo's scene to a monitor that does not run yet; a copy of a privileged container has a hostile name.
func playInto(t *testing.T, m *monitor) {
	t.Helper()
	scene, err := demo.New()
	if err != nil {
		t.Fatal(err)
	}
	set, pool, clock := metrics.NewSet(), flow.NewPool(4), flow.NewClock(0)
	clock.SetLimit(m.config.Flow.ActiveTimeout() + m.config.Flow.Slack())
	for part := range scene.Parts {
		m.detectors.SetQuiet(!part.Until.After(demo.Day))
		for i := range part.Events {
			ev := part.Events[i]
			m.event(&ev)
			if c := ev.Container; c != nil && c.Name == "upgrade" {
				copied := *c
				copied.Name, copied.Image, copied.Workload, copied.ID = hostile, "acme/"+hostile, "name:"+hostile, strings.Repeat("f", 64)
				ev.Container = &copied
				m.event(&ev)
			}
		}
		router := flow.OpenDatagrams("demo", bytes.NewReader(part.Exports), pool, set)
		err := router.Run(t.Context(), func(b *flow.Batch) {
			arrival := b.Arrival
			clock.Observe(b.Source, b.Watermark, arrival)
			m.batch(b)
			if at, ok := clock.Watermark(arrival); ok {
				m.advance(at)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestLiveConsole does the triage walk in a real browser on a running monitor, by keyboard: inbox, evidence, acknowledge, allow with
// preview, closed, reopened. No page may break the policy, ask another host for anything, or be wider than a phone. WHARFWATCH_SHOTS names
// a directory for screenshots of every page.
func TestLiveConsole(t *testing.T) {
	b := rig.OpenBrowser(t)
	c := quietConfig(t, "console.listen=127.0.0.1:0", "flow.netflow=127.0.0.1:0", "alerts.resolve_after=0s")
	m, err := open(t.Context(), c, toBuffer(new(bytes.Buffer)))
	if err != nil {
		t.Fatal(err)
	}
	playInto(t, m)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := m.db.Close(); err != nil {
			t.Error(err)
		}
	})
	base := strings.TrimSuffix(m.console.URL(), "/")
	policy := webPolicyOf(t, base)
	if policy == "" {
		unbuilt(t)
	}

	// The page that must report: the same policy, and an inline script.
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", policy)
		io.WriteString(w, `<!doctype html><title>control</title><p style="color:red">x</p><script>document.title = "ran"</script>`)
	}))
	defer control.Close()
	b.Visit(control.URL)
	b.Wait(`document.readyState === "complete" && document.title === "control"`)
	if reports := strings.Join(b.Reports(), "\n"); !strings.Contains(reports, "script-src") || !strings.Contains(reports, "style-src") {
		t.Fatalf("the control page does not report: %s", reports)
	}
	before := len(b.Requests())

	b.Look(1280, 900, "light")
	b.Visit(base + "/")
	b.Wait(`document.querySelectorAll(".inbox li").length >= 6 && document.querySelector(".live:not(.off)")`)
	if got := b.Text(`document.querySelector(".inbox").textContent.includes("<img src=x") + " " + document.querySelectorAll("main img, main script").length + " " + document.title`); got != "true 0 Inbox · Wharfwatch" {
		t.Errorf("the hostile name: %s", got)
	}

	// To the beacon, by keyboard.
	const current = `document.querySelector(".inbox li[aria-current]").textContent`
	for range 20 {
		if strings.Contains(b.Text(current), "shop-worker-1") {
			break
		}
		was := b.Text(current)
		b.Press("j")
		b.Wait(current + " !== " + fmt.Sprintf("%q", was))
	}
	b.Press("Enter")
	const page = `document.querySelector("main").innerText`
	for _, answer := range []string{"compose:shop/worker", "First seen", "Why it is not normal", "told from 12", "confidence exact", "What to do: beacon", "Timeline"} {
		b.Wait(page + fmt.Sprintf(".includes(%q)", answer))
	}
	id := b.Text(`location.pathname.split("/")[2]`)
	b.Press("a")
	b.Wait(`document.querySelector(".incident .chip.acknowledged")`)
	b.Press("x")
	b.Wait(`document.querySelector("#preview")?.innerText.includes("would have hidden 1 incident")`)
	shots(t, b, "allow")
	b.Wait(`document.querySelector("dialog textarea").focus() === undefined && document.activeElement.name === "comment"`)
	b.Type("our own updater")
	b.Press("Tab")
	b.Type("alice")
	b.Press("Tab")
	b.Wait(`document.activeElement.type === "submit"`)
	b.Press("Enter")
	b.Wait(`document.querySelector(".incident .chip.closed")?.innerText.includes("benign")`)
	if rules := m.incidents.AllowList(); len(rules) != 1 || rules[0].Comment != "our own updater" || rules[0].Owner != "alice" || rules[0].Hits != 1 {
		t.Errorf("the rules: %+v", rules)
	}
	b.Press("r")
	b.Wait(`document.querySelector(".incident .chip.open")`)
	b.Wait(page + `.includes("reopened, generation 2")`)
	b.Press("u")

	// What happens elsewhere shows by itself.
	b.Wait(`location.pathname === "/" && document.querySelectorAll(".inbox li").length >= 6`)
	n := b.Text(`document.querySelectorAll(".inbox li").length`)
	if _, err := m.incidents.Close(id, "true-positive", "bob", "it was one"); err != nil {
		t.Fatal(err)
	}
	b.Wait(`document.querySelectorAll(".inbox li").length === ` + n + ` - 1`)

	// Every page, light and dark, at a desk and on a phone.
	for _, p := range []struct{ name, path, shows string }{
		{"inbox", "/", ".inbox li"},
		{"closed", "/?state=closed", ".inbox li"},
		{"incident", "/incidents/" + id, ".evidence"},
		{"spike", "/incidents/" + incidentOf(t, m, "compose:shop/api"), ".picture"},
		{"hostile", "/incidents/" + incidentOf(t, m, "name:"+hostile), ".evidence"},
		{"workloads", "/workloads", "tbody tr"},
		{"sources", "/sources", ".sources li"},
		{"rules", "/rules", ".sources li"},
		{"detection", "/detections/beacon", ".markdown table"},
		{"about", "/about", "kbd"},
		{"none", "/?search=zzzz", ".empty"},
	} {
		for _, colours := range []string{"light", "dark"} {
			for _, width := range []int{1280, 390} {
				b.Look(width, 900, colours)
				b.Visit(base + p.path)
				b.Wait(`document.querySelector("` + p.shows + `")`)
				if width == 390 {
					b.Wait(`document.documentElement.clientWidth === 390 || document.documentElement.clientWidth > 390`)
					if over := b.Text(`document.documentElement.scrollWidth`); over != "390" {
						t.Errorf("%s is %s px wide on a phone of 390", p.name, over)
					}
				}
				shots(t, b, fmt.Sprintf("%s-%s-%d", p.name, colours, width))
			}
		}
	}
	if reports := b.Reports(); len(reports) > 0 {
		t.Errorf("reports:\n%s", strings.Join(reports, "\n"))
	}
	for _, r := range b.Requests()[before:] {
		if !strings.HasPrefix(r, base+"/") && !strings.HasPrefix(r, "data:") && !strings.HasPrefix(r, control.URL+"/") {
			t.Errorf("a request leaves the monitor: %s", r)
		}
	}
	if log, err := m.incidents.Audit(id); err != nil || len(log) < 4 {
		t.Errorf("the audit: %v %v", log, err)
	}
}

// TestLiveLogin logs in and out in a real browser: by TLS beyond loopback, and on loopback where the configuration asks for it.
func TestLiveLogin(t *testing.T) {
	b := rig.OpenBrowser(t)
	b.TakeAnyCertificate()
	for _, c := range []struct{ name, listen, login string }{{"beyond loopback", "0.0.0.0:0", "auto"}, {"loopback", "127.0.0.1:0", "always"}} {
		t.Run(c.name, func(t *testing.T) {
			var said bytes.Buffer
			m, err := open(t.Context(), quietConfig(t, "console.listen="+c.listen, "console.login="+c.login), toBuffer(&said))
			if err != nil {
				t.Fatal(err)
			}
			ctx, end := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.run(ctx) }()
			defer func() {
				end()
				if err := errors.Join(<-done, m.db.Close()); err != nil {
					t.Error(err)
				}
			}()
			user, made := m.console.First()
			if !made || !strings.Contains(said.String(), user.Secret) {
				t.Fatalf("the first password is not said:\n%s", said.String())
			}
			address, err := url.Parse(m.console.URL())
			if err != nil {
				t.Fatal(err)
			}
			address.Host = net.JoinHostPort("127.0.0.1", address.Port())
			if webPolicyOf(t, strings.TrimSuffix(address.String(), "/")) == "" {
				unbuilt(t)
			}
			b.Visit(address.String())
			b.Wait(`document.querySelector("form.login")`)
			log := func(password string) {
				b.Wait(`document.querySelector("input[name=name]").focus() === undefined`)
				b.Text(`document.querySelectorAll("form.login input").forEach((i) => { i.value = "" })`)
				b.Type(user.Name)
				b.Press("Tab")
				b.Type(password)
				b.Press("Enter")
			}
			log("wrong")
			b.Wait(`document.querySelector("[role=alert]").innerText.includes("wrong")`)
			log(user.Secret)
			b.Wait(`document.querySelector(".empty") && document.querySelector(".live:not(.off)")`)
			if got := b.Text("document.cookie"); got != "" {
				t.Errorf("a script can read %s", got)
			}
			b.Visit(address.String() + "about")
			b.Wait(`document.querySelector("main").innerText.includes("Logged in as admin")`)
			b.Wait(`[...document.querySelectorAll("button")].find((x) => x.innerText === "Log out").click() === undefined`)
			b.Wait(`document.querySelector("form.login")`)
			b.Visit(address.String())
			b.Wait(`document.querySelector("form.login")`)
			if reports := b.Reports(); len(reports) > 0 {
				t.Errorf("reports:\n%s", strings.Join(reports, "\n"))
			}
		})
	}
}

func shots(t *testing.T, b *rig.Browser, name string) {
	if dir := os.Getenv("WHARFWATCH_SHOTS"); dir != "" {
		b.Wait(`new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))`)
		b.Screenshot(filepath.Join(dir, name+".png"))
	}
}

func incidentOf(t *testing.T, m *monitor, workload string) string {
	t.Helper()
	for _, i := range m.incidents.Incidents() {
		if i.Workload == workload {
			return i.ID
		}
	}
	t.Fatalf("no incident of %s", workload)
	return ""
}

// unbuilt skips, or fails where CI is true.
func unbuilt(t *testing.T) {
	t.Helper()
	const why = "the web console is not built in: make web"
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// webPolicyOf is the policy of the bundled page; "" when there is none.
func webPolicyOf(t *testing.T, base string) string {
	t.Helper()
	anyone := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true} // it is our own
	resp, err := (&http.Client{Timeout: 10 * time.Second, Transport: anyone}).Get(base + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "/assets/main-") {
		return ""
	}
	return resp.Header.Get("Content-Security-Policy")
}
