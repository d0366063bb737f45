package flow

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// eve reads Suricata's eve.json, https://docs.suricata.io/en/latest/output/eve/eve-json-format.html: flow (both directions) and netflow
// (one) events give records; dns, tls, quic and http events give names. Other events are counted.
type eve struct{ e eveEvent }

// eveEvent is what is read of an event. The DNS of Suricata 4 to 8 has three forms.
type eveEvent struct {
	Timestamp string          `json:"timestamp"`
	Type      string          `json:"event_type"`
	Src       string          `json:"src_ip"`
	SrcPort   uint16          `json:"src_port"`
	Dst       string          `json:"dest_ip"`
	DstPort   uint16          `json:"dest_port"`
	Proto     string          `json:"proto"`
	ICMPType  uint16          `json:"icmp_type"`
	ICMPCode  uint16          `json:"icmp_code"`
	VLAN      json.RawMessage `json:"vlan"`
	Flow      struct {
		PacketsTo   uint64 `json:"pkts_toserver"`
		PacketsBack uint64 `json:"pkts_toclient"`
		BytesTo     uint64 `json:"bytes_toserver"`
		BytesBack   uint64 `json:"bytes_toclient"`
		Start       string `json:"start"`
		End         string `json:"end"`
	} `json:"flow"`
	Netflow struct {
		Packets uint64 `json:"pkts"`
		Bytes   uint64 `json:"bytes"`
		Start   string `json:"start"`
		End     string `json:"end"`
	} `json:"netflow"`
	TCP struct {
		Flags string `json:"tcp_flags"`
		To    string `json:"tcp_flags_ts"`
		Back  string `json:"tcp_flags_tc"`
	} `json:"tcp"`
	DNS  eveDNS `json:"dns"`
	TLS  eveTLS `json:"tls"`
	QUIC eveTLS `json:"quic"`
	HTTP struct {
		Host   string `json:"hostname"`
		Method string `json:"http_method"`
		Agent  string `json:"http_user_agent"`
	} `json:"http"`
}

type eveDNS struct {
	Type    string      `json:"type"`
	Name    string      `json:"rrname"`
	RRType  string      `json:"rrtype"`
	RCode   string      `json:"rcode"`
	TTL     *uint32     `json:"ttl"`
	Data    string      `json:"rdata"`
	Queries []eveAnswer `json:"queries"`
	Answers []eveAnswer `json:"answers"`
}

type eveAnswer struct {
	Name   string          `json:"rrname"`
	RRType string          `json:"rrtype"`
	TTL    *uint32         `json:"ttl"`
	Data   json.RawMessage `json:"rdata"` // text, or an object for SOA, SRV and others
}

type eveTLS struct {
	SNI  string   `json:"sni"`
	JA4  string   `json:"ja4"`
	ALPN []string `json:"client_alpns"`
}

// IsEVE tells an eve.json by its first line.
func IsEVE(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	return bytes.HasPrefix(line, []byte("{")) && bytes.Contains(line, []byte(`"event_type":`)) && bytes.Contains(line, []byte(`"timestamp":`))
}

func (v *eve) line(b []byte, out rowSink) (string, int64) {
	if len(b) == 0 {
		return rowOther, 0
	}
	e := &v.e
	*e = eveEvent{}
	if err := json.Unmarshal(b, e); err != nil {
		return rowMalformed, 0
	}
	at, ok := textTime(e.Timestamp)
	if !ok {
		return rowMalformed, 0
	}
	var reason string
	switch e.Type {
	case "flow", "netflow":
		reason = e.flow(out)
	case "dns", "tls", "quic", "http":
		reason = e.name(at, out)
	default:
		return rowOther, at
	}
	return reason, at
}

// flow makes a record for each direction. Counts are of whole packets, link header included or not as Suricata had it.
func (e *eveEvent) flow(out rowSink) string {
	c := conversation{domain: logEVE, sport: e.SrcPort, dport: e.DstPort, ended: e.Type == "flow"}
	var err, err2 error
	c.src, err = ParseAddr(e.Src)
	c.dst, err2 = ParseAddr(e.Dst)
	if err != nil || err2 != nil {
		return rowMalformed
	}
	var ok, ok2 bool
	if c.proto, ok = protocolOf(e.Proto); !ok {
		return rowProtocol
	}
	start, end := e.Flow.Start, e.Flow.End
	if e.Type == "netflow" {
		start, end = e.Netflow.Start, e.Netflow.End
		c.packets[0], c.bytes[0], c.flags[0] = e.Netflow.Packets, e.Netflow.Bytes, hexFlags(e.TCP.Flags)
	} else {
		c.packets, c.bytes = [2]uint64{e.Flow.PacketsTo, e.Flow.PacketsBack}, [2]uint64{e.Flow.BytesTo, e.Flow.BytesBack}
		c.flags = [2]uint8{hexFlags(e.TCP.To), hexFlags(e.TCP.Back)}
	}
	c.first, ok = textTime(start)
	c.last, ok2 = textTime(end)
	if !ok || !ok2 || c.last < c.first {
		return rowMalformed
	}
	if c.proto != TCP {
		c.flags = [2]uint8{}
	}
	if c.proto == ICMP || c.proto == ICMPv6 {
		question := e.ICMPType<<8 | e.ICMPCode&0xff
		c.typecode = [2]uint16{question, icmpAnswer(c.proto, question)}
	}
	c.vlan = e.tag()
	for way := range 2 {
		c.spoke[way] = c.packets[way] != 0
	}
	if !c.spoke[0] && !c.spoke[1] {
		return rowOther
	}
	c.say(out)
	return rowUsed
}

// tag is the outermost VLAN: a list since Suricata 5, a number before.
func (e *eveEvent) tag() uint16 {
	var list []uint16
	if json.Unmarshal(e.VLAN, &list) == nil && len(list) > 0 {
		return list[0] & 0xfff
	}
	var one uint16
	_ = json.Unmarshal(e.VLAN, &one) // absent is 0
	return one & 0xfff
}

func hexFlags(s string) uint8 {
	n, _ := strconv.ParseUint(s, 16, 8) // absent is none
	return uint8(n)
}

// name makes a Name of an event. Older versions wrote the addresses of an answer as its packet had them, newer ones as its flow has.
func (e *eveEvent) name(at int64, out rowSink) string {
	n := Name{Time: at, ClientPort: e.SrcPort, Port: e.DstPort}
	var err, err2 error
	n.Client, err = ParseAddr(e.Src)
	n.Server, err2 = ParseAddr(e.Dst)
	if err != nil || err2 != nil {
		return rowMalformed
	}
	n.Proto, _ = protocolOf(e.Proto)
	switch e.Type {
	case "dns":
		if e.SrcPort == portDNS && e.DstPort != portDNS {
			n.Client, n.Server, n.ClientPort, n.Port = n.Server, n.Client, n.Port, n.ClientPort
		}
		if multicastNames(n.Port) {
			return rowOther
		}
		return e.DNS.name(&n, out)
	case "http":
		n.Kind, n.Name = NameHTTP, hostText([]byte(e.HTTP.Host))
		n.Method, n.Agent = printable([]byte(e.HTTP.Method), maxMethod, false), printable([]byte(e.HTTP.Agent), maxAgent, false)
	default:
		hello := &e.TLS
		n.Kind = NameTLS
		if e.Type == "quic" {
			hello, n.Kind = &e.QUIC, NameQUIC
		}
		n.Name, n.JA4 = hostText([]byte(hello.SNI)), ja4Text([]byte(hello.JA4))
		if len(hello.ALPN) > 0 {
			n.ALPN = printable([]byte(hello.ALPN[0]), maxALPN, false)
		}
	}
	if n.Name == "" && n.JA4 == "" && n.Agent == "" {
		return rowOther
	}
	out.sayName(&n)
	return rowUsed
}

func (d *eveDNS) name(n *Name, out rowSink) string {
	name, kind := d.Name, d.RRType
	if len(d.Queries) > 0 {
		name, kind = d.Queries[0].Name, d.Queries[0].RRType
	}
	n.Name, n.QType = hostText([]byte(name)), dnsTypes[strings.ToUpper(kind)]
	if n.Name == "" {
		return rowOther
	}
	switch d.Type {
	case "query", "request":
		n.Kind = NameQuery
		out.sayName(n)
		return rowUsed
	case "answer", "response":
	default:
		return rowOther
	}
	n.Kind, n.RCode = NameDNS, dnsCodes[strings.ToUpper(d.RCode)]
	answers := d.Answers
	if d.Data != "" { // one event for each answer
		text, _ := json.Marshal(d.Data) // a string: never fails
		answers = []eveAnswer{{TTL: d.TTL, Data: text}}
	}
	least := ^uint32(0)
	for _, a := range answers[:min(len(answers), dnsRecords)] {
		if addr, err := ParseAddr(jsonText(a.Data)); err == nil && len(n.Addrs) < dnsAddrs {
			n.Addrs = append(n.Addrs, addr)
		}
		if a.TTL != nil {
			least = min(least, *a.TTL)
		}
	}
	if least != ^uint32(0) {
		n.TTL = least
	}
	out.sayName(n)
	return rowUsed
}

// Names of DNS types and codes, https://www.iana.org/assignments/dns-parameters; others are 0.
var (
	dnsTypes = map[string]uint16{
		"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "NULL": 10, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "NAPTR": 35, "DS": 43, "SSHFP": 44,
		"DNSKEY": 48, "TLSA": 52, "SVCB": 64, "HTTPS": 65, "SPF": 99, "ANY": 255, "URI": 256, "CAA": 257,
	}
	dnsCodes = map[string]uint8{"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}
)
