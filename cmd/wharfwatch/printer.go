package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
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
	rows  int               // of the table
}

func newPrinter(w io.Writer, f *replayFlags) *printer {
	p := &printer{w: bufio.NewWriterSize(w, 1<<16), flags: f}
	p.json = json.NewEncoder(p.w)
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
	VRF      uint32    `json:"vrf,omitempty"`

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
			p.row("FIRST\tLAST\tSOURCE\tDESTINATION\tPROTO\tFLAGS\tPACKETS\tBYTES\tSAMPLING\tEXPORTER", "%s\t%s\t%s\t%s\t%d\t%#02x\t%d\t%d\t%d\t%s",
				stamp(r.First), stamp(r.Last), place(r.Src, r.SrcPort), place(r.Dst, r.DstPort), r.Proto, r.TCPFlags, r.Packets, r.Bytes, r.Sampling, r.Exporter)
			continue
		}
		l := line{
			First: stamp(r.First), Last: stamp(r.Last), Src: r.Src, SrcPort: r.SrcPort, Dst: r.Dst, DstPort: r.DstPort, Proto: r.Proto,
			TCPFlags: r.TCPFlags, Bytes: r.Bytes, Packets: r.Packets, Sampling: r.Sampling, Exporter: r.Exporter, Domain: r.Domain, VLAN: r.VLAN, VNI: r.VNI, VRF: r.VRF,
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
		p.row("TIME\tSEVERITY\tDETECTOR\tWORKLOAD\tSUMMARY", "%s\t%s\t%s\t%s\t%s", stamp(f.Time), f.Severity, f.Detector, clean(f.Workload, false), clean(f.Summary, false))
	default:
		found := alerts.NewFinding(f)
		p.json.Encode(&found)
	}
}

func (p *printer) incident(i *alerts.Incident) {
	if p.table != nil {
		p.row("FIRST SEEN\tSEVERITY\tWORKLOAD\tSUMMARY", "%s\t%s\t%s\t%s", i.FirstSeen, i.Severity, clean(i.Workload, false), clean(i.Summary, false))
		return
	}
	p.json.Encode(i)
}

// row writes a line of a table, and its head before the first. Columns are aligned within some hundred lines, so that a table of any
// length needs little memory.
func (p *printer) row(head, format string, args ...any) {
	if p.rows == 0 {
		fmt.Fprintln(p.table, head)
	}
	fmt.Fprintf(p.table, format+"\n", args...)
	if p.rows++; p.rows%tableBlock == 0 {
		p.table.Flush()
	}
}

const tableBlock = 256

// end hands everything to the operating system; the error is the first that happened.
func (p *printer) end() error {
	if p.table != nil {
		p.table.Flush()
	}
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// place is an address with its port, as in 192.0.2.1:443 and [2001:db8::1]:443.
func place(a flow.Addr, port uint16) string { return netip.AddrPortFrom(a.Netip(), port).String() }

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }
