package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/flow"
)

// packetDir is where a monitor keeps packets.
func packetDir(dataDir string) string { return filepath.Join(dataDir, "packets") }

func newPacketsCommand(g *globals) *cobra.Command {
	var (
		from, to, write string
		hosts           []string
		port            uint16
	)
	cmd := &cobra.Command{
		Use: "packets --from TIME", Short: "Cut packets out of those kept on disk, as pcapng", Args: cobra.NoArgs,
		Long: `Cuts packets out of those that a monitor with flow.packet_ring_bytes keeps in its data directory, and writes them as pcapng, in the order of
time. Hosts and ports are those of the innermost packet, inside VXLAN and the like. The monitor need not run.`,
		Example: `  wharfwatch packets --from 10m --host 172.18.0.5 -w incident.pcapng
  wharfwatch packets --from 2026-03-01T12:00:00Z --to 2026-03-01T12:05:00Z --host 172.18.0.5 --host 203.0.113.9 --port 443 -w - | tcpdump -r -`,
	}
	cmd.Flags().StringVar(&from, "from", "", "first packet: RFC 3339, or how long ago (10m)")
	cmd.Flags().StringVar(&to, "to", "", "last packet; now if not given")
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "address or prefix of one end; may be repeated: each must be an end")
	cmd.Flags().Uint16Var(&port, "port", 0, "TCP or UDP port of one end")
	cmd.Flags().StringVarP(&write, "write", "w", "", "file to write, - for standard output")
	cmd.RunE = action(func(context.Context, []string) error {
		f := flow.PacketFilter{Port: port}
		if from == "" || write == "" {
			return usage(errors.New("packets: give --from TIME and -w FILE"))
		}
		first, err := moment(from, g.now())
		if err != nil {
			return usage(err)
		}
		last, err := moment(to, g.now())
		if err != nil {
			return usage(err)
		}
		if f.From, f.To = first.UnixNano(), last.UnixNano(); f.From > f.To {
			return usage(errors.New("packets: --from is after --to"))
		}
		for _, h := range hosts {
			p, err := netip.ParsePrefix(h)
			if err != nil {
				a, err := netip.ParseAddr(h)
				if err != nil {
					return usage(fmt.Errorf("--host %s: it is neither an address nor a prefix", h))
				}
				p = netip.PrefixFrom(a, a.BitLen())
			}
			f.Hosts = append(f.Hosts, p)
		}
		c, err := g.load()
		if err != nil {
			return err
		}
		return cutPackets(g, packetDir(c.DataDir), write, f)
	})
	return cmd
}

func cutPackets(g *globals, dir, name string, f flow.PacketFilter) (err error) {
	out := io.Writer(g.stdout)
	if name != "-" {
		file, e := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if e != nil {
			return fmt.Errorf("packets: %w", e)
		}
		defer func() {
			if err = errors.Join(err, file.Close()); err != nil {
				os.Remove(name)
			}
		}()
		out = file
	}
	n, err := flow.CutPackets(dir, f, out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no packets are kept in %s: set flow.packet_ring_bytes, and capture", dir)
	case err == nil && n == 0:
		return errors.New("no such packet is kept: the time may be before what the bound holds, or was not captured")
	case err == nil:
		fmt.Fprintf(g.stderr, "packets %d\n", n)
	}
	return err
}
