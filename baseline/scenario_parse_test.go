package baseline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/tools/txtar"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// scenario is one file, parsed.
type scenario struct {
	archive    *txtar.Archive
	config     Config
	indicators Indicators
	containers []*member
	byName     map[string]*member
	show       []string // evidence keys that want lists
	steps      []step
	want       string
}

// member is a container of a scenario.
type member struct {
	enrich.Container
	addr    flow.Addr
	binding *enrich.Binding
}

var sections = map[string]func(*scenario, []string) error{
	"containers": (*scenario).container,
	"events":     (*scenario).event,
	"names":      (*scenario).name,
	"flows":      (*scenario).flow,
	"sights":     (*scenario).sight,
}

// parseScenario is strict: an error names file and line.
func parseScenario(file string, data []byte) (*scenario, error) {
	s := &scenario{archive: txtar.Parse(data), config: Default(), byName: map[string]*member{}}
	line := bytes.Count(s.archive.Comment, []byte("\n")) + 2
	if len(bytes.TrimSpace(s.archive.Comment)) == 0 {
		return nil, fmt.Errorf("%s:1: the file begins with a sentence that says what it shows", file)
	}
	events := false
	for _, f := range s.archive.Files {
		events = events || f.Name == "events"
	}
	wanted := false
	for _, f := range s.archive.Files {
		switch parse := sections[f.Name]; {
		case f.Name == "want":
			s.want, wanted = string(f.Data), true
		case f.Name == "indicators":
			for i, text := range strings.Split(string(f.Data), "\n") {
				if err := s.indicators.ParseLine("indicators", text); err != nil {
					return nil, fmt.Errorf("%s:%d: %w", file, line+i, err)
				}
			}
		case f.Name == "show":
			s.show = strings.Fields(string(f.Data))
		case f.Name == "config.yaml":
			if err := yaml.UnmarshalWithOptions(f.Data, &s.config, yaml.Strict()); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, line, err)
			}
		case parse == nil:
			return nil, fmt.Errorf("%s:%d: unknown section %q, known are config.yaml, indicators, show, want, %s", file, line-1, f.Name, names(sections))
		default:
			for i, text := range strings.Split(string(f.Data), "\n") {
				if words := fields(text); len(words) > 0 {
					if err := parse(s, words); err != nil {
						return nil, fmt.Errorf("%s:%d: %w", file, line+i, err)
					}
				}
			}
		}
		line += bytes.Count(f.Data, []byte("\n")) + 1
	}
	if !wanted {
		return nil, fmt.Errorf("%s: no want section; an empty one asserts silence", file)
	}
	problem := ""
	s.config.Validate(func(path, message string) { problem = path + ": " + message })
	if problem != "" {
		return nil, fmt.Errorf("%s: config.yaml: %s", file, problem)
	}
	if !events {
		s.begin()
	}
	sortSteps(s.steps)
	return s, nil
}

// begin is the events of a file that has none: an engine known for long, to which the containers come at the beginning.
func (s *scenario) begin() {
	s.steps = append([]step{{epoch, func(g *stage) {
		g.event(enrich.Event{Time: epoch, Kind: enrich.Synced})
		for _, c := range s.containers {
			g.life(epoch, c, enrich.Created)
		}
	}}}, s.steps...)
}

// rewrite puts what was told into the want section.
func (s *scenario) rewrite(got string) []byte {
	for i := range s.archive.Files {
		if f := &s.archive.Files[i]; f.Name == "want" {
			f.Data = []byte(got)
		}
	}
	return txtar.Format(s.archive)
}

// container reads: name address workload [key=value…]. An address of - is none.
func (s *scenario) container(w []string) error {
	if len(w) < 3 {
		return errors.New("a container is: name address workload [image=…] [network=…] …")
	}
	if s.byName[w[0]] != nil {
		return fmt.Errorf("container %q is there twice", w[0])
	}
	m := &member{Container: enrich.Container{
		ID: fmt.Sprintf("%064x", len(s.containers)+1), Name: w[0], Engine: "local", Workload: w[2], Image: w[0] + ":1",
		Running: true, NetworkMode: "bridge", Created: epoch - 3600*sec, Started: epoch - 3600*sec,
	}}
	if w[1] != "-" {
		a, err := flow.ParseAddr(w[1])
		if err != nil {
			return fmt.Errorf("address of %s: %w", w[0], err)
		}
		m.addr = a
		m.binding = &enrich.Binding{NetworkID: "bridge", Network: "bridge", Addrs: []flow.Addr{a}, MAC: macOf(a).String()}
	}
	for _, option := range w[3:] {
		key, value, _ := strings.Cut(option, "=")
		set := containerOptions[key]
		if set == nil {
			return fmt.Errorf("unknown option %q, known are %s", key, names(containerOptions))
		}
		set(&m.Container, value)
	}
	s.containers = append(s.containers, m)
	s.byName[m.Name] = m
	return nil
}

var containerOptions = map[string]func(c *enrich.Container, value string){
	"image":      func(c *enrich.Container, v string) { c.Image = v },
	"network":    func(c *enrich.Container, v string) { c.NetworkMode = v },
	"privileged": func(c *enrich.Container, _ string) { c.Posture.Privileged = true },
	"cap":        func(c *enrich.Container, v string) { c.Posture.CapAdd = strings.Split(v, ",") },
	"pid":        func(c *enrich.Container, v string) { c.Posture.PidMode = v },
	"ipc":        func(c *enrich.Container, v string) { c.Posture.IpcMode = v },
	"uts":        func(c *enrich.Container, v string) { c.Posture.UTSMode = v },
	"security":   func(c *enrich.Container, v string) { c.Posture.SecurityOpt = append(c.Posture.SecurityOpt, v) },
	"device":     func(c *enrich.Container, v string) { c.Posture.Devices = append(c.Posture.Devices, v) },
	"mount": func(c *enrich.Container, v string) {
		source, ro := strings.CutSuffix(v, ":ro")
		c.Posture.Mounts = append(c.Posture.Mounts, enrich.Mount{Source: source, Destination: source, RW: !ro})
	},
	"command": func(c *enrich.Container, v string) {
		for _, word := range strings.Split(v, ",") {
			c.Command = append(c.Command, strings.ReplaceAll(word, "+", " "))
		}
	},
	"local":   func(c *enrich.Container, _ string) { c.Posture.LocalImage = true },
	"digest":  func(c *enrich.Container, v string) { c.ImageID = "sha256:" + v },
	"stopped": func(c *enrich.Container, _ string) { c.Running, c.Finished = false, c.Started+sec },
}

// event reads: at created|listed|started|died container [exit code], at exec container command…, at synced|restart, at gap length.
func (s *scenario) event(w []string) error {
	if len(w) < 2 {
		return errors.New("an event is: at kind [container]")
	}
	offset, err := duration(w[0])
	if err != nil {
		return err
	}
	at, kind := epoch+offset, w[1]
	var do func(*stage)
	switch {
	case kind == "synced" && len(w) == 2:
		do = func(g *stage) { g.event(enrich.Event{Time: at, Kind: enrich.Synced}) }
	case kind == "restart" && len(w) == 2:
		do = func(g *stage) { g.restart(at) }
	case kind == "gap" && len(w) == 3:
		length, err := duration(w[2])
		if err != nil {
			return err
		}
		at += length // it is known at its end
		do = func(g *stage) { g.engine.Gap(flow.Gap{Source: "test", From: at - length, To: at, Reason: "sequence"}) }
	case kind == "exec" && len(w) > 3:
		c := s.byName[w[2]]
		if c == nil {
			return fmt.Errorf("unknown container %q, known are %s", w[2], names(s.byName))
		}
		do = func(g *stage) {
			g.event(enrich.Event{Time: at, Kind: enrich.Exec, Container: &c.Container, Detail: strings.Join(w[3:], " ")})
		}
	case kind == "died" && len(w) == 4:
		c := s.byName[w[2]]
		if c == nil {
			return fmt.Errorf("unknown container %q, known are %s", w[2], names(s.byName))
		}
		if _, err := strconv.ParseUint(w[3], 10, 8); err != nil {
			return fmt.Errorf("exit code %q: a number from 0 to 255", w[3])
		}
		do = func(g *stage) {
			g.event(enrich.Event{Time: at, Kind: enrich.Died, Container: &c.Container, Detail: "exit " + w[3]})
			g.gone(at, c)
		}
	case (kind == "created" || kind == "started" || kind == "listed" || kind == "died") && len(w) == 3:
		c := s.byName[w[2]]
		if c == nil {
			return fmt.Errorf("unknown container %q, known are %s", w[2], names(s.byName))
		}
		do = func(g *stage) { g.life(at, c, enrich.EventKind(kind)) }
	default:
		return fmt.Errorf("unknown event %q: created, listed, started or died with a container, exec with a container and a command, gap with a length, synced, restart", strings.Join(w[1:], " "))
	}
	s.steps = append(s.steps, step{at, do})
	return nil
}

// fields splits a line; # begins a comment.
func fields(line string) []string {
	line, _, _ = strings.Cut(line, "#")
	return strings.Fields(line)
}

// duration reads Go's durations, with days before them: 2d, 1d3h, 90s.
func duration(text string) (int64, error) {
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		days, rest = "0", text
	}
	n, err := strconv.Atoi(days)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no time: 90s, 5m, 3h, 2d, 1d3h", text)
	}
	var d time.Duration
	if rest != "" {
		if d, err = time.ParseDuration(rest); err != nil || d < 0 {
			return 0, fmt.Errorf("%q is no time: 90s, 5m, 3h, 2d, 1d3h", text)
		}
	}
	return int64(n)*24*int64(time.Hour) + int64(d), nil
}

// bytesOf reads 512, 20kB, 800MB, 3GB.
func bytesOf(text string) (float64, error) {
	number, factor := text, 1.
	for _, u := range []struct {
		unit string
		n    float64
	}{{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}} {
		if n, ok := strings.CutSuffix(text, u.unit); ok {
			number, factor = n, u.n
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no number of bytes: 512, 20kB, 800MB, 3GB", text)
	}
	return n * factor, nil
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
