package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/flow"
)

// printer writes what replay was asked for: incidents, single findings, or decoded records.
type printer struct {
	w     *bufio.Writer
	flags *replayFlags
	json  *json.Encoder
	table *tabwriter.Writer // nil for JSON lines
}

func newPrinter(w io.Writer, f *replayFlags) *printer {
	p := &printer{w: bufio.NewWriterSize(w, 1<<16), flags: f}
	p.json = json.NewEncoder(p.w)
	p.json.SetEscapeHTML(false)
	if f.output == "table" {
		p.table = tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	}
	return p
}

// line is a record in the JSON contract.
type line struct {
	First    string    `json:"first"`
	Last     string    `json:"last"`
	Src      flow.Addr `json:"src"`
	SrcPort  uint16    `json:"sport"`
	Dst      flow.Addr `json:"dst"`
	DstPort  uint16    `json:"dport"`
	Proto    uint8     `json:"proto"`
	TCPFlags uint8     `json:"tcp_flags"`
	Bytes    uint64    `json:"bytes"`
	Packets  uint64    `json:"packets"`
	Sampling uint32    `json:"sampling"`
	Exporter flow.Addr `json:"exporter"`
	Domain   uint32    `json:"domain"`
	VLAN     uint16    `json:"vlan"`
	VNI      uint32    `json:"vni"`

	NATSrc     *flow.Addr `json:"nat_src,omitempty"`
	NATSrcPort uint16     `json:"nat_sport,omitempty"`
	NATDst     *flow.Addr `json:"nat_dst,omitempty"`
	NATDstPort uint16     `json:"nat_dport,omitempty"`
}

func (p *printer) records(records []flow.Record) {
	if !p.flags.records {
		return
	}
	for i := range records {
		r := &records[i]
		if p.table != nil {
			fmt.Fprintf(p.table, "%s\t%s:%d\t%s:%d\t%d\t%d\t%d\n", stamp(r.First), r.Src, r.SrcPort, r.Dst, r.DstPort, r.Proto, r.Packets, r.Bytes)
			continue
		}
		l := line{
			First: stamp(r.First), Last: stamp(r.Last), Src: r.Src, SrcPort: r.SrcPort, Dst: r.Dst, DstPort: r.DstPort, Proto: r.Proto,
			TCPFlags: r.TCPFlags, Bytes: r.Bytes, Packets: r.Packets, Sampling: r.Sampling, Exporter: r.Exporter, Domain: r.Domain, VLAN: r.VLAN, VNI: r.VNI,
		}
		if !r.NATSrc.IsZero() {
			l.NATSrc, l.NATSrcPort = &r.NATSrc, r.NATSrcPort
		}
		if !r.NATDst.IsZero() {
			l.NATDst, l.NATDstPort = &r.NATDst, r.NATDstPort
		}
		p.json.Encode(&l)
	}
}

func (p *printer) finding(f *baseline.Finding) {
	switch {
	case !p.flags.findings:
	case p.table != nil:
		fmt.Fprintf(p.table, "%s\t%s\t%s\t%s\n", stamp(f.Time), f.Severity, f.Detector, clean(f.Summary, true))
	default:
		found := alerts.NewFinding(f)
		p.json.Encode(&found)
	}
}

// incidents prints the incidents where nothing else was asked for, and ends the output.
func (p *printer) incidents(m *alerts.Manager) error {
	if !p.flags.findings && !p.flags.records {
		for _, i := range m.Incidents() {
			if p.table != nil {
				fmt.Fprintf(p.table, "%s\t%s\t%s\t%s\n", i.FirstSeen, i.Severity, clean(i.Workload, true), clean(i.Summary, true))
			} else {
				p.json.Encode(i)
			}
		}
	}
	if p.table != nil {
		p.table.Flush()
	}
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }
