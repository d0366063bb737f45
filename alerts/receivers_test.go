package alerts

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Names that somebody else chose.
var hostile = []string{
	"<!channel> <@U1|x> &amp; *_~`",
	"safe\u202egnp.exe\u2066\u200b",
	"line\r\nbreak\x00\x1b[31m\xff\ufffe",
	strings.Repeat("long<&>", 1500),
	"",
}

func hostileIncident(t *testing.T, name string, findings int) Incident {
	m := memoryManager(t, Default())
	for i := range findings {
		f := finding("beacon", name, fmt.Sprintf("%s:%d/tcp", name, i), start+int64(i)*minute, baseline.Severity(i%4), .5+float64(i%50)/100)
		f.Summary, f.Attack = fmt.Sprintf("%s calls %s", name, name), []string{name, "T1071.001"}
		f.Evidence["name"], f.Evidence[name] = name, name
		f.Instance = &enrich.Container{ID: name, Name: name, Image: name}
		m.Finding(f)
	}
	in := only(t, m)
	if name == "" {
		in.ID = strings.Repeat("0", 16)
	}
	return in
}

func message(tr Transition, in Incident) Message {
	at := Wall(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	return Message{ID: "msg_1", Transition: tr, Key: in.Key(), Reason: "new finding of beacon", At: at, Attempt: at, Incident: in}
}

func receivers(t *testing.T, c Config) []*Receiver {
	t.Helper()
	rs, err := c.Receivers()
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func everyReceiver(t *testing.T) []*Receiver {
	c := allReceivers()
	c.JSONL = []JSONL{{Common: Common{Name: "file"}, Path: filepath.Join(t.TempDir(), "out.jsonl")}}
	c.Teams = []Teams{{Common: Common{Name: "teams"}, WebhookURL: "http://vendor/teams"}}
	c.Discord = []Discord{{Common: Common{Name: "discord"}, WebhookURL: "http://vendor/discord?thread_id=7"}}
	c.Alertmanager = []Alertmanager{{Common: Common{Name: "am"}, URL: "http://vendor/am/"}}
	c.Email = []Email{{Common: Common{Name: "mail"}, Server: "mail.example.com:587", From: "Wharfwatch <wharfwatch@example.com>", To: []string{"soc@example.com"}}}
	for _, form := range []string{"cef", "ecs", "ocsf"} {
		c.Syslog = append(c.Syslog, Syslog{Common: Common{Name: form}, Address: "udp://192.0.2.1:514", Format: form, Hostname: "sensor"})
	}
	return receivers(t, c)
}

func TestGolden(t *testing.T) {
	m := memoryManager(t, Default())
	m.Finding(beacon(start + hour))
	m.Finding(finding("egress-spike", "compose:shop/worker", "198.51.100.7:443/tcp", start+2*hour, baseline.Medium, .8))
	evil := beacon(start + 3*hour)
	evil.Subject, evil.Summary = "<!channel>:443/tcp", "calls <!channel> & \u202ehtap\x07 every 60 s"
	m.Finding(evil)
	in := only(t, m)
	in.Container.Name = "<!here>\u202eevil\n"
	for _, r := range everyReceiver(t) {
		for _, tr := range []Transition{Trigger, Update, Resolve} {
			req, err := r.Render(message(tr, in))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			name := filepath.Join("testdata", fmt.Sprintf("%s-%s.json", r.Kind, tr))
			switch r.Kind {
			case "email":
				name = filepath.Join("testdata", fmt.Sprintf("%s-%s.eml", r.Kind, tr))
				got.Write(req.Body)
			case "syslog":
				name = filepath.Join("testdata", fmt.Sprintf("%s-%s-%s.txt", r.Kind, r.Name, tr))
				got.Write(append(req.Body, '\n'))
			default:
				if err := json.Indent(&got, req.Body, "", "  "); err != nil {
					t.Fatal(err)
				}
			}
			if *update {
				if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got.String()); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}

// Whatever people call their things, payloads stay within the vendors' limits and harmless.
func TestHostileNames(t *testing.T) {
	for _, name := range hostile {
		for _, n := range []int{1, 7, 150} {
			in := hostileIncident(t, name, n)
			for _, r := range everyReceiver(t) {
				for _, tr := range []Transition{Trigger, Update, Acknowledge, Resolve} {
					req, err := r.Render(message(tr, in))
					if err != nil {
						t.Fatal(err)
					}
					if r.Kind != "email" && r.Kind != "syslog" && !json.Valid(req.Body) || !utf8.Valid(req.Body) {
						t.Errorf("%s: no JSON", r.Kind)
					}
					switch r.Kind {
					case "discord":
						checkDiscord(t, req.Body)
					case "teams":
						checkTeams(t, req.Body)
					case "alertmanager":
						checkAlertmanager(t, req.Body)
					case "email":
						checkEmail(t, req.Body)
					case "syslog":
						checkSyslog(t, r.Name, req.Body)
					case "slack":
						checkSlack(t, req.Body)
					case "pagerduty":
						checkPagerDuty(t, req.Body)
					case "webhook":
						if len(req.Body) > maxWebhook {
							t.Errorf("webhook body of %d bytes", len(req.Body))
						}
						var e event
						if err := json.Unmarshal(req.Body, &e); err != nil || e.Data.ID != in.ID || len(e.Data.Findings) == 0 {
							t.Errorf("webhook: %v, %d findings", err, len(e.Data.Findings))
						}
					case "jsonl":
						if bytes.Count(req.Body, []byte("\n")) != 1 {
							t.Error("more than one line")
						}
					}
				}
			}
		}
	}
}

// harmless says what is wrong with a text that a person's client will show.
func harmless(t *testing.T, what, s string, markup bool) {
	t.Helper()
	for _, r := range s {
		if r != '\n' && (unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r)) {
			t.Errorf("%s: character %U", what, r)
			return
		}
	}
	if markup && strings.ContainsAny(s, "<>") {
		t.Errorf("%s: markup in %.100q", what, s)
	}
	if markup {
		for rest := s; ; {
			i := strings.IndexByte(rest, '&')
			if i < 0 {
				break
			}
			rest = rest[i:]
			if !strings.HasPrefix(rest, "&amp;") && !strings.HasPrefix(rest, "&lt;") && !strings.HasPrefix(rest, "&gt;") {
				t.Errorf("%s: an entity cut in two: %.20q", what, rest)
			}
			rest = rest[1:]
		}
	}
}

func checkSlack(t *testing.T, body []byte) {
	t.Helper()
	type text struct{ Type, Text string }
	var m struct {
		Text   string
		Blocks []struct {
			Type     string
			Text     *text
			Fields   []text
			Elements []text
			Title    string
			Chart    struct {
				Series []struct {
					Name string
					Data []struct{ Label string }
				}
				Axis struct {
					Categories []string
					X, Y       string
				} `json:"axis_config"`
			}
		}
	}
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	within := func(what, s string, least, most int) {
		t.Helper()
		if n := utf8.RuneCountInString(s); n < least || n > most {
			t.Errorf("%s has %d characters, want %d to %d", what, n, least, most)
		}
	}
	within("text", m.Text, 1, 4000)
	harmless(t, "text", m.Text, true)
	if len(m.Blocks) > 50 {
		t.Errorf("%d blocks", len(m.Blocks))
	}
	charts := 0
	for _, b := range m.Blocks {
		if b.Text != nil {
			most := 3000
			if b.Type == "header" {
				most = 150
			}
			within(b.Type, b.Text.Text, 1, most)
			harmless(t, b.Type, b.Text.Text, b.Text.Type == "mrkdwn")
		}
		if len(b.Fields) > 10 || len(b.Elements) > 10 {
			t.Errorf("%d fields, %d elements", len(b.Fields), len(b.Elements))
		}
		for _, f := range append(b.Fields, b.Elements...) {
			within("field", f.Text, 1, 2000)
			harmless(t, "field", f.Text, true)
		}
		if b.Type != "data_visualization" {
			continue
		}
		charts++
		within("chart title", b.Title, 1, 50)
		within("x label", b.Chart.Axis.X, 0, 50)
		seen := map[string]bool{}
		for _, c := range b.Chart.Axis.Categories {
			within("category", c, 1, 20)
			if seen[c] {
				t.Errorf("category %q twice", c)
			}
			seen[c] = true
		}
		if n := len(seen); n < 1 || n > 20 || len(b.Chart.Series) != 1 || len(b.Chart.Series[0].Data) != n {
			t.Errorf("%d categories, %d series", n, len(b.Chart.Series))
		}
	}
	if charts > 2 {
		t.Errorf("%d charts", charts)
	}
}

func checkPagerDuty(t *testing.T, body []byte) {
	t.Helper()
	var e pagerEvent
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	if len(body) > 512<<10 || len(e.RoutingKey) != 32 || e.DedupKey == "" || len(e.DedupKey) > 255 {
		t.Errorf("%d bytes, key %q, dedup_key %q", len(body), e.RoutingKey, e.DedupKey)
	}
	if e.EventAction != "trigger" {
		return
	}
	if n := utf8.RuneCountInString(e.Payload.Summary); n < 1 || n > 1024 || e.Payload.Source == "" {
		t.Errorf("summary of %d characters, source %q", n, e.Payload.Source)
	}
	if !strings.Contains("critical error warning info", e.Payload.Severity) {
		t.Errorf("severity %q", e.Payload.Severity)
	}
	harmless(t, "summary", e.Payload.Summary, false)
	harmless(t, "source", e.Payload.Source, false)
}

func TestPagerDutySeverityAndRegion(t *testing.T) {
	c := Default()
	c.PagerDuty = []PagerDuty{{Common: Common{Name: "eu"}, RoutingKey: strings.Repeat("k", 32), Region: "eu"}, {Common: Common{Name: "us"}, RoutingKey: strings.Repeat("k", 32)}}
	rs := receivers(t, c)
	for s, want := range map[baseline.Severity]string{baseline.Critical: "critical", baseline.High: "error", baseline.Medium: "warning", baseline.Low: "info", baseline.Info: "info"} {
		in := Sample()
		in.Severity = s
		req, err := rs[0].Render(message(Trigger, in))
		if err != nil || !strings.Contains(string(req.Body), `"severity":"`+want+`"`) || req.URL != "https://events.eu.pagerduty.com/v2/enqueue" {
			t.Errorf("%s: %v %s %s", s, err, req.URL, req.Body)
		}
	}
	if req, _ := rs[1].Render(message(Resolve, Sample())); req.URL != "https://events.pagerduty.com/v2/enqueue" {
		t.Error(req.URL)
	}
}

// The library that receivers use accepts our signatures, with the old and the new key.
func TestWebhookSignature(t *testing.T) {
	old, next := "whsec_"+strings.Repeat("QUJD", 8), "whsec_"+strings.Repeat("REVG", 16)
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(next+"\n"+old+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var bodies atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for _, key := range []string{old, next} {
			wh, err := standardwebhooks.NewWebhook(key)
			if err == nil {
				err = wh.Verify(body, r.Header)
			}
			if err != nil {
				t.Errorf("key %s: %v", key, err)
			}
			if wh.Verify(append(body, ' '), r.Header) == nil {
				t.Error("a changed body passes")
			}
		}
		if r.Header.Get("X-Team") != "blue" {
			t.Error("own header is missing")
		}
		bodies.Add(1)
	}))
	defer srv.Close()
	c := Default()
	c.Webhook = []Webhook{{Common: Common{Name: "hook"}, URL: srv.URL, SecretFile: file, Headers: []Header{{"X-Team", "blue"}}}}
	if out := Test(t.Context(), receivers(t, c)[0]); out.Verdict != OK || bodies.Load() != 1 {
		t.Error(out)
	}
	c.AddWebhook(srv.URL)
	req, err := receivers(t, c)[1].Render(message(Trigger, Sample()))
	if err != nil || req.Header.Get("webhook-signature") != "" || req.Header.Get("webhook-id") != "msg_1" {
		t.Error("an unsigned webhook", req.Header, err)
	}
}

// Against real sockets: what in-memory connections cannot show.
func TestRealNetwork(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // the server watches the connection only after that
		switch r.URL.Path {
		case "/hang":
			<-r.Context().Done()
		case "/reset":
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.(*net.TCPConn).SetLinger(0) // an RST instead of a FIN
				c.Close()
			}
		case "/flood":
			for range 100 {
				w.Write(bytes.Repeat([]byte("x"), 64<<10))
			}
		}
	}))
	defer srv.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	f := func(url string, linkLocal bool, want Judgement, reason string) {
		t.Helper()
		c := Default()
		c.AllowLinkLocal = linkLocal
		c.Webhook = []Webhook{{Common: Common{Name: "hook", Timeout: 300 * time.Millisecond}, URL: url + "?token=s3cr3t"}}
		r := receivers(t, c)[0]
		out := Test(t.Context(), r)
		if out.Verdict != want || !strings.Contains(out.Reason, reason) || strings.Contains(out.Reason, "s3cr3t") {
			t.Errorf("%s: %v %q, want %v with %q", url, out.Verdict, out.Reason, want, reason)
		}
	}
	f(srv.URL+"/fine", false, OK, "200")
	f(srv.URL+"/flood", false, OK, "200")
	f(srv.URL+"/hang", false, Retry, "timeout")
	f(srv.URL+"/reset", false, Retry, "read response")
	f("http://"+closed.Addr().String(), false, Retry, "connection refused")
}

func TestGuard(t *testing.T) {
	for addr, want := range map[string]bool{
		"169.254.169.254": true, "fe80::1": true, "fd00:ec2::254": true, "100.100.100.200": true, "::ffff:169.254.169.254": true, "0.0.0.0": true,
		"127.0.0.1": false, "::1": false, "10.0.0.1": false, "203.0.113.9": false, "fd00::1": false,
	} {
		if got := forbidden(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
	c := Default()
	c.AddWebhook("http://169.254.169.254/latest/meta-data")
	if _, err := c.Receivers(); err == nil {
		t.Error("a metadata address is taken")
	}
	c.AllowLinkLocal = true
	if _, err := c.Receivers(); err != nil {
		t.Error(err)
	}
	client := newClient(time.Second, false, nil)
	_, _, _, err := post(t.Context(), client, Request{URL: "http://169.254.169.254:1/", Header: http.Header{}}) // as a name would resolve
	if out := classify(0, nil, err, time.Now()); out.Verdict != Reject || !strings.Contains(out.Reason, "metadata") {
		t.Error(out)
	}
}

// No secret of the configuration is in what people see.
func TestSecretsStayIn(t *testing.T) {
	c := Default()
	c.Slack = []Slack{{Common: Common{Name: "chat"}, WebhookURL: "https://127.0.0.1:1/services/T0/CANARY1"}}
	c.PagerDuty = []PagerDuty{{Common: Common{Name: "pager"}, RoutingKey: "CANARY2" + strings.Repeat("k", 25), URL: "https://127.0.0.1:1/v2/enqueue"}}
	c.Webhook = []Webhook{{
		Common: Common{Name: "hook"}, URL: "https://u:CANARY3@127.0.0.1:1/x?token=CANARY4", Secret: "whsec_CANARY55" + strings.Repeat("QUJD", 10),
		Headers: []Header{{"Authorization", "Bearer CANARY6"}},
	}}
	for _, r := range receivers(t, c) {
		req, err := Preview(r, Sample())
		if err != nil {
			t.Fatal(err)
		}
		seen := fmt.Sprintf("%s %v %s %+v", req.URL, req.Header, req.Body, Test(t.Context(), r))
		if strings.Contains(seen, "CANARY") {
			t.Errorf("%s: %s", r.Name, seen)
		}
		if !strings.Contains(string(req.Body), "shop-worker-1") {
			t.Errorf("%s: the preview shows nothing", r.Name)
		}
	}
	for _, out := range []Outcome{
		receivers(t, c)[0].notifier.Classify(400, nil, []byte("no such hook https://127.0.0.1:1/services/T0/CANARY1"), nil),
	} {
		if got := redact(out.Reason, receivers(t, c)[0].secrets); strings.Contains(got, "CANARY") {
			t.Error(got)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for name, content := range map[string]string{"slack": " http://127.0.0.1/hook \n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := func(value, file, want string, ok bool) {
		t.Helper()
		got, err := secret(value, file)
		if got != want || (err == nil) != ok {
			t.Errorf("%q %q: %q, %v", value, file, got, err)
		}
	}
	f("v", "", "v", true)
	f("", "slack", "http://127.0.0.1/hook", true)
	f("", filepath.Join(dir, "slack"), "http://127.0.0.1/hook", true)
	f("", "empty", "", false)
	f("", "absent", "", false)
}

func TestJSONL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	c := Default()
	c.JSONL = []JSONL{{Common: Common{Name: "file"}, Path: path}}
	r := receivers(t, c)[0]
	for range 2 {
		if out := Test(t.Context(), r); out.Verdict != OK {
			t.Fatal(out)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var in struct {
		Transition string
		Incident
	}
	if err := json.Unmarshal([]byte(lines[1]), &in); len(lines) != 2 || err != nil || in.Transition != "trigger" || in.Workload != "compose:shop/worker" {
		t.Error(lines, err)
	}
	c.JSONL[0].Path = filepath.Join(path, "not a directory")
	if out := Test(t.Context(), receivers(t, c)[0]); out.Verdict != Retry {
		t.Error(out)
	}
}

func TestConfig(t *testing.T) {
	problems := func(change func(*Config)) (out []string) {
		c := allReceivers()
		change(&c)
		c.Validate(func(path, message string) { out = append(out, path+" "+message) })
		return out
	}
	if p := problems(func(*Config) {}); p != nil {
		t.Error(p)
	}
	f := func(want string, change func(*Config)) {
		t.Helper()
		if p := problems(change); len(p) != 1 || !strings.HasPrefix(p[0], want) {
			t.Errorf("%v, want %q", p, want)
		}
	}
	f("group_wait must not", func(c *Config) { c.GroupWait = -1 })
	f("repeat_interval below", func(c *Config) { c.RepeatInterval = time.Second })
	f("max_queue must", func(c *Config) { c.MaxQueue = 0 })
	f(`webhook[0].name "chat" is the name of slack[0]`, func(c *Config) { c.Webhook[0].Name = "chat" })
	f("slack[0].name is missing", func(c *Config) { c.Slack[0].Name = "" })
	f("slack[0].min_severity unknown severity", func(c *Config) { c.Slack[0].MinSeverity = "huge" })
	f("slack[0].webhook_url is missing", func(c *Config) { c.Slack[0].WebhookURL = "" })
	f("slack[0].webhook_url is given twice", func(c *Config) { c.Slack[0].WebhookURLFile = "x" })
	f("pagerduty[0].routing_key must have 32", func(c *Config) { c.PagerDuty[0].RoutingKey = "short" })
	f("pagerduty[0].region unknown", func(c *Config) { c.PagerDuty[0].Region = "mars" })
	f("webhook[0].url is no http", func(c *Config) { c.Webhook[0].URL = "ftp://x" })
	f("webhook[0].secret is no signing key", func(c *Config) { c.Webhook[0].Secret = "hunter2" })
	f("webhook[0].headers[0].name", func(c *Config) { c.Webhook[0].Headers = []Header{{"Webhook-Id", "x"}} })
	f("jsonl[0].path is missing", func(c *Config) { c.JSONL = []JSONL{{Common: Common{Name: "file"}}} })

	c := Default()
	c.AddWebhook("http://a")
	c.AddWebhook("http://b")
	if c.Webhook[0].Name != "webhook-1" || c.Webhook[1].Name != "webhook-2" || len(problems(func(c *Config) { c.AddWebhook("http://x") })) != 0 {
		t.Error(c.Webhook)
	}
	targets, rs := c.targets(), receivers(t, c)
	for i := range rs {
		if targets[i].name != rs[i].Name || targets[i].least != rs[i].MinSeverity {
			t.Error("the manager and the delivery disagree about receivers")
		}
	}
}

func TestText(t *testing.T) {
	f := func(in string, n int, want string) {
		t.Helper()
		if got := cut(in, n); got != want || utf8.RuneCountInString(got) > n {
			t.Errorf("cut(%.20q, %d) = %q, want %q", in, n, got, want)
		}
	}
	f("short", 5, "short")
	f("äöüäöüäöüäöüäöüäöü", 15, "äöüä… (14 more)")
	f(strings.Repeat("x", 200), 20, "xxxxxxxx… (192 more)")
	f("longer", 3, "lon")
	if got := clean("a\u202eb\x00c\nd\xffe"); got != "abc d?e" {
		t.Errorf("%q", got)
	}
	if got := sparkline([]float64{1, 2, 3, 8}); got != "▁▂▃█" {
		t.Error(got)
	}
	if got := sparkline([]float64{5, 5}); got != "▁▁" {
		t.Error(got)
	}
	labels, counts := histogram([]float64{1, 1, 2, 3}, 2)
	if d := cmp.Diff([]string{"1.5", "2.5"}, labels); d != "" || counts[0] != 2 || counts[1] != 2 {
		t.Error(labels, counts)
	}
	if labels, counts := histogram([]float64{7, 7}, 20); len(labels) != 1 || counts[0] != 2 {
		t.Error(labels, counts)
	}
}
