package flow

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
)

const zeekConnLog = `#separator \x09
#set_separator	,
#empty_field	(empty)
#unset_field	-
#path	conn
#fields	ts	uid	id.orig_h	id.orig_p	id.resp_h	id.resp_p	proto	service	duration	orig_bytes	resp_bytes	conn_state	history	orig_pkts	orig_ip_bytes	resp_pkts	resp_ip_bytes	tunnel_parents	community_id
#types	time	string	addr	port	addr	port	enum	string	interval	count	count	string	string	count	count	count	count	set[string]	string
100.000000	C1	172.18.0.2	40000	203.0.113.9	443	tcp	ssl	300.5	10	20	SF	ShADadFf	5	300	4	260	(empty)	1:x
90.250000	C2	172.18.0.2	40001	203.0.113.9	443	tcp	-	-	-	-	S0	S	1	60	0	0	(empty)	1:y
1.5	C3	2001:db8::1	128	2001:db8::2	129	icmp	-	0.001	8	8	OTH	-	1	56	1	56	(empty)	1:z
2.5	C4	192.0.2.1	3	172.18.0.2	1	icmp	-	-	-	-	OTH	-	1	70	0	0	(empty)	1:z
3.5	C5	203.0.113.9	80	172.18.0.2	40009	tcp	-	1.0	0	700	SHR	^hadf	0	0	7	1000	(empty)	1:z
4	C6	10.0.0.1	0	224.0.0.22	0	unknown_transport	-	-	-	-	OTH	-	1	40	0	0	(empty)	1:z
5	C7	10.0.0.1	x	224.0.0.22	0	tcp	-	-	-	-	OTH	-	1	40	0	0	(empty)	1:z
#close	2026-01-01-00-00-00
`

const zeekDNSLog = `#separator \x09
#set_separator	,
#empty_field	(empty)
#unset_field	-
#path	dns
#fields	ts	uid	id.orig_h	id.orig_p	id.resp_h	id.resp_p	proto	trans_id	rtt	query	qtype	rcode	answers	TTLs
99.5	D1	172.18.0.2	5000	172.18.0.1	53	udp	1	0.25	API.Example.COM	1	0	cdn.example.net,203.0.113.9,203.0.113.10	300.000000,60.000000,90.0
99.75	D2	172.18.0.2	5001	172.18.0.1	53	tcp	2	-	a\x09b.example.com	16	-	-	-
99.8	D3	172.18.0.2	5353	224.0.0.251	5353	udp	2	-	printer.local	1	0	-	-
`

func logFilesOf(texts ...string) (groups [][]LogFile) {
	for i, text := range texts {
		groups = append(groups, []LogFile{{Name: fmt.Sprint("file", i), Open: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(text)), nil
		}}})
	}
	return groups
}

func readLogs(t testing.TB, format LogFormat, texts ...string) ([]Record, []Name, *metrics.Set) {
	t.Helper()
	set := metrics.NewSet()
	records, names, err := readAll(t, OpenLogs("x", format, logFilesOf(texts...), NewPool(2), set))
	if err != nil {
		t.Fatal(err)
	}
	return records, names, set
}

func ignoredRows(set *metrics.Set, format LogFormat) (out [4]uint64) {
	for i, reason := range rowReasons {
		out[i] = set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_log_rows_ignored_total{format=%q,reason=%q}", format, reason)).Get()
	}
	return out
}

// A connection of Zeek is a record for each direction that spoke, ordered by its end; names of the dns log stand among them at their time.
func TestZeek(t *testing.T) {
	records, names, set := readLogs(t, LogZeek, zeekConnLog, zeekDNSLog)
	a, b := Addr4(0xac120002), Addr4(0xcb007109)
	v6a, v6b := Addr{0x20010db800000000, 1}, Addr{0x20010db800000000, 2}
	ms := func(n int64) int64 { return n * milli }
	const from, back = FlagPackets | FlagEnd, FlagPackets | FlagEnd | FlagReply
	want := []Record{
		{First: ms(1500), Last: ms(1501), Src: v6a, Dst: v6b, DstPort: 128 << 8, Proto: ICMPv6, Bytes: 56, Packets: 1, Flags: from},
		{First: ms(1500), Last: ms(1501), Src: v6b, Dst: v6a, DstPort: 129 << 8, Proto: ICMPv6, Bytes: 56, Packets: 1, Flags: back},
		{First: ms(2500), Last: ms(2500), Src: Addr4(0xc0000201), Dst: a, DstPort: 3<<8 | 1, Proto: ICMP, Bytes: 70, Packets: 1, Flags: from},
		{First: ms(3500), Last: ms(4500), Src: a, Dst: b, SrcPort: 40009, DstPort: 80, Proto: TCP, TCPFlags: SYN | ACK | PSH | FIN, Bytes: 1000, Packets: 7, Flags: back},
		{First: ms(90250), Last: ms(90250), Src: a, Dst: b, SrcPort: 40001, DstPort: 443, Proto: TCP, TCPFlags: SYN, Bytes: 60, Packets: 1, Flags: from},
		{First: ms(100000), Last: ms(400500), Src: a, Dst: b, SrcPort: 40000, DstPort: 443, Proto: TCP, TCPFlags: SYN | ACK | PSH | FIN, Bytes: 300, Packets: 5, Flags: from},
		{First: ms(100000), Last: ms(400500), Src: b, Dst: a, SrcPort: 443, DstPort: 40000, Proto: TCP, TCPFlags: SYN | ACK | PSH | FIN, Bytes: 260, Packets: 4, Flags: back},
	}
	for i := range want {
		want[i].Sampling, want[i].Domain = 1, logZeek
	}
	if diff := cmp.Diff(want, records); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	wantNames := []Name{
		{Time: ms(99750), Kind: NameDNS, Client: a, Server: Addr4(0xac120001), ClientPort: 5000, Port: 53, Proto: UDP, QType: 1, Name: "api.example.com", Addrs: []Addr{b, Addr4(0xcb00710a)}, TTL: 60},
		{Time: ms(99750), Kind: NameQuery, Client: a, Server: Addr4(0xac120001), ClientPort: 5001, Port: 53, Proto: TCP, QType: 16, Name: `a\009b.example.com`},
	}
	if diff := cmp.Diff(wantNames, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if got := ignoredRows(set, LogZeek); got != [4]uint64{1, 1, 0, 1} {
		t.Errorf("ignored %v of %v", got, rowReasons)
	}
	if got := set.GetOrCreateCounter(`wharfwatch_flow_log_rows_total{format="zeek"}`).Get(); got != 10 {
		t.Errorf("%d rows", got)
	}
}

// The same in JSON, with times as numbers and as text, with and without _path.
func TestZeekJSON(t *testing.T) {
	records, names, _ := readLogs(t, LogZeek, `{"ts":1591367999.305988,"uid":"C1","id.orig_h":"172.18.0.2","id.orig_p":40000,"id.resp_h":"203.0.113.9","id.resp_p":443,"proto":"tcp","duration":0.5,"conn_state":"S1","orig_pkts":3,"orig_ip_bytes":300,"resp_pkts":2,"resp_ip_bytes":200,"new":{"x":[1]}}
{"_path":"dns","ts":"2020-06-05T14:39:59.100000Z","id.orig_h":"172.18.0.2","id.orig_p":1,"id.resp_h":"172.18.0.1","id.resp_p":53,"proto":"udp","query":"x.example","qtype":28,"rcode":3,"answers":["2001:db8::7"],"TTLs":[5.0]}
{"_path":"ssl","ts":1591368000.5,"id.orig_h":"172.18.0.2","id.orig_p":40000,"id.resp_h":"203.0.113.9","id.resp_p":443,"version":"TLSv13","cipher":"x","server_name":"Api.Example.com","next_protocol":"h2","ja4":"t13d1516h2_8daaf6152771_e5627efa2ab1"}
{"_path":"http","ts":1591368000.6,"id.orig_h":"172.18.0.2","id.orig_p":40010,"id.resp_h":"203.0.113.9","id.resp_p":80,"trans_depth":1,"method":"POST","host":"www.example.com:8080","user_agent":"curl/8\u0000"}
{"_path":"weird","ts":1591368000.6}
`)
	if len(records) != 2 || records[0].First != 1591367999305988000 || records[0].Last != 1591367999805988000 || records[0].TCPFlags != SYN|ACK || records[1].Bytes != 200 {
		t.Errorf("%+v", records)
	}
	var got []string
	for _, n := range names {
		got = append(got, fmt.Sprint(n.Kind, " ", n.Name, " ", n.RCode, n.Addrs, n.TTL, " ", n.ALPN, " ", n.JA4, " ", n.Method, " ", n.Agent))
	}
	want := []string{
		"dns x.example 3 [2001:db8::7] 5    ",
		"tls api.example.com 0 [] 0 h2 t13d1516h2_8daaf6152771_e5627efa2ab1  ",
		`http www.example.com 0 [] 0   POST curl/8\000`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A flow of Suricata and what its other events say, in the forms of several versions.
func TestEVE(t *testing.T) {
	const tuple = `"timestamp":"2024-03-01T10:00:10.500000+0100","src_ip":"172.18.0.2","src_port":40000,"dest_ip":"203.0.113.9","dest_port":443,`
	records, names, set := readLogs(t, LogEVE, `{`+tuple+`"event_type":"flow","proto":"TCP","vlan":[7],"flow":{"pkts_toserver":5,"pkts_toclient":4,"bytes_toserver":300,"bytes_toclient":260,"start":"2024-03-01T10:00:00.000001+0100","end":"2024-03-01T10:00:09.000000+0100","state":"closed"},"tcp":{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"13"}}
{`+tuple+`"event_type":"netflow","proto":"UDP","netflow":{"pkts":1,"bytes":60,"start":"2024-03-01T10:00:00+0100","end":"2024-03-01T10:00:01+0100"}}
{"timestamp":"2024-03-01T09:00:00+0000","event_type":"flow","src_ip":"172.18.0.2","dest_ip":"203.0.113.9","proto":"ICMP","icmp_type":8,"icmp_code":0,"flow":{"pkts_toserver":1,"pkts_toclient":1,"bytes_toserver":98,"bytes_toclient":98,"start":"2024-03-01T09:00:00+0000","end":"2024-03-01T09:00:00.1+0000"}}
{`+tuple+`"event_type":"tls","proto":"TCP","tls":{"sni":"API.example.com","version":"TLS 1.3","ja4":"t13d1516h2_8daaf6152771_e5627efa2ab1","client_alpns":["h2","http/1.1"]}}
{`+tuple+`"event_type":"http","proto":"TCP","http":{"hostname":"www.example.com","http_user_agent":"curl/8","http_method":"GET","url":"/x"}}
{"timestamp":"2024-03-01T09:00:00+0000","event_type":"dns","src_ip":"172.18.0.1","src_port":53,"dest_ip":"172.18.0.2","dest_port":5000,"proto":"UDP","dns":{"type":"answer","rcode":"NOERROR","rrname":"v1.example","rrtype":"A","ttl":30,"rdata":"203.0.113.9"}}
{"timestamp":"2024-03-01T09:00:00+0000","event_type":"dns","src_ip":"172.18.0.2","src_port":5000,"dest_ip":"172.18.0.1","dest_port":53,"proto":"UDP","dns":{"version":2,"type":"answer","rcode":"NXDOMAIN","rrname":"v2.example","rrtype":"AAAA","answers":[{"rrname":"v2.example","rrtype":"AAAA","ttl":9,"rdata":"2001:db8::1"},{"rrtype":"SOA","ttl":3,"soa":{}}]}}
{"timestamp":"2024-03-01T09:00:00+0000","event_type":"dns","src_ip":"172.18.0.2","src_port":5000,"dest_ip":"172.18.0.1","dest_port":53,"proto":"TCP","dns":{"version":3,"type":"request","queries":[{"rrname":"v3.example","rrtype":"TXT"}]}}
{"timestamp":"2024-03-01T09:00:00+0000","event_type":"stats","stats":{}}
{"timestamp":"yesterday","event_type":"flow"}
not json
`)
	a, b := Addr4(0xac120002), Addr4(0xcb007109)
	at := func(s string) int64 {
		ns, ok := textTime(s)
		if !ok {
			t.Fatal(s)
		}
		return ns
	}
	begin, end := at("2024-03-01T09:00:00.000001Z"), at("2024-03-01T09:00:09Z")
	const from, back = FlagPackets | FlagEnd, FlagPackets | FlagEnd | FlagReply
	want := []Record{
		{First: at("2024-03-01T09:00:00Z"), Last: at("2024-03-01T09:00:00.1Z"), Src: a, Dst: b, DstPort: 8 << 8, Proto: ICMP, Bytes: 98, Packets: 1, Flags: from},
		{First: at("2024-03-01T09:00:00Z"), Last: at("2024-03-01T09:00:00.1Z"), Src: b, Dst: a, DstPort: 0, Proto: ICMP, Bytes: 98, Packets: 1, Flags: back},
		{First: at("2024-03-01T09:00:00Z"), Last: at("2024-03-01T09:00:01Z"), Src: a, Dst: b, SrcPort: 40000, DstPort: 443, Proto: UDP, Bytes: 60, Packets: 1, Flags: FlagPackets},
		{First: begin, Last: end, Src: a, Dst: b, SrcPort: 40000, DstPort: 443, Proto: TCP, TCPFlags: 0x1b, VLAN: 7, Bytes: 300, Packets: 5, Flags: from},
		{First: begin, Last: end, Src: b, Dst: a, SrcPort: 443, DstPort: 40000, Proto: TCP, TCPFlags: 0x13, VLAN: 7, Bytes: 260, Packets: 4, Flags: back},
	}
	for i := range want {
		want[i].Sampling, want[i].Domain = 1, logEVE
	}
	if diff := cmp.Diff(want, records); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	var got []string
	for _, n := range names {
		got = append(got, fmt.Sprint(n.Kind, " ", n.Name, " ", n.Client, " ", n.Server, " ", n.Port, " ", n.RCode, n.QType, n.Addrs, n.TTL, " ", n.ALPN, n.JA4, n.Method, n.Agent))
	}
	wanted := []string{
		"dns v1.example 172.18.0.2 172.18.0.1 53 0 1 [203.0.113.9] 30 ",
		"dns v2.example 172.18.0.2 172.18.0.1 53 3 28 [2001:db8::1] 3 ",
		"dns-question v3.example 172.18.0.2 172.18.0.1 53 0 16 [] 0 ",
		"tls api.example.com 172.18.0.2 203.0.113.9 443 0 0 [] 0 h2t13d1516h2_8daaf6152771_e5627efa2ab1",
		"http www.example.com 172.18.0.2 203.0.113.9 443 0 0 [] 0 GETcurl/8",
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Error(diff)
	}
	if ignored := ignoredRows(set, LogEVE); ignored != [4]uint64{1, 2, 0, 0} {
		t.Errorf("ignored %v of %v", ignored, rowReasons)
	}
}

// What a log is shows in its first bytes, and other text is none.
func TestLogDetection(t *testing.T) {
	for _, c := range []struct {
		head      string
		zeek, eve bool
		path      string
	}{
		{zeekConnLog, true, false, "conn"},
		{zeekDNSLog, true, false, "dns"},
		{`{"ts":1.5,"uid":"C1","id.orig_h":"10.0.0.1","conn_state":"S0"}` + "\n", true, false, "conn"},
		{`{"_path":"dns","ts":1.5}` + "\n", true, false, "dns"},
		{`{"timestamp":"2024-03-01T09:00:00+0000","flow_id":1,"event_type":"flow"}` + "\n", false, true, ""},
		{`{"time":"x"}`, false, false, ""},
		{"hello", false, false, ""},
	} {
		if got := IsZeek([]byte(c.head)); got != c.zeek {
			t.Errorf("IsZeek(%.40q) = %v", c.head, got)
		}
		if got := IsEVE([]byte(c.head)); got != c.eve {
			t.Errorf("IsEVE(%.40q) = %v", c.head, got)
		}
		if got := ZeekPath([]byte(c.head)); got != c.path {
			t.Errorf("ZeekPath(%.40q) = %q, want %q", c.head, got, c.path)
		}
	}
}

// Whatever order the rows stand in, within the bound they come out by their end, and beyond it none is lost.
func TestOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, bound := range []int{10, 5000} {
		var at, seen []int64
		watermark := int64(0)
		o := newOrder("test", NewPool(2), func(b *Batch) {
			if b.Watermark < watermark || b.Source != "test" || b.Arrival != b.Watermark {
				t.Errorf("batch of %s at %d after %d", b.Source, b.Watermark, watermark)
			}
			watermark = b.Watermark
			for _, r := range b.Records {
				seen = append(seen, r.Last)
				if r.Last > watermark {
					t.Errorf("a record of %d before the watermark says so: %d", r.Last, watermark)
				}
			}
			for _, n := range b.Names {
				seen = append(seen, n.Time)
			}
			b.Free()
		})
		o.bound = bound
		for i := range 3000 {
			last := random.Int64N(1000) * sec
			at = append(at, last)
			if i%3 == 0 {
				o.sayName(&Name{Time: last})
			} else {
				o.record(&Record{Last: last})
			}
			if len(o.queue) > bound {
				t.Fatalf("%d wait, bound %d", len(o.queue), bound)
			}
		}
		o.drain()
		slices.Sort(at)
		if bound > len(at) && watermark != at[len(at)-1] {
			t.Errorf("watermark %d", watermark)
		}
		if bound < len(at) {
			slices.Sort(seen)
		}
		if bound < len(at) && !slices.Equal(seen, at) {
			t.Errorf("bound %d: %d of %d came out", bound, len(seen), len(at))
		}
		if bound > len(at) && len(seen) != len(at) {
			t.Errorf("bound %d: %d of %d came out", bound, len(seen), len(at))
		}
	}
}

// A line longer than the bound is counted and passed over; the next is read.
func TestLongLine(t *testing.T) {
	long := `{"event_type":"flow","x":"` + strings.Repeat("x", 3*logLine) + `"}` + "\n"
	_, names, set := readLogs(t, LogEVE, long+`{"timestamp":"2024-03-01T09:00:00+0000","event_type":"dns","src_ip":"10.0.0.1","src_port":1,"dest_ip":"10.0.0.2","dest_port":53,"dns":{"type":"query","rrname":"x","rrtype":"A"}}`)
	if len(names) != 1 || ignoredRows(set, LogEVE) != [4]uint64{0, 0, 1, 0} {
		t.Errorf("%d names, ignored %v", len(names), ignoredRows(set, LogEVE))
	}
}

func fuzzLog(f *testing.F, format LogFormat) {
	f.Fuzz(func(t *testing.T, text string) {
		set := metrics.NewSet()
		err := OpenLogs("x", format, logFilesOf(text), NewPool(2), set).Run(context.Background(), func(b *Batch) {
			for _, r := range b.Records {
				if r.First > r.Last || r.Src.IsZero() {
					t.Errorf("%+v", r)
				}
			}
			for _, n := range b.Names {
				if len(n.Name) > dnsNameLength || len(n.Agent) > maxAgent || len(n.Addrs) > dnsAddrs || n.Kind == 0 {
					t.Errorf("%+v", n)
				}
			}
			b.Free()
		})
		if err != nil {
			t.Error(err)
		}
		rows, ignored := set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_log_rows_total{format=%q}", format)).Get(), uint64(0)
		for _, n := range ignoredRows(set, format) {
			ignored += n
		}
		if ignored > rows {
			t.Errorf("%d rows, %d ignored", rows, ignored)
		}
		ZeekPath([]byte(text))
	})
}

func FuzzZeek(f *testing.F) {
	f.Add(zeekConnLog)
	f.Add(zeekDNSLog)
	f.Add(`{"ts":1.5,"id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":2,"proto":"tcp","conn_state":"SF","answers":["x"]}`)
	fuzzLog(f, LogZeek)
}

func FuzzEVE(f *testing.F) {
	f.Add(`{"timestamp":"2024-03-01T09:00:00+0000","event_type":"flow","src_ip":"172.18.0.2","dest_ip":"203.0.113.9","proto":"ICMP","icmp_type":8,"vlan":3,"flow":{"pkts_toserver":1,"start":"2024-03-01T09:00:00+0000","end":"2024-03-01T09:00:00.1+0000"}}`)
	f.Add(`{"timestamp":"2024-03-01T09:00:00+0000","event_type":"dns","src_ip":"172.18.0.2","src_port":5000,"dest_ip":"172.18.0.1","dest_port":53,"proto":"UDP","dns":{"version":2,"type":"answer","rcode":"NXDOMAIN","rrname":"v2.example","rrtype":"AAAA","answers":[{"ttl":9,"rdata":"2001:db8::1"}]}}`)
	fuzzLog(f, LogEVE)
}
