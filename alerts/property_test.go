package alerts

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Any interleaving of findings, triage, rules, silences, restarts and failing vendors: one opening of an incident opens at most once at
// a receiver that deduplicates by the key, triggers come before resolves, and every message handed over is accounted for.
func TestInterleavings(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { interleave(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func interleave(t *testing.T, r *rand.Rand) {
	c := allReceivers()
	c.RepeatInterval = 2 * time.Hour
	s := newScene(t, c)
	at := start
	failures := []http.HandlerFunc{
		answer(500, ""), answer(429, "", "Retry-After", "30"), hang, cutOff, answer(503, ""),
		func(w http.ResponseWriter, r *http.Request) { hang(w, r) },
	}
	some := func() string {
		all := s.m.Incidents()
		if len(all) == 0 {
			return "none"
		}
		return all[r.IntN(len(all))].ID
	}
	for range 60 {
		switch op := r.IntN(20); {
		case op < 8:
			at += r.Int64N(2 * hour)
			w := fmt.Sprintf("compose:shop/%d", r.IntN(4))
			d := []string{"beacon", "scan", "miner"}[r.IntN(3)]
			s.m.Finding(finding(d, w, fmt.Sprintf("203.0.113.%d:443/tcp", r.IntN(3)), at, baseline.Severity(2+r.IntN(3)), .5+r.Float64()/2))
		case op == 8:
			at += r.Int64N(2 * day)
			s.m.Tick(at)
		case op == 9:
			_, _ = s.m.Ack(some(), "ana", "seen") // a refusal is part of the game, here and below
		case op == 10, op == 11:
			v := []Verdict{TruePositive, Benign, FalsePositive, Duplicate}[r.IntN(4)]
			_, _ = s.m.Close(some(), v, "ana", "done")
		case op == 12:
			_, _ = s.m.Reopen(some(), "ana", "not done")
		case op == 13:
			_, _, _ = s.m.AllowFrom(some(), "ana", "ours", time.Now().Add(time.Duration(r.Int64N(12*hour))+1))
		case op == 14:
			now := time.Now()
			_, err := s.m.SilenceAdd(Silence{
				Matchers: []Matcher{{Label: "workload", Op: "=~", Value: "compose:shop/[01]"}}, Starts: Wall(now),
				Ends: Wall(now.Add(time.Hour)), Author: "ana", Comment: "deploy",
			})
			if err != nil {
				t.Error(err)
			}
		case op == 15:
			s.stop()
			s.start()
		case op < 18:
			path := []string{"/pagerduty", "/hook", "/slack"}[r.IntN(3)]
			s.say(path, failures[r.IntN(len(failures))])
		default:
			time.Sleep(time.Duration(r.Int64N(hour)))
		}
	}
	s.mu.Lock()
	clear(s.script)
	s.mu.Unlock()
	time.Sleep(100 * time.Hour)
	checkOpens(t, s)
	for _, name := range []string{"chat", "pager", "hook"} {
		counts, err := s.store.Counts(name)
		if err != nil {
			t.Fatal(err)
		}
		var total int
		if err := s.store.db.Read().QueryRow("SELECT count(*) FROM outbox WHERE receiver = ?", name).Scan(&total); err != nil {
			t.Fatal(err)
		}
		sum := 0
		for n := range maps.Values(counts) {
			sum += n
		}
		if counts[queued] != 0 || sum != total || total == 0 {
			t.Errorf("%s: %v of %d", name, counts, total)
		}
	}
	checkTold(t, s)
}

// checkOpens plays PagerDuty and a webhook receiver that deduplicate. A request counts as taken even when its answer was lost.
func checkOpens(t *testing.T, s *scene) {
	type alert struct{ opened, resolved int }
	pager := map[string]*alert{}
	for _, r := range s.requests("/pagerduty") {
		if r.Status == 429 || r.Status >= 500 {
			continue
		}
		var e pagerEvent
		if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
			t.Fatal(err)
		}
		a := pager[e.DedupKey]
		if a == nil {
			a = &alert{}
			pager[e.DedupKey] = a
		}
		switch e.EventAction {
		case "trigger":
			if a.opened == a.resolved {
				a.opened++
			}
		case "resolve":
			if a.opened == 0 {
				t.Errorf("%s: a resolve without a trigger before it", e.DedupKey)
			}
			a.resolved = a.opened
		}
	}
	for _, key := range slices.Sorted(maps.Keys(pager)) {
		if pager[key].opened > 1 {
			t.Errorf("%s opened %d times at the pager", key, pager[key].opened)
		}
	}
	ids := map[string]map[string]bool{}
	for _, r := range s.requests("/hook") {
		var e event
		if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
			t.Fatal(err)
		}
		if e.Type != "incident.opened" {
			continue
		}
		if ids[e.DedupKey] == nil {
			ids[e.DedupKey] = map[string]bool{}
		}
		ids[e.DedupKey][r.Header.Get("webhook-id")] = true
	}
	for key, set := range ids {
		if len(set) != 1 {
			t.Errorf("%s opened under %d ids at the webhook", key, len(set))
		}
	}
}

// checkTold holds what receivers know against what is: an open incident was told, a closed one that was told is resolved there.
func checkTold(t *testing.T, s *scene) {
	last := map[string]string{}
	for _, a := range s.actions("/pagerduty") {
		action, key, _ := strings.Cut(a, " ")
		last[key] = action
	}
	for _, in := range s.m.Incidents() {
		switch got := last[in.Key()]; {
		case in.State != Closed && got != "trigger" && got != "acknowledge":
			t.Errorf("incident %s is %s, the pager's last word is %q", in.Key(), in.State, got)
		case in.State == Closed && got != "resolve" && got != "":
			t.Errorf("incident %s is closed, the pager's last word is %q", in.Key(), got)
		}
	}
}
