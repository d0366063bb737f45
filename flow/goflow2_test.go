package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"
)

// goflow2Case names the hostile case that a child process decodes with goflow2.
const goflow2Case = "WHARFWATCH_TEST_GOFLOW2"

const (
	floodLimit = 64 << 20 // bytes: a child that has allocated so many for two datagrams of 30 bytes is stopped
	floodExit  = 42
)

// goflow2's own decoder, on the bytes of TestHostile: what it would cost to use it for more than framed template records. When one of these
// no longer holds, the library has changed, and what is built around it deserves another look.
func TestGoflow2OnHostile(t *testing.T) {
	if name := os.Getenv(goflow2Case); name != "" {
		goflow2Child(t, name)
	}
	for _, c := range hostile {
		number, _, _ := strings.Cut(c.name, " ")
		switch number {
		case "1", "2", "3", "4":
			t.Run(c.name, func(t *testing.T) { neverReturns(t, c.name) })
		case "5":
			t.Run(c.name, func(t *testing.T) {
				for _, s := range c.sent {
					b := hostileBytes(t, s)
					if used := allocated(func() { goflow2Decode(netflow.CreateTemplateSystem(), b) }); used < 128<<10 {
						t.Errorf("%d bytes allocated for %d received", used, len(b))
					}
				}
			})
		case "14":
			t.Run(c.name, func(t *testing.T) {
				sets, err := goflow2Decode(netflow.CreateTemplateSystem(), hostileBytes(t, c.sent[0]))
				if err == nil || sets != 1 {
					t.Errorf("%d sets, error %v: the good set behind the reserved one is not lost any more", sets, err)
				}
			})
		case "16":
			t.Run(c.name, func(t *testing.T) {
				var p netflowlegacy.PacketNetFlowV5
				b := hostileBytes(t, c.sent[0])
				err := netflowlegacy.DecodeMessageVersion(bytes.NewBuffer(b), &p)
				if err != nil || len(p.Records) != 65535 {
					t.Errorf("%d records of %d bytes, error %v", len(p.Records), len(b), err)
				}
			})
		}
	}
}

func goflow2Decode(templates netflow.NetFlowTemplateSystem, b []byte) (sets int, err error) {
	var v9 netflow.NFv9Packet
	var ipfix netflow.IPFIXPacket
	err = netflow.DecodeMessageVersion(bytes.NewBuffer(b), templates, &v9, &ipfix)
	return len(v9.FlowSets) + len(ipfix.FlowSets), err
}

// neverReturns decodes in a child process, which ends itself when it has allocated too much: there is no other way out of the loop.
func neverReturns(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestGoflow2OnHostile$")
	child.Env = append(os.Environ(), goflow2Case+"="+name, "GOMAXPROCS=2")
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != floodExit {
		t.Errorf("goflow2 came back, or ended otherwise: %v\n%s", err, out)
	}
}

func goflow2Child(t *testing.T, name string) {
	for _, c := range hostile {
		if c.name != name {
			continue
		}
		go func() {
			for range time.Tick(time.Millisecond) {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				if m.TotalAlloc > floodLimit {
					fmt.Println("stopped after", m.TotalAlloc, "bytes")
					os.Exit(floodExit)
				}
			}
		}()
		templates := netflow.CreateTemplateSystem()
		for _, s := range c.sent {
			sets, err := goflow2Decode(templates, hostileBytes(t, s))
			fmt.Println("came back with", sets, "sets, error", err)
		}
	}
	os.Exit(0)
}
