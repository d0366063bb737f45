package enrich

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A kernel with control groups of version 1 alone tells no group of a socket, only its inode. Then the processes of containers in our
// network namespace are looked through for who has it open: some hundred times the cost, and it needs CAP_SYS_PTRACE.

const (
	searchRest = 9           // times as long as a search took: at most a tenth of a core
	listEvery  = time.Second // the containers' processes are listed anew
	maxPids    = 4096
)

// search finds sockets by their inode among the processes of containers. One goroutine uses it.
type search struct {
	root      string // mount point of a hierarchy of version 1
	namespace string // ours, as /proc/self/ns/net links to it
	pids      map[string]Owner
	listed    time.Time
	next      time.Time // no search before
}

func newSearch() *search {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return &search{}
	}
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return &search{}
	}
	return &search{root: legacyMount(string(mounts)), namespace: own}
}

// owner names the container that has a socket open.
func (s *search) owner(inode uint32) Owner {
	now := time.Now()
	if s.root == "" || inode == 0 || now.Before(s.next) {
		return Owner{}
	}
	defer func() { s.next = time.Now().Add(searchRest * time.Since(now)) }()
	if now.Sub(s.listed) >= listEvery {
		s.list()
		s.listed = now
	}
	link := fmt.Sprintf("socket:[%d]", inode)
	for pid, who := range s.pids {
		files, _ := filepath.Glob("/proc/" + pid + "/fd/*")
		for _, file := range files {
			if to, err := os.Readlink(file); err == nil && to == link {
				return who
			}
		}
	}
	return Owner{}
}

// list finds the processes of containers in our network namespace.
func (s *search) list() {
	s.pids = map[string]Owner{}
	_ = filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // gone meanwhile
		}
		who := ownerOf(strings.TrimPrefix(path, s.root))
		if who.Container == "" {
			return nil
		}
		pids, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil
		}
		for _, pid := range strings.Fields(string(pids)) {
			if own, err := os.Readlink("/proc/" + pid + "/ns/net"); err == nil && own == s.namespace && len(s.pids) < maxPids {
				s.pids[pid] = who
			}
		}
		return nil
	})
}
