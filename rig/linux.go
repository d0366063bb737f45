//go:build linux

package rig

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Enter runs f with its thread in a network namespace. Sockets that f opens stay there for good; goroutines that f starts do not run
// there.
func Enter(namespace string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("network namespace %s: %w", namespace, err)
			return
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", namespace, err)
			return
		}
		done <- f()
	}()
	return <-done
}

func mountControlGroups() error {
	return unix.Mount("none", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH) }
