package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/alerts"
)

func TestClean(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := clean(in, false); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	f("plain ünïcode 漢字", "plain ünïcode 漢字")
	f("red\x1b[31m and title\x1b]0;owned\x07", "red[31m and title]0;owned")
	f("two\nlines\tand\rmore", "two lines and more")
	f("c1 \u009b31m", "c1 31m")
	f("rtl \u202egnp.exe\u2066", "rtl gnp.exe")
	f("nul\x00del\x7f", "nuldel")
	if got := clean("a\nb\x1b", true); got != "a\nb" {
		t.Errorf("%q", got)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	table := table{head: []string{"A", "STATE", "C"}, colored: true, rows: [][]string{
		{"größe", "ok", "x"}, {"b\x1b[2J", "fail", ""}, {"long one here", "not ok"},
	}}
	if err := table.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"A              STATE   C\n" +
		"größe          \x1b[32mok\x1b[0m      x\n" +
		"b[2J           \x1b[31mfail\x1b[0m\n" +
		"long one here  not ok\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestColored(t *testing.T) {
	f := func(color string, environ []string, want bool) {
		t.Helper()
		g := &globals{color: color, environ: environ, stdout: &strings.Builder{}}
		if got := g.colored(); got != want {
			t.Errorf("%s %v: %v", color, environ, got)
		}
	}
	f("always", []string{"NO_COLOR=1"}, true) // what was asked for on the command line wins
	f("never", nil, false)
	f("auto", nil, false) // no terminal
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := &globals{now: func() time.Time { return now }}
	for in, want := range map[time.Duration]string{
		0: "0s ago", 59 * time.Second: "59s ago", time.Hour: "1h ago", 47 * time.Hour: "47h ago", 49 * time.Hour: "2d ago", -3 * time.Hour: "3h from now",
	} {
		if got := g.ago(alerts.Wall(now.Add(-in))); got != want {
			t.Errorf("ago(%v) = %q, want %q", in, got, want)
		}
	}
	f := func(in string, read func(string, time.Time) (time.Time, error), want time.Time) {
		t.Helper()
		got, err := read(in, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v %v, want %v", in, got, err, want)
		}
	}
	f("", moment, now)
	f("10m", moment, now.Add(-10*time.Minute))
	f("2026-01-01T00:00:00Z", moment, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	f("30d", until, now.AddDate(0, 0, 30))
	f("2027-01-01T00:00:00+01:00", until, time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC))
	for _, bad := range []string{"yesterday", "-5m", "5"} {
		if got, err := moment(bad, now); err == nil {
			t.Errorf("moment(%q) = %v", bad, got)
		}
		if got, err := until(bad, now); err == nil {
			t.Errorf("until(%q) = %v", bad, got)
		}
	}
}

func TestHostPort(t *testing.T) {
	f := func(in, addr string, port uint16) {
		t.Helper()
		a, p, err := hostPort(in)
		if err != nil || a.String() != addr || p != port {
			t.Errorf("hostPort(%q) = %v %v %v", in, a, p, err)
		}
	}
	f("172.18.0.5", "172.18.0.5", 0)
	f("172.18.0.5:443", "172.18.0.5", 443)
	f("fd00::5", "fd00::5", 0)
	f("[fd00::5]:443", "fd00::5", 443)
	for _, bad := range []string{"", "example.com", "1.2.3.4:99999", "1.2.3"} {
		if _, _, err := hostPort(bad); err == nil {
			t.Errorf("hostPort(%q) is accepted", bad)
		}
	}
}
