package baseline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// Lifecycle configures the lifecycle detector.
type Lifecycle struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// ChurnStarts is how many containers of one workload, or of one engine, must be created within an hour before it can be unusual.
	ChurnStarts int `yaml:"churn_starts"`
	// Agents are words of image names whose containers watch others: one that ends and does not come back is told.
	Agents []string `yaml:"agents"`
}

func defaultLifecycle() Lifecycle {
	return Lifecycle{Mode: On, ChurnStarts: 20, Agents: []string{
		"falco", "tetragon", "tracee", "wazuh", "ossec", "osquery", "suricata", "zeek", "sysdig", "crowdstrike", "auditbeat", "filebeat",
		"packetbeat", "metricbeat", "elastic-agent", "fluentd", "fluent-bit", "logstash", "promtail", "alloy", "vector", "rsyslog",
		"syslog-ng", "splunk", "datadog", "newrelic", "otel", "opentelemetry-collector", "node-exporter", "cadvisor", "netdata", "telegraf",
		"wharfwatch",
	}}
}

func (c Lifecycle) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if c.ChurnStarts < 1 || c.ChurnStarts > 1e6 {
		report(path+".churn_starts", fmt.Sprintf("%d is outside 1 to 1000000", c.ChurnStarts))
	}
	for i, a := range c.Agents {
		if strings.TrimSpace(a) == "" {
			report(fmt.Sprintf("%s.agents[%d]", path, i), "an empty word is part of every image name")
		}
	}
}

const (
	minute       = int64(time.Minute)
	youngEngine  = 10 * minute // after its first list: what is still being deployed is no news
	deployQuiet  = minute      // what comes within it is one deploy
	chainFor     = 6 * hour    // how long a new container's later signs belong to its beginning
	execFor      = 10 * minute // how soon a first call out belongs to an unusual exec
	agentReturns = 10 * minute
	shortLife    = minute
	shortRuns    = 5 // short lives with calls out in an hour
	loopStarts   = 5 // starts of one container in ten minutes
	maxExecs     = 32
	maxFresh     = 8
	maxRuns      = 16
)

// lifecycle speaks about how containers come, live and go: images never seen, containers that only sleep until somebody executes
// something in them, more starts than usual, lives of seconds, agents that end. One sign alone is information.
type lifecycle struct {
	Nop
	memory[life]
	c       Lifecycle
	engines lifeEngines
	deploys []*deploy // that still grow, oldest first
	missing []*absence
}

// life is what is known of one workload.
type life struct {
	born    int64 // first event, ns; 0 none
	outside bool  // it has opened a connection to an outside address
	churn   churn
	execs   []uint64 // programs that were executed in it, hashed
	shorts  int64    // hour in which short lives with calls out were last seen often

	fresh    []*newcomer // watched; not kept over a restart
	runs     []run       // the last ends and those running; not kept
	starts   []started   // of the last minutes; not kept
	unusual  *enrich.Event
	watching bool // whether Flow has anything to do
}

type started struct {
	id string
	at int64
}

func newLifecycle(c Lifecycle, env *env) *lifecycle {
	return &lifecycle{c: c, memory: newMemory(env, lifecycleVersion, encodeLife, decodeLife), engines: newLifeEngines(env)}
}

// Flow looks at the first call out of a container that is watched.
func (l *lifecycle) Flow(f *enrich.Flow) {
	if f.Kind&enrich.Open == 0 || f.Opener != enrich.OpenerLocal {
		return
	}
	s := l.at(l.env.w)
	if s == nil || s.v.outside && !s.v.watching || !l.env.calledOut(f) {
		return
	}
	l.wentOut(s, f)
}

// wentOut ties a call out to what happened to the workload before.
func (l *lifecycle) wentOut(s *remembered[life], f *enrich.Flow) {
	v := &s.v
	first := !v.outside
	if first {
		v.outside = true
		l.touch(s)
	}
	for _, n := range v.fresh {
		if n.c.ID == f.Container.ID && n.called == "" && f.Start <= n.at+chainFor {
			n.called, n.method, n.confidence = labelOfPeer(f), f.Method, f.Confidence
			l.chain(n, f.Time)
		}
	}
	for i := range v.runs {
		if r := &v.runs[i]; r.id == f.Container.ID && !r.out {
			r.out = true
			l.judgeRuns(s, f.Container, f.Time)
		}
	}
	if u := v.unusual; u != nil && first && u.Container.ID == f.Container.ID && f.Start >= u.Time && f.Start <= u.Time+execFor {
		l.execWentOut(u, f)
	}
	v.watch(f.Time)
}

// watch says again whether flows matter.
func (v *life) watch(now int64) {
	v.fresh = slices.DeleteFunc(v.fresh, func(n *newcomer) bool { return now > n.at+chainFor || n.called != "" && n.exec != "" })
	if v.unusual != nil && now > v.unusual.Time+execFor {
		v.unusual = nil
	}
	v.watching = len(v.fresh) > 0 || v.unusual != nil || slices.ContainsFunc(v.runs, func(r run) bool {
		return !r.out && (r.died == 0 || now <= r.died+agentReturns) // flows may come after the end
	})
}

// Event looks at how containers come and go.
func (l *lifecycle) Event(v *enrich.Event) {
	if v.Kind == enrich.Synced {
		l.engines.adopt(v)
		return
	}
	c := v.Container
	if c == nil {
		return
	}
	s := l.of(l.env.w)
	if s.v.born == 0 {
		s.v.born = v.Time
		l.touch(s)
	}
	switch v.Kind {
	case enrich.Listed, enrich.Created:
		l.returned(c)
		l.came(s, v)
	case enrich.Started:
		l.returned(c)
		l.started(s, v)
	case enrich.Exec:
		l.executed(s, v)
	case enrich.Died:
		l.died(s, v)
	}
	s.v.watch(v.Time)
}

// Tick tells deploys that are complete and agents that did not come back.
func (l *lifecycle) Tick(now int64) {
	for len(l.deploys) > 0 && now > l.deploys[0].last+deployQuiet {
		l.tellDeploy(l.deploys[0], now)
		l.deploys = l.deploys[1:]
	}
	for len(l.missing) > 0 && now > l.missing[0].at+agentReturns {
		l.tellMissing(l.missing[0], now)
		l.missing = l.missing[1:]
	}
}

// known reports whether a workload has been watched for long enough to call something unusual.
func (l *lifecycle) known(s *remembered[life], at int64) bool {
	return s.v.born != 0 && at-s.v.born >= int64(l.env.learning.c.Hours)*hour
}

// finding is one about a container, with what all of them carry.
func (l *lifecycle) finding(c *enrich.Container, at int64, subject string, severity Severity, attack ...string) Finding {
	return Finding{
		Time: at, Window: at, Instance: c, Subject: subject, Severity: severity, Score: .2 + .2*float64(severity), Attack: attack,
		Method: enrich.MethodNone, Confidence: enrich.Exact, Evidence: map[string]any{"image": c.Image},
	}
}
