package baseline

import "github.com/wharfwatch/wharfwatch/enrich"

// Beacon configures the beacon detector.
type Beacon struct {
	Mode Mode `yaml:"mode"`
}

func defaultBeacon() Beacon { return Beacon{Mode: On} }

func (c Beacon) validate(path string, report func(path, message string)) {
	c.Mode.validate(path+".mode", report)
}

type beacon struct {
	Nop
	c   Beacon
	env *env
}

func newBeacon(c Beacon, env *env) *beacon { return &beacon{c: c, env: env} }

// Flow takes a start.
func (b *beacon) Flow(*enrich.Flow) {}
