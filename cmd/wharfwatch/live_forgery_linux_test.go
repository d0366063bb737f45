package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/rig"
)

// TestLiveForgery is who lies on a container network: frames of one container with its neighbour's address, an ARP packet of it that
// claims the gateway, and a namespace that somebody plugged into the bridge by hand. Jobs that come and go are no strangers.
func TestLiveForgery(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the scene takes a minute")
	}
	s := newScene(t)
	w := s.watch("capture", `{netflow: ["off"], sflow: ["off"], interfaces: [`+sceneBridge+`]}`)
	victim := s.container("victim", "poisson", "--to", "198.51.100.30:443", "--mean", "1s", "--seed", "3")
	forger := s.container("forger", "poisson", "--to", "198.51.100.40:443", "--mean", "1s", "--seed", "4")
	field := func(id, name string) string {
		return strings.TrimSpace(s.Docker("inspect", "-f", "{{.NetworkSettings.Networks.scene."+name+"}}", id))
	}
	space := s.HostNS + "-x"
	t.Cleanup(func() { exec.Command("ip", "netns", "del", space).Run() })
	for _, line := range []string{
		"netns add SPACE", "-n HOST link add x0 type veth peer name x1 netns SPACE", "-n HOST link set x0 master BRIDGE", "-n HOST link set x0 up",
		"-n SPACE addr add 172.31.7.77/24 dev x1", "-n SPACE link set x1 up", "-n SPACE route add default via 172.31.7.1",
		"-n HOST link add f0 type veth peer name f1", "-n HOST link set f0 master BRIDGE", "-n HOST link set f0 up", "-n HOST link set f1 up",
	} {
		line = strings.NewReplacer("HOST", s.HostNS, "SPACE", space, "BRIDGE", sceneBridge).Replace(line)
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	began := time.Now()
	s.start("stranger", s.HostExec(t.Context(), "nsenter", "--net=/run/netns/"+space, s.binary, "actor", "beacon", "--to", beaconTo, "--period", "1s"))
	s.forge("f1", field(forger, "MacAddress"), field(victim, "IPAddress"), "172.31.7.1")
	for n := range 4 {
		s.Run("--rm", "--name", fmt.Sprintf("job-%d", n), "--network", "scene", rig.ActorImage, "beacon", "--to", beaconTo, "--count", "1")
	}

	list := func() (all []alerts.Incident) {
		for _, l := range lines(s.must("incidents", "list", "-c", w.config, "-o", "jsonl")) {
			var i alerts.Incident
			if err := json.Unmarshal([]byte(l), &i); err != nil {
				t.Fatalf("%v in %s", err, l)
			}
			all = append(all, i)
		}
		return all
	}
	for _, want := range []struct{ detector, subject, workload string }{
		{"spoof", "source " + field(victim, "IPAddress"), "compose:shop/forger"},
		{"spoof", "gateway 172.31.7.1", "compose:shop/forger"},
		{"unlisted", "172.31.7.77", "host:local"},
	} {
		s.eventually(time.Minute, want.detector+" "+want.subject, func() bool {
			return slices.ContainsFunc(list(), func(i alerts.Incident) bool {
				return i.Workload == want.workload && slices.ContainsFunc(i.Findings, func(f alerts.Finding) bool {
					return f.Detector == want.detector && f.Subject == want.subject
				})
			})
		})
		t.Logf("%s %s of %s after %s", want.detector, want.subject, want.workload, time.Since(began).Round(time.Second))
	}
	w.stop(syscall.SIGTERM)
	for _, i := range list() {
		for _, f := range i.Findings {
			if f.Detector == "unlisted" && f.Subject != "172.31.7.77" || f.Detector == "spoof" && i.Container.ID != forger {
				t.Errorf("told of an innocent: %s: %s", i.Workload, f.Summary)
			}
		}
	}
	live := lines(s.must("incidents", "list", "-c", w.config, "-o", "jsonl"))
	if got := lines(s.must("replay", "-c", w.config, w.record)); !slices.Equal(got, live) {
		t.Errorf("the stream gives\n%s\nthe live run told\n%s", strings.Join(got, "\n"), strings.Join(live, "\n"))
	}
}

// forge sends two frames from an interface of the host's namespace: a datagram from a neighbour's address, and an ARP packet that claims
// the gateway's.
func (s *scene) forge(device, mac, addr, gateway string) {
	s.t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		s.t.Fatal(err)
	}
	victim, router := netip.MustParseAddr(addr).As4(), netip.MustParseAddr(gateway).As4()
	everybody := []byte{255, 255, 255, 255, 255, 255}
	ip := slices.Concat([]byte{0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0}, victim[:], []byte{203, 0, 113, 9}, []byte{0x30, 0x39, 1, 187, 0, 9, 0, 0, 'x'})
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	sum = ^(sum&0xffff + sum>>16) // RFC 791; a bridge drops what has a wrong one
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	datagram := slices.Concat(everybody, hw, []byte{8, 0}, ip)
	arp := slices.Concat(everybody, hw, []byte{8, 6}, []byte{0, 1, 8, 0, 6, 4, 0, 2}, hw, router[:], everybody, victim[:])
	s.InHost(func() error {
		device, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		to := &syscall.SockaddrLinklayer{Ifindex: device.Index}
		return errors.Join(syscall.Sendto(fd, datagram, 0, to), syscall.Sendto(fd, arp, 0, to))
	})
}
