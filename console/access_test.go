package console

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/state"
)

// whole is every part of Deps, over a state file, with one incident.
func whole(t *testing.T) Deps {
	t.Helper()
	d := inventory()
	d.DataDir = t.TempDir()
	db, err := state.Open(d.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if d.Access, err = OpenAccess(db); err != nil {
		t.Fatal(err)
	}
	d.Alerts = manager(t)
	d.Detections = func() ([]Detection, error) {
		return []Detection{{ID: "beacon", Title: "calls", Text: "# beacon: calls"}}, nil
	}
	d.Notify = Notify{Receivers: func() []Receiver { return []Receiver{{Name: "team", Kind: "slack", MinSeverity: "low"}} }}
	return d
}

func manager(t *testing.T) *alerts.Manager {
	t.Helper()
	m, err := alerts.NewManager(alerts.Default(), &alerts.Memory{}, metrics.NewSet(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.Finding(finding("compose:shop/worker", "f1"))
	return m
}

func finding(workload, id string) baseline.Finding {
	return baseline.Finding{
		ID: id, Detector: "beacon", Time: int64(time.Hour), Workload: workload, Instance: &enrich.Container{ID: strings.Repeat("a", 64), Name: "w"},
		Subject: "203.0.113.9:443/tcp", Score: .9, Severity: baseline.High, Summary: "it calls home", Evidence: map[string]any{"period_seconds": 60.0},
	}
}

// ask sends a request with headers ("Name: value") and gives status, body and response.
func ask(t *testing.T, c *http.Client, method, url, body string, headers ...string) (int, string, *http.Response) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp
}

// TestForeignChanges holds which pages may ask for a change on loopback.
func TestForeignChanges(t *testing.T) {
	d := whole(t)
	s := start(t, "127.0.0.1:0", d)
	base := "http://" + s.Addr().String()
	id := d.Alerts.Incidents()[0].ID
	f := func(want int, headers ...string) {
		t.Helper()
		if got, text, _ := ask(t, http.DefaultClient, "POST", base+"/api/v1/incidents/"+id+"/reopen", `{"by":"alice"}`, headers...); got != want {
			t.Errorf("%v: %d, want %d: %s", headers, got, want, text)
		}
	}
	const let = 422 // the request got through: an open incident cannot be reopened
	f(let, "Origin: "+base)
	f(let, "Sec-Fetch-Site: same-origin")
	f(let, "Sec-Fetch-Site: same-origin", "Origin: "+base)
	f(403)
	f(403, "Sec-Fetch-Site: cross-site")
	f(403, "Sec-Fetch-Site: same-site")
	f(403, "Sec-Fetch-Site: none")
	f(403, "Origin: http://evil.example")
	f(403, "Origin: null")
	f(403, "Sec-Fetch-Site: same-origin", "Origin: http://evil.example")
	f(403, "Origin: http://127.0.0.1:1")
	f(415, "Origin: "+base, "Content-Type: text/plain")
	f(415, "Origin: "+base, "Content-Type: application/x-www-form-urlencoded")
}

// tlsClient trusts the console's own certificate and nothing else.
func tlsClient(t *testing.T, s *Server) *http.Client {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	return &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, // the fingerprint is what people compare
		VerifyConnection: func(c tls.ConnectionState) error {
			if got, want := len(c.PeerCertificates), 1; got != want || c.PeerCertificates[0].VerifyHostname("127.0.0.1") != nil {
				t.Errorf("%d certificates, or not for 127.0.0.1", got)
			}
			return nil
		},
	}}}
}

// TestBeyondLoopback walks from the first start to a logout: TLS, the first password, scopes by token, the names in the audit.
func TestBeyondLoopback(t *testing.T) {
	d := whole(t)
	s := start(t, "0.0.0.0:0", d)
	_, port, _ := net.SplitHostPort(s.Addr().String())
	base := "https://127.0.0.1:" + port
	api := base + "/api/v1"
	c := tlsClient(t, s)
	if len(s.Fingerprint()) != 64 || !strings.HasPrefix(s.URL(), "https://") {
		t.Errorf("fingerprint %q, url %q", s.Fingerprint(), s.URL())
	}
	if info, err := os.Stat(filepath.Join(d.DataDir, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v %v", info, err)
	}
	if status, _, _ := ask(t, http.DefaultClient, "GET", "http://127.0.0.1:"+port+"/healthz", ""); status != 400 {
		t.Errorf("plain HTTP is answered with %d", status)
	}
	f := func(want int, method, url, body string, headers ...string) *http.Response {
		t.Helper()
		got, text, resp := ask(t, c, method, url, body, headers...)
		if got != want {
			t.Errorf("%s %s %v: %d, want %d: %s", method, url, headers, got, want, text)
		}
		return resp
	}
	// nobody: every route but health and the pages, which hold nothing
	f(200, "GET", base+"/healthz", "")
	f(200, "GET", base+"/", "")
	f(401, "GET", base+"/metrics", "")
	for _, r := range s.routes() {
		if r.path != "/session" || r.method == "GET" {
			f(401, r.method, api+concrete(r.path), "", "Origin: "+base)
		}
	}
	f(401, "GET", api+"/nothing", "")
	// the first user
	first, made := s.First()
	if !made || first.Name != "admin" || len(first.text()) < 20 {
		t.Fatalf("first user %+v", first)
	}
	login := `{"name":"admin","password":"` + first.text() + `"}`
	f(403, "POST", api+"/session", login, "Origin: https://evil.example")
	f(401, "POST", api+"/session", `{"name":"admin","password":"x"}`, "Origin: "+base)
	f(401, "POST", api+"/session", `{"name":"nobody","password":"x"}`, "Origin: "+base)
	cookie := f(200, "POST", api+"/session", login, "Origin: "+base).Header.Get("Set-Cookie")
	for _, want := range []string{"__Host-", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q lacks %s", cookie, want)
		}
	}
	f(200, "GET", api+"/incidents", "")
	id := d.Alerts.Incidents()[0].ID
	f(403, "POST", api+"/incidents/"+id+"/ack", `{"by":"mallory"}`) // a cookie alone is not the person
	f(200, "POST", api+"/incidents/"+id+"/ack", `{"by":"mallory"}`, "Origin: "+base)
	if log, _ := d.Alerts.Audit(id); log[len(log)-1].Who != "admin" {
		t.Errorf("the audit names %q", log[len(log)-1].Who)
	}
	// tokens and their scopes
	token := func(scope string) string {
		status, text, _ := ask(t, c, "POST", api+"/access", `{"kind":"tokens","name":"`+scope+`","scope":"`+scope+`"}`, "Origin: "+base)
		var made Secret
		if err := json.Unmarshal([]byte(text), &made); status != 200 || err != nil {
			t.Fatal(status, text, err)
		}
		return "Authorization: Bearer " + made.Secret
	}
	looks, acts, rules := token("read"), token("triage"), token("admin")
	f(409, "POST", api+"/access", `{"kind":"tokens","name":"read","scope":"read"}`, "Origin: "+base)
	f(422, "POST", api+"/access", `{"kind":"tokens","name":"../x","scope":"read"}`, "Origin: "+base)
	f(400, "POST", api+"/access", `{"kind":"tokens","name":"x","scope":"nobody"}`, "Origin: "+base)
	f(204, "DELETE", api+"/session", "", "Origin: "+base)
	f(401, "GET", api+"/incidents", "")
	f(200, "GET", base+"/metrics", "", looks)
	f(403, "POST", api+"/incidents/"+id+"/close", `{"verdict":"benign"}`, looks)
	f(200, "POST", api+"/incidents/"+id+"/close", `{"verdict":"benign"}`, acts)
	f(403, "GET", api+"/access", "", acts)
	f(200, "GET", api+"/access", "", rules)
	f(401, "GET", api+"/incidents", "", "Authorization: Bearer ww_wrong")
	f(401, "GET", api+"/incidents", "", "Authorization: Basic YTpi")
	f(204, "DELETE", api+"/access/tokens/read", "", rules)
	f(401, "GET", base+"/metrics", "", looks)
	// another password logs out
	f(200, "POST", api+"/session", login, "Origin: "+base)
	f(200, "POST", api+"/access/users/admin/password", "", rules)
	f(401, "GET", api+"/incidents", "")
	f(401, "POST", api+"/session", login, "Origin: "+base)
}

// text is the secret alone, for requests that are put together by hand.
func (s Secret) text() string { return s.Secret }

// concrete fills the wildcards of a path.
func concrete(path string) string {
	return strings.NewReplacer("{id}", "1", "{verb}", "ack", "{name}", "n", "{kind}", "tokens").Replace(path)
}

// TestAccountsAreKept holds that a restart knows users and tokens, that the certificate stays, and that no secret is in the file.
func TestAccountsAreKept(t *testing.T) {
	dir := t.TempDir()
	db, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := OpenAccess(db)
	if err != nil {
		t.Fatal(err)
	}
	user, err := a.Add(t.Context(), User, "alice", Triage)
	if err != nil {
		t.Fatal(err)
	}
	token, err := a.Add(t.Context(), Token, "alice", Read)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(text), user.text()) || strings.Contains(string(text), token.text()) {
			t.Errorf("%s holds a secret, or cannot be read: %v", file, err)
		}
	}
	if db, err = state.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if a, err = OpenAccess(db); err != nil {
		t.Fatal(err)
	}
	v, ok := a.user("alice")
	if !ok || v.Scope != Triage || !passwordMatches(v.secret, user.text()) || passwordMatches(v.secret, user.text()+"x") || passwordMatches("", "") {
		t.Errorf("alice: %+v", v)
	}
	if v, ok := a.byToken(token.text()); !ok || v.Scope != Read {
		t.Errorf("the token: %+v", v)
	}
	if _, ok := a.byToken(""); ok {
		t.Error("no token is a token")
	}
}

// TestLoginsAreLimited holds that guessing slows down by network, that others are not locked out, and that the table is bounded.
func TestLoginsAreLimited(t *testing.T) {
	s := newSessions()
	now := time.Unix(0, 0)
	s.now = func() time.Time { return now }
	bad, good := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	for range loginBurst {
		if !s.try(bad) {
			t.Fatal("limited too early")
		}
	}
	if s.try(bad) {
		t.Error("the sixth guess is judged")
	}
	if !s.try(good) {
		t.Error("somebody else is locked out")
	}
	now = now.Add(loginEvery)
	if !s.try(bad) || s.try(bad) {
		t.Error("not exactly one guess more after half a minute")
	}
	for i := range 2 * maxLimited {
		s.try(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32))
	}
	if len(s.failures) > maxLimited {
		t.Errorf("%d networks are remembered", len(s.failures))
	}
	for range maxSessions + 1 {
		s.begin("alice")
	}
	if len(s.byHash) != maxSessions {
		t.Errorf("%d sessions", len(s.byHash))
	}
	value := s.begin("bob")
	if _, ok := s.find(value); !ok {
		t.Error("bob is not logged in")
	}
	now = now.Add(sessionLasts + 1)
	if _, ok := s.find(value); ok {
		t.Error("a session does not end")
	}
	if got := network("[2001:db8:1:2:3::4%eth0]:80"); got != netip.MustParsePrefix("2001:db8:1:2::/64") {
		t.Error(got)
	}
}

// TestLoginFlood holds it over HTTP.
func TestLoginFlood(t *testing.T) {
	c := Default()
	c.Listen, c.Login = "127.0.0.1:0", Always
	s := startConfig(t, c, whole(t))
	base := "http://" + s.Addr().String()
	var last int
	for range loginBurst + 1 {
		last, _, _ = ask(t, http.DefaultClient, "POST", base+"/api/v1/session", `{"name":"admin","password":"guess"}`, "Origin: "+base)
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the last guess is answered with %d", last)
	}
	if status, _, _ := ask(t, http.DefaultClient, "GET", base+"/api/v1/incidents", ""); status != 401 {
		t.Errorf("loopback with login: always answers %d", status)
	}
}

// TestNobodyCouldLogIn holds that nothing is opened beyond loopback without a place for users.
func TestNobodyCouldLogIn(t *testing.T) {
	c := Default()
	c.Listen = "0.0.0.0:0"
	err := New(c, Deps{DataDir: t.TempDir()}, metrics.NewSet(), slog.New(slog.DiscardHandler)).Open()
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Error(err)
	}
}

// TestNoCaller holds that a handler that no door stands before refuses.
func TestNoCaller(t *testing.T) {
	s := New(Default(), whole(t), metrics.NewSet(), slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	s.mux().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/incidents", nil))
	if w.Code != 401 {
		t.Error(w.Code)
	}
}

// TestValidateAccess holds what is refused, and that the message says what to do.
func TestValidateAccess(t *testing.T) {
	f := func(change func(*Config), path, cure string) {
		t.Helper()
		c := Default()
		change(&c)
		said := 0
		c.Validate(func(p, message string) {
			said++
			if p != path || !strings.Contains(message, cure) {
				t.Errorf("%s: %s; want %s: …%s…", p, message, path, cure)
			}
		})
		if want := min(1, len(path)); said != want {
			t.Errorf("%d problems, want %d (%s)", said, want, path)
		}
	}
	f(func(c *Config) { c.Listen = ":8470" }, "", "")
	f(func(c *Config) { c.TLS.Mode = Off }, "", "")
	f(func(c *Config) { c.Listen, c.TLS.Mode = ":8470", Off }, "tls.mode", "listen on 127.0.0.1")
	f(func(c *Config) { c.Listen, c.TLS.Mode = "192.0.2.1:8470", Off }, "tls.mode", "leave it at auto")
	f(func(c *Config) { c.TLS.CertFile = "a.pem" }, "tls", "name both")
	f(func(c *Config) { c.TLS.KeyFile = "a.pem" }, "tls", "name both")
	f(func(c *Config) { c.TLS = TLS{Mode: Off, CertFile: "a", KeyFile: "b"} }, "tls.mode", "leave out one")
	f(func(c *Config) { c.TLS.Mode = "on" }, "tls.mode", "none of")
	f(func(c *Config) { c.Login = "never" }, "login", "none of")
}
