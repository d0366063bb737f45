package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// ExposedAPI configures the exposed-api detector.
type ExposedAPI struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
}

func defaultExposedAPI() ExposedAPI { return ExposedAPI{Mode: On} }

func (c ExposedAPI) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
}

const (
	exposedVersion = 1
	maxContacts    = 64          // of one workload; the oldest makes room
	ephemeral      = 32768       // from here on clients take their ports
	answeredBytes  = 120         // less is a reset
	signWithin     = 10 * minute // how soon a second sign belongs to the first
	cloudMetadata  = "cloud metadata"
	engineAPI      = "container engine"
	kubeletAPI     = "kubelet"
	etcdAPI        = "etcd"
	clusterAPI     = "Kubernetes API"
	registryAPI    = "registry"
)

// metadataAddresses of the clouds: AWS, Azure, Google, DigitalOcean and OpenStack; AWS over IPv6; the task credentials of ECS and the
// pod identities of EKS; Alibaba.
var metadataAddresses = prefixes("169.254.169.254/32", "fd00:ec2::254/128", "169.254.170.2/32", "169.254.170.23/32", "fd00:ec2::23/128", "100.100.100.200/32")

// cloudDomains are where a workload takes what it was given by the metadata service, as a matter of course.
var cloudDomains = []string{
	"amazonaws.com", "amazonaws.com.cn", "aws.amazon.com", "api.aws", "googleapis.com", "google.internal", "azure.com", "azure.net", "windows.net",
	"microsoftonline.com", "microsoft.com", "digitalocean.com", "aliyuncs.com", "oraclecloud.com",
}

// apiOf is the control interface that a port stands for, "" none.
func apiOf(port uint16) string {
	switch port {
	case 2375, 2376:
		return engineAPI
	case 10250, 10255:
		return kubeletAPI
	case 2379, 2380:
		return etcdAPI
	case 6443:
		return clusterAPI
	case 5000:
		return registryAPI
	}
	return ""
}

// exposedAPI speaks when a workload reaches for what controls containers or clouds, and when such an interface answers strangers.
type exposedAPI struct {
	Nop
	memory[contacts]
}

// contacts are the control interfaces that one workload has to do with.
type contacts struct {
	known []uint64

	at      int64    // of the last new one, ns; not kept from here on
	kinds   []string // new within signWithin, in order
	subject string
}

func newExposedAPI(_ ExposedAPI, env *env) *exposedAPI {
	return &exposedAPI{memory: newMemory(env, exposedVersion, encodeContacts, decodeContacts)}
}

func encodeContacts(c *contacts, out *writer) { out.hashes(c.known) }
func decodeContacts(r *reader, c *contacts)   { c.known = r.hashes(maxContacts) }
func contactHash(direction, kind string, peer uint64) uint64 {
	return mix(hash64(direction)^peer, hash64(kind))
}

// Flow looks at ports and addresses first: few flows go further.
func (d *exposedAPI) Flow(f *enrich.Flow) {
	if f.Proto != flow.TCP || f.Confidence < enrich.High {
		return
	}
	if f.Opener == enrich.OpenerRemote || f.Opener == enrich.OpenerUnknown && f.PeerPort >= ephemeral {
		if kind := apiOf(f.LocalPort); kind != "" && f.PeerIs == nil && f.TotalSent > answeredBytes {
			d.answers(f, kind)
		}
		return
	}
	if f.PeerPort == 80 && f.PeerIs == nil && within(metadataAddresses, f.Peer) {
		d.metadata(f.Container, f.Time, f.Method, f.Confidence)
		return
	}
	if kind := apiOf(f.PeerPort); kind != "" && f.TotalReceived > answeredBytes {
		d.reaches(f, kind)
	}
	if s := d.at(d.env.w); s != nil && s.v.at != 0 && f.Kind&enrich.Open != 0 {
		d.second(s, f)
	}
}

// Name knows the metadata service by its name, too.
func (d *exposedAPI) Name(n *enrich.Name) {
	if n.Name.Name == "metadata.google.internal" {
		d.metadata(n.Container, n.Time, enrich.MethodIP, enrich.High)
	}
}

// metadata notes a contact with the service that hands out a machine's credentials: information, once for a workload.
func (d *exposedAPI) metadata(c *enrich.Container, at int64, method enrich.Method, confidence enrich.Confidence) {
	s := d.of(d.env.w)
	if !d.fresh(s, contactHash("outbound", cloudMetadata, 0), cloudMetadata, at) {
		return
	}
	s.v.subject = "169.254.169.254:80/tcp"
	f := d.finding(c, at, s.v.subject, Info, "outbound", cloudMetadata, "T1552.005")
	f.Method, f.Confidence = method, confidence
	f.Summary = fmt.Sprintf("%q (%q) asks the cloud's metadata service for the first time", c.Name, c.Image)
	d.env.report(f)
}

// fresh notes a contact and reports whether it is new for the workload.
func (d *exposedAPI) fresh(s *remembered[contacts], h uint64, kind string, at int64) bool {
	if remember(&s.v.known, h, maxContacts) {
		return false
	}
	d.touch(s)
	if at-s.v.at > signWithin {
		s.v.kinds = s.v.kinds[:0]
	}
	s.v.at = at
	if !slices.Contains(s.v.kinds, kind) {
		s.v.kinds = append(s.v.kinds, kind)
	}
	return true
}

// second ties a call to a new and rare place outside to a first contact right before it.
func (d *exposedAPI) second(s *remembered[contacts], f *enrich.Flow) {
	if f.Time-s.v.at > signWithin || d.env.w.learns() {
		s.v.at = 0
		return
	}
	now := &d.env.circles.now
	if !now.fresh || now.place != outside || f.Start < s.v.at || !slices.Contains(s.v.kinds, cloudMetadata) || below(calledName(f), cloudDomains) ||
		d.env.circles.callers(now.dest, f.Time) > 1 {
		return
	}
	out := d.finding(f.Container, f.Time, s.v.subject, High, "outbound", cloudMetadata, "T1552.005", "T1041")
	out.Method, out.Confidence = f.Method, f.Confidence
	out.Evidence["then_called"], out.Evidence["seconds_between"] = subjectOfPeer(f), round(float64(f.Start-s.v.at)/1e9)
	out.Summary = fmt.Sprintf("%q (%q) asked the cloud's metadata service for the first time and called %s, where it never was before, %s later",
		f.Container.Name, f.Container.Image, labelOfPeer(f), seconds(float64(f.Start-s.v.at)/1e9))
	d.env.report(out)
	s.v.at = 0
}

// reaches judges a call to a control interface that was answered.
func (d *exposedAPI) reaches(f *enrich.Flow, kind string) {
	where := place(f, d.env.site)
	peer := addrHash(f.Peer, 0)
	if f.PeerIs != nil {
		peer = hash64(f.PeerIs.Workload)
	}
	s := d.of(d.env.w)
	if !d.fresh(s, contactHash("outbound", kind, peer), kind, f.Time) {
		return
	}
	severity, tell := reachSeverity(kind, where, d.env.w.learns())
	serious := 0
	for _, k := range s.v.kinds {
		if k != registryAPI && k != cloudMetadata {
			serious++
		}
	}
	several := serious >= 2 && where != neighbour && !d.env.w.learns()
	if several {
		severity, tell = Medium, true
		if slices.Contains(s.v.kinds, engineAPI) {
			severity = High
		}
	}
	if !tell {
		return
	}
	attack := "T1613"
	if kind == engineAPI || kind == kubeletAPI {
		attack = "T1609"
	}
	out := d.finding(f.Container, f.Time, subjectOfPeer(f), severity, "outbound", kind, attack, "T1613")
	out.Method, out.Confidence = f.Method, f.Confidence
	out.Summary = fmt.Sprintf("%q (%q) calls the %s interface at %s for the first time", f.Container.Name, f.Container.Image, kind, labelOfPeer(f))
	if several {
		out.Evidence["interfaces"] = slices.Clone(s.v.kinds)
		out.Summary += fmt.Sprintf(", one of %d kinds within ten minutes: %s", len(s.v.kinds), strings.Join(s.v.kinds, ", "))
	}
	d.env.report(out)
}

// reachSeverity: who is given an interface for his work calls it from the beginning, and mostly a neighbour's.
func reachSeverity(kind string, where class, learns bool) (s Severity, tell bool) {
	switch kind {
	case engineAPI:
		switch {
		case where == neighbour:
			return Low, !learns
		case learns:
			return Low, true
		}
		return Medium, true
	case etcdAPI:
		if where == stranger || where == outside {
			return Medium, !learns
		}
		return Low, !learns && where != neighbour
	case kubeletAPI, clusterAPI:
		return Low, !learns && where != neighbour
	}
	return Info, !learns && where == stranger
}

// answers judges a control interface of the workload that answered somebody who is no container.
func (d *exposedAPI) answers(f *enrich.Flow, kind string) {
	where := place(f, d.env.site)
	severity := Info
	switch {
	case where == outside && (kind == engineAPI || kind == etcdAPI || kind == kubeletAPI):
		severity = High
	case where == outside && kind == clusterAPI:
		severity = Low
	case where == outside:
	case f.LocalPort == 2375:
		severity = Medium
	default:
		return
	}
	s := d.of(d.env.w)
	h := contactHash("inbound", kind, uint64(where)<<16|uint64(f.LocalPort))
	if remember(&s.v.known, h, maxContacts) {
		return
	}
	d.touch(s)
	subject := fmt.Sprintf("%s/%s", addrPort(f.Local, f.LocalPort), protoName(f.Proto))
	out := d.finding(f.Container, f.Time, subject, severity, "inbound", kind, "T1133", "T1610")
	out.Method, out.Confidence = f.Method, f.Confidence
	out.Evidence["peer"] = f.Peer.String()
	from := "the Internet"
	if where != outside {
		from = "your networks without a certificate"
	}
	out.Summary = fmt.Sprintf("the %s interface of %q (%q) at port %d answers %s: %s was the first", kind, f.Container.Name, f.Container.Image,
		f.LocalPort, from, f.Peer)
	d.env.report(out)
}

func (d *exposedAPI) finding(c *enrich.Container, at int64, subject string, s Severity, direction, kind string, attack ...string) Finding {
	slices.Sort(attack)
	return Finding{
		Time: max(at, d.env.now), Window: at, Instance: c, Subject: subject, Severity: s, Score: .2 + .2*float64(s), Attack: slices.Compact(attack),
		Evidence: map[string]any{"direction": direction, "interface": kind},
	}
}
