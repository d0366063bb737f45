package alerts

import (
	"fmt"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/state"
)

// One finding, durable with its incident and the rows of three receivers.
func BenchmarkFinding(b *testing.B) {
	c := allReceivers()
	db, err := state.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	s, err := OpenStore(db, c)
	if err != nil {
		b.Fatal(err)
	}
	m, err := NewManager(c, s, metrics.NewSet(), quietLog)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Stop(b.Context())
	i := 0
	for b.Loop() {
		m.Finding(finding("beacon", fmt.Sprintf("w%d", i%500), "203.0.113.9:443/tcp", start+int64(i), baseline.High, .9))
		i++
	}
}
