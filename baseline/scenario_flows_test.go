package baseline

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/wharfwatch/wharfwatch/flow"
)

const dayNS = 24 * 3600 * sec

// traffic is one line of the flows section: connections from one end to the other.
type traffic struct {
	s        *scenario
	src, dst flow.Addr
	sport    uint16
	dport    uint16
	proto    uint8
	at       int64
	daily    bool
	bytes    float64
	reply    float64
	every    int64 // gap between connections, 0: one
	poisson  bool
	times    int
	until    int64 // end of the repetition, 0: none
	jitter   float64
	miss     float64
	vary     float64
	wave     float64
	lasts    int64
	slice    int64
	late     int64
	asked    flow.Name // what its connections ask for; Kind 0: nothing
	hosts    int       // addresses one after the other
	ports    int       // ports one after the other
	refused  bool
	rng      *rand.Rand
}

// flow reads: at from to bytes [option value]…
func (s *scenario) flow(w []string) error {
	if len(w) < 4 {
		return errors.New("a flow is: at from to bytes [reply bytes] [every time] …")
	}
	t := &traffic{s: s, proto: flow.TCP, reply: 200, lasts: sec / 5, sport: 32768, rng: rand.New(rand.NewPCG(1, 1))}
	if err := t.when(w[0]); err != nil {
		return err
	}
	var err error
	if t.src, err = t.end(w[1], &t.sport); err != nil {
		return err
	}
	if t.dst, err = t.end(w[2], &t.dport); err != nil {
		return err
	}
	if t.bytes, err = bytesOf(w[3]); err != nil {
		return err
	}
	if len(w)%2 != 0 {
		return fmt.Errorf("option %q has no value", w[len(w)-1])
	}
	for i := 4; i < len(w); i += 2 {
		set := flowOptions[w[i]]
		if set == nil {
			return fmt.Errorf("unknown option %q, known are %s", w[i], names(flowOptions))
		}
		if err := set(t, w[i+1]); err != nil {
			return fmt.Errorf("%s: %w", w[i], err)
		}
	}
	return t.expand()
}

// when reads a time, or daily@02:10 in UTC.
func (t *traffic) when(text string) (err error) {
	clock, daily := strings.CutPrefix(text, "daily@")
	if !daily {
		t.at, err = duration(text)
		return err
	}
	var h, m int64
	if n, err := fmt.Sscanf(clock, "%02d:%02d", &h, &m); err != nil || n != 2 || h > 23 || m > 59 {
		return fmt.Errorf("%q is no time of day: daily@02:10", text)
	}
	t.at, t.daily, t.every = (h*60+m)*60*sec, true, dayNS
	return nil
}

// end reads name-or-address[:port[/udp]]. IPv6 addresses with a port stand in brackets.
func (t *traffic) end(text string, port *uint16) (flow.Addr, error) {
	text, proto, _ := strings.Cut(text, "/")
	switch proto {
	case "udp":
		t.proto = flow.UDP
	case "", "tcp":
	default:
		return flow.Addr{}, fmt.Errorf("unknown protocol %q: tcp or udp", proto)
	}
	host := text
	if i := strings.LastIndexByte(text, ':'); i >= 0 && (strings.Count(text, ":") == 1 || text[i-1] == ']') {
		n, err := strconv.ParseUint(text[i+1:], 10, 16)
		if err != nil {
			return flow.Addr{}, fmt.Errorf("port of %q: %w", text, err)
		}
		host, *port = strings.Trim(text[:i], "[]"), uint16(n)
	}
	if c := t.s.byName[host]; c != nil {
		if c.addr.IsZero() {
			return flow.Addr{}, fmt.Errorf("container %q has no address", host)
		}
		return c.addr, nil
	}
	a, err := flow.ParseAddr(host)
	if err != nil {
		return a, fmt.Errorf("%q is neither a container (%s) nor an address", host, names(t.s.byName))
	}
	return a, nil
}

var flowOptions = map[string]func(t *traffic, value string) error{
	"reply": func(t *traffic, v string) (err error) { t.reply, err = bytesOf(v); return },
	"every": func(t *traffic, v string) (err error) { t.every, err = duration(v); return },
	"poisson": func(t *traffic, v string) (err error) {
		t.poisson = true
		t.every, err = duration(v)
		return
	},
	"times":  func(t *traffic, v string) (err error) { t.times, err = strconv.Atoi(v); return },
	"for":    func(t *traffic, v string) (err error) { t.until, err = duration(v); t.until += t.at; return },
	"after":  func(t *traffic, v string) (err error) { d, err := duration(v); t.at += d; return err },
	"jitter": func(t *traffic, v string) (err error) { t.jitter, err = percent(v); return },
	"miss":   func(t *traffic, v string) (err error) { t.miss, err = percent(v); return },
	"vary":   func(t *traffic, v string) (err error) { t.vary, err = percent(v); return },
	"wave":   func(t *traffic, v string) (err error) { t.wave, err = percent(v); return },
	"over":   func(t *traffic, v string) (err error) { t.lasts, err = duration(v); return },
	"slice":  func(t *traffic, v string) (err error) { t.slice, err = duration(v); return },
	"late":   func(t *traffic, v string) (err error) { t.late, err = duration(v); return },
	"sni":    func(t *traffic, v string) error { t.asked.Kind, t.asked.Name = flow.NameTLS, v; return nil },
	"host":   func(t *traffic, v string) error { t.asked.Kind, t.asked.Name = flow.NameHTTP, v; return nil },
	"ja4": func(t *traffic, v string) error {
		t.asked.Kind, t.asked.JA4 = flow.NameTLS, v
		return nil
	},
	"hosts": func(t *traffic, v string) (err error) { t.hosts, err = strconv.Atoi(v); return },
	"ports": func(t *traffic, v string) (err error) { t.ports, err = strconv.Atoi(v); return },
	"refused": func(t *traffic, v string) (err error) {
		t.refused, err = strconv.ParseBool(v)
		return
	},
	"seed": func(t *traffic, v string) error {
		n, err := strconv.ParseUint(v, 10, 64)
		t.rng = rand.New(rand.NewPCG(n, 1))
		return err
	},
}

func percent(text string) (float64, error) {
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || n < 0 || !strings.HasSuffix(text, "%") {
		return 0, fmt.Errorf("%q is no percentage: 30%%", text)
	}
	return n / 100, nil
}

// expand makes the connections.
func (t *traffic) expand() error {
	if t.every > 0 && t.times == 0 && t.until == 0 {
		return errors.New("a repetition needs an end: times 12, or for 3h")
	}
	const most = 1 << 20
	for n, at := 0, t.at; ; n++ {
		if n > most {
			return fmt.Errorf("more than %d connections", most)
		}
		if t.times > 0 && n >= t.times || t.until > 0 && at >= t.until || t.every == 0 && n > 0 {
			return nil
		}
		if t.miss == 0 || t.rng.Float64() >= t.miss {
			t.connection(n, at)
		}
		gap := float64(t.every)
		switch {
		case t.poisson:
			gap *= t.rng.ExpFloat64()
		case t.daily && t.jitter > 0: // by the clock: the next day begins afresh
			at = t.at + int64(n+1)*t.every + int64(t.jitter*(2*t.rng.Float64()-1)*float64(3600*sec))
			continue
		case t.jitter > 0:
			gap *= 1 + t.jitter*(2*t.rng.Float64()-1)
		}
		at += int64(gap)
	}
}

// connection makes the records of one connection, as an exporter with an active timeout of 60 s, or of slice, would send them.
func (t *traffic) connection(n int, at int64) {
	hour := float64(at%dayNS) / float64(3600*sec)
	scale := 1 + t.wave*math.Sin(2*math.Pi*hour/24)
	if t.vary > 0 {
		scale *= math.Exp(t.vary * t.rng.NormFloat64())
	}
	slice := t.slice
	if slice == 0 {
		slice = 60 * sec
	}
	slices := max((t.lasts+slice-1)/slice, 1)
	port := t.sport + uint16(n%28000)
	if t.asked.Kind != 0 {
		n := t.asked
		n.Time, n.Client, n.Server, n.ClientPort, n.Port, n.Proto = epoch+at, t.src, t.dst, port, t.dport, t.proto
		t.s.steps = append(t.s.steps, step{n.Time, func(g *stage) { g.table.Names([]flow.Name{n}) }})
	}
	dst, dport := t.dst, t.dport
	if t.hosts > 0 {
		dst.Lo += uint64(n % t.hosts)
	}
	if t.ports > 0 {
		dport += uint16(n % t.ports)
	}
	for i := range slices {
		from := at + i*slice
		to := min(from+slice, at+t.lasts)
		forward := flow.Record{
			First: epoch + from, Last: epoch + to, Src: t.src, Dst: dst, SrcPort: port, DstPort: dport, Proto: t.proto,
			Bytes: uint64(t.bytes * scale / float64(slices)), Sampling: 1, Exporter: flow.Addr4(0xC0000201),
		}
		forward.Packets = forward.Bytes/1400 + 1
		back := forward
		back.Src, back.Dst, back.SrcPort, back.DstPort = dst, t.src, dport, port
		back.Bytes = uint64(t.reply * scale / float64(slices))
		back.Packets = back.Bytes/1400 + 1
		if i == 0 && t.lasts > sec/1000 {
			back.First += sec / 1000 // an answer comes after the question
		}
		if t.proto == flow.TCP {
			forward.TCPFlags, back.TCPFlags = flow.ACK|flow.PSH, flow.ACK|flow.PSH
			if i == 0 {
				forward.TCPFlags |= flow.SYN
				back.TCPFlags |= flow.SYN
			}
			if i == slices-1 {
				forward.TCPFlags |= flow.FIN
				back.TCPFlags |= flow.FIN
			}
		}
		if t.reply == 0 && t.proto == flow.TCP && !t.refused {
			forward.TCPFlags = flow.SYN // nobody answered: there is nothing to acknowledge
		}
		if t.refused {
			forward.TCPFlags, back.TCPFlags = flow.SYN, flow.RST|flow.ACK
			forward.Bytes, back.Bytes, forward.Packets, back.Packets = 60, 40, 1, 1
		}
		if i < slices-1 {
			forward.Flags, back.Flags = flow.FlagForced, flow.FlagForced
		}
		records := []flow.Record{forward, back}
		if t.reply == 0 {
			records = records[:1]
		}
		arrival := epoch + to
		if t.late > 0 {
			arrival += t.rng.Int64N(t.late)
		}
		t.s.steps = append(t.s.steps, step{arrival, func(g *stage) { g.table.Records(records) }})
	}
}
