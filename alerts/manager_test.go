package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

func TestIncidentJSON(t *testing.T) {
	m := memoryManager(t, Default())
	m.Finding(beacon(start + 5))
	got, err := json.MarshalIndent(only(t, m), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "id": "` + only(t, m).ID + `",
 "state": "open",
 "severity": "high",
 "confidence": 0.97,
 "first_seen": "2026-03-01T00:00:00.000000005Z",
 "last_seen": "2026-03-01T00:00:00.000000005Z",
 "workload": "compose:shop/worker",
 "container": {
  "id": "` + strings.Repeat("a", 64) + `",
  "name": "shop-worker-1",
  "image": "acme/worker:1.8"
 },
 "summary": "beacon to 203.0.113.9:443/tcp",
 "attack": [
  "T1071.001"
 ],
 "attribution": {
  "method": "ip",
  "confidence": "exact"
 },
 "findings": [
  {
   "id": "beacon/compose:shop/worker/203.0.113.9:443/tcp/1772323200000000005",
   "detector": "beacon",
   "time": "2026-03-01T00:00:00.000000005Z",
   "subject": "203.0.113.9:443/tcp",
   "score": 0.97,
   "severity": "high",
   "learning": false,
   "summary": "beacon to 203.0.113.9:443/tcp",
   "attack": [
    "T1071.001"
   ],
   "evidence": {
    "beats": 8,
    "intervals": [
     60,
     61,
     59,
     60,
     60,
     58,
     62,
     60
    ],
    "period_seconds": 60.1
   },
   "last_seen": "2026-03-01T00:00:00.000000005Z",
   "count": 1,
   "generation": 1
  }
 ],
 "generation": 1,
 "count": 1
}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
	var back Incident
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.MarshalIndent(back, "", " ")
	if err != nil || string(again) != string(got) {
		t.Errorf("reading it back changes it: %v\n%s", err, again)
	}
}

func TestFindingJSON(t *testing.T) {
	f := beacon(start)
	f.Evidence = map[string]any{"nan": math.NaN(), "fine": 1}
	f.Instance, f.Attack = nil, nil
	got, err := json.Marshal(NewFinding(&f))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"` + f.ID + `","detector":"beacon","time":"2026-03-01T00:00:00Z","subject":"203.0.113.9:443/tcp","score":0.97,"severity":"high",` +
		`"learning":false,"summary":"beacon to 203.0.113.9:443/tcp","attack":[],"evidence":{"fine":1,"nan":"NaN"},` +
		`"workload":"compose:shop/worker","container":{"id":"","name":"","image":""},"attribution":{"method":"ip","confidence":"exact"}}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

func TestGrouping(t *testing.T) {
	m := memoryManager(t, Default())
	w := "compose:shop/worker"
	m.Finding(finding("egress-spike", w, "198.51.100.7:443/tcp", start, baseline.Medium, .8))
	m.Finding(beacon(start + minute))
	m.Finding(beacon(start + minute)) // the same id
	m.Finding(beacon(start + 2*minute))
	weaker := beacon(start + 3*minute)
	weaker.Score, weaker.Severity, weaker.Summary = .5, baseline.Low, "weaker"
	m.Finding(weaker)
	m.Finding(finding("beacon", "compose:shop/other", "203.0.113.9:443/tcp", start, baseline.Low, .5))
	all := m.Incidents()
	if len(all) != 2 {
		t.Fatalf("%d incidents, want one for each workload", len(all))
	}
	in := all[0]
	type facts struct {
		Severity    baseline.Severity
		Confidence  float64
		First, Last int64
		Count       int
		Findings    int
		Repeats     int
		Summary     string
	}
	got := facts{in.Severity, in.Confidence, int64(in.FirstSeen) - start, int64(in.LastSeen) - start, in.Count, len(in.Findings), in.Findings[1].Count, in.Summary}
	want := facts{baseline.High, .994, 0, 3 * minute, 4, 2, 3, "beacon to 203.0.113.9:443/tcp; also egress-spike"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestResolveAndReopen(t *testing.T) {
	m := memoryManager(t, Default())
	m.Finding(beacon(start))
	m.Finding(finding("posture", "compose:shop/db", "privileged", start, baseline.High, 1))
	m.Tick(start + day - 1)
	if in := m.Incidents()[0]; in.State != Open {
		t.Fatalf("%s a nanosecond before its time", in.State)
	}
	m.Tick(start + day)
	if in := m.Incidents()[0]; in.State != Closed || in.Verdict != Resolved || in.ClosedAt != Time(start+day) {
		t.Error(in.State, in.Verdict, in.ClosedAt)
	}
	m.Tick(start + 100*day)
	if in := m.Incidents()[1]; in.State != Open {
		t.Error("an incident about settings closed itself")
	}

	m = memoryManager(t, Default())
	m.Finding(beacon(start))
	m.Tick(start + day)
	id := only(t, m).ID
	m.Finding(beacon(start + 2*day))
	if in := only(t, m); in.ID != id || in.Generation != 2 || in.State != Open || in.Verdict != "" || in.ClosedAt != 0 || in.Findings[0].Count != 2 {
		t.Error(in)
	}
	m.Tick(start + 3*day)
	m.Finding(beacon(start + 3*day + 7*day + 1)) // outside the window
	if all := m.Incidents(); len(all) != 2 || all[1].ID == id || all[1].Generation != 1 {
		t.Error(all)
	}
}

func TestVerdictKeepsQuiet(t *testing.T) {
	for verdict, quiet := range map[Verdict]bool{Benign: true, FalsePositive: true, TruePositive: false, Duplicate: false} {
		m := memoryManager(t, Default())
		m.Finding(beacon(start))
		if _, err := m.Close(only(t, m).ID, verdict, "ana", "known"); err != nil {
			t.Fatal(err)
		}
		m.Finding(beacon(start + hour))
		in := only(t, m)
		if (in.State == Closed) != quiet || (in.Quiet == 1) != quiet || (in.Generation == 1) != quiet {
			t.Errorf("%s: %s, generation %d, quiet %d", verdict, in.State, in.Generation, in.Quiet)
		}
		if !quiet {
			continue
		}
		worse := beacon(start + 2*hour)
		worse.Severity = baseline.Critical
		m.Finding(worse)
		if in := only(t, m); in.State != Open || in.Severity != baseline.Critical {
			t.Errorf("%s: worse than judged, and %s", verdict, in.State)
		}
	}
	m := memoryManager(t, Default())
	m.Finding(beacon(start))
	if _, err := m.Close(only(t, m).ID, Benign, "ana", "known"); err != nil {
		t.Fatal(err)
	}
	m.Finding(finding("scan", "compose:shop/worker", "10.0.0.0/24", start+hour, baseline.Medium, .7))
	m.Finding(beacon(start + 2*hour))
	in := only(t, m)
	if in.Severity != baseline.Medium || in.Quiet != 1 || in.Summary != "scan to 10.0.0.0/24" {
		t.Errorf("another story reopens, the judged one stays quiet: %+v", in)
	}
}

func TestAllow(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	m := memoryManager(t, Default())
	m.SetClock(func() time.Time { return now })
	m.Finding(beacon(start))
	m.Finding(finding("egress-spike", "compose:shop/worker", "198.51.100.7:443/tcp", start, baseline.Critical, .8))
	_, changed, err := m.AllowAdd(AllowRule{Detector: "egress-*", Destination: "198.51.100.0/24", Owner: "ana", Comment: "backup"})
	if err != nil || len(changed) != 1 {
		t.Fatal(changed, err)
	}
	if in := only(t, m); in.State != Open || in.Severity != baseline.High || in.Summary != "beacon to 203.0.113.9:443/tcp" {
		t.Errorf("half of it is allowed: %+v", in)
	}
	preview := func(r AllowRule) int {
		t.Helper()
		hidden, err := m.AllowPreview(r)
		if err != nil {
			t.Error(err)
		}
		return len(hidden)
	}
	if preview(AllowRule{Detector: "beacon"}) != 1 || preview(AllowRule{Detector: "scan"}) != 0 {
		t.Error("the preview is wrong")
	}
	rules, changed, err := m.AllowFrom(only(t, m).ID[:6], "ana", "status page", now.Add(time.Hour))
	if err != nil || len(rules) != 1 || len(changed) != 1 {
		t.Fatal(rules, changed, err)
	}
	want := AllowRule{
		ID: 2, Workload: "compose:shop/worker", Detector: "beacon", Destination: "203.0.113.9", Port: 443, Owner: "ana", Comment: "status page",
		Created: Wall(now), Expires: Wall(now.Add(time.Hour)), Hits: 1, LastHit: Wall(now),
	}
	if d := cmp.Diff(want, rules[0]); d != "" {
		t.Error(d)
	}
	if in := only(t, m); in.State != Closed || in.Verdict != Benign {
		t.Errorf("all of it is allowed: %s %s", in.State, in.Verdict)
	}
	audit, err := m.Audit(only(t, m).ID)
	if err != nil || audit[len(audit)-1].Why != "allow rule 2" || audit[len(audit)-1].Who != "wharfwatch" {
		t.Error(audit, err)
	}
	m.Finding(beacon(start + hour))
	if in := only(t, m); in.State != Closed || m.AllowList()[1].Hits != 2 {
		t.Errorf("%s, rules %+v", in.State, m.AllowList())
	}
	now = now.Add(time.Hour)
	m.Finding(beacon(start + 2*hour))
	if in := only(t, m); in.State != Open || in.Generation != 2 {
		t.Errorf("the rule has expired: %s", in.State)
	}
	if err := m.AllowRemove(1, "ana", "over"); err != nil || len(m.AllowList()) != 1 {
		t.Error(err)
	}
	if err := m.AllowRemove(1, "ana", "over"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestAllowRefusesWhatCannotMatch(t *testing.T) {
	m := memoryManager(t, Default())
	ok := AllowRule{Workload: "compose:shop/*", Owner: "ana", Comment: "why"}
	f := func(want string, change func(*AllowRule)) {
		t.Helper()
		r := ok
		change(&r)
		_, _, err := m.AllowAdd(r)
		if got := err != nil; got != (want != "") || (got && !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
	f("", func(*AllowRule) {})
	f("", func(r *AllowRule) { r.Destination = "2001:db8::/32" })
	f("", func(r *AllowRule) { r.Destination = "10.1.*" })
	f("", func(r *AllowRule) { r.Detector, r.Subject = "posture", "privileged" })
	f("owner and a comment", func(r *AllowRule) { r.Comment = " " })
	f("owner and a comment", func(r *AllowRule) { r.Owner = "" })
	f("hide everything", func(r *AllowRule) { r.Workload = "" })
	f("at the end only", func(r *AllowRule) { r.Workload = "*shop*" })
	f("at the end only", func(r *AllowRule) { r.Destination = "*.example.com" })
	f("matches none", func(r *AllowRule) { r.Detector = "becon" })
	f("matches none", func(r *AllowRule) { r.Detector = "x*" })
	f("cannot match", func(r *AllowRule) { r.Destination = "203.0.113.0/33" })
	f("port as port", func(r *AllowRule) { r.Destination = "203.0.113.9:443" })
	f(`destination "example.com" and port "443"`, func(r *AllowRule) { r.Destination = "example.com:443" })
	f("use the subject", func(r *AllowRule) { r.Detector, r.Port = "posture", 443 })
	f("unknown direction", func(r *AllowRule) { r.Direction = "up" })
	f("expired", func(r *AllowRule) { r.Expires = 1 })
}

func TestAllowCovers(t *testing.T) {
	f := func(want bool, r AllowRule, change func(*baseline.Finding)) {
		t.Helper()
		raw := beacon(start)
		change(&raw)
		n := newFinding(&raw)
		if got := r.covers(raw.Workload, &n); got != want {
			t.Errorf("%+v covers %s %s: %t", r, raw.Detector, raw.Subject, got)
		}
	}
	same := func(*baseline.Finding) {}
	v6 := func(b *baseline.Finding) { b.Subject = "[2001:db8::1]:443/tcp" }
	f(true, AllowRule{Destination: "203.0.113.9", Port: 443, Direction: Outbound}, same)
	f(false, AllowRule{Destination: "203.0.113.9", Port: 80}, same)
	f(false, AllowRule{Destination: "203.0.113.90"}, same)
	f(false, AllowRule{Destination: "203.0.113"}, same)
	f(true, AllowRule{Destination: "203.0.113*"}, same)
	f(false, AllowRule{Direction: Inbound}, same)
	f(true, AllowRule{Direction: Inbound}, func(b *baseline.Finding) { b.Detector = "ingress" })
	f(true, AllowRule{Direction: Inbound}, func(b *baseline.Finding) { b.Evidence = map[string]any{"direction": "inbound"} })
	f(true, AllowRule{Destination: "2001:db8:0::1", Port: 443}, v6)
	f(true, AllowRule{Destination: "2001:db8::/32"}, v6)
	f(false, AllowRule{Destination: "2001:db9::/32"}, v6)
	f(true, AllowRule{Destination: "api.example.com"}, func(b *baseline.Finding) { b.Evidence = map[string]any{"name": "API.example.com"} })
	f(true, AllowRule{Destination: "api.example.com", Port: 443}, func(b *baseline.Finding) { b.Subject = "api.example.com:443/tcp" })
	f(false, AllowRule{Destination: "privileged"}, func(b *baseline.Finding) { b.Detector, b.Subject = "posture", "privileged" })
	spike := func(b *baseline.Finding) {
		b.Detector, b.Subject = "egress-spike", "outside addresses"
		b.Evidence = map[string]any{"bytes": 900, "expected_bytes": 90, "floor_bytes": 100, "destinations": []map[string]any{
			{"peer": "198.51.100.7", "port": 443, "name": "s3.example.com", "bytes": 800}, {"peer": "203.0.113.9", "port": 80, "bytes": 60},
		}}
	}
	f(true, AllowRule{Destination: "198.51.100.7"}, spike)
	f(true, AllowRule{Destination: "s3.*", Port: 443}, spike)
	f(false, AllowRule{Destination: "198.51.100.7", Port: 80}, spike)
	f(false, AllowRule{Destination: "203.0.113.9"}, spike)
	f(true, AllowRule{Subject: "priv*"}, func(b *baseline.Finding) { b.Detector, b.Subject = "posture", "privileged" })
}

func TestSilence(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	m := memoryManager(t, Default())
	m.SetClock(func() time.Time { return now })
	matcher := func(s string) Matcher {
		t.Helper()
		p, err := ParseMatcher(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ok := Silence{Matchers: []Matcher{matcher("detector=beacon"), matcher(`workload=~"compose:shop/.*"`)}, Starts: Wall(now), Ends: Wall(now.Add(time.Hour)), Author: "ana", Comment: "deploy"}
	for _, spoil := range []func(*Silence){
		func(s *Silence) { s.Matchers = nil }, func(s *Silence) { s.Starts = 0 }, func(s *Silence) { s.Ends = 0 },
		func(s *Silence) { s.Author = "" }, func(s *Silence) { s.Comment = "" }, func(s *Silence) { s.Ends = s.Starts },
		func(s *Silence) { s.Matchers = []Matcher{{Label: "workload", Op: "=~", Value: "("}} },
		func(s *Silence) { s.Matchers = []Matcher{{Label: "pod", Op: "=", Value: "x"}} },
	} {
		s := ok
		spoil(&s)
		if _, err := m.SilenceAdd(s); err == nil {
			t.Errorf("taken: %+v", s)
		}
	}
	for _, bad := range []string{"detector", "=x", "detector=~(", "detector==x "} {
		if p, err := ParseMatcher(bad); err == nil && p.Value != "=x" {
			t.Errorf("%q is taken as %+v", bad, p)
		}
	}
	s, err := m.SilenceAdd(ok)
	if err != nil {
		t.Fatal(err)
	}
	m.Finding(beacon(start))
	in := only(t, m)
	if until, ok := m.Silenced(&in); !ok || until != s.Ends {
		t.Error(until, ok)
	}
	m.Finding(finding("scan", "compose:shop/worker", "10.0.0.0/24", start, baseline.Medium, .7))
	in = only(t, m)
	if _, ok := m.Silenced(&in); ok {
		t.Error("a finding of another detector is silenced with it")
	}
	if in.State != Open || in.Count != 2 {
		t.Error("a silence changes more than notification")
	}
	for expr, want := range map[string]bool{"detector!=scan": false, "severity=high": true, "severity!~high|critical": false, "container=~shop-.*": true, "incident=" + in.ID: true} {
		s := Silence{Matchers: []Matcher{matcher(expr)}}
		if got := s.matches(&in); got != want {
			t.Errorf("%s: %t", expr, got)
		}
	}
	if err := m.SilenceExpire(s.ID, "ana", "done"); err != nil {
		t.Fatal(err)
	}
	if err := m.SilenceExpire(s.ID, "ana", "done"); err == nil {
		t.Error("expired twice")
	}
}

func TestTriageRefuses(t *testing.T) {
	m := memoryManager(t, Default())
	m.Finding(beacon(start))
	id := only(t, m).ID
	must := func(_ Incident, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	refused := func(_ Incident, err error) {
		t.Helper()
		if err == nil {
			t.Error("taken")
		}
	}
	refused(m.Ack("ffff", "ana", ""))
	refused(m.Get(""))
	refused(m.Reopen(id, "ana", ""))
	refused(m.Close(id, "nonsense", "ana", ""))
	must(m.Ack(id, "ana", "looking"))
	refused(m.Ack(id, "ana", "twice"))
	must(m.Close(id, Benign, "ana", "fine"))
	refused(m.Close(id, Benign, "ana", "twice"))
	must(m.Reopen(id, "ana", "not fine"))
	m.Finding(beacon(start + hour)) // reopening undid the verdict
	if in := only(t, m); in.Count != 2 || in.Generation != 2 || in.State != Open {
		t.Error(in)
	}
	audit, err := m.Audit(id)
	var got []string
	for _, a := range audit {
		got = append(got, a.Who+" "+a.What+" "+a.Why)
	}
	want := []string{
		"wharfwatch opened finding of beacon", "ana acknowledged looking", "ana closed as benign fine", "ana reopened, generation 2 not fine",
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestBounds(t *testing.T) {
	c := Default()
	c.MaxIncidents, c.MaxFindings = 10, 5
	m := memoryManager(t, c)
	for i := range 50 {
		s := baseline.Severity(i % 5)
		m.Finding(finding("beacon", "w", string(rune('a'+i)), start+int64(i), s, .5))
	}
	in := only(t, m)
	if len(in.Findings) != 5 || in.Omitted != 45 || in.Count != 50 || in.Severity != baseline.Critical {
		t.Errorf("%d findings, %d omitted, %d counted, %s", len(in.Findings), in.Omitted, in.Count, in.Severity)
	}
	for i := range 50 {
		m.Finding(finding("beacon", "w"+string(rune('a'+i)), "x", start+int64(i), baseline.Low, .5))
	}
	if n := len(m.Incidents()); n != 10 || len(m.workloads) != 10 {
		t.Errorf("%d incidents, %d workloads", n, len(m.workloads))
	}
	s := newSeen(3)
	for _, step := range []struct {
		id   string
		want bool
	}{{"a", true}, {"b", true}, {"a", false}, {"c", true}, {"d", true}, {"a", true}, {"d", false}} {
		if got := s.add(step.id); got != step.want {
			t.Errorf("%+v", step)
		}
	}
}

// What incidents say depends on findings and ticks alone: neither the wall clock nor a restart changes a byte.
func TestDeterminism(t *testing.T) {
	run := func(seed uint64, wall time.Time, restart int) string {
		dir := t.TempDir()
		r := rand.New(rand.NewPCG(seed, 0))
		m, _, stop := stored(t, dir, Default())
		m.SetClock(func() time.Time { return wall })
		at := start
		for i := range 120 {
			at += r.Int64N(2) * r.Int64N(6*hour) // half of them at the same time
			if restart > 0 && i%restart == restart-1 {
				stop()
				m, _, stop = stored(t, dir, Default())
				m.SetClock(func() time.Time { return wall })
			}
			w := []string{"a", "b", "c"}[r.IntN(3)]
			d := []string{"beacon", "scan", "posture"}[r.IntN(3)]
			m.Finding(finding(d, w, []string{"x", "y"}[r.IntN(2)], at-r.Int64N(2)*minute, baseline.Severity(r.IntN(5)), float64(r.IntN(100))/100))
			m.Tick(at)
		}
		b, err := json.Marshal(m.Incidents())
		if err != nil {
			t.Fatal(err)
		}
		stop()
		return string(b)
	}
	for seed := range uint64(3) {
		want := run(seed, time.Unix(1e9, 0), 0)
		for name, got := range map[string]string{"clock": run(seed, time.Unix(2e9, 0), 0), "restarts": run(seed, time.Unix(1e9, 0), 7)} {
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("seed %d, %s: %s", seed, name, d)
			}
		}
	}
}

// stuck is a journal whose disk is full until told otherwise.
type stuck struct {
	Memory
	mu   sync.Mutex
	full bool
	kept []*Change
}

func (s *stuck) Commit(ctx context.Context, c *Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errors.New("disk full")
	}
	s.kept = append(s.kept, c)
	return nil
}

func TestStuckJournal(t *testing.T) {
	c := Default()
	c.MaxQueue, c.CommitWait = 10, 50*time.Millisecond
	c.AddWebhook("http://127.0.0.1:1/")
	j := &stuck{full: true}
	m, err := NewManager(c, journalOnly{j}, metrics.NewSet(), quietLog)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 200 {
		m.Finding(finding("beacon", "w"+string(rune('a'+i%20)), string(rune('a'+i)), start+int64(i), baseline.High, .5))
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("200 findings held the engine up for %v", d)
	}
	if err := m.Healthy(); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("healthy says %v", err)
	}
	if _, err := m.Ack(m.Incidents()[0].ID, "ana", ""); !errors.Is(err, ErrUndurable) {
		t.Errorf("an acknowledgement that is not durable: %v", err)
	}
	j.mu.Lock()
	j.full = false
	j.mu.Unlock()
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	last, triggers := map[string]Incident{}, map[string]int{}
	for _, ch := range j.kept {
		for _, k := range ch.Incidents {
			last[k.ID] = k.Incident
		}
		for _, r := range ch.Outbox {
			if r.Message.Transition == Trigger {
				triggers[r.Key]++
			}
		}
	}
	for _, in := range m.Incidents() {
		if d := cmp.Diff(in, last[in.ID]); d != "" {
			t.Error(d)
		}
		if triggers[in.Key()] != 1 {
			t.Errorf("%d triggers for %s", triggers[in.Key()], in.Key())
		}
	}
	if err := m.Healthy(); err != nil {
		t.Error(err)
	}
}

// journalOnly hides that a stuck is a Memory.
type journalOnly struct{ Journal }

func TestConcurrentUse(t *testing.T) {
	m, _, _ := stored(t, t.TempDir(), Default())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 25 {
				m.Finding(finding("beacon", string(rune('a'+i)), string(rune('a'+k)), start+int64(k), baseline.High, .5))
				m.Tick(start + int64(k))
			}
		})
		wg.Go(func() {
			for range 25 {
				for _, in := range m.List(Filter{States: []State{Open}}) {
					_, _ = m.Ack(in.ID, "ana", "") // two of us may race: one is refused
				}
				_, _ = m.Audit("")
			}
		})
	}
	wg.Wait()
	if n := len(m.Incidents()); n != 4 {
		t.Error(n)
	}
}

func TestSummaryOfSettings(t *testing.T) {
	m := memoryManager(t, Default())
	f := finding("host-network", "name:probe", "network=host", start, baseline.Critical, 1)
	f.Instance = &enrich.Container{Name: "probe"}
	m.Finding(f)
	if _, _, err := m.AllowFrom(only(t, m).ID, "ana", "our probe", time.Time{}); err != nil {
		t.Fatal(err)
	}
	want := AllowRule{Workload: "name:probe", Detector: "host-network", Subject: "network=host"}
	got := m.AllowList()[0]
	if got.Workload != want.Workload || got.Detector != want.Detector || got.Subject != want.Subject || only(t, m).State != Closed {
		t.Errorf("%+v, incident %s", got, only(t, m).State)
	}
}
