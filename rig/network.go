package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// network makes the two namespaces and the veth between them. IPv6 goes the same way where the kernel has it:
// fd00:99:0:N::2 and ::1.
func (r *Rig) network() error {
	n := r.Number
	six := func(host int) string { return fmt.Sprintf("fd00:99:0:%x::%d", n, host) }
	for _, line := range []string{
		"netns add " + r.HostNS,
		"netns add " + r.RouterNS,
		fmt.Sprintf("link add %s netns %s type veth peer name %s netns %s", r.Uplink, r.HostNS, r.RouterLink, r.RouterNS),
		fmt.Sprintf("-n %s addr add %s/24 dev %s", r.HostNS, r.HostAddr, r.Uplink),
		fmt.Sprintf("-n %s addr add %s/24 dev %s", r.RouterNS, r.RouterAddr, r.RouterLink),
		fmt.Sprintf("-n %s link set lo up", r.HostNS),
		fmt.Sprintf("-n %s link set lo up", r.RouterNS),
		fmt.Sprintf("-n %s link set %s up", r.HostNS, r.Uplink),
		fmt.Sprintf("-n %s link set %s up", r.RouterNS, r.RouterLink),
		fmt.Sprintf("-n %s route add default via %s", r.HostNS, r.RouterAddr),
	} {
		if err := ip(line); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return nil
	}
	for _, line := range []string{
		fmt.Sprintf("-n %s addr add %s/64 dev %s nodad", r.HostNS, six(2), r.Uplink),
		fmt.Sprintf("-n %s addr add %s/64 dev %s nodad", r.RouterNS, six(1), r.RouterLink),
		fmt.Sprintf("-n %s -6 route add default via %s", r.HostNS, six(1)),
	} {
		if err := ip(line); err != nil {
			return err
		}
	}
	return nil
}

func ip(line string) error {
	_, err := output(command(context.Background(), "ip", strings.Fields(line)...))
	return err
}

// AddRouterAddr gives the router one more address on its loopback, "203.0.113.9/32" for example: a place on the Internet that
// containers reach by the host's default route.
func (r *Rig) AddRouterAddr(prefix string) {
	r.t.Helper()
	if err := ip(fmt.Sprintf("-n %s addr add %s dev lo", r.RouterNS, prefix)); err != nil {
		r.t.Fatalf("rig: %v", err)
	}
}

// AddRouterRoute sends what the router has for a network, such as the containers' own, to the host.
func (r *Rig) AddRouterRoute(prefix string) {
	r.t.Helper()
	if err := ip(fmt.Sprintf("-n %s route add %s via %s", r.RouterNS, prefix, r.HostAddr)); err != nil {
		r.t.Fatalf("rig: %v", err)
	}
}

// HostExec is a command in the host namespace, where the engine's bridges are. The command is exec'd: its pid is the process's.
func (r *Rig) HostExec(ctx context.Context, args ...string) *exec.Cmd {
	return inside(ctx, r.HostNS, args)
}

// RouterExec is a command in the router namespace, which sees the host's traffic after NAT.
func (r *Rig) RouterExec(ctx context.Context, args ...string) *exec.Cmd {
	return inside(ctx, r.RouterNS, args)
}

func inside(ctx context.Context, namespace string, args []string) *exec.Cmd {
	if path := which(args[0]); path != "" {
		args = append([]string{path}, args[1:]...)
	}
	return command(ctx, "nsenter", append([]string{"--net=/run/netns/" + namespace, "--"}, args...)...)
}

// InHost is Enter for the host namespace; an error fails the test.
func (r *Rig) InHost(f func() error) {
	r.t.Helper()
	if err := Enter(r.HostNS, f); err != nil {
		r.t.Fatalf("rig: in the host namespace: %v", err)
	}
}

// InRouter is Enter for the router namespace; an error fails the test.
func (r *Rig) InRouter(f func() error) {
	r.t.Helper()
	if err := Enter(r.RouterNS, f); err != nil {
		r.t.Fatalf("rig: in the router namespace: %v", err)
	}
}

// chooseIptables finds a variant that can write what dockerd writes, and puts it in front of dockerd's path under the plain names.
func (r *Rig) chooseIptables() error {
	rule := strings.Fields("-t nat -A POSTROUTING -s 172.29.0.0/16 ! -o docker0 -m addrtype --dst-type UNICAST -j MASQUERADE")
	remove := strings.Fields("-t nat -D POSTROUTING -s 172.29.0.0/16 ! -o docker0 -m addrtype --dst-type UNICAST -j MASQUERADE")
	var tried []error
	for _, variant := range []string{"iptables", "iptables-legacy", "iptables-nft"} {
		if which(variant) == "" {
			continue
		}
		if _, err := output(r.HostExec(context.Background(), append([]string{variant}, rule...)...)); err != nil {
			tried = append(tried, err)
			continue
		}
		if _, err := output(r.HostExec(context.Background(), append([]string{variant}, remove...)...)); err != nil {
			return err
		}
		if variant == "iptables" {
			return nil
		}
		for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
			family, rest, _ := strings.Cut(name, "tables")
			target := which(family + "tables" + strings.TrimPrefix(variant, "iptables") + rest)
			if target == "" {
				continue
			}
			if err := r.shadow(name, func(path string) error { return os.Symlink(target, path) }); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no iptables can write NAT rules on this kernel: %w", errors.Join(tried...))
}
