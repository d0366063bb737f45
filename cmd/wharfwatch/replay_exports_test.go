package main

import (
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

	"github.com/wharfwatch/wharfwatch/cmd/wharfwatch/demo"
)

// exports is a capture file of a router's exports.
type exports struct{ *demo.Exports }

func newExports(boot time.Time) *exports { return &exports{demo.NewExports(boot)} }

func (x *exports) save(t *testing.T, path string) string {
	t.Helper()
	return write(t, path, x.Bytes())
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
func (s *site) call(service string, to netip.Addr, at time.Time, length time.Duration, sent uint32) []demo.Slice {
	s.port = 32_768 + (s.port+1)%28_000
	a := s.addr(service)
	return []demo.Slice{
		{Src: a, Dst: to, SrcPort: s.port, DstPort: 443, First: at, Last: at.Add(length), Bytes: sent, Packets: 6 + sent/1400, Proto: 6, Flags: 0x1b},
		{Src: to, Dst: a, SrcPort: 443, DstPort: s.port, First: at, Last: at.Add(length), Bytes: sent/20 + 3000, Packets: 8 + sent/28000, Proto: 6, Flags: 0x1b},
	}
}

// transfer is one long connection, exported in slices of a minute.
func (s *site) transfer(service string, to netip.Addr, at time.Time, minutes int, perMinute uint32) (out []demo.Slice) {
	first := s.call(service, to, at, time.Minute, perMinute)
	for m := range minutes {
		for _, e := range first {
			e.First, e.Last = e.First.Add(time.Duration(m)*time.Minute), e.Last.Add(time.Duration(m)*time.Minute)
			if m > 0 {
				e.Flags &^= 2
			}
			if m < minutes-1 {
				e.Flags &^= 1
			}
			out = append(out, e)
		}
	}
	return out
}

// day is everything that is usual: calls at random moments, five times as many by day as by night, and a backup at two in the night.
func (s *site) day(midnight time.Time) (out []demo.Slice) {
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
