package flow

import "testing"

// event writes one record of a firewall: connection, event, counters of both directions.
func event(id uint32, event byte, sent, received uint32) []byte {
	b := append(u32(0x0a000001, 0x0a000002, id), u16(40000, 443)...)
	return append(append(b, 6, event), u32(sent, received)...)
}

// However a firewall counts in its events, the bytes of a connection come out once.
func TestFirewallEvents(t *testing.T) {
	for _, c := range []struct {
		name                 string
		octets               uint16 // the element of the counter
		sent                 [][3]uint32
		forward, back, flows uint64
	}{
		{"totals", 231, [][3]uint32{{1, 0, 0}, {5, 100, 1000}, {5, 300, 1000}, {5, 300, 1500}, {2, 310, 1600}}, 310, 1600, 5},
		{"update and end are the same", 231, [][3]uint32{{5, 81, 6207}, {2, 81, 6207}}, 81, 6207, 2},
		{"differences", 231, [][3]uint32{{1, 0, 0}, {5, 100, 1000}, {5, 50, 20}, {5, 10, 10}, {2, 1, 1}}, 161, 1031, 5},
		{"differences, total at the end", 231, [][3]uint32{{5, 100, 1000}, {5, 50, 20}, {2, 150, 1020}}, 150, 1020, 3},
		{"only the end", 85, [][3]uint32{{1, 0, 0}, {2, 56, 70}}, 56, 70, 2},
		{"made and ended with the total", 85, [][3]uint32{{1, 56, 70}, {2, 56, 70}}, 56, 70, 2},
		{"denied", 231, [][3]uint32{{3, 0, 0}}, 0, 0, 1},
		{"a second connection under the same id", 231, [][3]uint32{{5, 10, 10}, {2, 20, 20}, {5, 10, 10}, {2, 20, 20}}, 40, 40, 4},
		{"differences by definition", 1, [][3]uint32{{5, 100, 1000}, {5, 200, 2000}, {2, 300, 3000}}, 600, 6000, 3},
	} {
		l := newLab(t, Config{})
		l.send(newMessage(9).template(256, 8, 4, 12, 4, 148, 4, 7, 2, 11, 2, 4, 1, 233, 1, c.octets, 4, 232, 4).bytes())
		var forward, back, flows uint64
		for _, e := range c.sent {
			for _, r := range l.send(newMessage(9).set(256, event(7, byte(e[0]), e[1], e[2])).bytes()) {
				if r.Flags&FlagReply != 0 {
					back += r.Bytes
					continue
				}
				forward += r.Bytes
				flows++
				if ends := e[0] == 2 || e[0] == 3; ends != (r.Flags&FlagEnd != 0) || (e[0] == 5) != (r.Flags&FlagForced != 0) {
					t.Errorf("%s: event %d has flags %x", c.name, e[0], r.Flags)
				}
			}
		}
		if forward != c.forward || back != c.back || flows != c.flows {
			t.Errorf("%s: %d and %d bytes in %d flows, want %d and %d in %d", c.name, forward, back, flows, c.forward, c.back, c.flows)
		}
	}
}

// Connections that never end are forgotten, the oldest first.
func TestFirewallConnectionsAreBounded(t *testing.T) {
	l := newLab(t, Config{})
	l.decoder.connections.limit = 100
	l.send(newMessage(9).template(256, 8, 4, 12, 4, 148, 4, 7, 2, 11, 2, 4, 1, 233, 1, 231, 4, 232, 4).bytes())
	for id := range uint32(150) {
		l.send(newMessage(9).set(256, event(id, eventUpdate, 10, 10)).bytes())
	}
	if n, gone := l.decoder.connections.len(), l.decoder.stats.evictedConnections.Get(); n != 100 || gone != 50 {
		t.Errorf("%d connections, %d forgotten", n, gone)
	}
	if got := l.send(newMessage(9).set(256, event(149, eventDeleted, 12, 12)).bytes()); len(got) != 2 || got[0].Bytes != 2 {
		t.Errorf("got %+v", got)
	}
	if n := l.decoder.connections.len(); n != 99 {
		t.Errorf("%d connections after an end", n)
	}
}

// The translation that firewalls told before there were elements for it, and the direction of a biflow.
func TestFirewallTranslation(t *testing.T) {
	l := newLab(t, Config{})
	l.send(newMessage(9).template(256, 8, 4, 12, 4, 40001, 4, 40002, 4, 40003, 2, 40004, 2, 40005, 1, 1, 4).bytes())
	body := append(u32(1, 2, 3, 4), u16(5, 6)...)
	got := l.send(newMessage(9).set(256, append(append(body, 2), u32(9)...)).bytes())
	if len(got) != 1 || got[0].NATSrc != Addr4(3) || got[0].NATDst != Addr4(4) || got[0].NATSrcPort != 5 || got[0].NATDstPort != 6 || got[0].Flags&FlagEnd == 0 {
		t.Errorf("got %+v", got)
	}
}

// By RFC 5103 the source of a biflow began, unless biflowDirection says that it answered; flags of the other direction are its own.
func TestBiflowDirection(t *testing.T) {
	for direction, flags := range map[byte][2]uint8{0: {0, FlagReply}, 1: {0, FlagReply}, 2: {FlagReply, 0}, 3: {0, FlagReply}} {
		l := newLab(t, Config{})
		fields := append(u16(256, 8, 8, 4, 12, 4, 239, 1, 6, 1, 1, 4), u16(0x8001, 4)...)
		fields = append(append(fields, u32(reversePEN)...), u16(0x8006, 1)...)
		fields = append(append(fields, u32(reversePEN)...), u16(4, 1)...)
		record := append(u32(1, 2), direction, SYN|ACK|FIN)
		record = append(append(record, u32(100, 200)...), SYN|ACK|RST, TCP)
		got := l.send(newMessage(10).set(2, fields).set(256, record).bytes())
		if len(got) != 2 || got[0].Flags&FlagReply != flags[0] || got[1].Flags&FlagReply != flags[1] || got[1].Bytes != 200 ||
			got[0].TCPFlags != SYN|ACK|FIN || got[1].TCPFlags != SYN|ACK|RST {
			t.Errorf("direction %d: %+v", direction, got)
		}
	}
}
