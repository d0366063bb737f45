package enrich

import (
	"fmt"
	"net/netip"
	"time"
)

// Config is the room's part of the configuration file.
type Config struct {
	Docker      []EngineConfig `yaml:"docker"`
	Inventory   string         `yaml:"inventory"` // file with what docker inspect printed: containers of hosts without an engine to ask
	Conntrack   Conntrack      `yaml:"conntrack"`
	Connections Connections    `yaml:"connections"`
	Addresses   Addresses      `yaml:"addresses"`
	Names       Names          `yaml:"names"`
}

// Conntrack says what is asked of the kernels of the engines' hosts, on this machine only. It needs CAP_NET_ADMIN.
type Conntrack struct {
	Mode    string `yaml:"mode"`         // "auto": translations and sockets are followed where that is possible; "off": never
	Flows   string `yaml:"flows"`        // "auto": and counters become flow records where the kernel counts; "off": never
	Enter   bool   `yaml:"enter_shared"` // sockets are asked for inside of network namespaces that containers share
	Entries int    `yaml:"entries"`      // connections remembered, some 190 bytes each, allocated as they are needed
}

// Connections bounds and times the connection table. All durations are event time.
type Connections struct {
	Max            int           `yaml:"max"`             // live connections; 192 bytes each, allocated as they are needed
	ContainerShare float64       `yaml:"container_share"` // of Max, the most that one container may hold
	Shards         int           `yaml:"shards"`          // the output does not depend on it while nothing is evicted
	TCPIdle        time.Duration `yaml:"tcp_idle"`        // a TCP connection without an end closes after this silence
	UDPIdle        time.Duration `yaml:"udp_idle"`        // UDP has no end: this silence is one
	OtherIdle      time.Duration `yaml:"other_idle"`      // ICMP and the rest
	ExportedIdle   time.Duration `yaml:"exported_idle"`   // the least silence after a slice cut by an exporter's active timeout; 1.5 times the longest slice seen counts where that is more
	Linger         time.Duration `yaml:"linger"`          // an ended connection waits this long for late slices and duplicates
	Hold           time.Duration `yaml:"hold"`            // an unknown address that may still be bound waits this long for its engine
}

// Addresses says what is known of addresses beforehand, and bounds what is learned.
type Addresses struct {
	Host       []string      `yaml:"host"`        // addresses of hosts with an engine: labelled host, never a container
	Networks   []string      `yaml:"networks"`    // container networks in CIDR form, beside those seen in bindings
	Tolerance  time.Duration `yaml:"tolerance"`   // clock difference between engine and exporter that is forgiven
	Retention  time.Duration `yaml:"retention"`   // how long the dead are remembered at least: exported flows come late
	PerAddress int           `yaml:"per_address"` // bindings remembered for one address of one network
	Bindings   int           `yaml:"bindings"`    // bindings remembered in all
	Containers int           `yaml:"containers"`  // containers remembered in all
}

// Names bounds the cache of names that containers resolved.
type Names struct {
	PerContainer int           `yaml:"per_container"`
	Total        int           `yaml:"total"`
	Least        time.Duration `yaml:"least"` // a name is kept this long however short its TTL: clients hold on to addresses
}

// Default is what runs without a configuration file.
func Default() Config {
	return Config{
		Docker:    []EngineConfig{DefaultEngine()},
		Conntrack: Conntrack{Mode: "auto", Flows: "auto", Entries: 1 << 18},
		Connections: Connections{
			Max: 1_000_000, ContainerShare: .25, Shards: 1,
			TCPIdle: 5 * time.Minute, UDPIdle: time.Minute, OtherIdle: time.Minute, ExportedIdle: 2 * time.Minute,
			Linger: 3 * time.Second, Hold: 2 * time.Second,
		},
		Addresses: Addresses{
			Tolerance: 500 * time.Millisecond, Retention: 15 * time.Minute,
			PerAddress: 1024, Bindings: 1 << 18, Containers: 1 << 16,
		},
		Names: Names{PerContainer: 512, Total: 1 << 18, Least: 10 * time.Minute},
	}
}

// Validate reports everything that cannot work, each with its path in the file.
func (c Config) Validate(report func(path, message string)) {
	number := func(path string, v, least, most int) {
		if v < least || v > most {
			report(path, fmt.Sprintf("is %d, must be between %d and %d", v, least, most))
		}
	}
	span := func(path string, v, least, most time.Duration) {
		if v < least || v > most {
			report(path, fmt.Sprintf("is %v, must be between %v and %v", v, least, most))
		}
	}
	names := map[string]bool{}
	for i, e := range c.Docker {
		e.Validate(func(path, message string) { report(fmt.Sprintf("docker[%d].%s", i, path), message) })
		if names[e.Name] {
			report(fmt.Sprintf("docker[%d].name", i), fmt.Sprintf("%q is taken by another engine", e.Name))
		}
		names[e.Name] = true
	}
	for _, k := range []struct{ path, value string }{{"conntrack.mode", c.Conntrack.Mode}, {"conntrack.flows", c.Conntrack.Flows}} {
		if k.value != "auto" && k.value != "off" {
			report(k.path, fmt.Sprintf("%q is neither auto nor off", k.value))
		}
	}
	number("conntrack.entries", c.Conntrack.Entries, 1024, 1<<26)
	n := c.Connections
	number("connections.max", n.Max, 1024, 1<<30)
	number("connections.shards", n.Shards, 1, 64)
	if !(n.ContainerShare > 0 && n.ContainerShare <= 1) {
		report("connections.container_share", fmt.Sprintf("is %v, must be above 0 and at most 1", n.ContainerShare))
	}
	span("connections.tcp_idle", n.TCPIdle, 10*time.Second, 24*time.Hour)
	span("connections.udp_idle", n.UDPIdle, 5*time.Second, 24*time.Hour)
	span("connections.other_idle", n.OtherIdle, 5*time.Second, 24*time.Hour)
	span("connections.exported_idle", n.ExportedIdle, 10*time.Second, 24*time.Hour)
	span("connections.linger", n.Linger, 0, time.Minute)
	span("connections.hold", n.Hold, 0, time.Minute)

	a := c.Addresses
	for i, s := range a.Host {
		if _, err := netip.ParseAddr(s); err != nil {
			report(fmt.Sprintf("addresses.host[%d]", i), fmt.Sprintf("%q is not an IP address", s))
		}
	}
	for i, s := range a.Networks {
		if _, err := netip.ParsePrefix(s); err != nil {
			report(fmt.Sprintf("addresses.networks[%d]", i), fmt.Sprintf("%q is not a network such as 172.18.0.0/16", s))
		}
	}
	span("addresses.tolerance", a.Tolerance, 0, 10*time.Second)
	span("addresses.retention", a.Retention, time.Minute, 7*24*time.Hour)
	number("addresses.per_address", a.PerAddress, 2, 1<<20)
	number("addresses.bindings", a.Bindings, 64, 1<<24)
	number("addresses.containers", a.Containers, 16, 1<<22)

	number("names.per_container", c.Names.PerContainer, 1, 1<<16)
	number("names.total", c.Names.Total, 1, 1<<24)
	span("names.least", c.Names.Least, 0, 24*time.Hour)
}
