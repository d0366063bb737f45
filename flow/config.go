package flow

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Config says where flows come from. "off" as the only value of a list switches that part off.
type Config struct {
	// Netflow lists the UDP addresses that take NetFlow v5, v9 and IPFIX; each takes all three.
	Netflow []string `yaml:"netflow"`
	// SFlow lists the UDP addresses that take sFlow version 5.
	SFlow []string `yaml:"sflow"`
	// Interfaces lists the interfaces to capture on, as patterns of path.Match: "docker0", "br-*".
	Interfaces []string `yaml:"interfaces"`
	// RingBytes is the memory that the captures of all interfaces share.
	RingBytes int `yaml:"ring_bytes"`
	// Ignore is traffic that captures leave to the kernel to drop: "192.0.2.0/24", "192.0.2.1:8470", "[2001:db8::1]:8470", ":8470". At most 32.
	Ignore []string `yaml:"ignore"`
	// Unwrap says whether captures report the packet inside VXLAN, GRE and the like, or the envelope: always, never, or auto, which is always
	// but on bridges. There the envelope is what a container sends, and the packet inside is what it chose to write.
	Unwrap string `yaml:"unwrap"`
	// PacketRingBytes bounds the packets of captures that are kept on disk, for CutPackets; 0 keeps none.
	PacketRingBytes int64 `yaml:"packet_ring_bytes"`
	// Zeek and EVE list logs to follow while they are written: Zeek's conn, dns, ssl, quic and http logs, Suricata's eve.json.
	Zeek []string `yaml:"zeek"`
	EVE  []string `yaml:"eve"`
	// ReceiveBufferBytes is asked of the kernel for each UDP socket. Without CAP_NET_ADMIN net.core.rmem_max caps it.
	ReceiveBufferBytes int `yaml:"receive_buffer_bytes"`
	// Workers is how many sockets and threads share each UDP address, 1 to 64. Each sender stays with one of them.
	Workers int `yaml:"workers"`
	// KeyPort tells exporters apart by their source port too: for several behind one NAT address. A restart that changes the port then
	// loses the templates until they are sent again.
	KeyPort bool `yaml:"key_port"`
	// TemplateWithdrawals makes IPFIX exporters able to take templates back. Over UDP they do not by RFC 7011, and anybody can forge it.
	TemplateWithdrawals bool `yaml:"template_withdrawals"`
	// Exporters limits who may send, as prefixes; empty lets everybody.
	Exporters []string `yaml:"exporters"`
	// Sampling gives rates that exporters do not say, or say wrongly. It outranks what they say. The longest prefix wins; of one prefix
	// the entry that names the interface, then the one that names the domain.
	Sampling []SamplingRate `yaml:"sampling"`
	// ActiveTimeoutSeconds is the longest active timeout of the exporters: how late a record may come after its start.
	ActiveTimeoutSeconds int `yaml:"active_timeout_seconds"`
	// SlackSeconds is added to the active timeout before a silent source stops holding event time back.
	SlackSeconds int `yaml:"slack_seconds"`

	// TemplateFile keeps templates and sampling rates over restarts; empty keeps nothing. It is read by Open.
	TemplateFile string `yaml:"-"`
	// PacketDir is where packets are kept.
	PacketDir string `yaml:"-"`

	// ExplicitNetflow, ExplicitSFlow and ExplicitInterfaces say that a person chose the list: what cannot be opened is then an error, while
	// a default that cannot be opened is a note. Lists that differ from Default count as chosen without it.
	ExplicitNetflow    bool `yaml:"-"`
	ExplicitSFlow      bool `yaml:"-"`
	ExplicitInterfaces bool `yaml:"-"`
}

// SamplingRate overrides the rate of the exporters in a prefix, or of one domain or interface of theirs.
type SamplingRate struct {
	Exporter  string  `yaml:"exporter"`  // address or prefix
	Domain    *uint32 `yaml:"domain"`    // observation domain, source id or engine; nil all
	Interface uint32  `yaml:"interface"` // SNMP index, of the incoming interface or else of the outgoing one; 0 all
	Rate      uint32  `yaml:"rate"`      // 1:N
}

// Default is a monitor that is useful with no file at all.
func Default() Config {
	return Config{
		Netflow:              []string{":2055", ":4739"},
		SFlow:                []string{":6343"},
		Interfaces:           []string{"docker0", "br-*"},
		RingBytes:            64 << 20,
		Unwrap:               "auto",
		ReceiveBufferBytes:   32 << 20,
		Workers:              1,
		ActiveTimeoutSeconds: 300,
		SlackSeconds:         5,
	}
}

// ActiveTimeout is ActiveTimeoutSeconds as a duration.
func (c Config) ActiveTimeout() time.Duration {
	return time.Duration(c.ActiveTimeoutSeconds) * time.Second
}

// Slack is SlackSeconds as a duration.
func (c Config) Slack() time.Duration { return time.Duration(c.SlackSeconds) * time.Second }

// Validate reports every problem with the path of its key; it looks nothing up and opens nothing.
func (c Config) Validate(report func(path, message string)) {
	addresses("netflow", ":2055", c.Netflow, report)
	addresses("sflow", ":6343", c.SFlow, report)
	for i, p := range c.Interfaces {
		path := fmt.Sprintf("interfaces[%d]", i)
		switch {
		case p == "off" && len(c.Interfaces) > 1:
			report(path, `"off" must be the only value`)
		case p == "" || strings.ContainsAny(p, "/ \t"):
			report(path, fmt.Sprintf("%q is not the name of an interface or a pattern like br-*", p))
		}
	}
	if c.RingBytes < 1<<20 || c.RingBytes > 4<<30 {
		report("ring_bytes", fmt.Sprintf("%d is outside 1048576 to 4294967296", c.RingBytes))
	}
	if c.Unwrap != "auto" && c.Unwrap != "always" && c.Unwrap != "never" {
		report("unwrap", fmt.Sprintf("%q is none of auto, always and never", c.Unwrap))
	}
	if c.PacketRingBytes != 0 && c.PacketRingBytes < LeastPacketRing || c.PacketRingBytes > 1<<50 {
		report("packet_ring_bytes", fmt.Sprintf("%d is neither 0 nor at least %d", c.PacketRingBytes, LeastPacketRing))
	}
	for i, s := range c.Ignore {
		if _, err := parseIgnore(s); err != nil {
			report(fmt.Sprintf("ignore[%d]", i), err.Error())
		}
	}
	if len(c.Ignore) > maxIgnore {
		report("ignore", fmt.Sprintf("%d rules are more than %d", len(c.Ignore), maxIgnore))
	}
	c.validateLogs(report)
	if c.ReceiveBufferBytes < 1<<16 || c.ReceiveBufferBytes > 1<<30 {
		report("receive_buffer_bytes", fmt.Sprintf("%d is outside 65536 to 1073741824", c.ReceiveBufferBytes))
	}
	if c.Workers < 1 || c.Workers > maxWorkers {
		report("workers", fmt.Sprintf("%d is outside 1 to %d", c.Workers, maxWorkers))
	}
	for i, e := range c.Exporters {
		if _, err := parsePrefix(e); err != nil {
			report(fmt.Sprintf("exporters[%d]", i), err.Error())
		}
	}
	for i, s := range c.Sampling {
		if _, err := parsePrefix(s.Exporter); err != nil {
			report(fmt.Sprintf("sampling[%d].exporter", i), err.Error())
		}
		if s.Rate < 1 || s.Rate > maxRate {
			report(fmt.Sprintf("sampling[%d].rate", i), fmt.Sprintf("%d is outside 1 to %d", s.Rate, maxRate))
		}
	}
	if c.ActiveTimeoutSeconds < 1 || c.ActiveTimeoutSeconds > 86400 {
		report("active_timeout_seconds", fmt.Sprintf("%d is outside 1 to 86400", c.ActiveTimeoutSeconds))
	}
	if c.SlackSeconds < 0 || c.SlackSeconds > 3600 {
		report("slack_seconds", fmt.Sprintf("%d is outside 0 to 3600", c.SlackSeconds))
	}
}

// addresses reports what is wrong with a list of UDP addresses.
func addresses(key, example string, list []string, report func(path, message string)) {
	for i, a := range list {
		path := fmt.Sprintf("%s[%d]", key, i)
		switch {
		case a == "off" && len(list) > 1:
			report(path, `"off" must be the only value`)
		case a != "off":
			_, port, err := net.SplitHostPort(a)
			if err == nil {
				_, err = strconv.ParseUint(port, 10, 16)
			}
			if err != nil {
				report(path, fmt.Sprintf("%q is not an address like %s or 192.0.2.1%s", a, example, example))
			}
		}
	}
}

// Open binds the sockets and opens the captures, so that what is wrong is said at the start. The notes tell what is listened on
// and what is missing with what to do about it; an error means that something a person asked for cannot be had.
func (c Config) Open(pool Pool, set *metrics.Set, log *slog.Logger) (sources []Source, notes []string, err error) {
	defer func() {
		if err != nil {
			for _, s := range sources {
				if c, ok := s.(interface{ Close() error }); ok {
					c.Close()
				}
			}
			sources = nil
		}
	}()
	policy, err := c.policy()
	if err != nil {
		return nil, nil, err
	}
	var k *keeper
	if c.TemplateFile != "" {
		k = openKeeper(c.TemplateFile, time.Now().UnixNano(), set, log)
		if note := k.note(); note != "" {
			notes = append(notes, note)
		}
	}
	for _, l := range []struct {
		kind, takes string
		addresses   []string
		chosen      bool
	}{
		{"netflow", "NetFlow v5, v9 and IPFIX", c.Netflow, c.ExplicitNetflow || !slices.Equal(c.Netflow, Default().Netflow)},
		{"sflow", "sFlow", c.SFlow, c.ExplicitSFlow || !slices.Equal(c.SFlow, Default().SFlow)},
	} {
		for _, a := range l.addresses {
			if a == "off" {
				continue
			}
			u, err := openCollector(l.kind, a, c.ReceiveBufferBytes, max(c.Workers, 1), policy, k, pool, set, log)
			switch {
			case err == nil:
				sources = append(sources, u)
				notes = append(notes, fmt.Sprintf("listening for %s on udp %s, receive buffer %d KiB", l.takes, u.Addr(), u.Buffer()>>10))
				if u.Buffer() < smallBuffer {
					notes = append(notes, fmt.Sprintf("the receive buffer of udp %s is below 4 MiB, bursts will be lost: sysctl -w net.core.rmem_max=%d, or run with CAP_NET_ADMIN", u.Addr(), c.ReceiveBufferBytes))
				}
			case l.chosen:
				return sources, notes, err
			default:
				notes = append(notes, err.Error())
			}
		}
	}
	exportersIn(set, sources)
	logs, said := c.tails(pool, set, log)
	sources, notes = append(sources, logs...), append(notes, said...)
	chosen := c.ExplicitInterfaces || !slices.Equal(c.Interfaces, Default().Interfaces)
	if len(c.Interfaces) == 0 || c.Interfaces[0] == "off" {
		return sources, notes, nil
	}
	o := captureOptions{patterns: strings.Join(c.Interfaces, ","), ringBytes: c.RingBytes, unwrap: c.Unwrap}
	for _, s := range c.Ignore {
		rule, err := parseIgnore(s)
		if err != nil {
			return sources, notes, fmt.Errorf("ignore: %w", err)
		}
		o.ignore = append(o.ignore, rule)
	}
	if c.PacketRingBytes > 0 {
		if o.store, err = openPacketStore(c.PacketDir, c.PacketRingBytes, set, log); err != nil {
			return sources, notes, err
		}
	}
	s, note, err := openCapture(o, pool, set, log)
	switch {
	case err == nil:
		sources, notes = append(sources, s), append(notes, note)
	case chosen:
		return sources, notes, err
	default:
		notes = append(notes, err.Error())
	}
	return sources, notes, nil
}

// policy is the parsed form of what a Config says about exporters.
type policy struct {
	allowed     []netip.Prefix
	sampling    []rateOverride // the one that wins first
	keyPort     bool
	withdrawals bool
}

type rateOverride struct {
	prefix netip.Prefix
	SamplingRate
}

func (c Config) policy() (*policy, error) {
	p := &policy{keyPort: c.KeyPort, withdrawals: c.TemplateWithdrawals}
	for _, e := range c.Exporters {
		x, err := parsePrefix(e)
		if err != nil {
			return nil, fmt.Errorf("exporters: %w", err)
		}
		p.allowed = append(p.allowed, x)
	}
	for _, s := range c.Sampling {
		x, err := parsePrefix(s.Exporter)
		if err != nil {
			return nil, fmt.Errorf("sampling: %w", err)
		}
		p.sampling = append(p.sampling, rateOverride{x, s})
	}
	slices.SortStableFunc(p.sampling, func(a, b rateOverride) int { return b.rank() - a.rank() })
	return p, nil
}

func (p *policy) allows(a netip.Addr) bool {
	return len(p.allowed) == 0 || slices.ContainsFunc(p.allowed, func(x netip.Prefix) bool { return x.Contains(a) })
}

// rank orders overrides: the longer prefix, then the interface, then the domain.
func (o *rateOverride) rank() int {
	n := o.prefix.Bits() * 4
	if o.Interface != 0 {
		n += 2
	}
	if o.Domain != nil {
		n++
	}
	return n
}

// rates returns what is configured for a domain, 0 where nothing is, and for interfaces of it.
func (p *policy) rates(a netip.Addr, domain uint32) (rate uint32, interfaces map[uint32]uint32) {
	for i := range p.sampling {
		o := &p.sampling[i]
		switch {
		case !o.prefix.Contains(a) || o.Domain != nil && *o.Domain != domain:
		case o.Interface == 0:
			return o.Rate, interfaces // what follows is less specific
		case interfaces[o.Interface] == 0:
			if interfaces == nil {
				interfaces = map[uint32]uint32{}
			}
			interfaces[o.Interface] = o.Rate
		}
	}
	return 0, interfaces
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a prefix like 192.0.2.0/24", s)
	}
	return p.Masked(), nil
}
