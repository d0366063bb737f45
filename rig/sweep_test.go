package rig_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/rig"
)

// TestLiveSweep kills a test in the middle: the next rig takes away what it left, a running container included.
func TestLiveSweep(t *testing.T) {
	if os.Getenv("RIG_TEST_DIES") == "yes" {
		r := rig.Start(t, rig.Options{DockerdArgs: []string{"--live-restore"}})
		r.Run(r.Actor(), "sleep")
		fmt.Printf("number=%d=\n", r.Number)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	rig.Start(t, rig.Options{NoEngine: true}) // skips where the machine lacks something
	cmd := exec.Command(os.Args[0], "-test.run=^TestLiveSweep$", "-test.v")
	cmd.Env = append(os.Environ(), "RIG_TEST_DIES=yes")
	out, _ := cmd.CombinedOutput()
	parts := strings.Split(string(out), "=")
	at := -1
	for i, p := range parts {
		if strings.HasSuffix(p, "number") {
			at = i + 1
		}
	}
	if at < 0 {
		t.Fatalf("the other test did not come so far:\n%s", out)
	}
	left := "/run/netns/ww-host-" + parts[at]
	if _, err := os.Stat(left); err != nil {
		t.Log("another package's rig has begun to sweep already")
	}
	rig.Start(t, rig.Options{NoEngine: true})
	gone := func() bool {
		_, err := os.Stat(left)
		mounts, _ := os.ReadFile("/proc/mounts")
		return err != nil && !strings.Contains(string(mounts), "wharfwatch-rig-"+parts[at]+"/")
	}
	for deadline := time.Now().Add(10 * time.Second); !gone(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s or mounts of the dead rig are still there", left)
		}
	}
}
