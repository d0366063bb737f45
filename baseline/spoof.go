package baseline

import (
	"fmt"
	"time"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// Spoof configures the spoof detector.
type Spoof struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
}

func defaultSpoof() Spoof { return Spoof{Mode: On} }

func (c Spoof) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
}

// spoof tells who speaks for an address that is not his. What contradicts the engines' word is found by the connection table; here it
// gets its weight. It keeps nothing: the table says the same contradiction once in ten minutes, and the finding's window is the day.
type spoof struct {
	Nop
	env *env
}

func newSpoof(_ Spoof, env *env) *spoof { return &spoof{env: env} }

// Claim tells one contradiction.
func (d *spoof) Claim(c *enrich.Claim) {
	if c.Kind == enrich.ClaimStranger {
		return
	}
	who := fmt.Sprintf("hardware address %s, which no container has,", c.MAC)
	if c.Container != nil {
		who = fmt.Sprintf("%q", c.Container.Name)
	}
	f := Finding{
		Time: max(c.Time, d.env.now), Window: dayOf(c.Time), Workload: senderOf(c), Instance: c.Container, Severity: High, Score: .9,
		Confidence: enrich.Exact, Evidence: map[string]any{
			"address": c.Addr.String(), "mac": c.MAC.String(), "first_seen": rfc3339(c.Time), "engine": c.Engine, "kind": string(c.Kind),
		},
	}
	if c.Container == nil {
		f.Confidence = enrich.Medium
	}
	if !c.Peer.IsZero() {
		f.Evidence["to"], f.Evidence["to_port"], f.Evidence["protocol"] = c.Peer.String(), c.PeerPort, protoName(c.Proto)
	}
	if c.Told != c.MAC {
		f.Evidence["claimed_mac"] = c.Told.String()
	}
	owner := "nobody has"
	if c.Holder != nil {
		owner = fmt.Sprintf("%q has", c.Holder.Name)
		f.Evidence["holder"], f.Evidence["holder_workload"] = c.Holder.Name, c.Holder.Workload
	}
	switch f.Subject = fmt.Sprintf("%s %s", c.Kind, c.Addr); c.Kind {
	case enrich.ClaimGateway:
		f.Severity, f.Score, f.Attack = Critical, .95, []string{"T1557.002"}
		f.Summary = fmt.Sprintf("%s claims the address of the gateway %s", who, c.Addr)
	case enrich.ClaimARP:
		f.Attack = []string{"T1557.002"}
		f.Summary = fmt.Sprintf("%s claims by ARP the address %s, which %s", who, c.Addr, owner)
	case enrich.ClaimRouter:
		f.Subject, f.Attack = "router advertisement", []string{"T1557"}
		f.Summary = fmt.Sprintf("%s advertises itself as an IPv6 router", who)
	case enrich.ClaimDHCP:
		f.Subject, f.Severity, f.Score, f.Attack = "dhcp answer", Medium, .6, []string{"T1557.003"}
		f.Summary = fmt.Sprintf("%s answers as a DHCP server", who)
	default:
		f.Attack = []string{"T1036", "T1557"}
		f.Summary = fmt.Sprintf("%s sends from the address %s, which %s", who, c.Addr, owner)
	}
	if c.Holder == nil && (c.Kind == enrich.ClaimARP || c.Kind == enrich.ClaimSource) {
		f.Severity, f.Score = Medium, .5 // a floating address looks like this too
	}
	d.env.report(f)
}

// dayOf is the beginning of the day, UTC.
func dayOf(at int64) int64 { return at - at%int64(24*time.Hour) }
