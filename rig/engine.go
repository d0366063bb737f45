package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// StartEngine starts dockerd in the host namespace and waits until it answers. After StopEngine it starts the same engine again.
func (r *Rig) StartEngine() {
	r.t.Helper()
	if err := r.startEngine(); err != nil {
		r.t.Fatalf("rig: %v\n%s", err, r.logTail())
	}
}

func (r *Rig) startEngine() error {
	log, err := os.OpenFile(r.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	at := func(name string) string { return filepath.Join(r.dir, name) }
	args := append([]string{
		"--net=/run/netns/" + r.HostNS, "--", which("dockerd"),
		"--data-root", at("root"), "--exec-root", at("exec"), "--pidfile", at("pid"), "-H", r.DockerHost,
		"--bip", r.BridgeNet.String(), "--default-address-pool", "base=172.30.0.0/16,size=24",
	}, r.o.DockerdArgs...)
	cmd := exec.Command(which("nsenter"), args...) // execs dockerd: its pid is dockerd's
	cmd.Env = append(os.Environ(), "PATH="+r.path)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's ^C is for the test, which then cleans up
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start dockerd: %w", err)
	}
	r.engine, r.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(r.exited)
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err = output(r.DockerCommand(ctx, "version", "--format", "{{.Server.Version}}"))
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-r.exited:
			return errors.New("dockerd ended while it started")
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("dockerd does not answer: %w", err)
}

// StopEngine ends dockerd with SIGTERM and waits for it. Containers end too, unless the engine runs with --live-restore.
func (r *Rig) StopEngine() {
	r.t.Helper()
	if err := r.stopEngine(); err != nil {
		r.t.Fatalf("rig: %v", err)
	}
}

// KillEngine ends dockerd with SIGKILL; containers stay.
func (r *Rig) KillEngine() {
	r.t.Helper()
	if err := r.engine.Process.Kill(); err != nil {
		r.t.Fatalf("rig: kill dockerd: %v", err)
	}
	<-r.exited
}

func (r *Rig) stopEngine() error {
	select {
	case <-r.exited:
		return nil
	default:
	}
	if err := r.engine.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop dockerd: %w", err)
	}
	select {
	case <-r.exited:
		return nil
	case <-time.After(30 * time.Second):
		_ = r.engine.Process.Kill()
		<-r.exited
		return errors.New("dockerd did not end within 30 s of SIGTERM: it was killed")
	}
}

func (r *Rig) logFile() string { return filepath.Join(r.dir, "dockerd.log") }

func (r *Rig) logTail() string {
	data, _ := os.ReadFile(r.logFile())
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-25):], []byte("\n")))
}

// DockerCommand is the docker command against this engine.
func (r *Rig) DockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := command(ctx, "docker", append([]string{"-H", r.DockerHost}, args...)...)
	cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+filepath.Join(r.dir, "config"), "DOCKER_CONTEXT=", "DOCKER_TLS_VERIFY=", "DOCKER_HOST=")
	return cmd
}

// Docker runs the docker command and returns what it prints, trimmed.
func (r *Rig) Docker(args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := output(r.DockerCommand(ctx, args...))
	if err != nil {
		r.t.Fatalf("rig: %v", err)
	}
	return out
}

// Run starts a container in the background (docker run -d) and returns its id, 64 hex digits.
func (r *Rig) Run(args ...string) string {
	r.t.Helper()
	out := r.Docker(append([]string{"run", "-d"}, args...)...)
	return out[strings.LastIndexByte(out, '\n')+1:]
}
