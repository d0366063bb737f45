package baseline

import (
	"slices"
	"strings"
	"testing"

	"github.com/wharfwatch/wharfwatch/eval"
)

// TestEgressSlow holds the floors of slow exfiltration, with egress-slow alone and without its absolute floor: found between the
// beginning of the attack and an hour after its end, beside the false episodes of the same traces without one.
func TestEgressSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: weeks of 120 containers")
	}
	c := egressConfig(defaultEgressSpike().Deviations)
	c.EgressSpike.Mode, c.NewDestination.Mode = Off, Off
	floors := map[string]float64{"slow+1x_24h": .85, "ramp2%/h": .95}
	asked := slices.DeleteFunc(slices.Clone(attacks), func(a attack) bool { return floors[a.name] == 0 })
	o := egressOutcome(c, 1, 77, 120, asked)
	for i, a := range asked {
		hit, chance := eval.Share(o.hits[i], o.containers), eval.Share(o.chance[i], o.containers)
		t.Logf("%s: found %s, chance %s", a.name, hit.Digits(2), chance.Digits(2))
		if hit.Value < floors[a.name] {
			t.Errorf("%s: found %s, less than %.2f", a.name, hit.Digits(2), floors[a.name])
		}
	}
	rate := float64(o.inbox) / float64(o.containers) / 7
	t.Logf("false episodes per container and day: %.4f", rate)
	if rate > .01 {
		t.Errorf("false episodes per container and day: %.4f, more than .01", rate)
	}
	if len(asked) != 2 || !strings.HasPrefix(asked[0].name, "slow") {
		t.Errorf("asked %d attacks", len(asked))
	}
}
