package baseline

import (
	"fmt"
	"math"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Scan configures the scan detector.
type Scan struct {
	// Mode is on, shadow (learns and counts, tells nothing) or off.
	Mode Mode `yaml:"mode"`
	// Hosts that did not answer, within five minutes, from which it is a scan.
	Hosts int `yaml:"hosts"`
	// Ports of one host that did not answer, within five minutes.
	Ports int `yaml:"ports"`
	// EpisodeHours without another scan until one is told again that is not ten times as large.
	EpisodeHours int `yaml:"episode_hours"`
}

func defaultScan() Scan { return Scan{Mode: On, Hosts: 25, Ports: 15, EpisodeHours: 24} }

func (c Scan) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
	for _, v := range []struct {
		key            string
		n, least, most int
	}{{"hosts", c.Hosts, 5, 1000}, {"ports", c.Ports, 5, 1000}, {"episode_hours", c.EpisodeHours, 1, 24 * 28}} {
		if v.n < v.least || v.n > v.most {
			report(path+"."+v.key, fmt.Sprintf("%d is outside %d to %d", v.n, v.least, v.most))
		}
	}
}

const (
	scanWindow = 150 * 1e9 // ns; two of them are looked at
	scanHosts  = 8         // hosts whose ports are counted
	scanShown  = 5
	// Threshold Random Walk (Jung, Paxson, Berger, Balakrishnan 2004): with 0.8 of an honest client's first contacts answered and 0.2
	// of a scanner's, a failure makes scanning 4 times as likely, an answer 4 times less; 99 decides for, 0.0101 against.
	walkStep     = 2 // log2 4
	walkDecide   = 6.63
	scanHabit    = 3 // episodes on other days after which a scan is what this workload does
	answerSlots  = 256
	scanUnheard  = 4 // times the hosts, where no answer was ever seen: perhaps only one direction is
	maxScanLevel = 6
	answersHalve = 600e9 // ns
)

// scan finds workloads that try many hosts, or many ports of a host, and get no answer. Hosts that answered before do not count: a
// cluster that fails is not scanned by its clients.
type scan struct {
	Nop
	memory[scanner]
	c        Scan
	env      *env
	silenced *metrics.Counter
	touched  uint64 // keeps the loads of ahead
}

// scanner is what one workload tried. Only what was told outlives the process.
type scanner struct {
	walk     float64 // log2 of the likelihood ratio
	heard    bool    // an answer was seen once
	answers  float64 // hosts that answered lately: half of them count after answersHalve
	since    int64   // event time of answers, ns
	answered [answerSlots]uint32
	sweep    *sweep // nil until something fails

	sweepAt, sweepLevel int64 // last scan of hosts, ns, and what was told of it, in powers of ten
	portsAt, portsLevel int64 // the same of ports
	episodes            int   // with a finding, each a day or more apart
	last                int64 // event time of the last finding, ns
}

// sweep counts what failed in the current and the last window.
type sweep struct {
	window  int64 // number of the current one
	hosts   [2]sketch
	tried   [2]int
	port    uint16
	proto   uint8
	mixed   bool // several ports
	shown   []flow.Addr
	targets [scanHosts]target
}

// target is one host and its ports that did not answer, counted in a bitmap.
type target struct {
	addr  flow.Addr
	began int64
	last  int64
	ports [16]uint64
	set   int
}

const scanVersion = 1

func newScan(c Scan, env *env) *scan {
	d := &scan{c: c, env: env, silenced: env.set.NewCounter(`wharfwatch_baseline_scan_silent_total{reason="walk"}`)}
	d.memory = newMemory(env, scanVersion,
		func(s *scanner, out *writer) {
			for _, v := range [...]int64{s.sweepAt, s.sweepLevel, s.portsAt, s.portsLevel, s.last, int64(s.episodes)} {
				out.int(v)
			}
			out.bool(s.heard)
		},
		func(r *reader, s *scanner) {
			for _, v := range [...]*int64{&s.sweepAt, &s.sweepLevel, &s.portsAt, &s.portsLevel, &s.last} {
				*v = r.int()
			}
			s.episodes, s.heard = int(min(max(r.int(), 0), 1<<20)), r.bool()
		})
	return d
}

// answer is the place where an answer of a flow's peer is noted, and how.
func (s *scanner) answer(f *enrich.Flow) (mark uint32, slot *uint32) {
	mark = peerMark(f.Peer, 0) | 1
	return mark, &s.answered[mark>>24]
}

// ahead loads the places where answers are noted.
func (d *scan) ahead(fs []enrich.Flow, ws []*workload) {
	sum := d.touched
	for i := range fs {
		if ws[i] == nil || fs[i].Kind&enrich.Close == 0 {
			continue
		}
		if kept := d.at(ws[i]); kept != nil {
			_, slot := kept.v.answer(&fs[i])
			sum += uint64(*slot)
		}
	}
	d.touched = sum
}

// Flow looks at the end of calls: only then is it known that nothing came.
func (d *scan) Flow(f *enrich.Flow) {
	if f.Kind&enrich.Close == 0 || !calls(f) || backwards(f) || isPlumbing(f) || f.Proto == flow.UDP && f.PeerIs == nil && !within(d.env.site, f.Peer) {
		return // UDP to the outside is full of discovery that nobody answers
	}
	kept := d.of(d.env.w)
	s := &kept.v
	mark, slot := s.answer(f)
	if !failed(f) {
		if !s.heard {
			s.heard = true
			d.touch(kept)
		}
		if *slot != mark {
			*slot = mark
			s.answers, s.since = s.lately(f.Time)+1, max(s.since, f.Time)
			if s.walk -= walkStep; s.walk < -walkDecide {
				s.walk = 0
			}
		}
		return
	}
	d.fail(kept, f, *slot == mark)
}

// lately is answers at a time. That nothing comes is known minutes later than that something does, so that failures must be weighed
// against the answers of some minutes, not of the same moment.
func (s *scanner) lately(now int64) float64 {
	return s.answers * math.Exp2(-float64(max(now-s.since, 0))/answersHalve)
}

// failed reports whether a call that ended got no answer, or a refusal. Where only one direction is seen, a client that went on behind
// its SYN had its answer.
func failed(f *enrich.Flow) bool {
	if f.NoReply {
		return f.Proto != flow.TCP || f.TCPFlags&flow.ACK == 0
	}
	return f.Proto == flow.TCP && f.TCPFlags&flow.RST != 0 && f.TCPFlags&(flow.PSH|flow.FIN) == 0 && f.TotalReceived <= 240
}

// fail counts a call without an answer. A host that answered before is tried for its other ports only.
func (d *scan) fail(kept *remembered[scanner], f *enrich.Flow, known bool) {
	s := &kept.v
	if s.sweep == nil {
		s.sweep = &sweep{port: f.PeerPort, proto: f.Proto}
	}
	v := s.sweep
	v.turn(f.Time / scanWindow)
	v.mixed = v.mixed || v.port != f.PeerPort || v.proto != f.Proto
	if !known && v.hosts[0].add(mix(f.Peer.Hi^0x9e3779b97f4a7c15, f.Peer.Lo^0xd6e8feb86659fd93)) {
		v.tried[0]++
		s.walk = min(s.walk+walkStep, 2*walkDecide)
		if len(v.shown) < scanShown {
			v.shown = append(v.shown, f.Peer)
		}
		if v.tried[0]+v.tried[1] >= d.hostsOf(s)*3/4 { // what fell into one register was not counted
			d.judgeHosts(kept, f)
		}
	}
	if t := v.target(f); t.set >= d.c.Ports/2 {
		d.judgePorts(kept, t, f)
	}
}

// turn begins a new window where it is time.
func (v *sweep) turn(window int64) {
	switch {
	case window <= v.window:
		return
	case window == v.window+1:
		v.hosts[1], v.tried[1] = v.hosts[0], v.tried[0]
	default:
		v.hosts[1], v.tried[1] = sketch{}, 0
	}
	v.hosts[0], v.tried[0] = sketch{}, 0
	if v.window = window; v.tried[1] == 0 {
		v.shown, v.mixed, v.port, v.proto = v.shown[:0], false, 0, 0
	}
}

// target notes a port of a host. The host that was tried longest ago gives its place.
func (v *sweep) target(f *enrich.Flow) *target {
	if v.port == 0 {
		v.port, v.proto, v.mixed = f.PeerPort, f.Proto, false
	}
	at := 0
	for i := range v.targets {
		if v.targets[i].addr == f.Peer {
			at = i
			break
		}
		if v.targets[i].last < v.targets[at].last {
			at = i
		}
	}
	t := &v.targets[at]
	if t.addr != f.Peer || f.Time-t.began > 2*scanWindow {
		*t = target{addr: f.Peer, began: f.Time}
	}
	t.last = f.Time
	h := mix(uint64(f.PeerPort)<<8|uint64(f.Proto), 0x9e3779b97f4a7c15) & 1023
	if t.ports[h>>6]>>(h&63)&1 == 0 {
		t.ports[h>>6] |= 1 << (h & 63)
		t.set++
	}
	return t
}

// count estimates the ports by linear counting.
func (t *target) count() float64 { return 1024 * math.Log(1024/math.Max(float64(1024-t.set), .5)) }
