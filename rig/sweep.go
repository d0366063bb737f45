package rig

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sweep removes the rigs of tests that were killed.
func sweep(t testing.TB) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "wharfwatch-rig-*"))
	for _, dir := range dirs {
		number := strings.TrimPrefix(filepath.Base(dir), "wharfwatch-rig-")
		if owner := pidIn(filepath.Join(dir, "owner")); owner == 0 || alive(owner) {
			continue
		}
		t.Logf("rig: sweeping rig %s of a test that is gone", number)
		for _, problem := range remove(dir, "ww-host-"+number, "ww-router-"+number) {
			t.Logf("rig: %v", problem)
		}
	}
}

// remove ends what a rig's directory records, by pid, and takes its mounts, namespaces and files away.
func remove(dir, hostNS, routerNS string) (problems []error) {
	stop(pidIn(filepath.Join(dir, "pid")), filepath.Join(dir, "root"))
	stop(pidIn(filepath.Join(dir, "exec/containerd/containerd.pid")), dir)
	for _, pid := range shims(dir) {
		containers := children(pid) // they outlive their shim
		stop(pid, dir)
		for _, container := range containers {
			_ = syscall.Kill(container, syscall.SIGKILL)
		}
	}
	for _, mount := range mountsBelow(dir) {
		if err := unmount(mount); err != nil {
			problems = append(problems, fmt.Errorf("unmount %s: %w", mount, err))
		}
	}
	for _, namespace := range []string{hostNS, routerNS} {
		if _, err := os.Stat("/run/netns/" + namespace); err == nil {
			if err := ip("netns delete " + namespace); err != nil {
				problems = append(problems, err)
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		problems = append(problems, err)
	}
	return problems
}

func pidIn(file string) int {
	data, _ := os.ReadFile(file)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// stop ends a process that is still the recorded one: its command line names the rig.
func stop(pid int, mark string) {
	if pid <= 1 || !strings.Contains(commandLine(pid), mark) {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for range 100 {
		if !alive(pid) || commandLine(pid) == "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

func commandLine(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.ReplaceAll(string(data), "\x00", " ")
}

// shims are containerd's helpers whose container outlived the engine; they name the rig's own socket.
func shims(dir string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if line := commandLine(pid); strings.Contains(line, "containerd-shim") && strings.Contains(line, filepath.Join(dir, "exec")+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// children are the processes that a process has started.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		data, _ := os.ReadFile(file)
		// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: behind the name in brackets stand the state and the parent
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// mountsBelow lists mount points, the innermost first.
func mountsBelow(dir string) (mounts []string) {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		// https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html: the fifth field is the mount point
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			mounts = append(mounts, fields[4])
		}
	}
	slices.Reverse(mounts)
	return mounts
}
