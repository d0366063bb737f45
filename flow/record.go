package flow

// Record is one flow in one direction, as its exporter or the packet assembler saw it. It is a fixed-size value without pointers.
type Record struct {
	First, Last int64 // ns, the exporter's clock corrected; order key is Last, timing uses First

	Src, Dst       Addr
	NATSrc, NATDst Addr // the tuple after translation where the exporter says it, else zero

	Bytes, Packets uint64 // as counted on the wire; Scaled multiplies by Sampling
	Exporter       Addr   // zero for packets
	Domain         uint32 // observation domain, source id or engine
	Sampling       uint32 // 1:N; 1 where unsampled or unknown (FlagSamplingUnknown)
	InIf, OutIf    uint32 // SNMP index, 0 unknown
	VNI            uint32
	VRF            uint32 // of the incoming side, else of the outgoing one; 0 none or unknown

	SrcPort, DstPort       uint16 // for ICMP DstPort is type<<8 | code, as NetFlow has it
	NATSrcPort, NATDstPort uint16
	VLAN                   uint16
	Proto, TCPFlags        uint8
	Flags                  uint8
}

// Flags of a Record.
const (
	FlagSamplingUnknown uint8 = 1 << iota // nobody said a rate: 1 is assumed
	FlagPackets                           // assembled from packets here, not exported: first packet seen means SYN seen
	FlagEnd                               // the exporter or assembler says that the flow ended
	FlagForced                            // cut by the active timeout: more will follow
	FlagReply                             // the assembler saw the other direction first: Src answered
)

// TCP flags as they stand in the header.
const (
	FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
)

// Protocol numbers that are handled by name.
const (
	ICMP, TCP, UDP, ICMPv6 = 1, 6, 17, 58
)

// Scaled returns the estimate of the true counts behind a sampled record.
func (r *Record) Scaled() (bytes, packets uint64) {
	n := uint64(max(r.Sampling, 1))
	return r.Bytes * n, r.Packets * n
}

// Name is what packets say and records cannot: what was asked of the DNS and answered, and the name that a connection itself asked for.
type Name struct {
	Time   int64    // ns
	Kind   NameKind //
	Client Addr     // who asked, or opened the connection
	Server Addr     // who was asked
	Port   uint16   // of the server
	RCode  uint8    // DNS response code
	QType  uint16   // DNS question type
	Name   string   // lower case, no final dot, printable ASCII only, at most 253 bytes
	Addrs  []Addr   // answers, at most 32
	TTL    uint32   // seconds, the least of the answers

	ClientPort uint16 // 0 unknown
	Proto      uint8  // of the connection: TCP or UDP; 0 unknown
	ALPN       string // first protocol offered, at most 32 bytes
	JA4        string // fingerprint of the ClientHello, see ja4.go
	Method     string // of HTTP, at most 16 bytes
	Agent      string // User-Agent, printable ASCII, at most 128 bytes
}

// NameKind says where a name came from.
type NameKind uint8

// The kinds of Name. DNS kinds say what a container asked; the others say what a connection asked for, and belong to its tuple.
const (
	NameDNS   NameKind = iota + 1 // a DNS answer: rcode and addresses
	NameQuery                     // a DNS question
	NameTLS                       // server name (SNI) of a TLS ClientHello; "" where it names none
	NameQUIC                      // the same in a QUIC Initial
	NameHTTP                      // Host of an HTTP/1 request
)

// OfConnection says that the name is the word of the connection with its tuple, not of a resolver.
func (k NameKind) OfConnection() bool { return k >= NameTLS }

// String is a short word for people and metrics.
func (k NameKind) String() string {
	switch k {
	case NameDNS:
		return "dns"
	case NameQuery:
		return "dns-question"
	case NameTLS:
		return "tls"
	case NameQUIC:
		return "quic"
	case NameHTTP:
		return "http"
	}
	return "unknown"
}
