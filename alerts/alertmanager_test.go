package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/baseline"
)

func checkAlertmanager(t *testing.T, body []byte) {
	t.Helper()
	var list []alertmanagerAlert
	if err := json.Unmarshal(body, &list); err != nil || len(list) == 0 {
		t.Fatal(err, len(list))
	}
	for _, a := range list {
		if a.StartsAt >= a.EndsAt {
			t.Errorf("starts at %s, ends at %s", a.StartsAt, a.EndsAt)
		}
		for k, v := range a.Annotations {
			if v == "" || len([]rune(v)) > alertmanagerText {
				t.Errorf("%s has %d bytes", k, len(v))
			}
			harmless(t, k, v, false)
		}
	}
}

// Open incidents are sent again and again, until they close; one that was not told yet is not.
func TestResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Default()
		c.Alertmanager = []Alertmanager{{Common: Common{Name: "am"}, URL: "http://vendor"}}
		s := newScene(t, c)
		s.m.Finding(critical(start))
		s.m.Finding(finding("beacon", "low", "x", start, baseline.Low, .5)) // below the least severity
		time.Sleep(10*time.Minute + time.Second)
		got := s.requests(alertmanagerPath)
		if len(got) != 11 {
			t.Fatalf("%d requests in ten minutes", len(got))
		}
		for i, r := range got {
			var list []alertmanagerAlert
			if err := json.Unmarshal([]byte(r.Body), &list); err != nil || len(list) != 1 {
				t.Fatal(err, r.Body)
			}
			if ends := list[0].EndsAt.Std(); !ends.Equal(r.At.Add(5*time.Minute)) || list[0].Labels["severity"] != "critical" {
				t.Errorf("request %d at %s: %+v", i, r.At, list[0])
			}
		}
		s.say(alertmanagerPath, answer(503, ""))
		time.Sleep(time.Minute)
		if n := s.d.receivers[0].unresent.Get(); n != 1 {
			t.Errorf("%d failed rounds", n)
		}
		s.m.Tick(start + 2*day)
		time.Sleep(time.Minute)
		n := len(s.requests(alertmanagerPath))
		time.Sleep(time.Hour)
		got = s.requests(alertmanagerPath)
		if len(got) != n {
			t.Errorf("%d requests after the end", len(got)-n)
		}
		var list []alertmanagerAlert
		if err := json.Unmarshal([]byte(got[n-1].Body), &list); err != nil || len(list) != 5 || list[0].EndsAt > Wall(time.Now()) {
			t.Errorf("the last word is %s", got[n-1].Body)
		}
		s.conserved("am", map[string]int{delivered: 2})
	})
}

// realAlertmanager starts Debian's.
func realAlertmanager(t *testing.T) string {
	t.Helper()
	binary, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("prometheus-alertmanager is missing: scripts/setup.sh test installs it")
		}
		t.Skip("prometheus-alertmanager is not installed (scripts/setup.sh test)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(file, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config.file="+file, "--storage.path="+dir, "--web.listen-address="+address, "--cluster.listen-address=")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Log(string(text))
		}
	})
	base := "http://" + address
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	until(t, ctx, func() bool {
		resp, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return base
}

// until asks again and again; what it waits for is outside this process.
func until(t *testing.T, ctx context.Context, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not come about in time")
		case <-tick.C:
		}
	}
}

// alertsAt asks an Alertmanager what is active: severity and summary.
func alertsAt(t *testing.T, base string) (out []string) {
	t.Helper()
	resp, err := http.Get(base + "/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Labels, Annotations map[string]string
		Status              struct{ State string }
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err, string(body))
	}
	for _, a := range list {
		out = append(out, fmt.Sprintf("%s %s %s", a.Status.State, a.Labels["severity"], a.Labels["workload"]))
	}
	return out
}

// A real Alertmanager takes what we send: hostile names, a rise of severity, the end; and after its restart it hears of what is open.
func TestRealAlertmanager(t *testing.T) {
	base := realAlertmanager(t)
	c := Default()
	c.Alertmanager = []Alertmanager{{Common: Common{Name: "am", MinSeverity: "info"}, URL: base}}
	r := receivers(t, c)[0]
	if out := Test(t.Context(), r); out.Verdict != OK {
		t.Fatal(out)
	}
	client := newClient(r.timeout, false, nil)
	send := func(tr Transition, in Incident) {
		t.Helper()
		now := Wall(time.Now())
		m := message(tr, in)
		m.At, m.Attempt = now, now
		if out, _ := r.attempt(t.Context(), client, m); out.Verdict != OK {
			t.Fatalf("%s: %+v", tr, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	is := func(want ...string) {
		t.Helper()
		var got []string
		until(t, ctx, func() bool { got = alertsAt(t, base); return cmp.Equal(want, got) || ctx.Err() != nil })
	}
	is()
	for _, name := range hostile {
		if name == "" {
			continue
		}
		in := hostileIncident(t, name, 7)
		send(Trigger, in)
		send(Resolve, in)
	}
	is()
	m := memoryManager(t, Default())
	m.Finding(beacon(time.Now().Add(-time.Hour).UnixNano()))
	send(Trigger, only(t, m))
	is("active high compose:shop/worker")
	m.Finding(critical(time.Now().UnixNano()))
	send(Update, only(t, m))
	is("active critical compose:shop/worker")
	again, err := r.notifier.(resender).again([]Message{message(Update, only(t, m))})
	if err != nil || len(again) != 1 {
		t.Fatal(err)
	}
	send(Resolve, only(t, m))
	is()
	bad := &alertmanager{url: base + alertmanagerPath}
	req, err := bad.request([]alertmanagerAlert{{Labels: map[string]string{}, EndsAt: 1}})
	if err != nil {
		t.Fatal(err)
	}
	status, h, body, err := post(t.Context(), client, req)
	if out := bad.Classify(status, h, body, err); out.Verdict != Reject || !strings.Contains(out.Reason, "at least one label") {
		t.Errorf("a wrong alert: %+v", out)
	}
}
