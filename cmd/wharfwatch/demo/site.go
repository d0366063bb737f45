package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// site is the host: its containers and the connections they make.
type site struct {
	random *rand.Rand
	port   uint16
	made   int // containers
}

func newSite() *site { return &site{random: rand.New(rand.NewPCG(20260302, 1)), port: 32_768} }

// services are the containers of the compose project, in the order of their addresses.
var services = []string{"proxy", "web", "api", "worker", "database", "cache", "queue", "search", "mailer", "metrics", "builder", "reports"}

const engineName = "demo"

func (s *site) addr(service string) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 20, 0, byte(10 + slices.Index(services, service))})
}

type object = map[string]any

// container makes one from what docker inspect would print.
func (s *site) container(name, image string, at time.Time, addr netip.Addr, labels, host object, command ...string) (*enrich.Container, error) {
	s.made++
	c := object{"Image": image, "Labels": labels}
	if len(command) == 0 {
		command = []string{"/app"}
	}
	h := object{"NetworkMode": "shop_default"}
	for k, v := range host {
		h[k] = v
	}
	networks := object{}
	if addr.IsValid() {
		networks["shop_default"] = object{"IPAddress": addr.String(), "NetworkID": strings.Repeat("5b", 32)}
	}
	text, err := json.Marshal([]object{{
		"Id": fmt.Sprintf("%016x%048x", 0xd0c0de0000000000+uint64(s.made), s.made), "Name": "/" + name, "Created": at.Format(time.RFC3339Nano),
		"State": object{"Running": true, "StartedAt": at.Format(time.RFC3339Nano), "FinishedAt": "0001-01-01T00:00:00Z"},
		"Path":  command[0], "Args": command[1:], "Config": c, "HostConfig": h, "NetworkSettings": object{"Networks": networks},
	}})
	if err != nil {
		return nil, err
	}
	events, err := enrich.ReadInventory(bytes.NewReader(text), engineName)
	if err != nil {
		return nil, err
	}
	return events[0].Container, nil
}

// open lists what runs when the watching begins.
func (s *Scene) open() error {
	at := Begin.Add(-30 * 24 * time.Hour)
	for _, service := range services {
		labels := object{"com.docker.compose.project": "shop", "com.docker.compose.service": service}
		c, err := s.site.container("shop-"+service+"-1", "acme/"+service+":1", at, s.site.addr(service), labels, nil)
		if err != nil {
			return err
		}
		s.say(Begin, enrich.Listed, c)
		s.bind(Begin, enrich.Connected, c)
	}
	s.events = append(s.events, enrich.Event{Time: Begin.UnixNano(), Kind: enrich.Synced, Engine: engineName})
	return nil
}

func (s *Scene) say(at time.Time, kind enrich.EventKind, c *enrich.Container) {
	s.events = append(s.events, enrich.Event{Time: at.UnixNano(), Kind: kind, Engine: engineName, Container: c})
}

func (s *Scene) bind(at time.Time, kind enrich.EventKind, c *enrich.Container) {
	for _, a := range c.Attachments {
		b := enrich.Binding(a)
		s.events = append(s.events, enrich.Event{Time: at.UnixNano(), Kind: kind, Engine: engineName, Container: c, Binding: &b})
	}
}

// ask is a DNS question of a container and its answer.
func (s *Scene) ask(service, name string, at time.Time, kind uint16) {
	s.names = append(s.names, flow.Name{
		Time: at.UnixNano(), Kind: flow.NameDNS, Client: flow.AddrOf(s.site.addr(service)), Server: flow.AddrOf(resolver), Port: 53,
		QType: kind, Name: name, TTL: 60,
	})
}

// start creates and starts a container as docker run does.
func (s *Scene) start(c *enrich.Container, at time.Time) {
	s.say(at, enrich.Created, c)
	s.bind(at.Add(80*time.Millisecond), enrich.Connected, c)
	s.say(at.Add(150*time.Millisecond), enrich.Started, c)
}

// end is the end of a container started with --rm.
func (s *Scene) end(c *enrich.Container, at time.Time) {
	s.say(at, enrich.Died, c)
	s.bind(at.Add(40*time.Millisecond), enrich.Disconnect, c)
	s.say(at.Add(90*time.Millisecond), enrich.Destroyed, c)
}

// talk is a connection from one address to another: what is asked, what comes back.
type talk struct {
	from, to       netip.Addr
	port           uint16
	udp            bool
	at             time.Time
	length         time.Duration
	sent, received uint32
	silent         bool // nobody answers
}

func (s *Scene) talk(c talk) {
	s.site.port = 32_768 + (s.site.port-32_767)%28_000
	flags, proto := uint8(0x1b), uint8(6)
	if c.udp {
		flags, proto = 0, 17
	}
	if c.silent {
		flags = 2
	}
	packets := func(n uint32) uint32 { return 1 + n/1400 + uint32(flags>>3&1)*4 }
	x := Slice{Src: c.from, Dst: c.to, SrcPort: s.site.port, DstPort: c.port, First: c.at, Last: c.at.Add(c.length), Bytes: c.sent, Packets: packets(c.sent), Proto: proto, Flags: flags}
	s.slices = append(s.slices, x)
	if !c.silent {
		x.Src, x.Dst, x.SrcPort, x.DstPort = x.Dst, x.Src, x.DstPort, x.SrcPort
		x.First, x.Bytes, x.Packets = x.First.Add(time.Millisecond), c.received, packets(c.received)
		s.slices = append(s.slices, x)
	}
}

// hold is one connection that stays open, exported every minute; sent and received are per minute.
func (s *Scene) hold(c talk, minutes int) {
	s.site.port = 32_768 + (s.site.port-32_767)%28_000
	for m := range minutes {
		flags := uint8(0x18)
		if m == 0 {
			flags |= 2
		}
		if m == minutes-1 {
			flags |= 1
		}
		x := Slice{
			Src: c.from, Dst: c.to, SrcPort: s.site.port, DstPort: c.port, First: c.at.Add(time.Duration(m) * time.Minute),
			Last: c.at.Add(time.Duration(m+1)*time.Minute - time.Millisecond), Bytes: c.sent, Packets: 5 + c.sent/1400, Proto: 6, Flags: flags,
		}
		s.slices = append(s.slices, x)
		x.Src, x.Dst, x.SrcPort, x.DstPort = x.Dst, x.Src, x.DstPort, x.SrcPort
		x.Bytes, x.Packets = c.received, 5+c.received/1400
		s.slices = append(s.slices, x)
	}
}
