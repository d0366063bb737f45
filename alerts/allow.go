package alerts

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// AllowRule stops findings that people expect from opening incidents. Empty fields match anything; text fields may end in `*`.
type AllowRule struct {
	ID          int    `json:"id"`
	Workload    string `json:"workload,omitempty"`
	Detector    string `json:"detector,omitempty"`
	Destination string `json:"destination,omitempty"` // address, CIDR block or name, without port
	Port        uint16 `json:"port,omitempty"`        // 0 any
	Direction   string `json:"direction,omitempty"`   // outbound, inbound
	Subject     string `json:"subject,omitempty"`     // the finding's subject as printed; for settings, which have no destination
	Owner       string `json:"owner"`                 // required
	Comment     string `json:"comment"`               // required: why this is expected
	Created     Time   `json:"created"`               // wall clock
	Expires     Time   `json:"expires,omitzero"`      // wall clock, 0 never
	Hits        int    `json:"hits"`
	LastHit     Time   `json:"last_hit,omitzero"` // wall clock
}

// Directions of a rule.
const (
	Outbound = "outbound"
	Inbound  = "inbound"
)

// Detectors that speak about a container's settings or life and know no destination.
var settings = []string{"host-network", "posture", "lifecycle", "unlisted", "resource-anomaly", "log-anomaly", "sensor-blind"}

var detectors = append([]string{
	"beacon", "long-connection", "egress-spike", "egress-slow", "new-destination", "reverse-shell", "ingress", "spoof", "scan",
	"east-west", "dns-tunnel", "dga", "dns-bypass", "tunnel-tool", "miner", "exposed-api", "intel",
}, settings...)

// check refuses what is incomplete and what cannot match anything.
func (r *AllowRule) check(now time.Time) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if strings.TrimSpace(r.Owner) == "" || strings.TrimSpace(r.Comment) == "" {
		bad("an allow rule needs an owner and a comment: who expects this, and why (--comment)")
	}
	if r.Workload+r.Detector+r.Destination+r.Direction+r.Subject == "" && r.Port == 0 {
		bad("an allow rule without any condition would hide everything")
	}
	if r.Expires != 0 && r.Expires <= Wall(now) {
		bad("the rule has expired already")
	}
	for _, f := range []struct{ name, v string }{
		{"workload", r.Workload}, {"detector", r.Detector}, {"destination", r.Destination}, {"subject", r.Subject},
	} {
		if i := strings.IndexByte(f.v, '*'); i >= 0 && i != len(f.v)-1 {
			bad("%s %q cannot match: a * is a wildcard at the end only", f.name, f.v)
		}
		if strings.ContainsFunc(f.v, unicode.IsControl) || strings.TrimSpace(f.v) != f.v {
			bad("%s %q cannot match: it holds control characters or spaces around it", f.name, f.v)
		}
	}
	if r.Detector != "" && !slices.ContainsFunc(detectors, func(d string) bool { return glob(r.Detector, d) }) {
		bad("detector %q matches none of %s", r.Detector, strings.Join(detectors, ", "))
	}
	if slices.Contains(settings, r.Detector) && (r.Destination != "" || r.Port != 0 || r.Direction != "") {
		bad("detector %s speaks about settings: a destination, port or direction cannot match, use the subject", r.Detector)
	}
	if r.Direction != "" && r.Direction != Outbound && r.Direction != Inbound {
		bad("unknown direction %q, known are %s, %s", r.Direction, Outbound, Inbound)
	}
	errs = append(errs, checkDestination(r.Destination))
	return errors.Join(errs...)
}

func checkDestination(d string) error {
	if strings.Contains(d, "/") {
		if _, err := netip.ParsePrefix(d); err != nil {
			return fmt.Errorf("destination %q cannot match: %w", d, err)
		}
	}
	if _, err := netip.ParseAddrPort(d); err == nil {
		return fmt.Errorf("destination %q cannot match: give the port as port", d)
	}
	if host, port, ok := strings.Cut(d, ":"); ok && !strings.Contains(port, ":") && !strings.HasSuffix(d, "*") {
		return fmt.Errorf("destination %q cannot match: did you mean destination %q and port %q?", d, host, port)
	}
	return nil
}

// glob compares with an optional final `*`; "" matches anything.
func glob(pattern, s string) bool {
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, p)
	}
	return pattern == "" || pattern == s
}

func (r *AllowRule) expired(now Time) bool { return r.Expires != 0 && r.Expires <= now }

// covers says whether the rule expects the finding.
func (r *AllowRule) covers(workload string, f *Finding) bool {
	if !glob(r.Workload, workload) || !glob(r.Detector, f.Detector) || !glob(r.Subject, f.Subject) {
		return false
	}
	if r.Destination == "" && r.Port == 0 && r.Direction == "" {
		return true
	}
	if slices.Contains(settings, f.Detector) {
		return false
	}
	var said evidenceOfPeers
	_ = json.Unmarshal(f.Evidence, &said) // evidence of other shapes says nothing here
	if said.Direction == "" {
		said.Direction = Outbound
		if f.Detector == "ingress" || f.Detector == "exposed-api" {
			said.Direction = Inbound
		}
	}
	if r.Direction != "" && r.Direction != said.Direction {
		return false
	}
	if len(said.Destinations) > 0 {
		return r.explains(&said)
	}
	host, port := destination(f.Subject)
	return r.reaches(host, port, said.Name, said.PeerName)
}

// evidenceOfPeers is what detectors say about the other side.
type evidenceOfPeers struct {
	Direction    string  `json:"direction"`
	Name         string  `json:"name"`
	PeerName     string  `json:"peer_name"`
	Bytes        float64 `json:"bytes"`
	Expected     float64 `json:"expected_bytes"`
	Floor        float64 `json:"floor_bytes"`
	Destinations []struct {
		Peer  string  `json:"peer"`
		Port  uint16  `json:"port"`
		Name  string  `json:"name"`
		Bytes float64 `json:"bytes"`
	} `json:"destinations"`
}

func (r *AllowRule) reaches(host string, port uint16, names ...string) bool {
	if r.Port != 0 && r.Port != port {
		return false
	}
	return r.Destination == "" || within(r.Destination, host) || slices.ContainsFunc(names, func(n string) bool { return within(r.Destination, n) })
}

// explains is for a finding about the sum over several destinations: a rule covers it when the rest alone would have been usual.
func (r *AllowRule) explains(e *evidenceOfPeers) bool {
	rest, some := e.Bytes, false
	for _, d := range e.Destinations {
		if r.reaches(d.Peer, d.Port, d.Name) {
			rest, some = rest-d.Bytes, true
		}
	}
	return some && rest <= max(e.Expected, e.Floor)
}

func within(pattern, host string) bool {
	if host == "" {
		return false
	}
	if prefix, err := netip.ParsePrefix(pattern); err == nil {
		a, err := netip.ParseAddr(host)
		return err == nil && prefix.Contains(a)
	}
	if a, err := netip.ParseAddr(pattern); err == nil {
		b, err := netip.ParseAddr(host)
		return err == nil && a == b
	}
	return glob(strings.ToLower(pattern), strings.ToLower(host))
}

// destination takes a subject such as 203.0.113.9:443/tcp, [2001:db8::1]:443/tcp or example.com apart.
func destination(subject string) (host string, port uint16) {
	s, _, _ := strings.Cut(subject, "/")
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().String(), ap.Port()
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), 0
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		if n, err := strconv.ParseUint(s[i+1:], 10, 16); err == nil {
			return s[:i], uint16(n)
		}
	}
	return s, 0
}

// ruleFor is the narrowest rule that covers a finding of a workload.
func ruleFor(workload string, f *Finding) AllowRule {
	r := AllowRule{Workload: workload, Detector: f.Detector}
	host, port := destination(f.Subject)
	if _, err := netip.ParseAddr(host); err == nil && !slices.Contains(settings, f.Detector) {
		r.Destination, r.Port = host, port
	} else {
		r.Subject = f.Subject
	}
	return r
}
