package enrich

import (
	"cmp"
	"slices"
	"strings"
)

// posture normalises what the create call asked for: the engine's defaults come out as zero values, lists sorted, one spelling of
// each thing. What strengthens isolation (no-new-privileges, dropped capabilities) is not in it.
func (h *hostConfig) posture(mounts []mountPoint, is habits) Posture {
	p := Posture{
		Privileged:  h.Privileged,
		PidMode:     clean(h.PidMode, maxText),
		IpcMode:     clean(h.IpcMode, maxText),
		UTSMode:     clean(h.UTSMode, maxText),
		UsernsMode:  clean(h.UsernsMode, maxText),
		CgroupnsMod: clean(h.CgroupnsMode, maxText),
		Runtime:     clean(h.Runtime, maxText),
		Mounts:      h.mounts(mounts),
	}
	for _, c := range cleanAll(h.CapAdd, maxFacts, 64) {
		p.CapAdd = append(p.CapAdd, strings.TrimPrefix(strings.ToUpper(c), "CAP_"))
	}
	p.CapAdd = unique(p.CapAdd)
	// private is the default since 20.10, shareable was before; none is stricter than both.
	if p.IpcMode == "private" || p.IpcMode == "shareable" || p.IpcMode == "none" {
		p.IpcMode = ""
	}
	if p.CgroupnsMod == "private" || (p.CgroupnsMod == "host" && is.cgroupHost) {
		p.CgroupnsMod = ""
	}
	if p.UsernsMode == "private" {
		p.UsernsMode = ""
	}
	if p.Runtime == "runc" || p.Runtime == "io.containerd.runc.v2" || p.Runtime == is.runtime {
		p.Runtime = ""
	}
	p.SecurityOpt = h.securityOpt()
	for _, d := range h.Devices {
		p.Devices = append(p.Devices, d.PathOnHost)
	}
	for _, rule := range h.DeviceCgroupRules {
		p.Devices = append(p.Devices, "cgroup rule "+rule)
	}
	p.Devices = unique(cleanAll(p.Devices, maxFacts, maxText))
	return p
}

// securityOpt gives "seccomp=unconfined" for both spellings the engine takes, "seccomp=custom" for a profile, which the engine
// keeps as its whole text, and "systempaths=unconfined" for an empty list of masked paths, which is what the option becomes.
func (h *hostConfig) securityOpt() []string {
	var out []string
	for _, o := range h.SecurityOpt {
		if !strings.Contains(o, "=") {
			o = strings.Replace(o, ":", "=", 1)
		}
		key, value, _ := strings.Cut(o, "=")
		switch {
		case key == "no-new-privileges", key == "writable-cgroups" && value == "false":
			continue
		case key == "label" && value == "disable" && (h.Privileged || h.PidMode == "host" || h.IpcMode == "host"):
			continue // the engine adds it by itself
		case key == "seccomp" && value == "builtin", key == "apparmor" && value == "docker-default":
			continue
		case key == "seccomp" && value != "unconfined":
			o = "seccomp=custom"
		}
		out = append(out, o)
	}
	if h.MaskedPaths != nil && len(*h.MaskedPaths) == 0 && !h.Privileged {
		out = append(out, "systempaths=unconfined")
	}
	return unique(cleanAll(out, maxFacts, maxText))
}

// mounts are the host paths inside the container: binds, and volumes whose driver binds a host path under another name.
// A volume made beforehand does not show its options here.
func (h *hostConfig) mounts(points []mountPoint) []Mount {
	var out []Mount
	add := func(source, destination string, rw bool) {
		m := Mount{clean(source, maxText), clean(destination, maxText), rw}
		if strings.HasPrefix(m.Source, "/") && !slices.ContainsFunc(out, func(o Mount) bool { return o.Destination == m.Destination }) {
			out = append(out, m)
		}
	}
	for _, m := range points[:min(len(points), maxFacts)] {
		if m.Type == "bind" || m.Type == "" {
			add(m.Source, m.Destination, m.RW)
		}
	}
	for _, m := range h.Mounts[:min(len(h.Mounts), maxFacts)] {
		switch {
		case m.Type == "bind":
			add(m.Source, m.Target, !m.ReadOnly)
		case m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil:
			add(m.VolumeOptions.DriverConfig.Options["device"], m.Target, !m.ReadOnly)
		}
	}
	for _, bind := range h.Binds[:min(len(h.Binds), maxFacts)] {
		source, rest, _ := strings.Cut(bind, ":")
		destination, options, _ := strings.Cut(rest, ":")
		add(source, destination, !slices.Contains(strings.Split(options, ","), "ro"))
	}
	slices.SortFunc(out, func(a, b Mount) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination))
	})
	return out
}

func unique(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
