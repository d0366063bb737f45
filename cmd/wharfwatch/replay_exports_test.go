package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// export is one connection slice as a router sees it.
type export struct {
	src, dst     netip.Addr
	sport, dport uint16
	first, last  time.Time
	bytes        uint32
	flags        byte // TCP: 2 SYN, 1 FIN, 0x18 PSH and ACK
}

// exports makes a capture file of NetFlow v5 datagrams of one router: a datagram when 30 records wait, or a minute is over.
// https://www.cisco.com/c/en/us/td/docs/net_mgmt/netflow_collection_engine/3-6/user/guide/format.html
type exports struct {
	file     bytes.Buffer
	boot     time.Time
	sequence uint32
	records  int
}

func newExports(boot time.Time) *exports {
	x := &exports{boot: boot}
	x.file.Write([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}) // pcap, microseconds, Ethernet
	return x
}

// write sorts the slices by their ends and exports them.
func (x *exports) write(all []export) {
	slices.SortStableFunc(all, func(a, b export) int { return a.last.Compare(b.last) })
	for len(all) > 0 {
		n, limit := 1, all[0].last.Add(time.Minute)
		for n < len(all) && n < 30 && all[n].last.Before(limit) {
			n++
		}
		x.datagram(all[n-1].last.Add(200*time.Millisecond), all[:n])
		all = all[n:]
	}
}

func (x *exports) datagram(at time.Time, records []export) {
	be := binary.BigEndian
	d := be.AppendUint16(nil, 5)
	d = be.AppendUint16(d, uint16(len(records)))
	d = be.AppendUint32(d, x.uptime(at))
	d = be.AppendUint32(d, uint32(at.Unix()))
	d = be.AppendUint32(d, uint32(at.Nanosecond()))
	d = be.AppendUint32(d, x.sequence)
	d = append(d, 0, 0, 0, 0)
	for _, r := range records {
		b := make([]byte, 48)
		copy(b, r.src.AsSlice())
		copy(b[4:], r.dst.AsSlice())
		be.PutUint32(b[16:], 6+r.bytes/1400)
		be.PutUint32(b[20:], r.bytes)
		be.PutUint32(b[24:], x.uptime(r.first))
		be.PutUint32(b[28:], x.uptime(r.last))
		be.PutUint16(b[32:], r.sport)
		be.PutUint16(b[34:], r.dport)
		b[37], b[38] = r.flags, 6
		d = append(d, b...)
	}
	x.sequence += uint32(len(records))
	x.records += len(records)
	x.frame(at, d)
}

func (x *exports) uptime(at time.Time) uint32 { return uint32(at.Sub(x.boot).Milliseconds()) }

// frame puts a datagram of the router into the file.
func (x *exports) frame(at time.Time, payload []byte) {
	be, le := binary.BigEndian, binary.LittleEndian
	f := append(make([]byte, 12, 64+len(payload)), 8, 0, 0x45, 0)
	f = be.AppendUint16(f, uint16(28+len(payload)))
	f = append(f, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2)
	f = append(be.AppendUint16(f, 50_000), 0x08, 0x07) // to port 2055
	f = be.AppendUint16(f, uint16(8+len(payload)))
	f = append(append(f, 0, 0), payload...)
	h := le.AppendUint32(nil, uint32(at.Unix()))
	h = le.AppendUint32(h, uint32(at.Nanosecond()/1000))
	h = le.AppendUint32(h, uint32(len(f)))
	x.file.Write(append(le.AppendUint32(h, uint32(len(f))), f...))
}

func (x *exports) save(t *testing.T, path string) string {
	t.Helper()
	return write(t, path, x.file.Bytes())
}

func write(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// site is a small host of containers with an ordinary life: a compose project on one network.
type site struct {
	services []string
	random   *rand.Rand
	port     uint16
}

func newSite(seed uint64, services ...string) *site {
	return &site{services: services, random: rand.New(rand.NewPCG(seed, 1)), port: 32_768}
}

func (s *site) addr(service string) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 20, 0, byte(10 + slices.Index(s.services, service))})
}

// inventory is what docker inspect prints of them. extra is added to the settings of every container.
func (s *site) inventory(t *testing.T, path string, extra map[string]any) string {
	t.Helper()
	type object = map[string]any
	var out []object
	for i, service := range s.services {
		host := object{"NetworkMode": "shop_default"}
		for k, v := range extra {
			host[k] = v
		}
		out = append(out, object{
			"Id": fmt.Sprintf("%064x", i+1), "Name": "/shop-" + service + "-1", "Created": "2020-01-01T00:00:00Z",
			"State":      object{"Running": true, "StartedAt": "2020-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"},
			"Config":     object{"Image": "acme/" + service + ":1", "Labels": object{"com.docker.compose.project": "shop", "com.docker.compose.service": service}},
			"HostConfig": host,
			"NetworkSettings": object{"Networks": object{"shop_default": object{
				"IPAddress": s.addr(service).String(), "NetworkID": strings.Repeat("a", 64),
			}}},
		})
	}
	text, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, path, text)
}

// call is a connection out and what came back.
func (s *site) call(service string, to netip.Addr, at time.Time, length time.Duration, sent uint32) []export {
	s.port = 32_768 + (s.port+1)%28_000
	a := s.addr(service)
	return []export{
		{src: a, dst: to, sport: s.port, dport: 443, first: at, last: at.Add(length), bytes: sent, flags: 0x1b},
		{src: to, dst: a, sport: 443, dport: s.port, first: at, last: at.Add(length), bytes: sent/20 + 3000, flags: 0x1b},
	}
}

// transfer is one long connection, exported in slices of a minute.
func (s *site) transfer(service string, to netip.Addr, at time.Time, minutes int, perMinute uint32) (out []export) {
	first := s.call(service, to, at, time.Minute, perMinute)
	for m := range minutes {
		for _, e := range first {
			e.first, e.last = e.first.Add(time.Duration(m)*time.Minute), e.last.Add(time.Duration(m)*time.Minute)
			if m > 0 {
				e.flags &^= 2
			}
			if m < minutes-1 {
				e.flags &^= 1
			}
			out = append(out, e)
		}
	}
	return out
}

// day is everything that is usual: calls at random moments, five times as many by day as by night, and a backup at two in the night.
func (s *site) day(midnight time.Time) (out []export) {
	for _, service := range s.services {
		for at := midnight; ; {
			mean := 5 * time.Minute
			if h := at.Hour(); h >= 7 && h < 20 {
				mean = time.Minute
			}
			at = at.Add(time.Duration(s.random.ExpFloat64() * float64(mean)))
			if !at.Before(midnight.Add(24 * time.Hour)) {
				break
			}
			to := netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + s.random.IntN(40))})
			out = append(out, s.call(service, to, at, time.Duration(1+s.random.IntN(4000))*time.Millisecond, uint32(3e4*math.Exp(s.random.NormFloat64())))...)
		}
	}
	start := midnight.Add(2*time.Hour + time.Duration(s.random.IntN(180))*time.Second)
	return append(out, s.transfer("database", netip.MustParseAddr("203.0.113.50"), start, 30, 150e6)...)
}
