package rig_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
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
		id := r.Run(r.Actor(), "sleep")
		fmt.Printf("rig %d left %s\n", r.Number, r.Docker("inspect", "-f", "{{.State.Pid}}", id))
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	rig.Start(t, rig.Options{NoEngine: true}) // skips where the machine lacks something
	cmd := exec.Command(os.Args[0], "-test.run=^TestLiveSweep$", "-test.v")
	cmd.Env = append(os.Environ(), "RIG_TEST_DIES=yes")
	out, _ := cmd.CombinedOutput()
	said := regexp.MustCompile(`rig (\d+) left (\d+)`).FindStringSubmatch(string(out))
	if said == nil {
		t.Fatalf("the other test did not come so far:\n%s", out)
	}
	left, mount, process := "/run/netns/ww-host-"+said[1], "wharfwatch-rig-"+said[1]+"/", "/proc/"+said[2]
	if _, err := os.Stat(left); err != nil {
		t.Log("another package's rig has begun to sweep already")
	}
	rig.Start(t, rig.Options{NoEngine: true})
	gone := func() bool {
		_, err := os.Stat(left)
		mounts, _ := os.ReadFile("/proc/mounts")
		_, running := os.Stat(process)
		return err != nil && running != nil && !strings.Contains(string(mounts), mount)
	}
	for deadline := time.Now().Add(10 * time.Second); !gone(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s, mounts or the container of the dead rig are still there", left)
		}
	}
}
