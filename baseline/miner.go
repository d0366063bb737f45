package baseline

import (
	"fmt"
	"math"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// Miner configures the miner detector.
type Miner struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
}

func defaultMiner() Miner { return Miner{Mode: On} }

func (c Miner) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	if _, err := parseEndpoints(miningPoolsText); err != nil {
		report(path, err.Error())
	}
}

const (
	maxPools     = 16          // told of one workload in a day
	minerLeast   = 20 * minute // a connection's age before its shape says something
	minerPCR     = .8          // (sent - received) / (sent + received): jobs come, shares go
	minerSlowest = .3          // bytes a second
	minerFastest = 400.
	minerPacket  = 700. // mean bytes
)

// miner finds workloads that work for a mining pool: by the pool's name, or by a port of stratum and the shape of a connection that has
// been told jobs and tells shares for long.
type miner struct {
	Nop
	today
	env  *env
	list endpoints
}

func newMiner(_ Miner, env *env) *miner {
	d := &miner{env: env}
	d.list, _ = parseEndpoints(miningPoolsText) // checked by Validate and by a test
	return d
}

// Name looks at names that are resolved or asked for.
func (d *miner) Name(n *enrich.Name) {
	pool, domain := d.list.whose(n.Name.Name)
	if pool == "" {
		return
	}
	f := Finding{Time: n.Time, Instance: n.Container, Subject: domain, Severity: Medium, Method: enrich.MethodIP, Confidence: enrich.High}
	f.Evidence = map[string]any{"pool": pool, "name": n.Name.Name, "how": "resolved"}
	f.Summary = fmt.Sprintf("%q (%q) looked up %q, a mining pool's", n.Container.Name, n.Container.Image, n.Name.Name)
	if n.Kind.OfConnection() {
		f.Severity, f.Evidence["how"] = High, "called"
		f.Summary = fmt.Sprintf("%q (%q) called %q, a mining pool's", n.Container.Name, n.Container.Image, n.Name.Name)
	}
	d.tell(f)
}

// Flow looks at the name of a new connection and at the shape of an old one.
func (d *miner) Flow(f *enrich.Flow) {
	if f.PeerIs != nil || f.Opener == enrich.OpenerRemote || f.Confidence < enrich.High {
		return
	}
	if f.Kind&enrich.Open != 0 {
		if name := calledName(f); name != "" {
			if pool, domain := d.list.whose(name); pool != "" {
				d.tell(Finding{
					Time: f.Time, Instance: f.Container, Subject: domain, Severity: High, Method: f.Method, Confidence: f.Confidence,
					Evidence: map[string]any{"pool": pool, "name": name, "peer": subjectOfPeer(f), "how": "called"},
					Summary:  fmt.Sprintf("%q (%q) called %s, a mining pool's", f.Container.Name, f.Container.Image, labelOfPeer(f)),
				})
				return
			}
		}
	}
	if f.Time-f.Start < minerLeast || f.Start <= 0 || d.list.ports[portKey{f.PeerPort, f.Proto}] == "" || !d.env.outside(f) {
		return
	}
	d.shape(f)
}

// shape judges an old connection to a port of stratum: small messages both ways, steadily, for long.
func (d *miner) shape(f *enrich.Flow) {
	age := float64(f.Time-f.Start) / 1e9
	total := float64(f.TotalSent + f.TotalReceived)
	packets := float64(f.PacketsSent + f.PacketsReceived) // of this report
	pcr := (float64(f.TotalSent) - float64(f.TotalReceived)) / total
	if total == 0 || packets == 0 || math.Abs(pcr) > minerPCR || total/age < minerSlowest || total/age > minerFastest ||
		float64(f.Sent+f.Received)/packets > minerPacket || f.Sent == 0 || f.Received == 0 {
		return
	}
	d.tell(Finding{
		Time: f.Time, Instance: f.Container, Subject: subjectOfPeer(f), Severity: Medium, Method: f.Method, Confidence: f.Confidence,
		Evidence: map[string]any{
			"name": calledName(f), "age_seconds": round(age), "bytes_per_second": round(total / age), "producer_consumer_ratio": round(pcr),
			"mean_packet_bytes": round(float64(f.Sent+f.Received) / packets), "sampled": f.Sampled, "how": "shape",
		},
		Summary: fmt.Sprintf("%q (%q) has talked to %s, a port of mining pools, for %s in small steady messages both ways", f.Container.Name,
			f.Container.Image, labelOfPeer(f), seconds(age)),
	})
}

// tell speaks once a day of a workload and a pool, and again when it becomes surer.
func (d *miner) tell(f Finding) {
	day := f.Time / dayLength
	told := d.of(d.env.w, day)
	for worse := f.Severity; worse <= Critical; worse++ {
		if told.has(hash64(f.Subject) + uint64(worse)) {
			return
		}
	}
	remember(&told.all, hash64(f.Subject)+uint64(f.Severity), maxPools)
	f.Window = day*dayLength + int64(f.Severity)
	f.Time = max(f.Time, d.env.now)
	f.Score = .1 + .25*float64(f.Severity)
	f.Attack = []string{"T1071", "T1496.001"}
	d.env.report(f)
}
