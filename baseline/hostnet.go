package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// HostNetwork configures the host-network detector.
type HostNetwork struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
}

func defaultHostNetwork() HostNetwork { return HostNetwork{Mode: On} }

func (c HostNetwork) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
}

// hostNetwork speaks when a container is created in the host's network namespace: it sees the host's traffic and loopback services,
// and its own traffic carries the host's address. Known are: image repository and the capabilities that matter there, per workload.
type hostNetwork struct {
	Nop
	postures
	env *env
}

func newHostNetwork(_ HostNetwork, env *env) *hostNetwork {
	return &hostNetwork{postures: newPostures("host-network", env), env: env}
}

// hostNetworkCaps change what a container can do to a network that it shares with the host. NET_RAW is a default of Docker's and
// adds nothing; privileged brings all of them.
var hostNetworkCaps = []string{"ALL", "NET_ADMIN", "SYS_ADMIN", "BPF", "SYS_MODULE", "SYS_PTRACE"}

// Event looks at containers that come.
func (h *hostNetwork) Event(v *enrich.Event) {
	if v.Kind == enrich.Synced {
		h.adopt(v.Engine)
		return
	}
	c := v.Container
	if c == nil || !c.HostNetwork() || (v.Kind != enrich.Created && v.Kind != enrich.Listed) {
		return
	}
	caps := slices.DeleteFunc(slices.Clone(c.Posture.CapAdd), func(s string) bool { return !slices.Contains(hostNetworkCaps, s) })
	privileged := fmt.Sprint(c.Posture.Privileged)
	seen, repeats := h.see(v, postureHash(repository(c), privileged, strings.Join(caps, ",")))
	if seen == seenSilent {
		return
	}
	f := Finding{
		Time: v.Time, Window: createdAt(v), Instance: c, Subject: "network=host", Method: enrich.MethodNone, Confidence: enrich.Exact,
		Score: .6, Severity: Medium,
		Attack: []string{"T1040", "T1610", "T1611"},
		Evidence: map[string]any{
			"HostConfig.NetworkMode": c.NetworkMode, "first_for_workload": seen != seenBefore, "image": c.Image, "created": rfc3339(createdAt(v)),
		},
	}
	with := ""
	switch {
	case c.Posture.Privileged:
		f.Severity, f.Score, with = Critical, .95, " and is privileged"
		f.Evidence["HostConfig.Privileged"] = true
	case slices.Contains(caps, "NET_ADMIN") || slices.Contains(caps, "ALL"):
		f.Severity, f.Score = Critical, .95
	case len(caps) > 0:
		f.Severity, f.Score = High, .85
	}
	if len(caps) > 0 {
		with += " with " + strings.Join(caps, ", ")
		f.Evidence["HostConfig.CapAdd"] = c.Posture.CapAdd
	}
	if f.Severity == Critical {
		f.Attack = []string{"T1040", "T1557", "T1562.004", "T1610", "T1611"}
	}
	f.Summary = fmt.Sprintf("%q (%q) has the host's network%s", c.Name, c.Image, with)
	f.known(seen, repeats)
	h.env.report(f)
}

// known lowers a finding about a posture that the workload had before, and says how it was seen.
func (f *Finding) known(s sighting, repeats uint64) {
	switch s {
	case seenBefore:
		f.Severity, f.Score = Info, .1
		f.Summary += ", as this workload had before"
		f.Evidence["repeats"] = repeats
	case seenUnwatched:
		f.Summary += "; it was created while nobody watched"
		f.Evidence["created_unwatched"] = true
	}
}
