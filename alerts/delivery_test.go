package alerts

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// spread lists when requests came, seconds after a time.
func spread(from time.Time, rs []request) (out []float64) {
	for _, r := range rs {
		out = append(out, r.At.Sub(from).Round(time.Millisecond).Seconds())
	}
	return out
}

func critical(at int64) baseline.Finding {
	f := beacon(at)
	f.Severity = baseline.Critical
	return f
}

func TestGroupTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		began := time.Now()
		s.m.Finding(beacon(start))
		time.Sleep(10 * time.Second)
		s.m.Finding(finding("egress-spike", "compose:shop/worker", "198.51.100.7:443/tcp", start+1, baseline.Medium, .8)) // joins the group
		time.Sleep(50 * time.Second)                                                                                      // at 60 s
		s.m.Finding(finding("scan", "compose:shop/worker", "10.0.0.0/24", start+2, baseline.Medium, .8))                  // an update
		s.m.Finding(finding("dga", "compose:shop/worker", "x", start+3, baseline.Medium, .8))                             // in the same one
		time.Sleep(10 * time.Minute)
		s.m.Finding(critical(start + 4)) // does not wait
		time.Sleep(time.Second)
		if d := cmp.Diff([]float64{30, 330, 660}, spread(began, s.requests("/hook"))); d != "" {
			t.Error(d)
		}
		got := s.requests("/hook")
		for i, want := range []string{"; also egress-spike", "; also egress-spike, scan, dga", "severity rose from high to critical"} {
			if !strings.Contains(got[i].Body, want) {
				t.Errorf("request %d does not say %q: %s", i, want, got[i].Body)
			}
		}
		time.Sleep(4 * time.Hour)
		s.m.Tick(start + 5) // reminders come with ticks
		time.Sleep(time.Minute * 6)
		if got := s.requests("/hook"); len(got) != 4 || !strings.Contains(got[3].Body, `"reason":"still open"`) {
			t.Errorf("%d requests, want a reminder", len(got))
		}
		if _, err := s.m.Ack(only(t, s.m).ID, "ana", "looking"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Hour)
		s.m.Tick(start + 6)
		s.m.Tick(start + 2*day)
		time.Sleep(time.Minute)
		key := only(t, s.m).ID + ".1"
		want := []string{"trigger " + key, "trigger " + key, "trigger " + key, "trigger " + key, "acknowledge " + key, "resolve " + key}
		if d := cmp.Diff(want, s.actions("/pagerduty")); d != "" {
			t.Error(d)
		}
		if n := len(s.requests("/slack")); n != 5 {
			t.Errorf("chat heard %d times, want 5: an acknowledgement is none of its business", n)
		}
	})
}

func TestCriticalSkipsTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		began := time.Now()
		s.m.Finding(critical(start))
		s.m.Finding(finding("beacon", "other", "x", start, baseline.High, .5))
		time.Sleep(5 * time.Second)
		s.m.Finding(finding("miner", "other", "x", start, baseline.Critical, .5)) // pulls its incident forward
		time.Sleep(time.Hour)
		if d := cmp.Diff([]float64{0, 5}, spread(began, s.requests("/pagerduty"))); d != "" {
			t.Error(d)
		}
	})
}

func TestMinSeverity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := allReceivers()
		c.PagerDuty[0].MinSeverity = "critical"
		s := newScene(t, c)
		s.m.Finding(finding("beacon", "w", "x", start, baseline.Low, .5))
		time.Sleep(time.Hour)
		if n := len(s.got); n != 0 {
			t.Errorf("%d requests for a low incident", n)
		}
		s.m.Finding(finding("beacon", "w", "x", start+1, baseline.High, .5))
		time.Sleep(time.Hour)
		s.m.Finding(finding("beacon", "w", "x", start+2, baseline.Critical, .5))
		time.Sleep(time.Hour)
		hook, pager := s.requests("/hook"), s.requests("/pagerduty")
		if len(hook) != 2 || !strings.Contains(hook[0].Body, "incident.opened") || !strings.Contains(hook[1].Body, "incident.updated") || len(pager) != 1 {
			t.Errorf("hook %d, pager %d", len(hook), len(pager))
		}
	})
}

func TestJSONLIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Default()
		path := filepath.Join(t.TempDir(), "incidents.jsonl")
		c.JSONL = []JSONL{{Common: Common{Name: "file", MinSeverity: "info"}, Path: path}}
		s := newScene(t, c)
		s.m.Finding(finding("beacon", "w", "x", start, baseline.Info, .5))
		time.Sleep(time.Second)
		s.m.Finding(finding("scan", "w", "x", start+1, baseline.Info, .5))
		time.Sleep(time.Second)
		if _, err := s.m.Close(only(t, s.m).ID, Benign, "ana", "fine"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(b)) {
			var in struct{ Transition, State string }
			if err := json.Unmarshal([]byte(line), &in); err != nil {
				t.Fatal(err)
			}
			got = append(got, in.Transition+" "+in.State)
		}
		if d := cmp.Diff([]string{"trigger open", "update open", "resolve closed"}, got); d != "" {
			t.Error(d)
		}
	})
}

func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		date := func(w http.ResponseWriter, r *http.Request) {
			answer(503, "", "Retry-After", time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat))(w, r)
		}
		s.say("/slack", answer(429, `{"ok":false,"error":"rate_limited"}`, "Retry-After", "7"), answer(429, "slow down"), answer(500, ""), date,
			hang, cutOff, answer(200, "no_text"), answer(200, "no_text"))
		s.m.Finding(critical(start))
		began := time.Now()
		time.Sleep(6999 * time.Millisecond)
		if n := len(s.requests("/slack")); n != 1 {
			t.Errorf("%d requests inside the window that the vendor asked for", n)
		}
		s.m.Finding(finding("beacon", "second", "x", start, baseline.Critical, .5)) // of another incident: it waits too
		time.Sleep(time.Hour)
		at := spread(began, s.requests("/slack"))
		if len(at) < 10 || at[1] < 7 {
			t.Fatal(at)
		}
		deliveries, err := s.m.Deliveries(s.m.Incidents()[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		chat := slices.DeleteFunc(deliveries, func(d DeliveryRow) bool { return d.Receiver != "chat" })
		if len(chat) != 1 || chat[0].State != delivered {
			t.Error(chat)
		}
		tries := map[bool]int{}
		for _, r := range s.requests("/slack") {
			second := strings.Contains(r.Body, "*Workload*\\nsecond")
			if tries[second]++; strings.Contains(r.Body, "(repeat)") != (tries[second] > 1) {
				t.Errorf("attempt %d: wrong about being a repeat: %s", tries[second], r.Body)
			}
		}
	})
}

func TestWebhookScheduleAndID(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: a hundred hours of looking into the outbox")
	}
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		for range 30 {
			s.say("/hook", answer(500, "down"))
		}
		s.m.Finding(critical(start))
		began := time.Now()
		time.Sleep(100 * time.Hour)
		got := s.requests("/hook")
		at := spread(began, got)
		want := []float64{0, 5, 305, 2105, 9305, 27305, 63305, 113705, 185705, 272105}
		if len(at) != len(want) {
			t.Fatalf("%d attempts, want %d: %v", len(at), len(want), at)
		}
		for i := range want {
			if at[i] < want[i] || at[i] > want[i]*1.1+.1 {
				t.Errorf("attempt %d after %v s, want %v and up to a tenth more", i+1, at[i], want[i])
			}
			if got[i].Header.Get("webhook-id") != got[0].Header.Get("webhook-id") {
				t.Error("the id changed over retries")
			}
		}
		s.conserved("hook", map[string]int{dead: 1})
		failed, err := s.store.Failed(10)
		if err != nil || len(failed) != 1 || failed[0].Status != 500 || !strings.Contains(failed[0].Reason, "500 Internal Server Error: down") {
			t.Fatal(failed, err)
		}
		s.mu.Lock()
		s.script["/hook"] = nil
		s.mu.Unlock()
		if err := s.store.Retry(t.Context(), failed[0].ID, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.conserved("hook", map[string]int{delivered: 1})
		if err := s.store.Retry(t.Context(), failed[0].ID, time.Now()); err == nil {
			t.Error("what was delivered is retried")
		}
	})
}

func TestSlackNeverSaysOK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		for range 9 {
			s.say("/slack", answer(200, "no_text"))
		}
		s.m.Finding(critical(start))
		time.Sleep(24 * time.Hour)
		failed, err := s.store.Failed(10)
		if n := len(s.requests("/slack")); n != 3 || err != nil || len(failed) != 1 || !strings.Contains(failed[0].Reason, "no_text") {
			t.Error(n, failed, err)
		}
	})
}

func TestChartRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		s.say("/slack", answer(400, "invalid_blocks"))
		s.m.Finding(critical(start))
		time.Sleep(time.Minute)
		s.m.Finding(finding("beacon", "second", "x", start, baseline.Critical, .5))
		time.Sleep(25 * time.Hour)
		s.m.Finding(finding("beacon", "third", "x", start, baseline.Critical, .5))
		time.Sleep(time.Minute)
		var charts []bool
		for _, r := range s.requests("/slack") {
			charts = append(charts, strings.Contains(r.Body, "data_visualization"))
		}
		if d := cmp.Diff([]bool{true, false, false, true}, charts); d != "" {
			t.Error(d)
		}
		s.conserved("chat", map[string]int{delivered: 3})

		s.say("/slack", answer(400, "invalid_blocks"), answer(400, "invalid_blocks"))
		s.m.Finding(finding("beacon", "fourth", "x", start, baseline.Critical, .5))
		time.Sleep(24 * time.Hour)
		s.conserved("chat", map[string]int{delivered: 3, dead: 1})
	})
}

func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		s.say("/hook", answer(410, "bye"))
		s.m.Finding(critical(start))
		s.m.Finding(finding("beacon", "second", "x", start, baseline.Critical, .5))
		time.Sleep(time.Minute)
		if n := len(s.requests("/hook")); n != 1 {
			t.Errorf("%d requests to a receiver that is gone", n)
		}
		s.conserved("hook", map[string]int{dead: 2})
		s.conserved("pager", map[string]int{delivered: 3}) // one of them about the hook
		if why := s.d.Disabled()["hook"]; !strings.Contains(why, "410") {
			t.Errorf("disabled: %q", why)
		}
	})
}

func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		s.say("/pagerduty", answer(400, `{"status":"invalid event","message":"Event object is invalid","errors":["Length of 'routing_key' is incorrect"]}`))
		s.say("/slack", answer(404, "no_service"))
		s.say("/hook", answer(302, "", "Location", "http://vendor/elsewhere"))
		s.m.Finding(critical(start))
		time.Sleep(24 * time.Hour)
		failed, err := s.store.Failed(10)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range failed {
			got = append(got, f.Receiver+": "+f.Reason)
		}
		slices.Sort(got)
		want := []string{
			"chat: 404 Not Found: no_service", "hook: 302 Found: redirects are not followed",
			"pager: 400 Bad Request: Event object is invalid Length of 'routing_key' is incorrect",
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if len(s.requests("/elsewhere")) != 0 {
			t.Error("a redirect was followed")
		}
	})
}

// A trigger that cannot get through holds back its own resolve and nothing else.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		s.say("/pagerduty", answer(500, ""), answer(500, ""), answer(500, ""))
		s.m.Finding(critical(start))
		time.Sleep(time.Millisecond)
		if _, err := s.m.Close(only(t, s.m).ID, TruePositive, "ana", "cleaned up"); err != nil {
			t.Fatal(err)
		}
		s.m.Finding(finding("beacon", "second", "x", start, baseline.Critical, .5))
		time.Sleep(time.Hour)
		first, second := s.m.Incidents()[0].Key(), s.m.Incidents()[1].Key()
		got := s.actions("/pagerduty")
		if slices.Index(got, "resolve "+first) < slices.Index(got, "trigger "+first) || !slices.Contains(got, "trigger "+second) || len(got) != 3 {
			t.Error(got)
		}
	})
}

func TestClosedBeforeItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		s.m.Finding(beacon(start))
		time.Sleep(10 * time.Second)
		if _, _, err := s.m.AllowFrom(only(t, s.m).ID, "ana", "ours", time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if len(s.got) != 0 {
			t.Errorf("%d requests after it was allowed", len(s.got))
		}
		s.conserved("chat", map[string]int{withdrawn: 1})

		// What closes by itself is told all the same.
		s.m.Finding(finding("beacon", "second", "x", start, baseline.High, .5))
		s.m.Tick(start + 10*day)
		time.Sleep(time.Hour)
		key := s.m.Incidents()[1].Key()
		if d := cmp.Diff([]string{"trigger " + key, "resolve " + key}, s.actions("/pagerduty")); d != "" {
			t.Error(d)
		}
	})
}

func TestSilencedDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		silence := func(d time.Duration) Silence {
			now := time.Now()
			q, err := s.m.SilenceAdd(Silence{
				Matchers: []Matcher{{Label: "workload", Op: "=", Value: "compose:shop/worker"}}, Starts: Wall(now), Ends: Wall(now.Add(d)),
				Author: "ana", Comment: "deploy",
			})
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
		began := time.Now()
		silence(time.Hour)
		s.m.Finding(critical(start))
		s.m.Finding(finding("beacon", "second", "x", start, baseline.Critical, .5))
		time.Sleep(2 * time.Hour)
		if d := cmp.Diff([]float64{0, 3600}, spread(began, s.requests("/hook"))); d != "" {
			t.Error(d)
		}
		q := silence(24 * time.Hour)
		s.m.Finding(finding("miner", "compose:shop/worker", "x", start+1, baseline.Critical, .5))
		time.Sleep(time.Hour)
		if err := s.m.SilenceExpire(q.ID, "ana", "done"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if d := cmp.Diff([]float64{0, 3600, 10800}, spread(began, s.requests("/hook"))); d != "" {
			t.Error(d)
		}
		silence(24 * time.Hour)
		if _, err := s.m.Close(s.m.Incidents()[0].ID, TruePositive, "ana", "done"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := s.actions("/pagerduty"); !slices.Contains(got, "resolve "+s.m.Incidents()[0].Key()) {
			t.Errorf("a silence keeps an incident open at the receiver for ever: %v", got)
		}
	})
}

func TestRestartBetweenQueueAndSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, allReceivers())
		s.say("/hook", hang)
		s.m.Finding(beacon(start))
		time.Sleep(10 * time.Second) // inside the group's wait
		s.stop()
		s.start()
		if got := only(t, s.m); got.State != Open || got.Count != 1 {
			t.Fatal(got)
		}
		s.m.Finding(beacon(start)) // fed again
		time.Sleep(21 * time.Second)
		s.stop() // in the middle of the attempt that hangs
		s.start()
		time.Sleep(time.Hour)
		for _, path := range []string{"/slack", "/pagerduty"} {
			if n := len(s.requests(path)); n != 1 {
				t.Errorf("%s: %d requests", path, n)
			}
		}
		hook := s.requests("/hook")
		if len(hook) != 2 || hook[0].Header.Get("webhook-id") != hook[1].Header.Get("webhook-id") {
			t.Errorf("%d requests, want the one that hung and its repeat", len(hook))
		}
		s.conserved("hook", map[string]int{delivered: 1})
	})
}

func TestRateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := allReceivers()
		c.Slack = append(c.Slack, Slack{Common: Common{Name: "chat-2"}, WebhookURL: c.Slack[0].WebhookURL})
		s := newScene(t, c)
		began := time.Now()
		for i := range 10 {
			s.m.Finding(finding("beacon", string(rune('a'+i)), "x", start, baseline.Critical, .5))
		}
		time.Sleep(time.Minute)
		at := spread(began, s.requests("/slack"))
		if len(at) != 20 || at[19] < 16 {
			t.Errorf("20 messages at one a second and a burst of three: %v", at)
		}
	})
}

func TestBucketAndPolicy(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := newBucket(2, 2)
	for i, want := range []time.Duration{0, 0, 500 * time.Millisecond, 500 * time.Millisecond} {
		if got := b.take(now); got != want {
			t.Errorf("take %d: %v, want %v", i, got, want)
		}
	}
	if got := b.take(now.Add(500 * time.Millisecond)); got != 0 {
		t.Error(got)
	}
	b.close(now.Add(time.Minute))
	b.close(now.Add(time.Second))
	if got := b.take(now); got != time.Minute {
		t.Error(got)
	}
	for attempt := 1; attempt < 100; attempt++ {
		for _, random := range []float64{0, .5, .999999} {
			if d := chat.delay(attempt, random); d < leastDelay || d > chat.most {
				t.Fatalf("attempt %d: %v", attempt, d)
			}
		}
	}
	f := func(header string, want time.Duration) {
		t.Helper()
		if got := retryAfter(http.Header{"Retry-After": {header}}, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
	f("7", 7*time.Second)
	f("1.5", 1500*time.Millisecond)
	f("0", time.Second)
	f("-3", time.Second)
	f("NaN", time.Second)
	f("999999999999", time.Hour)
	f(now.Add(20*time.Second).UTC().Format(http.TimeFormat), 20*time.Second)
	f(now.Add(-20*time.Second).UTC().Format(http.TimeFormat), time.Second)
	f("soon", 0)
}
