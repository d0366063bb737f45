package flow

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// However many exporters there are, /metrics lists 256, those heard first, and says how many it leaves out.
func TestExporterMetrics(t *testing.T) {
	l := newLab(t, Config{})
	for i := range uint32(300) {
		l.from = Addr4(0x0b000000 + i).Netip()
		l.now += milli
		l.send(goodV9())
	}
	m := newMessage(9)
	m.sequence = 4
	l.from = Addr4(0x0b000000).Netip()
	l.send(m.set(900, u32(1, 2, 3), u32(9)).set(7, u32(1)).bytes()) // three datagrams lost, a rest, a reserved set
	var b bytes.Buffer
	writeExporters(&b, l.decoder.exportersStatus())
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 1+256*11 || lines[0] != "wharfwatch_flow_exporters_unlisted 44" {
		t.Errorf("%d lines, the first %s", len(lines), lines[0])
	}
	for name, want := range map[string]string{
		"seen_seconds": fmt.Sprint(float64(l.now) / 1e9), "record_seconds": fmt.Sprint(float64(labExport)), "clock_offset_seconds": "0",
		"datagrams_total": "2", "records_total": "2", "refused_total": "2", "restarts_total": "0", "lost": "3",
		"templates": "1", "stale_templates": "0", "sampling": "0",
	} {
		if line := `wharfwatch_flow_exporter_` + name + `{source="netflow:11.0.0.0/1",version="9"} `; !strings.Contains(b.String(), line+want+"\n") {
			at := strings.Index(b.String(), line)
			t.Errorf("%s: want %s in %q", name, want, b.String()[at:at+120])
		}
	}
}

// The collectors that Open makes are listed.
func TestOpenListsExporters(t *testing.T) {
	set, all, _ := openLoopback(t, Default(), "127.0.0.1:0", "127.0.0.1:0")
	for i, c := range all {
		d := c.workers[0].decoder
		d.emit = func(b *Batch) { b.Free() }
		l := &lab{t: t, decoder: d, set: metrics.NewSet(), from: Addr4(0x0b000000 + uint32(i)).Netip(), now: labNow}
		l.send(goodV9())
		c.Close()
	}
	var b bytes.Buffer
	set.WritePrometheus(&b)
	for _, source := range []string{"netflow:11.0.0.0/1", "netflow:11.0.0.1/1"} {
		if !strings.Contains(b.String(), `wharfwatch_flow_exporter_records_total{source="`+source+`",version="9"} 1`) {
			t.Errorf("%s is not listed:\n%s", source, b.String())
		}
	}
}
