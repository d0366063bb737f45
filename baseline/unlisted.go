package baseline

import (
	"fmt"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// Unlisted configures the unlisted detector.
type Unlisted struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
}

func defaultUnlisted() Unlisted { return Unlisted{Mode: On} }

func (c Unlisted) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
}

// unlisted tells of what sends on a container network and was made past every engine that is read. The connection table waits for the
// engines' lists; here it becomes one finding per address and day. It keeps nothing.
type unlisted struct {
	Nop
	env *env
}

func newUnlisted(_ Unlisted, env *env) *unlisted { return &unlisted{env: env} }

// Claim tells of one stranger.
func (d *unlisted) Claim(c *enrich.Claim) {
	if c.Kind != enrich.ClaimStranger {
		return
	}
	f := Finding{
		Time: max(c.Time, d.env.now), Window: dayOf(c.First), Workload: senderOf(c), Subject: c.Addr.String(), Severity: High, Score: .85,
		Confidence: enrich.High, Attack: []string{"T1610", "T1564"},
		Evidence: map[string]any{
			"address": c.Addr.String(), "first_seen": rfc3339(c.First), "last_seen": rfc3339(c.Last), "destinations": c.Peers, "engine": c.Engine,
		},
		Summary: fmt.Sprintf("%s sends on a container network of engine %q, which lists no such container", c.Addr, c.Engine),
	}
	if c.MAC != 0 {
		f.Evidence["mac"] = c.MAC.String()
	}
	d.env.report(f)
}
