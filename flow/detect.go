package flow

import "bytes"

// CaptureOfExports says whether the head of a capture file holds mostly export datagrams rather than mirrored traffic. It judges by the
// packets that fit into head; 64 KiB are enough.
func CaptureOfExports(head []byte) bool {
	p, err := openPackets(bytes.NewReader(head))
	if err != nil {
		return false
	}
	u := newUDPParser(p.LinkType())
	all, exports := 0, 0
	for {
		data, _, err := p.ReadPacketData()
		if err != nil {
			return exports*2 > all
		}
		all++
		if _, payload, is := u.payload(data); is && LooksLikeExport(payload) {
			exports++
		}
	}
}
