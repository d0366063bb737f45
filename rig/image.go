package rig

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// ActorImage is what Actor makes: "docker run … wharfwatch/actor:test beacon --to …".
const ActorImage = "wharfwatch/actor:test"

// Actor puts the image of the hidden `wharfwatch actor` command into the engine and returns its name. The program is built once per
// test process.
func (r *Rig) Actor() string {
	r.t.Helper()
	binary, err := ActorBinary()
	if err != nil {
		r.t.Fatalf("rig: %v", err)
	}
	r.BuildImage(ActorImage, binary, "actor")
	return ActorImage
}

// ActorBinary builds wharfwatch, static, and returns its path: `<path> actor serve …` plays an outside server in the router namespace.
var ActorBinary = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	gomod, err := output(exec.CommandContext(ctx, "go", "env", "GOMOD"))
	if err != nil {
		return "", err
	}
	// Replaced by rename: several test processes may build at once.
	root := filepath.Dir(gomod)
	path := filepath.Join(root, "build", "actor")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	building := fmt.Sprintf("%s.%d", path, os.Getpid())
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", building, "./cmd/wharfwatch")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, err := output(cmd); err != nil {
		return "", err
	}
	return path, os.Rename(building, path)
})

// BuildImage imports an image FROM scratch with one static program as /wharfwatch and as its entry point, followed by args.
func (r *Rig) BuildImage(tag, binary string, args ...string) {
	r.t.Helper()
	program, err := os.ReadFile(binary)
	if err != nil {
		r.t.Fatalf("rig: %v", err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "wharfwatch", Mode: 0o755, Size: int64(len(program))}); err != nil {
		r.t.Fatalf("rig: %v", err)
	}
	if _, err := w.Write(program); err != nil {
		r.t.Fatalf("rig: %v", err)
	}
	if err := w.Close(); err != nil {
		r.t.Fatalf("rig: %v", err)
	}
	entry, err := json.Marshal(append([]string{"/wharfwatch"}, args...))
	if err != nil {
		r.t.Fatalf("rig: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := r.DockerCommand(ctx, "import", "--change", "ENTRYPOINT "+string(entry), "-", tag)
	cmd.Stdin = &archive
	if _, err := output(cmd); err != nil {
		r.t.Fatalf("rig: image %s: %v", tag, err)
	}
}
