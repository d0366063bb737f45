package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// capabilityNames by number: https://github.com/torvalds/linux/blob/master/include/uapi/linux/capability.h
var capabilityNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
	NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
	SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
	WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// lackingCapabilities are those this machine withholds even from root. dockerd asks for all of them for a privileged container, and
// runc then fails.
func lackingCapabilities() (names []string) {
	status, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(status), "CapBnd:")
	bounding, err := strconv.ParseUint(strings.TrimSpace(strings.SplitN(after, "\n", 2)[0]), 16, 64)
	if err != nil {
		return nil
	}
	data, _ := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	last, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return nil
	}
	for i, name := range capabilityNames {
		if i <= last && bounding>>i&1 == 0 {
			names = append(names, "CAP_"+name)
		}
	}
	return names
}

// shimRunc puts a runc in front of dockerd's path that takes capabilities the machine does not have out of the bundle. The engine's
// API says the same as anywhere else; only the process has less.
func (r *Rig) shimRunc() error {
	lacking := lackingCapabilities()
	runc := which("runc")
	if len(lacking) == 0 || runc == "" {
		return nil
	}
	var edits strings.Builder
	for _, name := range lacking {
		fmt.Fprintf(&edits, ` -e 's/"%s",//g' -e 's/,"%s"//g'`, name, name)
	}
	script := fmt.Sprintf("#!/bin/sh\nfor a; do\n\t[ \"$p\" = --bundle ] && sed -i%s \"$a/config.json\"\n\tp=$a\ndone\nexec %s \"$@\"\n", edits.String(), runc)
	return r.shadow("runc", func(path string) error { return os.WriteFile(path, []byte(script), 0o755) })
}

// shadow puts a program in front of dockerd's path under a name.
func (r *Rig) shadow(name string, make func(path string) error) error {
	bin := filepath.Join(r.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	r.path = bin + ":" + searchPath()
	return make(filepath.Join(bin, name))
}
