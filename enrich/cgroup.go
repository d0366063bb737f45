package enrich

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	// What engines call the control group of a container, with the systemd driver and with cgroupfs.
	containerScope = regexp.MustCompile(`^(?:docker|libpod|cri-containerd|crio)-([0-9a-f]{64})\.scope$`)
	containerDir   = regexp.MustCompile(`^[0-9a-f]{64}$`)

	// Units that carry a number of their own each time: the number says nothing about what runs there.
	transientUnit = regexp.MustCompile(`^(session|run)-[0-9a-zA-Z]+\.(scope|service)$`)
)

// ownerOf reads the path of a control group, "/" for the root: the innermost container, else the outermost systemd
// unit (user@1000.service, not what runs below it), else the path itself.
func ownerOf(group string) Owner {
	group = path.Clean("/" + group)
	parts := strings.Split(group[1:], "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if m := containerScope.FindStringSubmatch(parts[i]); m != nil {
			return Owner{Container: m[1]}
		}
		if containerDir.MatchString(parts[i]) {
			return Owner{Container: parts[i]}
		}
	}
	for _, part := range parts {
		if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
			return Owner{Unit: clean(transientUnit.ReplaceAllString(part, "$1.$2"), 128)}
		}
	}
	if group == "/" {
		return Owner{Unit: "root"}
	}
	return Owner{Unit: clean(strings.TrimSuffix(group[1:], ".slice"), 128)}
}

// legacyMount is a hierarchy of version 1 that engines put containers in, "" where there is none.
func legacyMount(mounts string) string {
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) > 3 && f[2] == "cgroup" && (slices.Contains(strings.Split(f[3], ","), "memory") || slices.Contains(strings.Split(f[3], ","), "pids")) {
			return f[1]
		}
	}
	return ""
}
