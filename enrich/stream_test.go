package enrich

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/flow"
)

func TestEventRoundTrip(t *testing.T) {
	c := &Container{
		ID: "x", Name: "n", Engine: "e", Workload: "name:n", Image: "i", ImageID: "sha256:0", Created: 1, Started: 2, Finished: 3, Running: true,
		NetworkMode: "bridge", Command: []string{"a", "b c"}, Labels: []Label{{"wharfwatch.x", "y"}}, Ports: []Port{{addr("127.0.0.1"), 1, 2, 6}},
		Attachments: []Attachment{{NetworkID: "id", Network: "bridge", Addrs: []flow.Addr{addr("10.0.0.1"), addr("fd00::1")}, Bits: []int{24, 64}, Gateways: []flow.Addr{addr("10.0.0.254")}, MAC: "02:42:0a:00:00:01"}},
		Posture: Posture{
			Privileged: true, CapAdd: []string{"ALL"}, PidMode: "host", IpcMode: "host", UTSMode: "host", UsernsMode: "host", CgroupnsMod: "host",
			SecurityOpt: []string{"seccomp=unconfined"}, Devices: []string{"/dev/mem"}, Mounts: []Mount{{"/", "/h", true}}, Runtime: "r", LocalImage: true,
		},
	}
	binding := Binding(c.Attachments[0])
	for _, e := range []Event{
		{Time: 1, Kind: Connected, Engine: "e", Container: c, Binding: &binding, Detail: "list"},
		{Time: -1, Kind: Disconnect, Engine: "e", Container: c, Binding: &Binding{NetworkID: "id"}},
		{Time: 1 << 62, Kind: Progress, Engine: "e"},
		{Kind: Exec, Detail: "sh -c \"<&>\u2028\n"},
	} {
		b, err := EncodeEvent(&e)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsRune(b, '\n') {
			t.Errorf("a line feed in %q", b)
		}
		got, err := DecodeEvent(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", e.Kind, d)
		}
	}
}

func TestDecodeEventRefuses(t *testing.T) {
	for in, want := range map[string]string{"": "unexpected end", "{}": "no kind", `{"kind":3}`: "decode event", `{"kind":"x","binding":{"addrs":["no"]}}`: "decode event"} {
		if _, err := DecodeEvent([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", in, err, want)
		}
	}
	if e, err := DecodeEvent([]byte(`{"kind":"newer","more":1}`)); err != nil || e.Kind != "newer" {
		t.Errorf("a newer version's event: %+v, %v", e, err)
	}
}

// FuzzDecodeEvent: what is decoded encodes to what decodes to the same.
func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(`{"time":1,"kind":"connected","engine":"e","container":{"id":"x","posture":{}},"binding":{"network_id":"n","network":"","addrs":["10.0.0.1"]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := DecodeEvent(in)
		if err != nil {
			return
		}
		b, err := EncodeEvent(&e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeEvent(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if c, _ := EncodeEvent(&again); string(c) != string(b) {
			t.Fatalf("encoded again:\n%s\nfirst:\n%s", c, b)
		}
	})
}
