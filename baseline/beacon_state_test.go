package baseline

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/flow"
)

// A snapshot at any moment, restored into a new engine, changes nothing that is told afterwards.
func TestBeaconStateRoundTrip(t *testing.T) {
	c := Default()
	c.Learning = Learning{Hours: 1, ActiveHours: 1, MaxWorkloads: 100}
	c.Beacon.MaxKeysPerWorkload = 4
	noise := box("noise", "name:noise", "")
	var spray []call
	for i := range 600 {
		spray = append(spray, call{from: noise, addr: fmt.Sprintf("198.18.%d.%d", i%7, i%11), port: 80, proto: flow.TCP, at: int64(i) * 11 * sec, sent: 100, recv: 1})
	}
	late := call{from: noise, addr: "203.0.113.77", port: 4444, at: 4000 * sec, sent: 300, recv: 300}
	calls := inOrder(scene(7000), spray, every(late, 20, .4, 3000, 8),
		every(call{from: noise, addr: "203.0.113.70", port: 443, sent: 300, recv: 300, name: "a.example.org"}, 30, .4, 7000, 9))
	text := func(findings []Finding) string {
		out, err := json.Marshal(findings)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	want := text(told(c, calls))
	if again := text(told(c, calls)); again != want {
		t.Fatal("two runs differ (-first +second)\n" + gocmp.Diff(want, again))
	}
	if strings.Count(want, `"id"`) < 3 {
		t.Fatalf("too little is told for this test: %s", want)
	}
	r := rand.New(rand.NewPCG(6, 6))
	for round := range 4 {
		store := map[[2]string][]byte{}
		var got []Finding
		report := func(f Finding) { got = append(got, f) }
		e := New(c, nil, report)
		restarts := 0
		feed(e, calls, func(i int) *Engine {
			if r.IntN(len(calls)/(8<<round)) != 0 {
				return e
			}
			restarts++
			for n := 1; n > 0; { // a few keys at a time, as the snapshots do
				n = 0
				e.Dirty(3, func(detector, key string, blob []byte) bool {
					n++
					store[[2]string{detector, key}] = slices.Clone(blob)
					return true
				})
			}
			now := e.env.now
			e = New(c, nil, report)
			for k, blob := range store {
				if len(blob) == 0 {
					continue
				}
				if err := e.Restore(k[0], k[1], blob); err != nil {
					t.Fatal(err)
				}
			}
			e.env.now = now
			return e
		})
		if text(got) != want {
			t.Fatalf("%d restarts change what is told (-without +with)\n%s", restarts, gocmp.Diff(want, text(got)))
		}
	}
}

func TestBeaconRestoreRefusesTornBlobs(t *testing.T) {
	var blobs [][2]string
	e := New(Default(), nil, func(Finding) {})
	feed(e, scene(300), nil)
	e.Gap(flow.Gap{From: morning, To: morning + sec})
	e.Dirty(1000, func(detector, key string, blob []byte) bool {
		if detector == "beacon" {
			blobs = append(blobs, [2]string{key, string(blob)})
		}
		return true
	})
	if len(blobs) < 5 {
		t.Fatalf("only %d blobs", len(blobs))
	}
	for _, b := range blobs {
		for n := range b[1] {
			if err := New(Default(), nil, func(Finding) {}).Restore("beacon", b[0], []byte(b[1][:n])); err == nil {
				t.Fatalf("%q cut to %d of %d bytes is taken", b[0], n, len(b[1]))
			}
		}
	}
}

func FuzzBeaconRestore(f *testing.F) {
	e := New(Default(), nil, func(Finding) {})
	feed(e, scene(200), nil)
	e.Dirty(1000, func(detector, key string, blob []byte) bool {
		f.Add(key == "", blob)
		return true
	})
	f.Fuzz(func(t *testing.T, global bool, blob []byte) {
		e := New(Default(), nil, func(Finding) {})
		key := "name:w"
		if global {
			key = ""
		}
		if e.Restore("beacon", key, blob) != nil {
			return
		}
		feed(e, every(call{from: box("w", "name:w", ""), addr: "203.0.113.9", port: 443}, 1, 0, 40, 1), nil)
		e.Dirty(10, func(string, string, []byte) bool { return true })
	})
}
