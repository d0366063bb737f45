package demo

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// Places outside.
var (
	timeServer = netip.MustParseAddr("192.0.2.123")
	telemetry  = netip.MustParseAddr("198.51.100.77")
	packages   = netip.MustParseAddr("198.51.100.80")
	feed       = netip.MustParseAddr("198.51.100.90")
	vault      = netip.MustParseAddr("203.0.113.50")
	registry   = netip.MustParseAddr("198.51.100.81")
	resolver   = netip.MustParseAddr("192.0.2.53")
	relay      = netip.MustParseAddr("203.0.113.70") // at the other end of the tunnel
	control    = netip.MustParseAddr("203.0.113.66") // where the implant calls
	drop       = netip.MustParseAddr("203.0.113.99") // where the data goes
)

// every calls do in a rhythm until the day ends.
func every(from, until time.Time, period time.Duration, do func(at time.Time)) {
	for at := from; at.Before(until); at = at.Add(period) {
		do(at)
	}
}

// ordinary is a day like any other, look-alikes included.
func (s *Scene) ordinary(midnight time.Time) error {
	next := midnight.AddDate(0, 0, 1)
	s.customers(midnight, next)
	for _, service := range []string{"web", "api", "worker"} {
		offset := time.Duration(s.site.random.IntN(60_000)) * time.Millisecond
		every(midnight.Add(offset), next, time.Minute, func(at time.Time) {
			s.talk(talk{from: s.site.addr(service), to: telemetry, port: 443, at: at, length: 300 * time.Millisecond, sent: 2400, received: 700})
		})
	}
	for i, target := range []string{"web", "api", "worker", "database", "cache", "queue"} {
		every(midnight.Add(time.Duration(i)*2*time.Second), next, 30*time.Second, func(at time.Time) {
			s.talk(talk{from: s.site.addr("metrics"), to: s.site.addr(target), port: 9100, at: at, length: 40 * time.Millisecond, sent: 400, received: 18_000})
		})
	}
	every(midnight.Add(3*time.Second), next, 10*time.Second, func(at time.Time) {
		s.talk(talk{from: s.site.addr("proxy"), to: s.site.addr("web"), port: 8080, at: at, length: 5 * time.Millisecond, sent: 300, received: 250})
	})
	every(midnight.Add(17*time.Second), next, 1024*time.Second, func(at time.Time) {
		s.talk(talk{from: s.site.addr("proxy"), to: timeServer, port: 123, udp: true, at: at, length: 20 * time.Millisecond, sent: 76, received: 76})
	})
	s.hold(talk{from: s.site.addr("search"), to: feed, port: 443, at: midnight, sent: 900, received: 4000}, 24*60)
	s.hold(talk{from: s.site.addr("database"), to: vault, port: 443, at: midnight.Add(2*time.Hour + time.Duration(s.site.random.IntN(180))*time.Second), sent: 150e6, received: 1e6}, 30)
	for range 4 {
		at := midnight.Add(9*time.Hour + time.Duration(s.site.random.IntN(8*3600))*time.Second)
		s.hold(talk{from: s.site.addr("builder"), to: packages, port: 443, at: at, sent: 2e6, received: 180e6}, 3)
	}
	return s.jobs(midnight)
}

// customers come at random, five times as many by day as by night, and each sets the shop to work.
func (s *Scene) customers(midnight, next time.Time) {
	r := s.site.random
	for at := midnight; ; {
		mean := 4 * time.Minute
		if h := at.Hour(); h >= 7 && h < 22 {
			mean = 40 * time.Second
		}
		at = at.Add(time.Duration(r.ExpFloat64() * float64(mean)))
		if !at.Before(next) {
			return
		}
		from := netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + r.IntN(70))})
		size := uint32(20_000 * math.Exp(r.NormFloat64()))
		s.talk(talk{from: from, to: s.site.addr("proxy"), port: 443, at: at, length: time.Second, sent: 900, received: size})
		s.talk(talk{from: s.site.addr("proxy"), to: s.site.addr("web"), port: 8080, at: at.Add(5 * time.Millisecond), length: 900 * time.Millisecond, sent: 1100, received: size})
		s.talk(talk{from: s.site.addr("web"), to: s.site.addr("api"), port: 9000, at: at.Add(9 * time.Millisecond), length: 500 * time.Millisecond, sent: 800, received: size / 2})
		s.talk(talk{from: s.site.addr("api"), to: s.site.addr("database"), port: 5432, at: at.Add(14 * time.Millisecond), length: 300 * time.Millisecond, sent: 600, received: size / 3})
		if r.IntN(3) == 0 {
			s.talk(talk{from: s.site.addr("api"), to: s.site.addr("cache"), port: 6379, at: at.Add(12 * time.Millisecond), length: 4 * time.Millisecond, sent: 200, received: 900})
			s.talk(talk{from: s.site.addr("worker"), to: s.site.addr("queue"), port: 5672, at: at.Add(700 * time.Millisecond), length: 80 * time.Millisecond, sent: 700, received: 300})
		}
		if r.IntN(6) == 0 {
			to := netip.AddrFrom4([4]byte{198, 51, 100, byte(100 + r.IntN(40))})
			s.talk(talk{from: s.site.addr("mailer"), to: to, port: 587, at: at.Add(3 * time.Second), length: 2 * time.Second, sent: 9000, received: 1200})
		}
	}
}

// jobs are the builds of the day: a container for a minute and a half each.
func (s *Scene) jobs(midnight time.Time) error {
	for i := range 12 {
		at := midnight.Add(8*time.Hour + time.Duration(i)*47*time.Minute + time.Duration(s.site.random.IntN(900))*time.Second)
		name := fmt.Sprintf("runner-%s-job-%d", midnight.Format("0102"), i)
		labels := object{"wharfwatch.workload": "ci-runner"}
		addr := netip.AddrFrom4([4]byte{172, 20, 0, byte(60 + i)})
		c, err := s.site.container(name, "acme/ci-runner:7", at, addr, labels, nil)
		if err != nil {
			return err
		}
		s.start(c, at)
		s.talk(talk{from: addr, to: registry, port: 443, at: at.Add(3 * time.Second), length: 40 * time.Second, sent: 80_000, received: 60e6})
		s.end(c, at.Add(90*time.Second))
	}
	return nil
}

// attacks is what happens on the last day.
func (s *Scene) attacks() error {
	at := func(h, m int) time.Time { return Day.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute) }
	for t := at(9, 12); t.Before(at(13, 0)); {
		s.talk(talk{from: s.site.addr("worker"), to: control, port: 443, at: t, length: 400 * time.Millisecond, sent: 1200, received: 900})
		t = t.Add(time.Duration((1 - .3*s.site.random.Float64()) * float64(time.Minute)))
	}
	s.hold(talk{from: s.site.addr("api"), to: drop, port: 443, at: at(15, 10), sent: 200e6, received: 2e6}, 10)
	for _, c := range []struct {
		name, image string
		at          time.Time
		host        object
		command     []string
	}{
		{"net-helper", "acme/nettool:latest", at(11, 30), object{"NetworkMode": "host", "CapAdd": []string{"NET_ADMIN"}}, nil},
		{"upgrade", "acme/upgrade:latest", at(12, 45), object{"Privileged": true}, nil},
		{"portal", "acme/portal:2", at(13, 50), object{"Binds": []string{"/var/run/docker.sock:/var/run/docker.sock"}}, nil},
		{"tools", "mymaliciousimage:latest", at(16, 20), nil, []string{"sleep", "3600"}},
	} {
		var addr netip.Addr
		if c.host["NetworkMode"] == nil {
			addr = netip.AddrFrom4([4]byte{172, 20, 0, byte(90 + s.site.made%100)})
		}
		made, err := s.site.container(c.name, c.image, c.at, addr, nil, c.host, c.command...)
		if err != nil {
			return err
		}
		s.start(made, c.at)
		if c.command != nil {
			s.say(c.at.Add(9*time.Minute), enrich.Exec, made)
			s.events[len(s.events)-1].Detail = "sh -i"
			s.talk(talk{from: addr, to: drop, port: 443, at: c.at.Add(11 * time.Minute), length: time.Second, sent: 2000, received: 9000})
		}
	}
	for i := range 400 {
		s.ask("reports", label(s.site.random.Uint64(), s.site.random.Uint64())+".t.example.com", at(17, 5).Add(time.Duration(i)*700*time.Millisecond), 16)
	}
	s.hold(talk{from: s.site.addr("queue"), to: relay, port: 4443, at: at(17, 30), sent: 3000, received: 2500}, 5*60)
	s.Attacks = []Attack{
		{"an implant in the worker calls home, every 51 s on average with 30 % jitter", "compose:shop/worker", "beacon", at(9, 12)},
		{"a container with the host's network and NET_ADMIN is created", "name:net-helper/acme/nettool", "host-network", at(11, 30)},
		{"a privileged container of an unknown image is created", "name:upgrade/acme/upgrade", "posture", at(12, 45)},
		{"a container gets the engine's socket", "name:portal/acme/portal", "posture", at(13, 50)},
		{"2 GB leave the api in ten minutes", "compose:shop/api", "egress-spike", at(15, 10)},
		{"a container of an unknown image sleeps, is entered, and calls out", "name:tools/mymaliciousimage", "lifecycle", at(16, 20)},
		{"data leaves the reports as DNS questions", "compose:shop/reports", "dns-tunnel", at(17, 5)},
		{"the queue holds a tunnel open for hours", "compose:shop/queue", "long-connection", at(17, 30)},
	}
	s.LookAlikes = []LookAlike{
		{"telemetry every minute, to the millisecond", "compose:shop/web", "beacon", "three services have called the same place like that since long before"},
		{"metrics are fetched from six containers every 30 s", "compose:shop/metrics", "beacon", "a plain timer between containers of one project"},
		{"a health check every 10 s", "compose:shop/proxy", "beacon", "a plain timer between containers of one project, and the time of day is fetched by NTP"},
		{"a connection open all day, exported every minute", "compose:shop/search", "beacon", "slices of one connection are no calls"},
		{"a backup of 4.5 GB every night", "compose:shop/database", "egress-spike", "it has been there every night at this hour"},
		{"packages of half a gigabyte are downloaded", "compose:shop/builder", "egress-spike", "what comes in does not leave"},
		{"mail goes to forty servers at random moments", "compose:shop/mailer", "beacon", "no rhythm"},
		{"a dozen builds a day, each in a container of its own", "ci-runner", "posture", "an image that is known, and nothing weakens its isolation"},
	}
	return nil
}

// label is a DNS label that carries data.
func label(a, b uint64) string { return fmt.Sprintf("%016x%016x%016x", a, b, a^b<<1) }
