package enrich

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// groups knows the control groups of version 2 by their id, which is the inode of their directory. One goroutine uses it.
type groups struct {
	root   string // mount point of the hierarchy, "" where there is none
	byID   map[uint64]Owner
	paths  map[string]string // directories of containers
	walked time.Time
	misses map[uint64]time.Time // ids that a walk did not find
}

const (
	maxGroups   = 1 << 16
	walkEvery   = 50 * time.Millisecond // at most: some 300 directories take a millisecond
	forgetGroup = 10 * time.Second      // and a missing one is looked for again
)

func newGroups() *groups {
	return &groups{root: unifiedMount(), byID: map[uint64]Owner{}, paths: map[string]string{}, misses: map[uint64]time.Time{}}
}

// unifiedMount is where version 2 is mounted: /sys/fs/cgroup, or beside version 1 (hybrid) usually /sys/fs/cgroup/unified.
func unifiedMount() string {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	return ""
}

// owner names a control group. A new one is found by a walk over all; one that is gone already stays unknown.
func (g *groups) owner(id uint64) Owner {
	if o, ok := g.byID[id]; ok || id == 0 || g.root == "" {
		return o
	}
	now := time.Now()
	if at, ok := g.misses[id]; ok && now.Sub(at) < forgetGroup {
		return Owner{}
	}
	if now.Sub(g.walked) < walkEvery {
		time.Sleep(walkEvery - now.Sub(g.walked))
	}
	g.walk()
	o, ok := g.byID[id]
	if !ok {
		if len(g.misses) >= maxGroups {
			clear(g.misses)
		}
		g.misses[id] = now
	}
	return o
}

// walk reads the whole hierarchy. What was known stays known: late questions are about groups that are gone.
func (g *groups) walk() {
	if len(g.byID) >= maxGroups {
		clear(g.byID)
		clear(g.paths)
	}
	_ = filepath.WalkDir(g.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // gone meanwhile
		}
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && len(g.byID) < maxGroups {
			o := ownerOf(strings.TrimPrefix(path, g.root))
			g.byID[st.Ino] = o
			if o.Container != "" && g.paths[o.Container] == "" { // the outermost comes first
				g.paths[o.Container] = path
			}
		}
		return nil
	})
	g.walked = time.Now()
}
