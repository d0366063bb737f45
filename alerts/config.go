package alerts

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Config of the room. Durations of 0 turn a thing off where that makes sense.
type Config struct {
	// Event time.
	ResolveAfter        time.Duration `yaml:"resolve_after"`         // quiet for so long: closed as resolved; 0 never
	PostureResolveAfter time.Duration `yaml:"posture_resolve_after"` // the same for incidents with a finding about settings, which do not repeat; 0 never
	ReopenWindow        time.Duration `yaml:"reopen_window"`         // a new finding so soon after closing reopens the incident

	// Wall clock.
	GroupWait      time.Duration `yaml:"group_wait"`      // before the first notification, so that related findings come in one; critical ones do not wait
	GroupInterval  time.Duration `yaml:"group_interval"`  // between updates of one incident
	RepeatInterval time.Duration `yaml:"repeat_interval"` // an open incident is told again after so long; 0 never
	CommitWait     time.Duration `yaml:"commit_wait"`     // how long a finding may hold up the engine until it is durable

	MaxIncidents int `yaml:"max_incidents"` // kept in memory, closed ones leave first; the state file keeps them
	MaxFindings  int `yaml:"max_findings"`  // listed in one incident
	MaxQueue     int `yaml:"max_queue"`     // changes that may wait for a state file that does not take them

	AllowLinkLocal bool `yaml:"allow_link_local"` // let receivers be at link-local and metadata addresses

	MuteTimes []MuteTime `yaml:"mute_times"` // parts of the week in which receivers that name them are not told

	Slack        []Slack        `yaml:"slack"`
	PagerDuty    []PagerDuty    `yaml:"pagerduty"`
	Webhook      []Webhook      `yaml:"webhook"`
	Teams        []Teams        `yaml:"teams"`
	Discord      []Discord      `yaml:"discord"`
	Alertmanager []Alertmanager `yaml:"alertmanager"`
	Email        []Email        `yaml:"email"`
	Syslog       []Syslog       `yaml:"syslog"`
	JSONL        []JSONL        `yaml:"jsonl"`
}

// Common is what every receiver has.
type Common struct {
	Name        string        `yaml:"name"`         // unique; part of metrics and of the delivery log
	MinSeverity string        `yaml:"min_severity"` // least severity told; medium where empty
	Timeout     time.Duration `yaml:"timeout"`      // of one attempt; 15s where 0

	Workloads []string `yaml:"workloads"` // patterns: of these only, and with a ! before it not of these; empty all
	Labels    []string `yaml:"labels"`    // wharfwatch.KEY=PATTERN or !=, of the container; all of them must match
	Mute      []string `yaml:"mute"`      // names of mute_times: messages wait until their end
	Active    []string `yaml:"active"`    // names of mute_times: messages wait for their beginning
}

func (c *Common) least() (s baseline.Severity, err error) {
	if c.MinSeverity == "" {
		return baseline.Medium, nil
	}
	err = s.UnmarshalText([]byte(c.MinSeverity))
	return s, err
}

// Default is the configuration without a file: incidents are kept, nobody is told.
func Default() Config {
	return Config{
		ResolveAfter: 24 * time.Hour, PostureResolveAfter: 0, ReopenWindow: 7 * 24 * time.Hour,
		GroupWait: 30 * time.Second, GroupInterval: 5 * time.Minute, RepeatInterval: 4 * time.Hour, CommitWait: 2 * time.Second,
		MaxIncidents: 10_000, MaxFindings: 100, MaxQueue: 10_000,
	}
}

// Validate reports every problem with the path of its key.
func (c Config) Validate(report func(path, message string)) {
	for _, d := range []struct {
		path string
		v    time.Duration
	}{
		{"resolve_after", c.ResolveAfter},
		{"posture_resolve_after", c.PostureResolveAfter},
		{"reopen_window", c.ReopenWindow},
		{"group_wait", c.GroupWait},
		{"group_interval", c.GroupInterval},
		{"repeat_interval", c.RepeatInterval},
		{"commit_wait", c.CommitWait},
	} {
		if d.v < 0 {
			report(d.path, "must not be negative")
		}
	}
	if c.RepeatInterval > 0 && c.RepeatInterval < time.Minute {
		report("repeat_interval", "below 1m it is noise: give 0 to turn it off")
	}
	for _, n := range []struct {
		path string
		v    int
	}{{"max_incidents", c.MaxIncidents}, {"max_findings", c.MaxFindings}, {"max_queue", c.MaxQueue}} {
		if n.v < 1 {
			report(n.path, "must be at least 1")
		}
	}
	windows := c.windows(report)
	seen := map[string]string{}
	c.each(func(path string, common *Common, check func(report func(path, message string))) {
		if first, ok := seen[common.Name]; ok {
			report(path+".name", fmt.Sprintf("%q is the name of %s already", common.Name, first))
		}
		seen[common.Name] = path
		switch {
		case common.Name == "":
			report(path+".name", "is missing")
		case len(common.Name) > 64 || !plain(common.Name):
			report(path+".name", "may have 64 letters, digits, '.', '_' and '-'")
		}
		if _, err := common.least(); err != nil {
			report(path+".min_severity", err.Error())
		}
		if common.Timeout < 0 {
			report(path+".timeout", "must not be negative")
		}
		below := func(key, message string) { report(path+"."+key, message) }
		common.checkRoute(below)
		common.hours(windows, below)
		check(below)
	})
}

// each walks the receivers in the order of the file. It and Receivers are where a new kind of receiver is added.
func (c *Config) each(visit func(path string, common *Common, check func(report func(path, message string)))) {
	for i := range c.Slack {
		visit(fmt.Sprintf("slack[%d]", i), &c.Slack[i].Common, c.Slack[i].validate)
	}
	for i := range c.PagerDuty {
		visit(fmt.Sprintf("pagerduty[%d]", i), &c.PagerDuty[i].Common, c.PagerDuty[i].validate)
	}
	for i := range c.Webhook {
		visit(fmt.Sprintf("webhook[%d]", i), &c.Webhook[i].Common, c.Webhook[i].validate)
	}
	for i := range c.Teams {
		visit(fmt.Sprintf("teams[%d]", i), &c.Teams[i].Common, c.Teams[i].validate)
	}
	for i := range c.Discord {
		visit(fmt.Sprintf("discord[%d]", i), &c.Discord[i].Common, c.Discord[i].validate)
	}
	for i := range c.Alertmanager {
		visit(fmt.Sprintf("alertmanager[%d]", i), &c.Alertmanager[i].Common, c.Alertmanager[i].validate)
	}
	for i := range c.Email {
		visit(fmt.Sprintf("email[%d]", i), &c.Email[i].Common, c.Email[i].validate)
	}
	for i := range c.Syslog {
		visit(fmt.Sprintf("syslog[%d]", i), &c.Syslog[i].Common, c.Syslog[i].validate)
	}
	for i := range c.JSONL {
		visit(fmt.Sprintf("jsonl[%d]", i), &c.JSONL[i].Common, c.JSONL[i].validate)
	}
}

// Receivers builds the receivers; secret files are read now. It is the only registration of kinds.
func (c Config) Receivers() ([]*Receiver, error) {
	var out []*Receiver
	var wrong error
	windows := c.windows(func(path, message string) { wrong = errors.Join(wrong, fmt.Errorf("%s: %s", path, message)) })
	if wrong != nil {
		return nil, wrong
	}
	add := func(kind string, common Common, build func(*Receiver) error) error {
		least, err := common.least()
		if err != nil {
			return fmt.Errorf("receiver %s: %w", common.Name, err)
		}
		r := &Receiver{
			Name: common.Name, Kind: kind, MinSeverity: least, Workloads: common.Workloads, Labels: common.Labels, Mute: common.Mute, Active: common.Active,
			timeout: cmp.Or(common.Timeout, defaultTimeout), linkLocal: c.AllowLinkLocal, route: common.route(),
		}
		r.hours = common.hours(windows, func(key, message string) { err = errors.Join(err, fmt.Errorf("%s: %s", key, message)) })
		if err := errors.Join(err, build(r)); err != nil {
			return fmt.Errorf("receiver %s: %w", r.Name, err)
		}
		out = append(out, r)
		return nil
	}
	for _, s := range c.Slack {
		if err := add("slack", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	for _, s := range c.PagerDuty {
		if err := add("pagerduty", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Webhook {
		if err := add("webhook", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Teams {
		if err := add("teams", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Discord {
		if err := add("discord", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Alertmanager {
		if err := add("alertmanager", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Email {
		if err := add("email", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Syslog {
		if err := add("syslog", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	for _, s := range c.JSONL {
		if err := add("jsonl", s.Common, s.build); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// AddWebhook adds an unsigned webhook, as --webhook does. Its name is webhook-1, webhook-2, …
func (c *Config) AddWebhook(url string) {
	taken := map[string]bool{}
	c.each(func(_ string, common *Common, _ func(func(path, message string))) { taken[common.Name] = true })
	n := 1
	for taken[fmt.Sprintf("webhook-%d", n)] {
		n++
	}
	c.Webhook = append(c.Webhook, Webhook{Common: Common{Name: fmt.Sprintf("webhook-%d", n)}, URL: url})
}

func plain(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
