package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
	"github.com/wharfwatch/wharfwatch/state"
)

// cli runs command lines as a person would.
type cli struct {
	t    *testing.T
	data string
	env  []string
}

// run returns what came out; the exit code must be want.
func (c *cli) run(want int, args ...string) (stdout, stderr string) {
	c.t.Helper()
	var out, errs strings.Builder
	args = append(args, "--data-dir", c.data)
	environ := append([]string{"USER=ann", "DOCKER_HOST=unix://" + filepath.Join(c.data, "no-docker.sock")}, c.env...)
	code := execute(context.Background(), args, strings.NewReader(""), &out, &errs, environ)
	if code != want {
		c.t.Errorf("wharfwatch %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func (c *cli) contains(text string, wanted ...string) {
	c.t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			c.t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

var worker = &enrich.Container{
	ID: strings.Repeat("a", 64), Name: "shop-worker-1\x1b[31m", Image: "acme/worker:1.8", Workload: "compose:shop/worker", Running: true,
	Attachments: []enrich.Attachment{{Network: "shop", Addrs: []flow.Addr{flow.Addr4(0xac120005)}}},
	Posture:     enrich.Posture{Privileged: true, CapAdd: []string{"NET_ADMIN"}},
}

func beaconFinding(n int64, workload, subject string) baseline.Finding {
	return baseline.Finding{
		ID: "f" + workload + subject, Detector: "beacon", Time: n, Window: n, Workload: workload, Instance: worker, Subject: subject, Score: .97,
		Severity: baseline.High, Summary: "shop-worker-1 has called " + subject + " every 60 s for 3 h", Attack: []string{"T1071.001"},
		Evidence: map[string]any{"period_seconds": 60.1, "hostile": "\x1b]0;owned\x07\u202e"}, Method: enrich.MethodIP, Confidence: enrich.Exact,
	}
}

// store opens a data directory with a manager and two incidents in it.
func store(t *testing.T, data string) (*state.DB, *alerts.Store, *alerts.Manager) {
	t.Helper()
	db, err := state.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	config := configs.Default()
	s, err := alerts.OpenStore(db, config.Alerts)
	if err != nil {
		t.Fatal(err)
	}
	m, err := alerts.NewManager(config.Alerts, s, metrics.NewSet(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixNano()
	m.Tick(now - now%1e9)
	m.Finding(beaconFinding(now, "compose:shop/worker", "203.0.113.9:443/tcp"))
	m.Finding(beaconFinding(now, "compose:blog/web", "198.51.100.7:443/tcp"))
	return db, s, m
}

func closeAll(t *testing.T, db *state.DB, m *alerts.Manager) {
	t.Helper()
	if err := m.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// monitored starts what a running monitor shows to commands: the real console over a real manager.
func monitored(t *testing.T) *cli {
	t.Helper()
	data := t.TempDir()
	os.Chmod(data, 0o700)
	db, s, m := store(t, data)
	notify, err := notifyDeps(configs.Default(), s, m.Labels)
	if err != nil {
		t.Fatal(err)
	}
	deps := console.Deps{
		DataDir: data, Alerts: m, Notify: notify,
		Containers: func(context.Context) ([]*enrich.Container, error) { return []*enrich.Container{worker}, nil },
		Explain: func(_ context.Context, addr flow.Addr, port uint16, at int64) (enrich.Explanation, error) {
			return enrich.Explanation{Addr: addr, Port: port, At: at, Container: worker, Method: enrich.MethodIP, Confidence: enrich.Exact, Text: addr.String() + " is shop-worker-1\x1b[2J"}, nil
		},
		Workloads: func(context.Context) ([]baseline.WorkloadState, error) {
			return []baseline.WorkloadState{{Workload: "compose:shop/worker", LastSeen: 1, Learning: true}}, nil
		},
		Sources: func(context.Context) ([]console.SourceStatus, error) {
			return []console.SourceStatus{
				{Name: "netflow:192.0.2.1/0", Kind: "netflow", State: "warn", Reason: "no template yet", Fix: "wait", Records: 5},
				{Name: "docker:local", Kind: "docker", State: "ok", Reason: "followed"},
			}, nil
		},
	}
	server := console.New(console.Config{Listen: console.Off}, deps, metrics.NewSet(), slog.New(slog.DiscardHandler))
	if err := server.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		closeAll(t, db, m)
	})
	return &cli{t: t, data: data}
}

// incident gives the id of a workload's incident.
func (c *cli) incident(workload string) alerts.Incident {
	c.t.Helper()
	out, _ := c.run(0, "incidents", "list", "--state", "all", "--workload", workload, "-o", "jsonl")
	var i alerts.Incident
	if err := json.Unmarshal([]byte(out), &i); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	return i
}

// TestTriage walks an incident from the list to a closed one and back.
func TestTriage(t *testing.T) {
	c := monitored(t)
	out, _ := c.run(0, "incidents", "list")
	c.contains(out, "ID", "SEVERITY", "high", "open", "compose:shop/worker", "compose:blog/web", "beacon")
	if strings.Contains(out, "\x1b") {
		t.Errorf("escape codes in %q", out)
	}
	id := c.incident("compose:shop/worker").ID

	out, _ = c.run(0, "incidents", "show", id[:8])
	c.contains(out, "shop-worker-1", "203.0.113.9:443", "by ip, confidence exact", "period_seconds", "60.1", "T1071.001", "(acme/worker:1.8)")
	if strings.ContainsAny(out, "\x1b\x07\u202e") {
		t.Errorf("hostile text reaches the terminal: %q", out)
	}
	out, _ = c.run(0, "incidents", "ack", id, "-m", "looking")
	c.contains(out, "acknowledged")
	out, _ = c.run(0, "incidents", "list", "--state", "open")
	if strings.Contains(out, "shop/worker") {
		t.Errorf("still open:\n%s", out)
	}
	_, errs := c.run(2, "incidents", "close", id)
	c.contains(errs, "--as")
	_, errs = c.run(2, "incidents", "close", id, "--as", "fine")
	c.contains(errs, "fine", "benign")
	out, _ = c.run(0, "incidents", "close", id, "--as", "true-positive", "-m", "real")
	c.contains(out, "closed (true-positive)")
	out, _ = c.run(0, "incidents", "show", id, "-o", "json")
	c.contains(out, `"verdict": "true-positive"`, `"who": "ann"`, `"why": "looking"`, `"why": "real"`)
	out, _ = c.run(0, "incidents", "reopen", id)
	c.contains(out, "open")
	_, errs = c.run(2, "incidents", "show", "nothing")
	c.contains(errs, "not found")
	_, errs = c.run(2, "incidents", "list", "--severity", "loud")
	c.contains(errs, "loud")
	out, _ = c.run(0, "incidents", "list", "--severity", "critical", "-o", "json")
	if strings.TrimSpace(out) != "[]" {
		t.Errorf("%q", out)
	}
}

// TestAllow adds a rule from an incident, sees the incident close, and takes the rule away again.
func TestAllow(t *testing.T) {
	c := monitored(t)
	id := c.incident("compose:shop/worker").ID
	out, _ := c.run(0, "allow", "preview", "--workload", "compose:shop/*", "--detector", "beacon")
	c.contains(out, id[:8], "compose:shop/worker")
	if got := c.incident("compose:shop/worker"); got.State != alerts.Open {
		t.Errorf("the preview changed it: %+v", got)
	}
	_, errs := c.run(0, "allow", "preview", "--destination", "192.0.2.0/24")
	c.contains(errs, "nothing")
	_, errs = c.run(2, "allow", "add", "--from", id)
	c.contains(errs, "comment")
	_, errs = c.run(2, "allow", "add", "--from", id, "--port", "1", "-m", "x")
	c.contains(errs, "no further conditions")
	out, errs = c.run(0, "allow", "add", "--from", id, "-m", "metrics push", "--expires", "30d")
	c.contains(out, "workload=compose:shop/worker", "destination=203.0.113.9", "port=443", "ann", "metrics push", "from now")
	c.contains(errs, "closed (benign)")
	if got := c.incident("compose:shop/worker"); got.State != alerts.Closed || got.Verdict != alerts.Benign {
		t.Errorf("%+v", got)
	}
	out, _ = c.run(0, "allow", "list", "-o", "json")
	var rules []alerts.AllowRule
	if err := json.Unmarshal([]byte(out), &rules); err != nil || len(rules) != 1 || rules[0].Hits == 0 {
		t.Errorf("%v %s", err, out)
	}
	out, _ = c.run(0, "allow", "remove", "1")
	c.contains(out, "1 removed")
	_, errs = c.run(2, "allow", "remove", "1")
	c.contains(errs, "not found")
	_, errs = c.run(2, "allow", "remove", "one")
	c.contains(errs, "no number")
	_, errs = c.run(2, "allow", "add", "--destination", "203.0.113.9:443", "-m", "x")
	c.contains(errs, "port")
	_, errs = c.run(0, "allow", "list")
	c.contains(errs, "no allow rules")
}

func TestSilence(t *testing.T) {
	c := monitored(t)
	_, errs := c.run(2, "silence", "add", "workload=x", "--for", "2h")
	c.contains(errs, "comment")
	_, errs = c.run(2, "silence", "add", "nonsense", "--for", "2h", "-m", "x")
	c.contains(errs, "nonsense")
	_, errs = c.run(2, "silence", "add", "workload=x", "-m", "x")
	c.contains(errs, "no time")
	out, _ := c.run(0, "silence", "add", "workload=~compose:shop/.*", "severity!=critical", "--for", "2h", "-m", "release")
	c.contains(out, `workload=~"compose:shop/.*" severity!="critical"`, "release", "2h from now")
	out, _ = c.run(0, "incidents", "show", c.incident("compose:shop/worker").ID)
	c.contains(out, "silenced")
	out, _ = c.run(0, "silence", "expire", "1")
	c.contains(out, "1 expired")
	out, _ = c.run(0, "silence", "list", "-o", "jsonl")
	c.contains(out, `"author":"ann"`)
}

func TestLooking(t *testing.T) {
	c := monitored(t)
	out, _ := c.run(0, "containers")
	c.contains(out, "172.18.0.5", "compose:shop/worker", "privileged +NET_ADMIN", "aaaaaaaaaaaa")
	out, _ = c.run(0, "explain", "172.18.0.5:443", "--at", "10m")
	c.contains(out, "172.18.0.5 is shop-worker-1")
	if strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	_, errs := c.run(2, "explain", "shop")
	c.contains(errs, "no address")
	out, _ = c.run(0, "coverage")
	c.contains(out, "egress-spike", "learning", "posture", "yes")
	out, _ = c.run(0, "notify", "failed", "-o", "json")
	c.contains(out, "[]")
	out, _ = c.run(0, "notify", "retry")
	c.contains(out, "0 queued again")
	_, errs = c.run(2, "notify", "test", "nobody")
	c.contains(errs, "no such receiver")
	_, errs = c.run(0, "notify", "receivers")
	c.contains(errs, "nobody is told")
}

// TestOffline uses the state file of a monitor that does not run: reading beside nobody, changing under the lock.
func TestOffline(t *testing.T) {
	data := t.TempDir()
	db, _, m := store(t, data)
	closeAll(t, db, m)
	c := &cli{t: t, data: data}
	id := c.incident("compose:shop/worker").ID
	out, _ := c.run(0, "incidents", "ack", id, "-m", "later")
	c.contains(out, "acknowledged")
	if got := c.incident("compose:shop/worker"); got.State != alerts.Acknowledged {
		t.Errorf("%+v", got)
	}
	c.run(0, "allow", "add", "--workload", "compose:blog/*", "-m", "ours")
	if got := c.incident("compose:blog/web"); got.Verdict != alerts.Benign {
		t.Errorf("%+v", got)
	}
	c.run(0, "silence", "add", "detector=beacon", "--for", "1h", "-m", "x")
	out, _ = c.run(0, "silence", "list")
	c.contains(out, "detector")
	_, errs := c.run(3, "containers")
	c.contains(errs, "running monitor")
	_, errs = c.run(3, "coverage")
	c.contains(errs, "running monitor")

	empty := &cli{t: t, data: filepath.Join(t.TempDir(), "none")}
	_, errs = empty.run(3, "incidents", "list")
	c.contains(errs, "no monitor runs", "wharfwatch run")
	if _, err := os.Stat(empty.data); err == nil {
		t.Error("reading made a data directory")
	}
}

// TestLocked wants a plain word when another process holds the state file and does not answer.
func TestLocked(t *testing.T) {
	data := t.TempDir()
	db, _, m := store(t, data)
	defer closeAll(t, db, m)
	c := &cli{t: t, data: data}
	c.run(0, "incidents", "list") // reading is always possible
	_, errs := c.run(3, "incidents", "ack", c.incident("compose:shop/worker").ID)
	c.contains(errs, "in use")
}

func TestDoctor(t *testing.T) {
	c := monitored(t)
	out, _ := c.run(0, "doctor", "--set", "flow.interfaces=off", "--set", "flow.netflow=127.0.0.1:0", "--set", "flow.sflow=off", "--set", "enrich.docker=off")
	c.contains(out, "STATE", "configuration", "data directory", "answers on", "netflow:192.0.2.1/0", "no template yet", "receivers", "nobody is told")

	alone := &cli{t: t, data: t.TempDir()}
	config := filepath.Join(alone.data, "c.yaml")
	if err := os.WriteFile(config, []byte("enrich:\n  docker:\n    - name: local\n      host: unix:///nonexistent/docker.sock\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = alone.run(1, "doctor", "-c", config, "--set", "flow.interfaces=off", "--set", "flow.netflow=127.0.0.1:0", "--set", "flow.sflow=off", "--set", "console.listen=off", "--set", "enrich.conntrack.mode=off", "-o", "json")
	var checks []console.Check
	if err := json.Unmarshal([]byte(out), &checks); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, check := range checks {
		got[check.What] = check.State
		if check.State == "fail" && check.Fix == "" {
			t.Errorf("%+v has no fix", check)
		}
	}
	want := map[string]string{
		"configuration": "ok", "data directory": got["data directory"], "monitor": "off", "docker local": "fail", "connection tracking": "off", "capture": "off",
		"receive buffer": got["receive buffer"], "udp 127.0.0.1:0": "ok", "receivers": "warn",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	out, _ = alone.run(1, "doctor", "--set", "flow.netflw=off", "--set", "console.listen=off")
	c.contains(out, "fail", "configuration", `unknown key "netflw" in flow`, alone.data)
}

func TestConfigCommands(t *testing.T) {
	c := &cli{t: t, data: t.TempDir()}
	out, _ := c.run(0, "config", "check")
	c.contains(out, "ok")
	bad := filepath.Join(c.data, "bad.yaml")
	if err := os.WriteFile(bad, []byte("flow:\n  netfow: [':1']\nlog: {level: loud}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs := c.run(2, "config", "check", bad)
	c.contains(errs, "bad.yaml:2:3", `did you mean "netflow"?`, "  ^", "bad.yaml:3:14")
	_, errs = c.run(2, "config", "check", filepath.Join(c.data, "none.yaml"))
	c.contains(errs, "none.yaml")

	good := filepath.Join(c.data, "good.yaml")
	if err := os.WriteFile(good, []byte("alerts:\n  slack: [{name: team, webhook_url: 'https://hooks.slack.com/services/canary'}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = []string{"WHARFWATCH_ALERTS__GROUP_WAIT=1m"}
	out, _ = c.run(0, "config", "show", "-c", good, "--changed")
	c.contains(out, "alerts.group_wait", "1m", "WHARFWATCH_ALERTS__GROUP_WAIT", "alerts.slack.0.webhook_url", "good.yaml:2", "--set data_dir")
	if strings.Contains(out, "canary") || strings.Contains(out, "enrich.") {
		t.Errorf("%s", out)
	}
	out, _ = c.run(0, "config", "schema")
	if !json.Valid([]byte(out)) || !strings.Contains(out, "group_wait") {
		t.Error(out)
	}
	sample, _ := c.run(0, "config", "schema", "--sample")
	file := filepath.Join(c.data, "sample.yaml")
	if err := os.WriteFile(file, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(0, "config", "check", file)
}

// TestUsage holds the exit code of what a person gets wrong, and that it is said once, on stderr.
func TestUsage(t *testing.T) {
	c := &cli{t: t, data: t.TempDir()}
	for _, line := range []string{
		"nonsense", "incidents", "incidents nonsense", "incidents show", "incidents list --nonsense", "incidents list -o xml", "explain",
		"--set nonsense config check", "allow remove", "detections show nonsense", "version extra",
	} {
		out, errs := c.run(2, strings.Fields(line)...)
		if n := strings.Count(errs, "wharfwatch: "); n != 1 {
			t.Errorf("%s: said %d times:\n%s", line, n, errs)
		}
		if out != "" && line != "incidents" && line != "incidents nonsense" {
			t.Errorf("%s: %q on stdout", line, out)
		}
	}
}

func TestVersionAndDetections(t *testing.T) {
	c := &cli{t: t, data: t.TempDir()}
	out, _ := c.run(0, "version")
	c.contains(out, "wharfwatch ")
	out, _ = c.run(0, "version", "-o", "json")
	var b build
	if err := json.Unmarshal([]byte(out), &b); err != nil || b.Go == "" {
		t.Errorf("%v %s", err, out)
	}
	out, _ = c.run(0, "detections", "list", "-o", "jsonl")
	for line := range strings.Lines(out) {
		var d detection
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		page, _ := c.run(0, "detections", "show", d.ID)
		if !strings.HasPrefix(page, "# ") {
			t.Errorf("%s: %.40q", d.ID, page)
		}
		c.run(0, "detections", "validate", d.ID)
	}
	out, _ = c.run(0, "completion", "bash")
	c.contains(out, "wharfwatch")
}

// TestAgo rounds: what ends in two hours does not end "1h from now".
func TestAgo(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	g := &globals{now: func() time.Time { return now }}
	f := func(d time.Duration, want string) {
		t.Helper()
		if got := g.ago(alerts.Wall(now.Add(d))); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	f(0, "0s ago")
	f(-1400*time.Millisecond, "1s ago")
	f(-59600*time.Millisecond, "1m ago")
	f(2*time.Hour-20*time.Millisecond, "2h from now")
	f(-59*time.Minute-40*time.Second, "1h ago")
	f(30*24*time.Hour-time.Second, "30d from now")
}

// TestVersionFlag answers what people type first.
func TestVersionFlag(t *testing.T) {
	c := &cli{t: t, data: t.TempDir()}
	out, _ := c.run(0, "--version")
	c.contains(out, "wharfwatch ")
	if strings.Count(out, "\n") != 1 {
		t.Errorf("%q", out)
	}
}
