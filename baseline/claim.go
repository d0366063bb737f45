package baseline

import "github.com/wharfwatch/wharfwatch/enrich"

// claimant is a detector that hears what contradicts the inventory.
type claimant interface {
	// Claim gets one contradiction; it is valid during the call only, but for its Containers.
	Claim(*enrich.Claim)
}

// Claim gives what contradicts the inventory to the detectors that ask for it.
func (e *Engine) Claim(c *enrich.Claim) {
	e.env.w = nil
	if c.Container != nil {
		e.env.w = e.env.learning.of(c.Container)
	}
	for i := range e.detectors {
		if d, ok := e.detectors[i].Detector.(claimant); ok {
			e.raising = &e.detectors[i]
			d.Claim(c)
		}
	}
}

// senderOf is the workload of a finding whose sender no engine knows: the engine's host, where it runs.
func senderOf(c *enrich.Claim) string {
	if c.Container != nil {
		return c.Container.Workload
	}
	return "host:" + c.Engine
}
