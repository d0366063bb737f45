package alerts

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

func TestRoutes(t *testing.T) {
	blue := []enrich.Label{{Key: "wharfwatch.team", Value: "blue-eu"}}
	for _, c := range []struct {
		workloads, labels []string
		workload          string
		of                []enrich.Label
		want              bool
	}{
		{nil, nil, "compose:shop/api", nil, true},
		{[]string{"compose:shop/*"}, nil, "compose:shop/api", nil, true},
		{[]string{"compose:shop/*"}, nil, "compose:shop/a/b\n", nil, true},
		{[]string{"compose:shop/*"}, nil, "compose:shopping/api", nil, false},
		{[]string{"*/ap?"}, nil, "compose:shop/api", nil, true},
		{[]string{"compose:shop.*"}, nil, "compose:shop/api", nil, false}, // no regular expression
		{[]string{"!*/test-*"}, nil, "compose:shop/api", nil, true},
		{[]string{"!*/test-*"}, nil, "compose:shop/test-1", nil, false},
		{[]string{"compose:*", "!*/test-*"}, nil, "compose:shop/test-1", nil, false},
		{[]string{"compose:*", "!*/test-*"}, nil, "name:x", nil, false},
		{nil, []string{"wharfwatch.team=blue*"}, "w", blue, true},
		{nil, []string{"wharfwatch.team=blue*"}, "w", nil, false},
		{nil, []string{"wharfwatch.team!=blue*"}, "w", nil, true},
		{nil, []string{"wharfwatch.team!=blue*"}, "w", blue, false},
		{nil, []string{"wharfwatch.team=blue*", "wharfwatch.tier=1"}, "w", blue, false},
		{[]string{"x"}, []string{"wharfwatch.team=blue*"}, "w", blue, false},
	} {
		r := (&Common{Workloads: c.workloads, Labels: c.labels}).route()
		if got := r.wants(c.workload, c.of); got != c.want {
			t.Errorf("%q %q want %q %v: %t", c.workloads, c.labels, c.workload, c.of, got)
		}
	}
}

// A receiver hears of its workloads only; what it heard of it hears to the end, and an incident for nobody is counted.
func TestRoutedDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := allReceivers()
		c.Slack[0].Workloads = []string{"compose:shop/*"}
		c.PagerDuty[0].Labels = []string{"wharfwatch.team=blue"}
		c.Webhook[0].Workloads = []string{"!compose:*"}
		s := newScene(t, c)
		say := func(workload, team string, at int64) {
			f := finding("beacon", workload, "x", at, baseline.Critical, .9)
			f.Instance.Labels = []enrich.Label{{Key: "wharfwatch.team", Value: team}}
			s.m.Finding(f)
		}
		say("compose:shop/api", "blue", start)
		say("compose:bank/api", "red", start+1)
		say("name:redis", "red", start+2)
		time.Sleep(time.Minute)
		say("compose:shop/api", "red", start+3) // the pager knows of it already
		s.m.Tick(start + 2*day)
		time.Sleep(10 * time.Minute)
		got := map[string]int{"slack": len(s.requests("/slack")), "pager": len(s.requests("/pagerduty")), "hook": len(s.requests("/hook"))}
		if d := cmp.Diff(map[string]int{"slack": 2, "pager": 2, "hook": 2}, got); d != "" {
			t.Error(d)
		}
		if n := s.m.unrouted.Get(); n != 1 {
			t.Errorf("%d incidents without a receiver, want that of the bank", n)
		}
	})
}

func TestMuteWindows(t *testing.T) {
	nights := MuteTime{Name: "nights", Days: []string{"mon-fri"}, From: "20:00", To: "07:00", TimeZone: "Europe/Berlin"}
	weekend := MuteTime{Name: "weekend", Days: []string{"sat", "sun"}, TimeZone: "UTC", Below: "none"}
	spring := MuteTime{Name: "spring", From: "01:30", To: "03:30", TimeZone: "Europe/Berlin"}
	week := MuteTime{Name: "week", TimeZone: "UTC"}
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		mute, active []string
		severity     baseline.Severity
		now, until   string
	}{
		{[]string{"nights"}, nil, baseline.High, "2026-03-02T19:30:00Z", "2026-03-03T06:00:00Z"},                 // Monday evening, Berlin is an hour ahead
		{[]string{"nights"}, nil, baseline.Critical, "2026-03-02T19:30:00Z", ""},                                 // told all the same
		{[]string{"nights"}, nil, baseline.High, "2026-03-02T18:59:59Z", ""},                                     // 19:59 there
		{[]string{"nights"}, nil, baseline.High, "2026-03-07T05:59:00Z", "2026-03-07T06:00:00Z"},                 // Saturday morning: still Friday's
		{[]string{"nights"}, nil, baseline.High, "2026-03-09T05:00:00Z", ""},                                     // Monday morning: Sunday has none
		{[]string{"nights", "weekend"}, nil, baseline.High, "2026-03-06T22:00:00Z", "2026-03-09T00:00:00Z"},      // one into the other
		{[]string{"weekend"}, nil, baseline.Critical, "2026-03-07T10:00:00Z", "2026-03-09T00:00:00Z"},            // no exception
		{[]string{"spring"}, nil, baseline.High, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"},                 // the hour from 2 to 3 is not there
		{nil, []string{"nights"}, baseline.High, "2026-03-02T12:00:00Z", "2026-03-02T19:00:00Z"},                 // told at night only
		{nil, []string{"nights"}, baseline.High, "2026-03-02T19:00:00Z", ""},                                     //
		{nil, []string{"nights", "weekend"}, baseline.Critical, "2026-03-02T12:00:00Z", ""},                      // one exception is enough
		{[]string{"week"}, nil, baseline.High, "2026-03-02T12:00:00Z", "2026-03-10T12:00:00Z"},                   // never: looked at again
		{[]string{"weekend"}, []string{"nights"}, baseline.High, "2026-03-06T18:00:00Z", "2026-03-06T19:00:00Z"}, // both
	} {
		cfg := Config{MuteTimes: []MuteTime{nights, weekend, spring, week}}
		fail := func(path, message string) { t.Errorf("%s: %s", path, message) }
		h := (&Common{Mute: c.mute, Active: c.active}).hours(cfg.windows(fail), fail)
		got := ""
		if until, ok := h.until(at(c.now), c.severity); ok {
			got = until.UTC().Format(time.RFC3339)
		}
		if got != c.until {
			t.Errorf("mute %v, active %v, %s at %s: until %q, want %q", c.mute, c.active, c.severity, c.now, got, c.until)
		}
	}
}

// In a mute time messages wait and are folded; a rise to critical breaks through, what closes meanwhile is not told.
func TestMutedDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock starts at midnight UTC, on a Saturday
		c := allReceivers()
		c.MuteTimes = []MuteTime{{Name: "nights", From: "22:00", To: "06:00", TimeZone: "UTC"}}
		c.Slack[0].Mute, c.Webhook[0].Mute, c.PagerDuty[0].Active = []string{"nights"}, []string{"nights"}, []string{"nights"}
		s := newScene(t, c)
		began := time.Now()
		s.m.Finding(finding("beacon", "a", "x", start, baseline.High, .9))
		s.m.Finding(finding("beacon", "b", "x", start+1, baseline.High, .9))
		s.m.Finding(finding("beacon", "c", "x", start+2, baseline.High, .9))
		time.Sleep(time.Hour)
		s.m.Finding(finding("scan", "a", "x", start+3, baseline.High, .9))
		s.m.Finding(finding("miner", "c", "x", start+4, baseline.Critical, .9))
		if _, err := s.m.Close(s.m.Incidents()[1].ID, Benign, "ana", "ours"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Hour)
		if d := cmp.Diff([]float64{3600, 21600}, spread(began, s.requests("/slack"))); d != "" {
			t.Error(d)
		}
		if got := s.requests("/hook"); len(got) != 2 || !strings.Contains(got[1].Body, "also scan") {
			t.Error("the message of the morning is not up to date", got)
		}
		s.conserved("chat", map[string]int{delivered: 2, withdrawn: 1})
		if n := len(s.requests("/pagerduty")); n != 6 {
			t.Errorf("%d requests at the pager of the night: 3 triggers, 2 updates, a resolve", n)
		}
	})
}

func TestRouteMistakes(t *testing.T) {
	c := allReceivers()
	c.MuteTimes = []MuteTime{
		{Name: "nights", Days: []string{"mo"}, From: "25:00", To: "6", TimeZone: "Mars/Base", Below: "hihg"},
		{Name: "nights", From: "06:00", To: "06:00"},
		{Name: "two words"},
	}
	c.Slack[0].Common = Common{
		Name: "chat", Workloads: []string{"", " x", "!"}, Labels: []string{"team", "team=x", "wharfwatch.team= x"}, Mute: []string{"night"}, Active: []string{"day"},
	}
	var got []string
	c.Validate(func(path, _ string) { got = append(got, path) })
	want := []string{
		"mute_times[0].days[0]", "mute_times[0].from", "mute_times[0].to", "mute_times[0].time_zone", "mute_times[0].below",
		"mute_times[1].name", "mute_times[1].to", "mute_times[2].name",
		"slack[0].workloads[0]", "slack[0].workloads[1]", "slack[0].workloads[2]", "slack[0].labels[0]", "slack[0].labels[1]", "slack[0].labels[2]",
		"slack[0].mute[0]", "slack[0].active[0]",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := c.Receivers(); err == nil {
		t.Error("receivers are built in spite of it")
	}
}
