package baseline

import (
	"fmt"
	"testing"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// A workload that is known from what others opened to it, and that has called nobody itself, is looked up ahead like any other when it
// does.
func TestFlowsOfWorkloadsWithoutKeys(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	fs := make([]enrich.Flow, 2*batch)
	boxes := make([]*enrich.Container, len(fs))
	for i := range boxes {
		boxes[i] = &enrich.Container{ID: fmt.Sprint(i), Workload: fmt.Sprint("w", i), Engine: "local"}
	}
	for round, opener := range []enrich.Opener{enrich.OpenerRemote, enrich.OpenerLocal} {
		for i := range fs {
			c := boxes[i]
			at := int64(round+1) * 1e12
			fs[i] = enrich.Flow{
				Kind: enrich.Open, Time: at, Start: at, Container: c, Holder: uint32(i) + 1, Local: flow.Addr4(1), Peer: flow.Addr4(uint32(i) + 2), PeerPort: 443, Proto: flow.TCP, Opener: opener,
				Confidence: enrich.Exact,
			}
		}
		e.Flows(fs)
	}
	if n := len(e.Workloads()); n != len(fs) {
		t.Errorf("%d workloads of %d", n, len(fs))
	}
}
