package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/flow"
)

const (
	toldExporters = 64 // per socket, those with trouble first; /metrics has more
	silentAfter   = int64(time.Minute) * 15
)

// collectorStatus says what a socket and everybody who sends to it looks like at now. Three losses are told apart: what the network lost
// (sequence numbers, per exporter), what the kernel dropped (per socket), and what was of no use here (per exporter).
func collectorStatus(c *flow.Collector, now int64) []console.SourceStatus {
	exporters := c.Exporters()
	socket := console.SourceStatus{
		Name: c.Kind() + ":" + c.Addr().String(), Kind: c.Kind(), State: "ok", Dropped: c.KernelDrops(),
		Reason: fmt.Sprintf("%d exporters, %d dropped by the kernel, receive buffer %d KiB, workers %d", len(exporters), c.KernelDrops(), c.Buffer()>>10, c.Workers()),
	}
	switch {
	case len(exporters) == 0:
		socket.State, socket.Reason = "warn", "no datagram so far"
		socket.Fix = "point an exporter (NetFlow v5, v9, IPFIX) at this address; look for a firewall between"
		if c.Kind() == "sflow" {
			socket.Fix = "point an agent (sFlow 5) at this address; look for a firewall between"
		}
	case c.KernelDrops() > 0:
		socket.State, socket.Fix = "warn", "raise flow.receive_buffer_bytes and net.core.rmem_max, or flow.workers where one core is full"
	}
	return append([]console.SourceStatus{socket}, exporterStatuses(exporters, now)...)
}

// exporterStatuses lists at most 64 exporters, and how many there are beyond.
func exporterStatuses(exporters []flow.ExporterStatus, now int64) (out []console.SourceStatus) {
	for i := range exporters {
		out = append(out, exporterStatus(&exporters[i], now))
	}
	slices.SortStableFunc(out, func(a, b console.SourceStatus) int {
		return cmp.Or(-cmp.Compare(a.State, b.State), cmp.Compare(b.Records, a.Records)) // warn before ok
	})
	if more := len(out) - toldExporters; more > 0 {
		out = append(out[:toldExporters], console.SourceStatus{
			Name: "netflow", Kind: "netflow", State: "ok", Reason: fmt.Sprintf("and %d exporters more, none worse than the last", more),
		})
	}
	return out
}

func exporterStatus(e *flow.ExporterStatus, now int64) console.SourceStatus {
	s := console.SourceStatus{
		Name: e.Source, Kind: exporterKind(e), State: "ok", LastSeen: e.LastSeen, Records: e.Records, MissingTemplates: e.WithoutTemplate,
		ClockOffsetSeconds: e.Offset.Seconds(), Dropped: e.Lost,
	}
	said := []string{versionName(e), fmt.Sprintf("%d records", e.Records)}
	if e.LastRecord != 0 {
		said = append(said, "last record "+stamp(e.LastRecord))
	}
	if e.Version != 5 {
		said = append(said, fmt.Sprintf("%d templates", e.Templates))
		if e.StaleTemplates > 0 {
			said = append(said, fmt.Sprintf("%d of them not sent since the start or for a day", e.StaleTemplates))
		}
	}
	if e.SamplingFrom == "unknown" {
		said = append(said, "sampling not said: 1:1 assumed")
	} else {
		s.Sampling = e.Sampling
		said = append(said, "sampling by "+e.SamplingFrom)
	}
	said = append(said, fmt.Sprintf("lost in the network: %d %s", e.Lost, e.LostUnit), fmt.Sprintf("of no use here: %d parts", e.Refused))
	if e.Restarts > 0 {
		said = append(said, fmt.Sprintf("%d restarts", e.Restarts))
	}
	s.Reason = strings.Join(said, ", ")
	s.State, s.Fix = exporterTrouble(e, now)
	if e.WithoutTemplate > 0 {
		s.Reason += fmt.Sprintf(", %d data sets without a template", e.WithoutTemplate)
	}
	return s
}

// exporterTrouble is the worst of what is wrong with an exporter, and what to do.
func exporterTrouble(e *flow.ExporterStatus, now int64) (state, fix string) {
	sent := e.Datagrams
	if e.LostUnit != "datagrams" {
		sent = e.Records
	}
	switch {
	case e.Records == 0 && e.WithoutTemplate > 0:
		return "warn", "no template yet: shorten the template refresh at the exporter"
	case e.Restarts > 8 && e.Restarts*4 > e.Datagrams:
		return "warn", "its sequence numbers jump: are there several exporters behind this address? flow.key_port tells them apart"
	case e.Lost*1000 > sent+e.Lost:
		return "warn", "more than 1 in 1,000 is lost between the exporter and this host: look at the network and at the kernel's drops"
	case e.Refused*100 > e.Records+e.Refused:
		return "warn", "more than 1 in 100 is of no use: see wharfwatch_flow_parts_refused_total for the reasons"
	case now-e.LastSeen > silentAfter:
		return "warn", "silent: is it still exporting to this address?"
	}
	return "ok", ""
}

func exporterKind(e *flow.ExporterStatus) string {
	kind, _, _ := strings.Cut(e.Source, ":")
	return kind
}

func versionName(e *flow.ExporterStatus) string {
	switch {
	case exporterKind(e) == "sflow":
		return "sFlow"
	case e.Version == 10:
		return "IPFIX"
	}
	return fmt.Sprint("NetFlow v", e.Version)
}
