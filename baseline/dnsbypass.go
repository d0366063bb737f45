package baseline

import (
	"fmt"
	"net/netip"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// DNSBypass configures the dns-bypass detector.
type DNSBypass struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// Resolvers are addresses or prefixes that everybody may ask.
	Resolvers []string `yaml:"resolvers"`
}

func defaultDNSBypass() DNSBypass { return DNSBypass{Mode: On, Resolvers: []string{}} }

func (c DNSBypass) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	for i, r := range c.Resolvers {
		if _, ok := prefixOf(r); !ok {
			report(fmt.Sprintf("%s.resolvers[%d]", path, i), fmt.Sprintf("%q is neither an address nor a prefix", r))
		}
	}
}

// prefixOf reads a prefix, or an address as the prefix of itself.
func prefixOf(text string) (flow.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return flow.PrefixOf(netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())), true
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return flow.Prefix{}, false
	}
	return flow.PrefixOf(p), true
}

const (
	bypassVersion  = 1
	maxResolvers   = 16 // of one workload; one that asks more is a resolver itself
	resolverCommon = 3  // as many workloads ask it: the host's own, or a choice of the house
)

// encryptedResolvers are public services that resolve names inside HTTPS, by the name that the connection asks for.
// https://github.com/curl/curl/wiki/DNS-over-HTTPS
var encryptedResolvers = []string{
	"dns.google", "dns.google.com", "dns64.dns.google", "cloudflare-dns.com", "one.one.one.one", "1dot1dot1dot1.cloudflare-dns.com", "cloudflare-gateway.com",
	"dns.quad9.net", "dns9.quad9.net", "dns10.quad9.net", "dns11.quad9.net", "doh.opendns.com", "dns.umbrella.com", "dns.adguard.com",
	"dns.adguard-dns.com", "adguard-dns.com", "dns.nextdns.io", "doh.cleanbrowsing.org", "dns.mullvad.net", "doh.mullvad.net", "dns.alidns.com", "doh.pub",
	"dot.pub", "doh.360.cn", "dns.twnic.tw", "doh.li", "doh.libredns.gr", "dns.switch.ch", "doh.dns.sb", "dot.sb", "dns.controld.com", "freedns.controld.com",
	"doh.applied-privacy.net", "dns.digitale-gesellschaft.ch", "dnsforge.de", "odvr.nic.cz", "ordns.he.net", "doh.xfinity.com", "dns.bebasid.com",
	"doh.tiarap.org", "jp.tiar.app", "dns0.eu", "dns.njal.la", "kaitain.restena.lu", "wikimedia-dns.org", "doh.sandbox.opendns.com", "unfiltered.adguard-dns.com",
}

// encryptedAddresses are those of the same services, which are called without a name.
var encryptedAddresses = prefixes("1.1.1.1/32", "1.0.0.1/32", "1.1.1.2/32", "1.0.0.2/32", "8.8.8.8/32", "8.8.4.4/32", "9.9.9.9/32", "149.112.112.112/32",
	"208.67.222.222/32", "208.67.220.220/32", "94.140.14.14/32", "94.140.15.15/32", "2606:4700:4700::1111/128", "2606:4700:4700::1001/128",
	"2001:4860:4860::8888/128", "2001:4860:4860::8844/128", "2620:fe::fe/128")

// dnsBypass finds workloads that resolve names past the resolvers of the house, where nobody sees or filters what is asked.
type dnsBypass struct {
	Nop
	memory[resolvers]
	allowed []flow.Prefix
	askers  map[uint64]int // workloads by resolver, bounded by workloads * maxResolvers
	pending []bypass
	refused *metrics.Counter
}

// resolvers are those that one workload asks.
type resolvers struct {
	asked []uint64 // hashes, at most maxResolvers
	many  bool     // more than that
}

type bypass struct {
	w       *workload
	f       Finding
	hash    uint64
	learned bool // while the workload was learning
}

func newDNSBypass(c DNSBypass, env *env) *dnsBypass {
	d := &dnsBypass{
		memory: newMemory(env, bypassVersion, encodeResolvers, decodeResolvers), askers: map[uint64]int{},
		refused: env.set.NewCounter(`wharfwatch_baseline_refused_total{table="dns-bypass"}`),
	}
	for _, r := range c.Resolvers {
		if p, ok := prefixOf(r); ok {
			d.allowed = append(d.allowed, p)
		}
	}
	return d
}

// Flow looks at calls to resolvers outside.
func (d *dnsBypass) Flow(f *enrich.Flow) {
	if f.Kind&enrich.Open == 0 || f.Opener == enrich.OpenerRemote || f.Confidence < enrich.High {
		return
	}
	how, key := resolverKind(f)
	if how == "" || f.PeerIs != nil || within(d.env.site, f.Peer) || isLocalAddress(f.Peer) || within(d.allowed, f.Peer) {
		return
	}
	h := hash64(key)
	if key == "" {
		h = addrHash(f.Peer, f.PeerPort)
	}
	s := d.of(d.env.w)
	v := &s.v
	if v.many || v.knows(h) {
		return
	}
	if len(v.asked) >= maxResolvers {
		v.many = true
		d.touch(s)
		return
	}
	v.asked = append(v.asked, h)
	d.askers[h]++
	d.touch(s)
	d.tell(f, how, key, h)
}

func (v *resolvers) knows(h uint64) bool {
	for _, have := range v.asked {
		if have == h {
			return true
		}
	}
	return false
}

// isLocalAddress: loopback, link-local and the like are no way past anything.
func isLocalAddress(a flow.Addr) bool { return within(plumbings, a) }

// resolverKind says how a connection resolves names, "" when it does not, and the resolver's name where that is what matters.
func resolverKind(f *enrich.Flow) (how, name string) {
	switch {
	case f.PeerPort == 53:
		return "DNS", ""
	case f.PeerPort == 853:
		return "DNS over TLS", f.Asked
	case f.PeerPort != 443:
		return "", ""
	case f.Asked != "" && below(f.Asked, encryptedResolvers):
		return "DNS over HTTPS", f.Asked
	case f.PeerName != "" && below(f.PeerName, encryptedResolvers):
		return "DNS over HTTPS", f.PeerName
	case f.Asked == "" && within(encryptedAddresses, f.Peer):
		return "DNS over HTTPS", ""
	}
	return "", ""
}

// tell notes a finding until the second is over: then it is known who else asks that resolver.
func (d *dnsBypass) tell(f *enrich.Flow, how, name string, h uint64) {
	if len(d.pending) >= 1024 {
		d.refused.Inc()
		return
	}
	subject := subjectOfPeer(f)
	if name != "" {
		subject = fmt.Sprintf("%s:%d/%s", name, f.PeerPort, protoName(f.Proto))
		if !plainName(name) {
			subject = fmt.Sprintf("%q:%d/%s", name, f.PeerPort, protoName(f.Proto))
		}
	}
	d.pending = append(d.pending, bypass{w: d.env.w, hash: h, learned: d.env.w.learns(), f: Finding{
		Window: f.Start, Instance: f.Container, Subject: subject, Severity: Low, Score: .5, Attack: []string{"T1071.004", "T1572"},
		Method: f.Method, Confidence: f.Confidence,
		Evidence: map[string]any{"how": how, "peer": f.Peer.String(), "port": f.PeerPort, "name": name, "ja4": f.JA4},
		Summary:  fmt.Sprintf("%q asks %s, a resolver of its own, by %s", f.Container.Name, subject, how),
	}})
}

// Tick tells what nobody else does.
func (d *dnsBypass) Tick(now int64) {
	for i := range d.pending {
		p := &d.pending[i]
		others := d.askers[p.hash] - 1
		if others+1 >= resolverCommon {
			continue
		}
		s := d.at(p.w)
		if s == nil {
			continue
		}
		if p.learned {
			if p.f.Evidence["how"] == "DNS" {
				continue // what a new workload asks is what it was given
			}
			p.f.Severity, p.f.Score = Info, .2
		}
		p.f.Time = now
		p.f.Evidence["asked_by_others"], p.f.Evidence["resolvers_before"] = others, len(s.v.asked)-1
		d.env.report(p.f)
	}
	clear(d.pending)
	d.pending = d.pending[:0]
}

func (d *dnsBypass) forget(w *workload) {
	if s := d.at(w); s != nil {
		for _, h := range s.v.asked {
			if d.askers[h]--; d.askers[h] == 0 {
				delete(d.askers, h)
			}
		}
	}
	d.memory.forget(w)
}

// Restore takes a workload back.
func (d *dnsBypass) Restore(key string, blob []byte) error {
	if err := d.memory.Restore(key, blob); err != nil {
		return err
	}
	for _, h := range d.at(d.env.learning.named(key)).v.asked {
		d.askers[h]++
	}
	return nil
}

func encodeResolvers(v *resolvers, out *writer) {
	out.hashes(v.asked)
	out.bool(v.many)
}

func decodeResolvers(r *reader, v *resolvers) { v.asked, v.many = r.hashes(maxResolvers), r.bool() }
