package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// Posture configures the posture detector.
type Posture struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
}

func defaultPosture() Posture { return Posture{Mode: On} }

func (c Posture) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
}

// posture speaks when a container is created with less isolation than Docker gives by itself. Points of the single settings add up;
// the first time of a workload is told, a repeat is information. At first start of an engine it writes the adoption report.
type posture struct {
	Nop
	postures
	env     *env
	reports map[string]*adoption // engines whose first list is being read
}

func newPosture(_ Posture, env *env) *posture {
	return &posture{postures: newPostures("posture", env), env: env, reports: map[string]*adoption{}}
}

// Event looks at containers that come.
func (p *posture) Event(v *enrich.Event) {
	if v.Kind == enrich.Synced {
		if p.adopt(v.Engine) {
			p.reportAdoption(v)
		}
		return
	}
	c := v.Container
	if c == nil || (v.Kind != enrich.Created && v.Kind != enrich.Listed) {
		return
	}
	newImage := !p.image(v.Engine, c)
	settings := settingsOf(c)
	if v.Kind == enrich.Listed && !p.engine(v.Engine).adopted {
		p.collect(v, settings)
	}
	if len(settings) == 0 {
		return
	}
	subject := subjectOf(settings)
	seen, repeats := p.see(v, postureHash(repository(c), subject))
	if seen == seenSilent {
		return
	}
	points := pointsOf(settings)
	f := Finding{
		Time: v.Time, Window: createdAt(v), Instance: c, Subject: subject, Method: enrich.MethodNone, Confidence: enrich.Exact,
		Severity: postureSeverity(settings, points, newImage), Score: float64(points) / float64(points+3),
		Attack: attackOf(settings), Evidence: evidenceOf(c, settings),
	}
	f.Evidence["points"], f.Evidence["first_for_workload"], f.Evidence["new_image"] = points, seen != seenBefore, newImage
	f.Evidence["image"], f.Evidence["local_image"], f.Evidence["created"] = c.Image, c.Posture.LocalImage, rfc3339(createdAt(v))
	f.Summary = fmt.Sprintf("%q (%q) was created with %s", c.Name, c.Image, strings.Join(texts(settings), ", "))
	f.known(seen, repeats)
	p.env.report(f)
}

// postureSeverity: critical is privileged from an image that the engine never had, an engine socket that can be written to beside
// another serious setting, or two ways out of the container at once.
func postureSeverity(settings []setting, points int, newImage bool) Severity {
	serious, socket := 0, false
	for _, s := range settings {
		if s.points >= 3 {
			serious++
		}
		socket = socket || s.kind == engineSocket && s.points >= escape
		if s.kind == allPrivileges && newImage {
			return Critical
		}
	}
	switch {
	case socket && serious > 1, points >= 2*escape:
		return Critical
	case points >= escape:
		return High
	case points >= 3:
		return Medium
	case points > 0:
		return Low
	}
	return Info
}

func pointsOf(settings []setting) (n int) {
	for _, s := range settings {
		n += s.points
	}
	return n
}

// subjectOf names the posture in one stable line, for allow rules and for the hash.
func subjectOf(settings []setting) string {
	words := make([]string, len(settings))
	for i, s := range settings {
		words[i] = s.subject
	}
	const limit = 300
	if text := strings.Join(words, " "); len(text) <= limit {
		return text
	}
	text := strings.Join(words, " ")
	return fmt.Sprintf("%s… %016x", strings.ToValidUTF8(text[:limit], ""), postureHash(text))
}

func texts(settings []setting) []string {
	out := make([]string, 0, len(settings))
	for _, s := range settings {
		out = append(out, s.text)
	}
	const most = 6
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return out
}

func attackOf(settings []setting) []string {
	out := []string{"T1610"}
	for _, s := range settings {
		out = append(out, s.attack...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// evidenceOf gives the inspect fields with their values, whole lists where one entry matters.
func evidenceOf(c *enrich.Container, settings []setting) map[string]any {
	out := map[string]any{}
	for _, s := range settings {
		switch s.field {
		case "Mounts":
			mounts, _ := out[s.field].([]enrich.Mount)
			out[s.field] = append(mounts, s.value.(enrich.Mount))
		case "HostConfig.CapAdd":
			out[s.field] = c.Posture.CapAdd
		case "HostConfig.SecurityOpt":
			out[s.field] = c.Posture.SecurityOpt
		case "HostConfig.Devices":
			out[s.field] = c.Posture.Devices
		default:
			out[s.field] = s.value
		}
	}
	return out
}
