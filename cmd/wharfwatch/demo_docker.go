package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/configs"
)

const (
	stageName  = "wharfwatch-demo" // of everything that the demo makes in the engine
	stageImage = stageName + ":stage"
	stageWait  = 4 * time.Minute // some 40 beats of the implant are enough; they come every two seconds
)

// stage is the demo on a real engine: containers FROM scratch out of this very binary on a network of their own, watched by a real
// monitor. It needs no registry and leaves nothing behind.
type stage struct {
	g       *globals
	gateway string     // of the network: this host, where the implant calls
	store   string     // address of the container that metrics are pushed to
	failed  chan error // of what the containers call
	bridge  string
}

// act is a container on the stage.
type act struct {
	name, title, detector, why string // detector "" for a look-alike
	options, command           []string
}

func (s *stage) acts() []act {
	to := func(port string) string { return net.JoinHostPort(s.gateway, port) }
	return []act{
		{
			name: "worker", title: "an implant calls home every two seconds with 30 % jitter", detector: "beacon",
			command: []string{"beacon", "--to", to("9001"), "--period", "2s", "--jitter", ".3"},
		},
		{
			name: "helper", title: "a container with the host's network and NET_ADMIN is created", detector: "host-network",
			options: []string{"--network=host", "--cap-add=NET_ADMIN"}, command: []string{"sleep"},
		},
		{
			name: "web", title: "connections at random moments", why: "no rhythm",
			command: []string{"poisson", "--to", to("9002"), "--mean", "2s"},
		},
		{
			name: "push", title: "metrics are pushed every two seconds", why: "a plain timer between containers of one network",
			command: []string{"push", "--to", net.JoinHostPort(s.store, "9003"), "--period", "2s"},
		},
		{
			name: "feed", title: "one connection that stays open, a message every two seconds", why: "messages in one connection are no calls",
			command: []string{"hold", "--to", to("9002"), "--period", "2s"},
		},
	}
}

// run sets the stage, watches until everything has been told or the time is over, and clears the stage.
func (s *stage) run(ctx context.Context) (_ *demoResult, err error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errors.New("demo --docker needs the docker command and an engine; without them: wharfwatch demo")
	}
	dir, err := os.MkdirTemp("", stageName)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s.clear(ctx) // what an earlier demo may have left
	defer func() { err = errors.Join(err, s.clear(context.WithoutCancel(ctx))) }()
	if err := s.set(ctx); err != nil {
		return nil, err
	}
	m, err := s.monitor(ctx, dir)
	if err != nil {
		return nil, err
	}
	watching, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.run(watching) }()
	defer func() { end(); err = errors.Join(err, <-ended, m.db.Close()) }()

	begun := time.Now()
	if err := s.start(ctx, act{name: "store", command: []string{"serve", "--http", ":9003"}}); err != nil {
		return nil, err
	}
	if s.store, err = s.docker(ctx, nil, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", stageName+"-store"); err != nil {
		return nil, err
	}
	acts := s.acts()
	for _, a := range acts {
		if err := s.start(ctx, a); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(s.g.stderr, "six containers run on %s; watching for up to %s\n", s.bridge, stageWait)
	for {
		r := s.compare(acts, begun, m.incidents.Incidents())
		if time.Since(begun) > stageWait || r.allFound() && time.Since(begun) > stageWait/4 {
			r.Records = m.recordsTaken(ctx)
			return r, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-s.failed:
			return nil, err
		case <-time.After(time.Second):
		}
	}
}

// start runs a container on the stage.
func (s *stage) start(ctx context.Context, a act) error {
	args := append([]string{"run", "-d", "--name", stageName + "-" + a.name, "--label", stageName}, a.options...)
	if len(a.options) == 0 {
		args = append(args, "--network", stageName)
	}
	_, err := s.docker(ctx, nil, append(append(args, stageImage), a.command...)...)
	return err
}

// set makes the image, the network, and what the containers call: this process.
func (s *stage) set(ctx context.Context) error {
	image, err := scratchImage()
	if err != nil {
		return err
	}
	if _, err := s.docker(ctx, image, "import", "--change", `ENTRYPOINT ["/wharfwatch","actor"]`, "-", stageImage); err != nil {
		return err
	}
	id, err := s.docker(ctx, nil, "network", "create", "--label", stageName, stageName)
	if err != nil {
		return err
	}
	s.bridge = "br-" + id[:min(12, len(id))]
	if s.gateway, err = s.docker(ctx, nil, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", stageName); err != nil {
		return err
	}
	if net.ParseIP(s.gateway) == nil {
		return fmt.Errorf("the network %s has no gateway address: %q", stageName, s.gateway)
	}
	servers := [][]string{{"--tcp", "9001"}, {"--tcp", "9002"}}
	s.failed = make(chan error, len(servers))
	for _, server := range servers {
		c := newActorCommand(&globals{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer), now: time.Now})
		c.SetArgs([]string{"serve", server[0], net.JoinHostPort(s.gateway, server[1])})
		go func() {
			if err := c.ExecuteContext(ctx); err != nil {
				s.failed <- fmt.Errorf("serve what the containers call: %w", err)
			}
		}()
	}
	return nil
}

// monitor is the product on its defaults, watching the stage only, with its state in a directory that goes.
func (s *stage) monitor(ctx context.Context, dir string) (*monitor, error) {
	c, err := configs.Load("", []string{
		"data_dir=" + dir, "flow.netflow=off", "flow.sflow=off", "flow.interfaces=" + s.bridge, "console.listen=off",
		"enrich.conntrack.mode=off", "log.level=error",
	}, nil)
	if err != nil {
		return nil, err
	}
	c.Flow.ExplicitInterfaces = true // without a capture there is nothing to see: that is an error here
	return open(ctx, c, s.g)
}

func (s *stage) compare(acts []act, begun time.Time, incidents []alerts.Incident) *demoResult {
	r := &demoResult{False: []string{}, Incidents: incidents, Passed: true}
	for _, a := range acts {
		name := stageName + "-" + a.name
		var own *alerts.Incident
		for i := range incidents {
			if incidents[i].Container.Name == name {
				own = &incidents[i]
			}
		}
		if a.detector == "" {
			l := lookAlikeResult{a.title, name, "beacon", a.why, own == nil}
			r.LookAlikes, r.Passed = append(r.LookAlikes, l), r.Passed && l.Silent
			continue
		}
		out := attackResult{Title: a.title, Workload: name, Detector: a.detector, Began: begun.UTC().Format(time.RFC3339)}
		if own != nil {
			for _, f := range own.Findings {
				if f.Detector == a.detector && !out.Found {
					out.Found, out.Incident, out.Told = true, own.ID, f.Time.Std().UTC().Format(time.RFC3339)
				}
			}
		}
		r.Attacks, r.Passed = append(r.Attacks, out), r.Passed && out.Found
	}
	return r
}

// clear removes everything that bears the stage's name.
func (s *stage) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ids, err := s.docker(ctx, nil, "ps", "-aq", "--filter", "label="+stageName)
	if err != nil {
		return err
	}
	if list := strings.Fields(ids); len(list) > 0 {
		_, err = s.docker(ctx, nil, append([]string{"rm", "-f"}, list...)...)
	}
	if nets, e := s.docker(ctx, nil, "network", "ls", "-q", "--filter", "label="+stageName); e == nil && nets != "" {
		_, e = s.docker(ctx, nil, append([]string{"network", "rm"}, strings.Fields(nets)...)...)
		err = errors.Join(err, e)
	}
	if images, e := s.docker(ctx, nil, "images", "-q", stageImage); e == nil && images != "" {
		_, e = s.docker(ctx, nil, "rmi", "-f", stageImage)
		err = errors.Join(err, e)
	}
	return err
}

// docker runs the docker command and returns what it prints.
func (s *stage) docker(ctx context.Context, in *bytes.Buffer, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	if in != nil {
		cmd.Stdin = in
	}
	out, err := cmd.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		err = errors.New(strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("docker %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// scratchImage is an image of this program and nothing else.
func scratchImage() (*bytes.Buffer, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("demo --docker needs a Linux binary: %w", err)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, errors.New("demo --docker puts this program alone into an image, so that it must be static: build it with make build, or CGO_ENABLED=0")
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: "wharfwatch", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	return &out, w.Close()
}

func (r *demoResult) allFound() bool {
	for _, a := range r.Attacks {
		if !a.Found {
			return false
		}
	}
	return true
}

// recordsTaken is how many records the monitor has taken in.
func (m *monitor) recordsTaken(ctx context.Context) (n uint64) {
	m.ask(ctx, func() { n = m.records })
	return n
}
