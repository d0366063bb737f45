package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Packets that a monitor kept are cut into a file; what cannot be is said, and leaves no file behind.
func TestPackets(t *testing.T) {
	c := &cli{t: t, data: t.TempDir()}
	out := filepath.Join(c.data, "out.pcapng")
	_, errs := c.run(3, "packets", "--from", "2023-01-01T00:00:00Z", "-w", out)
	c.contains(errs, "no packets are kept", "flow.packet_ring_bytes")
	for _, args := range [][]string{{"packets"}, {"packets", "--from", "10m"}, {"packets", "--from", "1m", "--to", "2m", "-w", out}, {"packets", "--from", "x", "-w", out}, {"packets", "--from", "1m", "-w", out, "--host", "web"}} {
		c.run(2, args...)
	}
	if err := os.Mkdir(packetDir(c.data), 0o700); err != nil {
		t.Fatal(err)
	}
	// Little-endian pcap in nanoseconds, one frame of 14 bytes without IP, 100 s after the epoch.
	file := "\x4d\x3c\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00" +
		"\x64\x00\x00\x00\x00\x00\x00\x00\x0e\x00\x00\x00\x0e\x00\x00\x00" + "abcdefghijkl\x08\x06"
	name := filepath.Join(packetDir(c.data), "0000000100000000000-0000000100000000000-1.pcap")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs = c.run(0, "packets", "--from", "1970-01-01T00:00:00Z", "-w", out)
	c.contains(errs, "packets 1")
	if b, err := os.ReadFile(out); err != nil || len(b) < 100 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	_, errs = c.run(3, "packets", "--from", "1970-01-01T00:00:00Z", "--host", "192.0.2.1", "-w", out)
	c.contains(errs, "no such packet")
	if _, err := os.Stat(out); err == nil {
		t.Error("an empty file is left behind")
	}
}
