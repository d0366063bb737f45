package baseline

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// run is one instance's life, for what lives for seconds only.
type run struct {
	id          string
	start, died int64 // died is 0 while it runs
	out         bool  // it called an outside address
}

// absence is an agent that ended.
type absence struct {
	c      *enrich.Container
	at     int64
	killed bool
	detail string
	others int // containers of the engine that ended in the same minutes
}

const maxMissing = 64

// created counts a start of the workload and of the engine.
func (l *lifecycle) created(s *remembered[life], v *enrich.Event) {
	if s.v.churn.start(v.Time, l.c.ChurnStarts) {
		l.tellChurn(v, &s.v.churn, v.Container.Workload)
	}
	l.touch(s)
	if e := l.engines.of(v.Engine); e.churn.start(v.Time, 2*l.c.ChurnStarts) {
		l.tellChurn(v, &e.churn, v.Engine)
	}
	l.engines.touch(v.Engine)
}

func (l *lifecycle) tellChurn(v *enrich.Event, c *churn, of string) {
	f := l.finding(v.Container, v.Time, "churn="+of, Low, "T1610")
	f.Window = c.hour * hour
	f.Evidence["starts_per_hour"], f.Evidence["usual_per_hour"], f.Evidence["peak_per_hour"] = c.starts, round(c.rate), round(c.peak)
	f.Evidence["hours_watched"] = c.hours
	f.Summary = fmt.Sprintf("%d containers of %q were created within an hour; %.2g an hour are usual, %.3g were most", c.starts, of, c.rate, c.peak)
	l.env.report(f)
}

// started notes a life, and a container that starts over and over.
func (l *lifecycle) started(s *remembered[life], v *enrich.Event) {
	c := v.Container
	if len(s.v.runs) >= maxRuns {
		s.v.runs = s.v.runs[1:]
	}
	s.v.runs = append(s.v.runs, run{id: c.ID, start: v.Time})
	if len(s.v.starts) >= maxRuns {
		s.v.starts = s.v.starts[1:]
	}
	s.v.starts = append(s.v.starts, started{c.ID, v.Time})
	n := 0
	for _, o := range s.v.starts {
		if o.id == c.ID && v.Time-o.at <= 10*minute {
			n++
		}
	}
	if n != loopStarts {
		return
	}
	f := l.finding(c, v.Time, "restart-loop", Info)
	if l.agent(c) {
		f.Severity, f.Score, f.Attack = Low, .4, []string{"T1562.001"}
	}
	f.Window = v.Time - v.Time%dayLength
	f.Evidence["starts"] = n
	f.Summary = fmt.Sprintf("%q (%q) was started %d times within ten minutes", c.Name, c.Image, n)
	l.env.report(f)
}

const dayLength = 24 * hour

// executed looks at a program that is run in a container from outside. Health checks are such programs: they are known after a day.
func (l *lifecycle) executed(s *remembered[life], v *enrich.Event) {
	for _, n := range s.v.fresh {
		if n.c.ID == v.Container.ID && n.exec == "" {
			n.exec = v.Detail
			l.chain(n, v.Time)
		}
	}
	program := programOf(v.Detail)
	if remember(&s.v.execs, postureHash(program), maxExecs) {
		return
	}
	l.touch(s)
	if !l.known(s, v.Time) {
		return
	}
	u := *v
	s.v.unusual = &u
	f := l.finding(v.Container, v.Time, "exec="+program, Info, "T1609")
	if tool := toolOf(v.Detail); tool != "" {
		f.Severity, f.Score = Low, .4
		f.Evidence["tool"] = tool
	}
	f.Evidence["command"], f.Evidence["programs_known"] = v.Detail, len(s.v.execs)-1
	f.Summary = fmt.Sprintf("%q was executed in %q (%q), where that never happened before", v.Detail, v.Container.Name, v.Container.Image)
	if len(s.v.execs) == 1 {
		f.Summary = fmt.Sprintf("%q was executed in %q (%q), where nothing was executed before", v.Detail, v.Container.Name, v.Container.Image)
	}
	l.env.report(f)
}

// execWentOut tells that a workload which never called out does so right after something unusual was executed in it.
func (l *lifecycle) execWentOut(u *enrich.Event, f *enrich.Flow) {
	c := f.Container
	out := l.finding(c, f.Time, "exec-then-call="+programOf(u.Detail), Medium, "T1609", "T1071")
	out.Window, out.Method, out.Confidence = u.Time, f.Method, f.Confidence
	out.Evidence["command"], out.Evidence["called"] = u.Detail, subjectOfPeer(f)
	out.Evidence["seconds_between"] = round(float64(f.Start-u.Time) / 1e9)
	out.Summary = fmt.Sprintf("%q (%q) called %s %s after %q was executed in it; it never called an outside address before",
		c.Name, c.Image, labelOfPeer(f), seconds(float64(f.Start-u.Time)/1e9), u.Detail)
	l.env.report(out)
}

// died notes the end of a life.
func (l *lifecycle) died(s *remembered[life], v *enrich.Event) {
	c := v.Container
	for i := range s.v.runs {
		if r := &s.v.runs[i]; r.id == c.ID && r.died == 0 {
			r.died = v.Time
		}
	}
	l.judgeRuns(s, c, v.Time)
	for _, a := range l.missing {
		if a.c.Engine == c.Engine && v.Time-a.at <= 2*minute {
			a.others++
		}
	}
	if l.agent(c) && l.engines.of(v.Engine).adopted != 0 && len(l.missing) < maxMissing {
		l.missing = append(l.missing, &absence{
			c: c, at: v.Time, killed: v.Detail == "exit 137", detail: v.Detail, others: l.engines.died(v),
		})
		return
	}
	l.engines.died(v)
}

// returned forgets that an agent was missed.
func (l *lifecycle) returned(c *enrich.Container) {
	l.missing = slices.DeleteFunc(l.missing, func(a *absence) bool { return a.c.Workload == c.Workload && c.Running })
}

// tellMissing tells an agent that ended alone and stayed away. Where much of a host ends together, it is the host.
func (l *lifecycle) tellMissing(a *absence, now int64) {
	if a.others >= 4 {
		return
	}
	severity := Low
	if a.killed {
		severity = Medium
	}
	f := l.finding(a.c, now, "agent-ended", severity, "T1562.001", "T1489")
	f.Window = a.at
	f.Evidence["died"], f.Evidence["exit"], f.Evidence["others_ended"] = rfc3339(a.at), a.detail, a.others
	f.Summary = fmt.Sprintf("%q (%q), which watches others, ended and has not come back", a.c.Name, a.c.Image)
	if a.killed {
		f.Summary = fmt.Sprintf("%q (%q), which watches others, was killed and has not come back", a.c.Name, a.c.Image)
	}
	l.env.report(f)
}

// agent reports whether an image is one that watches others.
func (l *lifecycle) agent(c *enrich.Container) bool {
	name := strings.ToLower(repository(c))
	return slices.ContainsFunc(l.c.Agents, func(a string) bool { return strings.Contains(name, a) })
}

// judgeRuns tells lives of seconds that call out and come again and again. Cron does that: a workload of which it is known is silent.
func (l *lifecycle) judgeRuns(s *remembered[life], c *enrich.Container, now int64) {
	n := 0
	for _, r := range s.v.runs {
		if r.out && r.died != 0 && r.died-r.start < shortLife && now-r.start <= hour {
			n++
		}
	}
	if n < shortRuns {
		return
	}
	before := s.v.shorts
	if s.v.shorts = now / hour; s.v.shorts != before {
		l.touch(s)
	}
	if !l.known(s, now) || before != 0 && now/hour-before < 14*24 {
		return
	}
	f := l.finding(c, now, "short-lives", Low, "T1610")
	f.Evidence["lives"], f.Evidence["within_seconds"] = n, shortLife/1e9
	f.Summary = fmt.Sprintf("%d containers of %q lived less than a minute each within an hour, and called outside addresses", n, c.Workload)
	l.env.report(f)
}

// programOf is what stays the same when a command is run again with other arguments.
func programOf(command string) string {
	words := strings.Fields(command)
	if len(words) == 0 {
		return ""
	}
	program := path.Base(words[0])
	if isShell(program) && len(words) > 2 && strings.HasPrefix(words[1], "-") && strings.HasSuffix(words[1], "c") {
		return program + " -c " + path.Base(strings.Trim(words[2], `'"`))
	}
	return program
}

func isShell(program string) bool {
	switch program {
	case "sh", "bash", "ash", "dash", "zsh", "ksh":
		return true
	}
	return false
}

// toolOf is the first word of a command that fetches, tunnels, hides or breaks out, "" none.
func toolOf(command string) string {
	for _, word := range strings.FieldsFunc(command, func(r rune) bool { return strings.ContainsRune(" '\";|&()`$=", r) }) {
		switch base := path.Base(word); base {
		case "curl", "wget", "nc", "ncat", "netcat", "socat", "nsenter", "base64", "chroot", "insmod", "nmap", "masscan", "ssh", "scp", "xmrig", "chisel":
			return base
		}
		if strings.HasPrefix(word, "/dev/tcp/") {
			return "/dev/tcp"
		}
	}
	return ""
}
