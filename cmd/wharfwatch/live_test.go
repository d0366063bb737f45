package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/rig"
	"github.com/wharfwatch/wharfwatch/state"
)

// TestLive is the scene of the product: one host, one beacon among benign look-alikes, watched at once by live capture, by softflowd's
// exports in three versions, and by tcpdump. Each way of watching must name the container, and none may invent anything.
func TestLive(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the scene takes minutes")
	}
	s := newScene(t)

	s.Run("-d", "--name", "old-agent", "--network=host", "--cap-add=NET_ADMIN", rig.ActorImage, "sleep")
	web := s.container("web", "listen", "http", ":8080")
	webAddr := strings.TrimSpace(s.Docker("inspect", "-f", "{{.NetworkSettings.Networks.scene.IPAddress}}", web))

	// The watchers stand before anybody talks.
	dump := filepath.Join(s.dir, "scene.pcap")
	s.start("tcpdump", s.HostExec(t.Context(), "tcpdump", "-Z", "root", "-i", sceneBridge, "-s", "0", "-U", "--time-stamp-precision=nano", "-w", dump))
	capture := s.watch("capture", `{netflow: ["off"], interfaces: [`+sceneBridge+`]}`)
	ways := []*watcher{capture}
	for _, e := range []struct{ name, version, port string }{{"v5", "5", "9905"}, {"v9", "9", "9909"}, {"ipfix", "10", "9910"}} {
		ways = append(ways, s.watch(e.name, `{netflow: ["127.0.0.1:`+e.port+`"], interfaces: ["off"]}`))
		s.start("softflowd-"+e.name, s.HostExec(t.Context(), "softflowd", "-d", "-i", sceneBridge, "-v", e.version, "-A", "milli", "-n", "127.0.0.1:"+e.port,
			"-p", filepath.Join(s.dir, e.name+".pid"), "-c", "none",
			"-t", "maxlife=60", "-t", "tcp.fin=2", "-t", "tcp.rst=2", "-t", "udp=20", "-t", "tcp=60", "-t", "general=60", "-t", "expint=2"))
	}

	worker := s.container("worker", "beacon", "--to", beaconTo, "--period", beaconPeriod.String(), "--jitter", "0.3", "--seed", "7")
	s.container("clock", "ntp", "--to", "198.51.100.10:123", "--period", "8s")
	s.container("health", "http-health", "--to", webAddr+":8080", "--period", "4s")
	for i := range 3 {
		s.container(fmt.Sprintf("app%d", i), "push", "--to", "198.51.100.20:8086", "--period", "6s")
	}
	s.container("queue", "poisson", "--to", "198.51.100.30:443", "--mean", "4s", "--seed", "11")
	s.container("stream", "hold", "--to", "198.51.100.40:443", "--period", "3s")
	workerAddr := strings.TrimSpace(s.Docker("inspect", "-f", "{{.NetworkSettings.Networks.scene.IPAddress}}", worker))

	t.Run("posture", func(t *testing.T) { s.posture(t, capture) })

	for _, w := range ways {
		s.eventually(5*time.Minute, w.name+" tells of the beacon", func() bool { return len(s.letters(w, "beacon")) > 0 })
	}
	// All have told; now they must stay silent about the rest for a while longer, in which the 60 s slices of the long connection come.
	quiet := time.Now().Add(30 * time.Second)
	s.eventually(time.Minute, "half a minute of calm", func() bool { return time.Now().After(quiet) })

	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { s.told(t, w, worker, workerAddr) })
	}
	t.Run("triage", func(t *testing.T) { s.triage(t, ways[2]) })
	t.Run("replay", func(t *testing.T) { s.replays(t, capture, dump) })
}

// letters returns the webhook bodies that carry an incident with a finding of a detector.
func (s *scene) letters(w *watcher, detector string) (out []alerts.Incident) {
	for _, l := range s.inbox.letters(w.name, "webhook") {
		var body struct{ Data alerts.Incident }
		if json.Unmarshal(l.body, &body) == nil && slices.ContainsFunc(body.Data.Findings, func(f alerts.Finding) bool { return f.Detector == detector }) {
			out = append(out, body.Data)
		}
	}
	return out
}

// told checks what the receivers of one way of watching got: one incident about network behaviour, with the name, the address, the period
// and the method, within the vendors' limits.
func (s *scene) told(t *testing.T, w *watcher, worker, workerAddr string) {
	found := s.letters(w, "beacon")
	keys := map[string]bool{}
	for _, i := range found {
		keys[i.ID] = true
	}
	if len(keys) != 1 {
		t.Fatalf("%d incidents with a beacon, want 1: %v", len(keys), keys)
	}
	i := found[0]
	f := i.Findings[slices.IndexFunc(i.Findings, func(f alerts.Finding) bool { return f.Detector == "beacon" })]
	if i.Workload != "compose:shop/worker" || i.Container.ID != worker || i.Container.Name != "shop-worker-1" {
		t.Errorf("the incident names %s, container %s %s; want compose:shop/worker, %s", i.Workload, i.Container.Name, i.Container.ID, worker)
	}
	if f.Subject != beaconTo+"/tcp" {
		t.Errorf("subject %s, want %s/tcp", f.Subject, beaconTo)
	}
	if i.Attribution.Method.String() != "ip" || i.Attribution.Confidence.String() != "exact" {
		t.Errorf("attribution %s %s, want ip exact", i.Attribution.Method, i.Attribution.Confidence)
	}
	var evidence struct {
		Period float64 `json:"period_seconds"`
		Beats  int     `json:"beats"`
	}
	if err := json.Unmarshal(f.Evidence, &evidence); err != nil {
		t.Fatal(err)
	}
	beats := s.beats(worker)
	n := min(evidence.Beats, len(beats))
	if n < 8 {
		t.Fatalf("%d beats in the evidence, %d in the container's log", evidence.Beats, len(beats))
	}
	truth := beats[n-1].Sub(beats[0]).Seconds() / float64(n-1)
	if off := math.Abs(evidence.Period-truth) / truth; off > .05 {
		t.Errorf("period %.2f s, the container beat every %.2f s: %.1f %% off", evidence.Period, truth, off*100)
	}
	t.Logf("%s: period %.3f s (truth %.3f) after %d beats, attribution %s %s", w.name, evidence.Period, truth, evidence.Beats, i.Attribution.Method, i.Attribution.Confidence)

	if !strings.Contains(string(s.inbox.letters(w.name, "webhook")[0].body), workerAddr) && !strings.Contains(f.Summary+string(f.Evidence), workerAddr) {
		t.Errorf("no word of the container's address %s", workerAddr)
	}
	s.silent(t, w)
	s.limits(t, w)
}

// silent checks that nothing was found of the look-alikes, told or not, above severity info.
func (s *scene) silent(t *testing.T, w *watcher) {
	lines := bufio.NewScanner(strings.NewReader(s.must("incidents", "list", "-c", w.config, "-o", "jsonl")))
	for lines.Scan() {
		var i alerts.Incident
		if err := json.Unmarshal(lines.Bytes(), &i); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		if strings.HasPrefix(i.Workload, "compose:shop/") && i.Workload != "compose:shop/worker" {
			t.Errorf("%s: a look-alike was not silent: %s: %s", w.name, i.Workload, i.Summary)
		}
	}
}

// limits checks every payload against what the vendors accept.
func (s *scene) limits(t *testing.T, w *watcher) {
	verifier, err := webhooks.NewWebhook(strings.TrimPrefix(hookSecret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range s.inbox.letters(w.name, "webhook") {
		if err := verifier.VerifyIgnoringTimestamp(l.body, l.header); err != nil {
			t.Errorf("webhook signature: %v", err)
		}
		if sent, err := strconv.ParseInt(l.header.Get("webhook-timestamp"), 10, 64); err != nil || l.at.Sub(time.Unix(sent, 0)).Abs() > time.Minute {
			t.Errorf("webhook timestamp %q of what came at %s", l.header.Get("webhook-timestamp"), l.at)
		}
		if len(l.body) > 20<<10 {
			t.Errorf("webhook body has %d bytes, more than 20 KiB", len(l.body))
		}
	}
	slack := s.inbox.letters(w.name, "slack")
	for _, l := range slack {
		var m struct {
			Text   string
			Blocks []json.RawMessage
		}
		if err := json.Unmarshal(l.body, &m); err != nil || m.Text == "" || len(m.Blocks) == 0 || len(m.Blocks) > 50 {
			t.Errorf("slack payload: %v, text %q, %d blocks", err, m.Text, len(m.Blocks))
		}
	}
	pagerduty := s.inbox.letters(w.name, "pagerduty")
	for _, l := range pagerduty {
		var e struct {
			Key     string `json:"routing_key"`
			Action  string `json:"event_action"`
			Dedup   string `json:"dedup_key"`
			Payload struct{ Summary, Source, Severity string }
		}
		if err := json.Unmarshal(l.body, &e); err != nil || len(e.Key) != 32 || e.Dedup == "" || len(e.Dedup) > 255 ||
			len([]rune(e.Payload.Summary)) > 1024 || e.Action == "trigger" && (e.Payload.Summary == "" || e.Payload.Source == "") || len(l.body) > 512<<10 {
			t.Errorf("pagerduty event: %v, %+v", err, e)
		}
	}
	if len(slack) == 0 || len(pagerduty) == 0 {
		t.Errorf("slack got %d messages, pagerduty %d", len(slack), len(pagerduty))
	}
}

// posture starts the two containers of the owner's documents and checks that what is wrong with them was durable before the engine said
// that they had started; the one that ran before the first start is in the one adoption report and pages nobody.
func (s *scene) posture(t *testing.T, w *watcher) {
	hostnet := strings.TrimSpace(s.Run("-d", "--name", "implant", "--network=host", "--cap-add=NET_ADMIN", rig.ActorImage, "sleep"))
	privileged := strings.TrimSpace(s.Run("-d", "--name", "breaker", "--privileged", rig.ActorImage, "sleep"))
	s.eventually(20*time.Second, "both are told", func() bool {
		return len(s.letters(w, "host-network")) > 0 && len(s.letters(w, "posture")) > 0
	})

	db, err := state.OpenReadOnly(w.data)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct{ id, workload, detector, field string }{
		{hostnet, "name:implant/wharfwatch/actor", "host-network", "HostConfig.NetworkMode"}, {privileged, "name:breaker/wharfwatch/actor", "posture", "HostConfig.Privileged"},
	} {
		var recorded int64
		var body string
		err := db.Read().QueryRow("SELECT recorded_at, body FROM finding WHERE workload = ? AND detector = ?", c.workload, c.detector).Scan(&recorded, &body)
		if err != nil {
			t.Errorf("%s of %s: %v", c.detector, c.workload, err)
			continue
		}
		started, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(s.Docker("inspect", "-f", "{{.State.StartedAt}}", c.id)))
		if err != nil {
			t.Fatal(err)
		}
		before := started.Sub(time.Unix(0, recorded))
		if before <= 0 {
			t.Errorf("%s was durable %s after the container had started", c.detector, -before)
		}
		t.Logf("%s durable %s before the start", c.detector, before.Round(time.Millisecond))
		if !strings.Contains(body, c.field) {
			t.Errorf("%s: no %s in %s", c.detector, c.field, body)
		}
	}

	var adopted int
	if err := db.Read().QueryRow("SELECT count(*) FROM finding WHERE subject = 'adoption'").Scan(&adopted); err != nil || adopted != 1 {
		t.Errorf("%d adoption reports, want 1 (%v)", adopted, err)
	}
	var pages int
	if err := db.Read().QueryRow("SELECT count(*) FROM finding WHERE workload LIKE 'name:old-agent%'").Scan(&pages); err != nil || pages != 0 {
		t.Errorf("%d findings about a container that already ran at the first start, want none (%v)", pages, err)
	}
}

// triage acknowledges an incident, adds an allow rule from it, and checks that it is silent at once and stays so after kill -9.
func (s *scene) triage(t *testing.T, w *watcher) {
	id := s.letters(w, "beacon")[0].ID
	s.must("incidents", "ack", id, "-c", w.config, "--comment", "looking")
	s.must("allow", "add", "--from", id, "-c", w.config, "--comment", "our own updater")
	rules := s.must("allow", "list", "-c", w.config, "-o", "json")
	told := len(s.inbox.letters(w.name, "slack"))

	w.stop(syscall.SIGKILL)
	s.resume(w)
	if again := s.must("allow", "list", "-c", w.config, "-o", "json"); again != rules || !strings.Contains(again, "our own updater") {
		t.Errorf("allow rules after kill -9:\n%s\nbefore:\n%s", again, rules)
	}
	var i alerts.Incident
	if err := json.Unmarshal([]byte(s.must("incidents", "show", id, "-c", w.config, "-o", "json")), &i); err != nil {
		t.Fatal(err)
	}
	if i.State != "closed" || i.Verdict != "benign" {
		t.Errorf("the allowed incident is %s %s after kill -9, want closed benign", i.State, i.Verdict)
	}
	beats := len(s.beats(strings.TrimSpace(s.Docker("ps", "-q", "--no-trunc", "-f", "name=shop-worker-1"))))
	s.eventually(2*time.Minute, "four more beats", func() bool {
		return len(s.beats(strings.TrimSpace(s.Docker("ps", "-q", "--no-trunc", "-f", "name=shop-worker-1")))) >= beats+4
	})
	for _, l := range s.inbox.letters(w.name, "slack")[told:] {
		if strings.Contains(string(l.body), "shop-worker-1") && !strings.Contains(strings.ToLower(string(l.body)), "benign") {
			t.Errorf("told again although allowed: %s", l.body)
		}
	}
	log, err := os.ReadFile(filepath.Join(s.dir, w.name+".log"))
	if err != nil || !strings.Contains(string(log), "did not end by itself") {
		t.Errorf("the restart does not say what was lost (%v)", err)
	}
}

// replays checks that the recorded stream gives the live run's incidents and findings, twice the same bytes, and that tcpdump's file with
// an inventory gives the same flow findings.
func (s *scene) replays(t *testing.T, w *watcher, dump string) {
	inventory := filepath.Join(s.dir, "inventory.json")
	ids := strings.Fields(s.Docker("ps", "-aq", "--no-trunc"))
	if err := os.WriteFile(inventory, []byte(s.Docker(append([]string{"inspect"}, ids...)...)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.stop(syscall.SIGTERM)
	live := lines(s.must("incidents", "list", "-c", w.config, "-o", "jsonl"))
	first := s.must("replay", "-c", w.config, w.record)
	second := s.must("replay", "-c", w.config, w.record)
	if first != second {
		t.Errorf("two replays of one stream differ:\n%s\n%s", first, second)
	}
	if got := lines(first); !slices.Equal(got, live) {
		t.Errorf("the stream gives\n%s\nthe live run told\n%s", strings.Join(got, "\n"), strings.Join(live, "\n"))
	}

	beacons := func(text string) (out []string) {
		for _, l := range lines(text) {
			var f alerts.Finding
			var e struct {
				Period float64 `json:"period_seconds"`
			}
			if err := json.Unmarshal([]byte(l), &f); err != nil {
				t.Fatalf("%v in %s", err, l)
			}
			if json.Unmarshal(f.Evidence, &e); e.Period > 0 {
				out = append(out, fmt.Sprintf("%s %s %s %s %s %.2f", f.ID, f.Detector, f.Workload, f.Subject, f.Severity, e.Period))
			}
		}
		return out
	}
	stream := beacons(s.must("replay", "--findings", "-c", w.config, w.record))
	packets := beacons(s.must("replay", "--findings", "-c", w.config, "--inventory", inventory, dump))
	if len(stream) == 0 || !slices.Equal(stream, packets) {
		t.Errorf("flow findings of the live stream %q, of tcpdump's file %q", stream, packets)
	}
}

func lines(text string) (out []string) {
	for _, l := range strings.Split(text, "\n") {
		if l != "" {
			out = append(out, l)
		}
	}
	slices.Sort(out)
	return out
}
