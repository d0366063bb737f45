package enrich

import (
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestConfigValidate(t *testing.T) {
	f := func(change func(*Config), want ...string) {
		t.Helper()
		c := Default()
		change(&c)
		var got []string
		c.Validate(func(path, message string) {
			if message == "" {
				t.Errorf("%s: no message", path)
			}
			got = append(got, path)
		})
		slices.Sort(got)
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	f(func(*Config) {})
	f(func(c *Config) { c.Connections = Connections{} }, "connections.container_share", "connections.exported_idle", "connections.max",
		"connections.other_idle", "connections.shards", "connections.tcp_idle", "connections.udp_idle")
	f(func(c *Config) {
		c.Addresses.Host, c.Addresses.Networks = []string{"x"}, []string{"10.0.0.0/8", "10.0.0.0/99"}
	},
		"addresses.host[0]", "addresses.networks[1]")
	f(func(c *Config) { c.Addresses.Tolerance = time.Hour }, "addresses.tolerance")
	f(func(c *Config) { c.Docker = []EngineConfig{DefaultEngine(), DefaultEngine()} }, "docker[1].name")
}
