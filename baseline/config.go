package baseline

import (
	"fmt"
)

// Config is the `baseline` part of the configuration: one struct per detector, next to its code.
type Config struct {
	Learning Learning `yaml:"learning"`
	Beacon   Beacon   `yaml:"beacon"`

	EgressSpike    EgressSpike    `yaml:"egress_spike"`
	EgressSlow     EgressSlow     `yaml:"egress_slow"`
	EastWest       EastWest       `yaml:"east_west"`
	NewDestination NewDestination `yaml:"new_destination"`
	Scan           Scan           `yaml:"scan"`
	HostNetwork    HostNetwork    `yaml:"host_network"`
	Posture        Posture        `yaml:"posture"`
	Lifecycle      Lifecycle      `yaml:"lifecycle"`

	LongConnection LongConnection `yaml:"long_connection"`
	DNSBypass      DNSBypass      `yaml:"dns_bypass"`
	Spoof          Spoof          `yaml:"spoof"`
	Unlisted       Unlisted       `yaml:"unlisted"`
	DGA            DGA            `yaml:"dga"`
	Intel          Intel          `yaml:"intel"`
	Miner          Miner          `yaml:"miner"`
	TunnelTool     TunnelTool     `yaml:"tunnel_tool"`
	ExposedAPI     ExposedAPI     `yaml:"exposed_api"`
	DNSTunnel      DNSTunnel      `yaml:"dns_tunnel"`
}

// Default is what wharfwatch does without a configuration file.
func Default() Config {
	return Config{
		Learning: defaultLearning(),
		Beacon:   defaultBeacon(),

		EgressSpike:    defaultEgressSpike(),
		EgressSlow:     defaultEgressSlow(),
		EastWest:       defaultEastWest(),
		NewDestination: defaultNewDestination(),
		Scan:           defaultScan(),
		HostNetwork:    defaultHostNetwork(),
		Posture:        defaultPosture(),
		Lifecycle:      defaultLifecycle(),

		LongConnection: defaultLongConnection(),
		DNSBypass:      defaultDNSBypass(),
		Spoof:          defaultSpoof(),
		Unlisted:       defaultUnlisted(),
		DGA:            defaultDGA(),
		Intel:          defaultIntel(),
		Miner:          defaultMiner(),
		TunnelTool:     defaultTunnelTool(),
		ExposedAPI:     defaultExposedAPI(),
		DNSTunnel:      defaultDNSTunnel(),
	}
}

// Validate reports every problem with the path of its key.
func (c Config) Validate(report func(path, message string)) {
	c.Learning.validate("learning", report)
	c.Beacon.validate("beacon", report)
	c.EgressSpike.validate("egress_spike", report)
	c.EgressSlow.validate("egress_slow", report)
	c.EastWest.validate("east_west", report)
	c.NewDestination.validate("new_destination", report)
	c.Scan.validate("scan", report)
	c.HostNetwork.validate("host_network", report)
	c.Posture.validate("posture", report)
	c.Lifecycle.validate("lifecycle", report)
	c.LongConnection.validate("long_connection", report)
	c.DNSBypass.validate("dns_bypass", report)
	c.Spoof.validate("spoof", report)
	c.Unlisted.validate("unlisted", report)
	c.DGA.validate("dga", report)
	c.Intel.validate("intel", report)
	c.Miner.validate("miner", report)
	c.TunnelTool.validate("tunnel_tool", report)
	c.ExposedAPI.validate("exposed_api", report)
	c.DNSTunnel.validate("dns_tunnel", report)
}

// detectors is the only registration list. A detector is one file, its field in Config and its line here.
func (c Config) detectors(env *env) []registered {
	return []registered{
		{"beacon", c.Beacon.Mode, func() Detector { return newBeacon(c.Beacon, env) }},
		{"egress-spike", c.EgressSpike.Mode, func() Detector { return newEgress(c.EgressSpike, env) }},
		{"egress-slow", c.EgressSlow.Mode, func() Detector { return newEgressSlow(c.EgressSlow, env) }},
		{"east-west", c.EastWest.Mode, func() Detector { return newEastWest(c.EastWest, env) }},
		{"new-destination", c.NewDestination.Mode, func() Detector { return newNewDestination(c.NewDestination, env) }},
		{"scan", c.Scan.Mode, func() Detector { return newScan(c.Scan, env) }},
		{"host-network", c.HostNetwork.Mode, func() Detector { return newHostNetwork(c.HostNetwork, env) }},
		{"posture", c.Posture.Mode, func() Detector { return newPosture(c.Posture, env) }},
		{"lifecycle", c.Lifecycle.Mode, func() Detector { return newLifecycle(c.Lifecycle, env) }},
		{"long-connection", c.LongConnection.Mode, func() Detector { return newLongConnection(c.LongConnection, env) }},
		{"spoof", c.Spoof.Mode, func() Detector { return newSpoof(c.Spoof, env) }},
		{"unlisted", c.Unlisted.Mode, func() Detector { return newUnlisted(c.Unlisted, env) }},
		{"dns-bypass", c.DNSBypass.Mode, func() Detector { return newDNSBypass(c.DNSBypass, env) }},
		{"dga", c.DGA.Mode, func() Detector { return newDGA(c.DGA, env) }},
		{"intel", c.Intel.Mode, func() Detector { return newIntel(c.Intel, env) }},
		{"miner", c.Miner.Mode, func() Detector { return newMiner(c.Miner, env) }},
		{"tunnel-tool", c.TunnelTool.Mode, func() Detector { return newTunnelTool(c.TunnelTool, env) }},
		{"exposed-api", c.ExposedAPI.Mode, func() Detector { return newExposedAPI(c.ExposedAPI, env) }},
		{"dns-tunnel", c.DNSTunnel.Mode, func() Detector { return newDNSTunnel(c.DNSTunnel, env) }},
	}
}

// Mode says whether a detector speaks.
type Mode string

// The modes.
const (
	On     Mode = "on"
	Shadow Mode = "shadow" // learns and counts what it would have told
	Off    Mode = "off"    // is not built at all
)

func (m Mode) validate(path string, report func(path, message string)) {
	if m != On && m != Shadow && m != Off {
		report(path, fmt.Sprintf("unknown mode %q: on, shadow or off", string(m)))
	}
}

type registered struct {
	id   string
	mode Mode
	make func() Detector
}
