package baseline

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Timing is evidence, never the verdict: time synchronisation, health checks and telemetry keep better time than any implant. This
// file asks the other questions. What kind of place is called, who else calls it, is it new, is the sleep deliberately uneven?

// class is the kind of destination.
type class uint8

const (
	outside     class = iota // a public address
	siteAddress              // the operator's own networks (site_networks), no container
	neighbour                // a container that belongs together with the caller, see akin
	stranger                 // any other container
	timeService              // NTP: harmless while its exchanges look like NTP
	plumbing                 // name resolution, address assignment, discovery, multicast, link-local, loopback: never judged
)

// The weights of a score, 0 to 1. A score of .9 is high if the destination is outside and rare and, besides, new for a workload that
// is known or called with a deliberately uneven sleep; from .62 on it is medium, below
// that low, and a plain timer that others have too is not worth a word. Strangers are medium whatever the score.
// The weights are chosen so that the scenarios come out right; they are not fitted to a population.
const (
	weightTiming  = .35 // that there is a rhythm at all
	weightSurer   = .05 // more for a likelihood ratio of 6 (none) to 26 (all)
	weightOutside = .15 // the destination is a public address
	weightOther   = .05 // the destination is a stranger's container
	weightAlone   = .15 // no other of at least three active workloads calls it
	weightAlone2  = .12 // no other does, but there are fewer than three: that says less
	weightFew     = .05 // one other of at least six does
	weightUneven  = .25 // the sleep varies by 5 % or more and has no favourite length: timers do not do that
	weightNew     = .10 // first called after the workload had finished learning
	weightSizes   = .05 // the bytes sent hardly differ (MAD/median < .1)
	weightPort    = .10 // a port that no usual service has
	weightNoName  = .10 // called by address, by a workload that resolves names otherwise

	scoreHigh   = .9
	scoreMedium = .62
)

// evenSleep is the relative spread below which a period counts as a plain timer, and least seconds of spread for the opposite.
const (
	evenSleep  = .05
	leastSleep = .1
)

// nightly is the period, in seconds, from which a rhythm that dates from the time of learning, or one that moves bulk bytes at a
// time, is a schedule: backups, rotations. A poll is neither; what bulk is worth is for egress-spike.
const (
	nightly = 20 * 3600
	bulk    = 10e6
)

// verdict is what judge makes of a rhythm.
type verdict struct {
	silent          string // why nothing is said; "" speaks
	score           float64
	severity        Severity
	callers, active int
	uneven, fresh   bool
	alone           bool
	oddPort         bool
	noName          bool
	steadySizes     bool
	size            uint8
	sizes           int
}

// judge weighs a rhythm. It reads the series and changes nothing.
func (b *beacon) judge(s *series, r *rhythm) (v verdict) {
	w := s.set.w
	v.callers, v.active = b.rarity(s)
	spread := r.RelSD * r.Period
	v.uneven = r.RelSD >= evenSleep && spread >= leastSleep && sharpShare(r.intervals, b.work.scratch.sorted[:0]) <= .55
	v.fresh = !w.learns() && s.first > w.ready
	v.alone = v.callers <= 1
	v.oddPort = !usualPort(s.key.port)
	v.noName = w.named && s.name == "" && s.class != stranger && s.class != neighbour
	var sizeSpread float64
	v.size, sizeSpread, v.sizes = s.sizeSpread()
	v.steadySizes = v.sizes >= minFit && sizeSpread < .1

	switch {
	case s.class == plumbing:
		v.silent = "plumbing"
	case s.class == timeService && 4*s.unlikely <= s.closed:
		v.silent = "time"
	case s.class == neighbour && !v.uneven:
		v.silent = "neighbour"
	case v.callers >= 3 && (2*v.callers > v.active || 3*v.callers >= v.active && !v.uneven):
		v.silent = "common"
	case s.launched(r):
		v.silent = "launches"
	case r.Period >= nightly && (!v.fresh || v.sizes > 0 && dequantise(v.size) >= bulk):
		v.silent = "nightly"
	}

	v.score = weightTiming + weightSurer*min(1, max(0, (r.LLR-6)/20))
	add := func(when bool, weight float64) {
		if when {
			v.score += weight
		}
	}
	public := s.class == outside || s.class == timeService && b.public(s.key.addr)
	add(public, weightOutside)
	add(s.class == stranger, weightOther)
	add(v.alone && v.active >= 3, weightAlone)
	add(v.alone && v.active < 3, weightAlone2)
	add(v.callers == 2 && v.active >= 6, weightFew)
	add(v.uneven, weightUneven)
	add(v.fresh, weightNew)
	add(v.steadySizes, weightSizes)
	add(v.oddPort, weightPort)
	add(v.noName, weightNoName)
	v.score = min(v.score, 1)

	switch {
	case s.class == neighbour:
		v.severity = Low
	case s.class == stranger:
		v.severity = Medium
	case v.score >= scoreHigh && public && v.alone && (v.uneven || v.fresh):
		v.severity = High
	case v.score >= scoreMedium:
		v.severity = Medium
	default:
		v.severity = Low
		if !v.uneven && !v.alone && v.silent == "" {
			v.silent = "weak"
		}
	}
	return v
}

// rarity counts the workloads that called the destination, of those that called anything, in the last day.
func (b *beacon) rarity(s *series) (callers, active int) {
	since := b.env.now/hour - 24
	callers = b.known.callers(prevalenceKey{dest: s.key}, since)
	if s.name != "" {
		byName := destKey{port: s.key.port, proto: s.key.proto}
		callers = max(callers, b.known.callers(prevalenceKey{byName, s.name}, since))
	}
	if b.activeAt != b.env.now {
		b.activeAt, b.active = b.env.now, b.env.learning.activeSince(since)
	}
	return max(callers, 1), max(b.active, 1)
}

// classify says what kind of place a flow goes to.
func (b *beacon) classify(f *enrich.Flow) class {
	switch {
	case isPlumbing(f):
		return plumbing
	case f.Proto == flow.UDP && f.PeerPort == 123:
		return timeService
	}
	return place(f, b.site)
}

// place says where the peer of a flow is, whatever is done there: outside, siteAddress, neighbour or stranger.
func place(f *enrich.Flow, site []flow.Prefix) class {
	switch {
	case f.PeerIs != nil && akin(f.Container, f.PeerIs):
		return neighbour
	case f.PeerIs != nil:
		return stranger
	case within(site, f.Peer):
		return siteAddress
	}
	return outside
}

// plumbings are the addresses of name resolution and discovery beside their ports: multicast, link-local, loopback, broadcast.
var plumbings = prefixes("224.0.0.0/4", "ff00::/8", "169.254.0.0/16", "fe80::/10", "127.0.0.0/8", "::1/128", "255.255.255.255/32",
	"0.0.0.0/32", "::/128")

// isPlumbing reports whether a flow is what keeps the network going. A call to another container is not, but on the ports for it.
func isPlumbing(f *enrich.Flow) bool {
	if f.Proto == flow.UDP {
		switch f.PeerPort {
		case 53, 67, 68, 137, 138, 546, 547, 1900, 5353, 5355:
			return true
		case 123:
			return false
		}
	}
	return f.PeerIs == nil && within(plumbings, f.Peer)
}

// public reports whether an address lies outside the operator's networks.
func (b *beacon) public(addr flow.Addr) bool { return !within(b.site, addr) }

func within(nets []flow.Prefix, a flow.Addr) bool {
	for i := range nets {
		if nets[i].Contains(a) {
			return true
		}
	}
	return false
}

// prefixes converts those that are valid.
func prefixes(texts ...string) (out []flow.Prefix) {
	for _, s := range texts {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, flow.PrefixOf(p))
		}
	}
	return out
}

// akin reports whether two containers belong together: the same project where both have one, else a common network. A regular call
// between them is a health check or a poll; only an uneven one is told, as low.
func akin(a, b *enrich.Container) bool {
	if a.Engine != b.Engine {
		return false
	}
	if a.Workload == b.Workload {
		return true
	}
	p, q := project(a.Workload), project(b.Workload)
	if p != "" && q != "" {
		return p == q
	}
	for i := range a.Attachments {
		for j := range b.Attachments {
			if a.Attachments[i].NetworkID == b.Attachments[j].NetworkID {
				return true
			}
		}
	}
	return false
}

// project is what comes before the service in a workload's name: "compose:shop" of "compose:shop/web". "" for plain containers.
func project(workload string) string {
	if !strings.HasPrefix(workload, "compose:") && !strings.HasPrefix(workload, "k8s:") {
		return ""
	}
	p, _, _ := strings.Cut(workload, "/")
	return p
}

// timeExchange reports whether a connection's bytes look like NTP: a few packets of 48 to 104 bytes each way, with their headers,
// or only questions. https://www.rfc-editor.org/rfc/rfc5905#section-7.3
func timeExchange(sent, received uint64) bool {
	if sent < 40 || sent > 1000 || received > 1000 {
		return false
	}
	return received == 0 || sent <= 2*received && received <= 2*sent
}

// usualPort reports whether a port is one that services commonly have.
func usualPort(port uint16) bool {
	switch port {
	case 20, 21, 22, 25, 53, 80, 88, 110, 123, 143, 389, 443, 445, 465, 514, 587, 636, 853, 873, 993, 995, 1433, 1521, 1883, 2049,
		2379, 3000, 3128, 3306, 4222, 4317, 4318, 5000, 5044, 5432, 5671, 5672, 6379, 6443, 6514, 8000, 8080, 8086, 8125, 8428, 8443,
		8883, 9000, 9090, 9091, 9092, 9093, 9100, 9200, 9418, 10250, 11211, 27017:
		return true
	}
	return false
}

// tlsPort reports whether what is said to a port is usually encrypted.
func tlsPort(port uint16) bool {
	switch port {
	case 443, 465, 636, 853, 993, 995, 5671, 6443, 6514, 8443, 8883:
		return true
	}
	return false
}

// sharpShare is the largest share of intervals within 3 % of each other. A timer with unrelated calls in between has many equal
// intervals and a wide spread; a jittered sleep has no favourite.
func sharpShare(intervals, sorted []float64) float64 {
	sorted = append(sorted[:0], intervals...)
	slices.Sort(sorted)
	most, j := 0, 0
	for i, x := range sorted {
		for j < len(sorted) && sorted[j] <= 1.03*x {
			j++
		}
		most = max(most, j-i)
	}
	return float64(most) / float64(len(sorted))
}
