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

// Name is what packets say and records cannot. For now: one DNS answer.
type Name struct {
	Time   int64    // ns
	Kind   NameKind //
	Client Addr     // who asked
	Server Addr     // who answered
	Port   uint16   // of the server
	RCode  uint8    // DNS response code
	QType  uint16   // DNS question type
	Name   string   // as asked, lower case, no final dot, printable ASCII only, at most 253 bytes
	Addrs  []Addr   // answers, at most 32
	TTL    uint32   // seconds, the least of the answers
}

// NameKind says where a name came from.
type NameKind uint8

// NameDNS is a DNS answer (rcode and addresses); more kinds follow.
const NameDNS NameKind = 1
