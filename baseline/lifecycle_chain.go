package baseline

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// newcomer is a container whose beginning was odd. What follows within hours makes the chain.
type newcomer struct {
	c          *enrich.Container
	at         int64
	newImage   bool
	idle       bool   // its command only waits
	exec       string // what was executed in it
	called     string // the first outside destination it called
	method     enrich.Method
	confidence enrich.Confidence
	told       int // links of the chain when it was last told
}

// deploy is what came together: one word for all never-seen images of a project.
type deploy struct {
	project, engine string
	first, last     int64
	c               *enrich.Container // the first
	idle            bool
	unwatched       bool
	images          []string
	more            int
}

const (
	maxDeploys      = 256
	maxDeployImages = 16
)

// came looks at a container that is created, or that stands in a list.
func (l *lifecycle) came(s *remembered[life], v *enrich.Event) {
	c := v.Container
	fresh := l.engines.image(v)
	if v.Kind == enrich.Created {
		l.created(s, v)
	}
	e := l.engines.of(v.Engine)
	if e.adopted == 0 || v.Kind == enrich.Listed && !fresh {
		return
	}
	idle := idles(c.Command)
	if !fresh && !idle {
		return
	}
	if len(s.v.fresh) >= maxFresh {
		s.v.fresh = s.v.fresh[1:]
	}
	s.v.fresh = append(s.v.fresh, &newcomer{c: c, at: v.Time, newImage: fresh, idle: idle})
	if fresh && v.Time >= e.adopted+youngEngine {
		l.deployed(v, idle)
	}
}

// deployed notes a never-seen image for the word about its deploy.
func (l *lifecycle) deployed(v *enrich.Event, idle bool) {
	c := v.Container
	name := project(c.Workload)
	if name == "" {
		name = c.Workload
	}
	i := slices.IndexFunc(l.deploys, func(d *deploy) bool { return d.project == name && d.engine == v.Engine })
	if i < 0 {
		if len(l.deploys) >= maxDeploys {
			return // what comes in such numbers is churn's to say
		}
		l.deploys = append(l.deploys, &deploy{project: name, engine: v.Engine, first: v.Time, c: c, unwatched: v.Kind == enrich.Listed})
		i = len(l.deploys) - 1
	}
	d := l.deploys[i]
	d.last, d.idle = v.Time, d.idle || idle
	if len(d.images) < maxDeployImages {
		d.images = append(d.images, c.Image)
	} else {
		d.more++
	}
}

func (l *lifecycle) tellDeploy(d *deploy, now int64) {
	f := l.finding(d.c, now, "image="+repository(d.c), Info, "T1610", "T1612")
	f.Window = d.first
	f.Summary = fmt.Sprintf("%q was created from %q, an image never seen on engine %q", d.c.Name, d.c.Image, d.engine)
	if n := len(d.images) + d.more; n > 1 {
		f.Summary = fmt.Sprintf("a deploy of %q brought %d images never seen on engine %q, the first of them %q", d.project, n, d.engine, d.c.Image)
	}
	if d.idle {
		f.Summary += ", with a command that only waits"
		f.Evidence["command"] = d.c.Command
	}
	if d.unwatched {
		f.Summary += "; it was created while nobody watched"
	}
	f.Evidence["images"], f.Evidence["omitted"], f.Evidence["local_image"] = d.images, d.more, d.c.Posture.LocalImage
	l.env.report(f)
}

// chain tells a new container's story when it is more than its beginning. An image that is new, a command that only waits, and
// somebody who executes something in it or a call out of it: three of these in a row are no ordinary start. A known image needs
// all the others, and to be built here.
func (l *lifecycle) chain(n *newcomer, at int64) {
	links := []string{}
	points := 0
	add := func(when bool, worth int, text string) {
		if when {
			points += worth
			links = append(links, text)
		}
	}
	add(n.newImage, 2, "an image never seen here")
	add(n.idle, 2, "a command that only waits")
	add(n.c.Posture.LocalImage, 1, "an image from no registry")
	add(n.exec != "", 1, fmt.Sprintf("%q executed in it", n.exec))
	add(n.called != "", 1, "a call to "+n.called)
	if points < 5 || points <= n.told {
		return
	}
	n.told = points
	severity := Low
	if n.newImage && n.idle {
		severity = Medium
	}
	f := l.finding(n.c, at, "chain="+repository(n.c), severity, "T1610", "T1609")
	f.Window = n.at + int64(points) // a longer chain is another finding
	f.Score = min(float64(points)/8, 1)
	if n.called != "" {
		f.Method, f.Confidence = n.method, n.confidence
		f.Attack = append(f.Attack, "T1071")
	}
	f.Evidence["created"], f.Evidence["command"], f.Evidence["local_image"] = rfc3339(n.at), n.c.Command, n.c.Posture.LocalImage
	f.Evidence["new_image"], f.Evidence["exec"], f.Evidence["called"] = n.newImage, n.exec, n.called
	f.Summary = fmt.Sprintf("%q (%q) has an odd beginning: %s", n.c.Name, n.c.Image, strings.Join(links, ", "))
	l.env.report(f)
}

// idles reports whether a command does nothing but wait: what keeps a container there for somebody to come.
func idles(command []string) bool {
	words := strings.Fields(strings.ToLower(strings.Join(command, " ")))
	if strings.Contains(strings.Join(words, " "), "while true; do sleep") {
		return true
	}
	for len(words) > 0 {
		switch word := strings.Trim(words[0], `'";`); path.Base(word) {
		case "sh", "bash", "ash", "dash", "zsh", "tini", "dumb-init", "docker-init", "docker-entrypoint.sh", "env", "exec", "entrypoint.sh":
			words = words[1:]
		case "sleep":
			return len(words) == 2 || len(words) > 2 && words[2] != "&&" && !strings.HasSuffix(words[1], ";")
		case "tail":
			return slices.ContainsFunc(words, func(w string) bool { return strings.Trim(w, `'"`) == "/dev/null" })
		default:
			if !strings.HasPrefix(word, "-") {
				return false
			}
			words = words[1:]
		}
	}
	return false
}
