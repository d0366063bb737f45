package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// DNSTunnel configures the dns-tunnel detector.
type DNSTunnel struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// UniqueNames is how many different names below one domain within a day are many.
	UniqueNames int `yaml:"unique_names"`
	// InformationBytes is how much the names asked below one domain within an hour may say.
	InformationBytes int `yaml:"information_bytes"`
	// IgnoreDomains are services that are asked by hash or address: block lists, antivirus.
	IgnoreDomains []string `yaml:"ignore_domains"`
	// MaxDomains bounds the domains followed over all workloads, MaxDomainsPerWorkload those of one.
	MaxDomains            int `yaml:"max_domains"`
	MaxDomainsPerWorkload int `yaml:"max_domains_per_workload"`
}

func defaultDNSTunnel() DNSTunnel {
	return DNSTunnel{
		Mode: On, UniqueNames: 100, InformationBytes: 20000, MaxDomains: 32768, MaxDomainsPerWorkload: 256,
		IgnoreDomains: []string{
			"spamhaus.org", "spamhaus.net", "spamcop.net", "sorbs.net", "barracudacentral.org", "surbl.org", "uribl.com", "dnswl.org", "abuse.ch",
			"mailspike.net", "senderscore.com", "cymru.com", "sophosxl.net", "mcafee.com", "e5.sk", "eset.com", "kaspersky-labs.com", "webrootcloudav.com",
			"trendmicro.com", "bitdefender.net", "avast.com", "gdata.de", "shadowserver.org", "zvelo.com", "brightcloud.com",
		},
	}
}

func (c DNSTunnel) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	for _, v := range []struct {
		key   string
		value int
	}{
		{"unique_names", c.UniqueNames},
		{"information_bytes", c.InformationBytes},
		{"max_domains", c.MaxDomains},
		{"max_domains_per_workload", c.MaxDomainsPerWorkload},
	} {
		if v.value < 1 || v.value > 1<<24 {
			report(path+"."+v.key, fmt.Sprintf("%d is outside 1 to 16777216", v.value))
		}
	}
}

const (
	longLabel   = 20  // mean bytes of the longest label
	highEntropy = 3.5 // mean bits per byte of what stands before the domain
	seenBits    = 4096
	followedOf  = 10 // one connection in so many names: it is a client of a service
)

// dnsTunnel finds data inside questions: many different names below one domain, long and dense, which nobody then connects to.
type dnsTunnel struct {
	Nop
	c         DNSTunnel
	env       *env
	byIndex   []*asker // by workload.index
	count     int      // domains, of all
	questions int64    // numbers what was asked
	evicted   *metrics.Counter
}

// asker is what one workload asks.
type asker struct {
	w       *workload
	domains []*askedDomain
	last    *askedDomain // the one asked before: names come in series
	hot     bool         // one of them has some different names: connections matter
}

// askedDomain is one registered domain within one hour and one day.
type askedDomain struct {
	name      string
	asked     int64 // number of its last question
	day, hour int64
	instance  *enrich.Container

	questions, unique, dense int // today; dense are TXT, NULL and the like
	followed                 int // connections to names below it
	information, labels      float64
	entropies                float64
	hourly                   float64 // information this hour
	first                    uint64  // hash of the first name today
	seen                     *[seenBits / 64]uint64
	sample                   string
	told                     Severity
	toldDay                  int64
}

func newDNSTunnel(c DNSTunnel, env *env) *dnsTunnel {
	return &dnsTunnel{c: c, env: env, evicted: env.set.NewCounter(`wharfwatch_baseline_evicted_total{table="dns-tunnel"}`)}
}

// Name counts a question.
func (d *dnsTunnel) Name(n *enrich.Name) {
	if n.Kind.OfConnection() {
		return
	}
	domain, real := domainOf(n.Name.Name)
	if !real || len(n.Name.Name) <= len(domain)+1 || below(n.Name.Name, d.c.IgnoreDomains) {
		return
	}
	a := d.of(d.env.w)
	q := a.domain(domain)
	if q == nil {
		q = d.admit(a, domain)
	}
	d.questions++
	q.asked, a.last = d.questions, q
	q.instance = n.Container
	q.roll(n.Time)
	q.add(n.Name.Name[:len(n.Name.Name)-len(domain)-1], n.QType)
	if q.unique >= 10 {
		a.hot = true
	}
	if q.unique >= 20 {
		d.judge(a, q, n.Time)
	}
}

// Flow notes that a name which was asked is called: tunnels have no use for that.
func (d *dnsTunnel) Flow(f *enrich.Flow) {
	if f.Kind&enrich.Open == 0 || f.PeerName == "" || d.env.w.index >= len(d.byIndex) {
		return
	}
	a := d.byIndex[d.env.w.index]
	if a == nil || !a.hot {
		return
	}
	if domain, _ := domainOf(f.PeerName); domain != f.PeerName {
		if q := a.domain(domain); q != nil {
			q.followed++
		}
	}
}

func (a *asker) domain(name string) *askedDomain {
	if a.last != nil && a.last.name == name {
		return a.last
	}
	for _, q := range a.domains {
		if q.name == name {
			return q
		}
	}
	return nil
}

// admit makes place for a domain. The one not asked for longest goes: of this workload when it has its share, else of the one that
// has most.
func (d *dnsTunnel) admit(a *asker, name string) *askedDomain {
	from := a
	if len(a.domains) < d.c.MaxDomainsPerWorkload && d.count >= d.c.MaxDomains {
		for _, o := range d.byIndex {
			if o != nil && (len(o.domains) > len(from.domains) || len(o.domains) == len(from.domains) && o.w.name < from.w.name) {
				from = o
			}
		}
	}
	if len(a.domains) >= d.c.MaxDomainsPerWorkload || d.count >= d.c.MaxDomains {
		old := 0
		for i, q := range from.domains {
			if q.asked < from.domains[old].asked {
				old = i
			}
		}
		if len(from.domains) > 0 {
			if from.last == from.domains[old] {
				from.last = nil
			}
			from.domains = slices.Delete(from.domains, old, old+1)
			d.count--
			d.evicted.Inc()
		}
	}
	q := &askedDomain{name: strings.Clone(name)}
	a.domains = append(a.domains, q)
	d.count++
	return q
}

// roll begins a new hour and a new day.
func (q *askedDomain) roll(at int64) {
	if h := at / hour; h > q.hour {
		q.hour, q.hourly = h, 0
	}
	if day := at / dayLength; day > q.day {
		*q = askedDomain{
			name: q.name, asked: q.asked, day: day, hour: q.hour, hourly: q.hourly, instance: q.instance, seen: q.seen, told: q.told, toldDay: q.toldDay,
		}
		if q.seen != nil {
			clear(q.seen[:])
		}
	}
}

// add counts what stands before the domain. Two hashes in 4096 bits tell most names that came before; with more than a thousand
// different ones it undercounts.
func (q *askedDomain) add(sub string, qtype uint16) {
	q.questions++
	switch qtype {
	case 10, 16, 5, 15, 33, 99: // NULL, TXT, CNAME, MX, SRV, SPF
		q.dense++
	}
	if !q.fresh(hash64(sub)) {
		return
	}
	q.unique++
	longest, label := 0, 0
	for i := range len(sub) {
		if label++; sub[i] == '.' {
			label = 0
		}
		longest = max(longest, label)
	}
	e := entropy(sub)
	q.labels += float64(longest)
	q.entropies += e
	q.information += e * float64(len(sub)) / 8
	q.hourly += e * float64(len(sub)) / 8
	if len(sub) > len(q.sample) {
		q.sample = strings.Clone(sub)
	}
}

// fresh reports whether a name did not come before today, and notes it. One name alone, as most domains have, takes no filter.
func (q *askedDomain) fresh(h uint64) bool {
	if q.unique == 0 {
		q.first = h
		return true
	}
	if h == q.first {
		return false
	}
	if q.seen == nil {
		q.seen = new([seenBits / 64]uint64)
	}
	a, b := h%seenBits, h>>32%seenBits
	if q.seen[a/64]>>(a%64)&1 != 0 && q.seen[b/64]>>(b%64)&1 != 0 {
		return false
	}
	q.seen[a/64] |= 1 << (a % 64)
	q.seen[b/64] |= 1 << (b % 64)
	return true
}

// judge tells a tunnel: medium by the number of long dense names, high by what they say in an hour.
func (d *dnsTunnel) judge(a *asker, q *askedDomain, at int64) {
	n := float64(q.unique)
	if q.followed*followedOf >= q.unique {
		return
	}
	long := q.labels/n > longLabel && q.entropies/n > highEntropy
	severity := Info
	switch {
	case long && q.hourly > float64(d.c.InformationBytes):
		severity = High
	case long && q.unique >= d.c.UniqueNames, q.hourly > float64(d.c.InformationBytes) && 2*q.dense > q.questions:
		severity = Medium
	default:
		return
	}
	if q.toldDay == q.day && severity <= q.told {
		return
	}
	q.told, q.toldDay = severity, q.day
	f := Finding{
		Time: max(at, d.env.now), Window: q.day*dayLength + int64(severity), Instance: q.instance, Subject: q.name, Severity: severity,
		Score: .1 + .25*float64(severity), Attack: []string{"T1071.004", "T1048.003", "T1572"},
		Method: enrich.MethodIP, Confidence: enrich.High,
		Evidence: map[string]any{
			"name": q.name, "unique_names": q.unique, "limit_unique_names": d.c.UniqueNames, "questions": q.questions,
			"information_bytes_hour": round(q.hourly), "limit_information_bytes_hour": d.c.InformationBytes,
			"mean_label_bytes": round(q.labels / n), "mean_entropy_bits": round(q.entropies / n), "text_share": round(float64(q.dense) / float64(q.questions)),
			"connections_to_them": q.followed, "longest": q.sample,
		},
	}
	f.Summary = fmt.Sprintf("%q asked for %d different names below %q today, %.0f bytes of information in the last hour, and called %s of them",
		q.instance.Name, q.unique, q.name, q.hourly, noneOr(q.followed))
	d.env.report(f)
}

func noneOr(n int) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}

func (d *dnsTunnel) of(w *workload) *asker {
	for len(d.byIndex) <= w.index {
		d.byIndex = append(d.byIndex, nil)
	}
	if d.byIndex[w.index] == nil {
		d.byIndex[w.index] = &asker{w: w}
	}
	return d.byIndex[w.index]
}

// forget drops what a workload asked.
func (d *dnsTunnel) forget(w *workload) {
	if w.index < len(d.byIndex) && d.byIndex[w.index] != nil {
		d.count -= len(d.byIndex[w.index].domains)
		d.byIndex[w.index] = nil
	}
}
