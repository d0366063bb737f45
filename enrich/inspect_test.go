package enrich

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/flow"
)

// fixture returns what a real engine says of its containers, by name.
func fixture(t testing.TB) map[string]*Container {
	t.Helper()
	data, err := os.ReadFile("testdata/inventory.json")
	if err != nil {
		t.Fatal(err)
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	out := map[string]*Container{}
	for _, r := range raw {
		c, err := decodeInspect(r, "test", "", habits{cgroupHost: true})
		if err != nil {
			t.Fatal(err)
		}
		out[c.Name] = c
	}
	return out
}

func TestInspectRealEngine(t *testing.T) {
	all := fixture(t)
	worker := all["shop-worker-1"]
	if worker == nil || len(all) != 7 {
		t.Fatalf("%d containers, want 7 with shop-worker-1", len(all))
	}
	if worker.Workload != "compose:shop/worker" || worker.Image != "acme/worker:1.8" || worker.NetworkMode != "bridge" || !worker.Running ||
		worker.Started == 0 || worker.Started < worker.Created || worker.Finished != 0 || !strings.HasPrefix(worker.ImageID, "sha256:") {
		t.Errorf("shop-worker-1 is %+v", worker)
	}
	wantPorts := []Port{
		{HostIP: addr("127.0.0.1"), Host: 8080, Container: 80, Proto: 6},
		{Host: 53, Container: 53, Proto: 17},
	}
	if d := cmp.Diff(wantPorts, worker.Ports); d != "" {
		t.Errorf("ports (-want +got):\n%s", d)
	}
	if d := cmp.Diff(Posture{}, worker.Posture); d != "" {
		t.Errorf("posture of a default container (-want +got):\n%s", d)
	}
	at := worker.Attachments[0]
	if len(worker.Attachments) != 1 || at.Network != "bridge" || len(at.NetworkID) != 64 || at.MAC == "" ||
		!cmp.Equal(at.Addrs, []flow.Addr{addr("172.29.0.2"), addr("fd00:29::242:ac1d:2")}) || !cmp.Equal(at.Bits, []int{16, 64}) ||
		!cmp.Equal(at.Gateways, []flow.Addr{addr("172.29.0.1"), addr("fd00:29::1")}) {
		t.Errorf("attachments of shop-worker-1 are %+v", worker.Attachments)
	}
	if n := len(all["two-homed"].Attachments); n != 2 {
		t.Errorf("two-homed has %d attachments", n)
	}
	if d := cmp.Diff(Posture{
		CapAdd: []string{"NET_ADMIN", "SYS_PTRACE"}, IpcMode: "host", UTSMode: "host",
		SecurityOpt: []string{"seccomp=unconfined", "systempaths=unconfined"}, Devices: []string{"/dev/null", "cgroup rule c 42:* rmw"},
	}, all["sniffer"].Posture); d != "" {
		t.Errorf("posture of sniffer (-want +got):\n%s", d)
	}
	if d := cmp.Diff(Posture{
		Privileged: true, PidMode: "host",
		Mounts: []Mount{{Source: "/", Destination: "/host", RW: true}, {Source: "/var/run", Destination: "/r"}},
	}, all["agent"].Posture); d != "" {
		t.Errorf("posture of agent (-want +got):\n%s", d)
	}
	if !all["agent"].HostNetwork() || all["agent"].Running || all["never"].Started != 0 {
		t.Errorf("agent is %+v, never is %+v", all["agent"], all["never"])
	}
	if done := all["done"]; done.Running || done.Finished <= done.Started || len(done.Attachments[0].Addrs) != 0 {
		t.Errorf("done is %+v", done)
	}
	for name, c := range all {
		if text, _ := json.Marshal(c); strings.Contains(string(text), "hunter2") {
			t.Errorf("%s shows its environment", name)
		}
		if generatedName(name) && c.NetworkMode != "container:"+worker.ID {
			t.Errorf("%s has network mode %s", name, c.NetworkMode)
		}
	}
}

func addr(s string) flow.Addr {
	a, err := flow.ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

func TestPosture(t *testing.T) {
	f := func(hostConfig string, is habits, want Posture) {
		t.Helper()
		c, err := decodeInspect([]byte(`{"Id":"x","HostConfig":`+hostConfig+`}`), "", "", is)
		if err != nil {
			t.Errorf("%s: %v", hostConfig, err)
			return
		}
		if d := cmp.Diff(want, c.Posture); d != "" {
			t.Errorf("%s (-want +got):\n%s", hostConfig, d)
		}
	}
	f(`{}`, habits{}, Posture{})
	f(`{"CapAdd":["cap_net_raw","ALL","net_raw","NET_ADMIN"]}`, habits{}, Posture{CapAdd: []string{"ALL", "NET_ADMIN", "NET_RAW"}})
	f(`{"IpcMode":"private","UsernsMode":"private","CgroupnsMode":"private","Runtime":"runc"}`, habits{}, Posture{})
	f(`{"IpcMode":"shareable","CgroupnsMode":"host","Runtime":"kata"}`, habits{runtime: "kata", cgroupHost: true}, Posture{})
	f(`{"IpcMode":"container:abc","CgroupnsMode":"host","Runtime":"runsc"}`, habits{}, Posture{IpcMode: "container:abc", CgroupnsMod: "host", Runtime: "runsc"})
	f(`{"SecurityOpt":["seccomp:unconfined","apparmor=unconfined","no-new-privileges:true","seccomp=unconfined"]}`, habits{},
		Posture{SecurityOpt: []string{"apparmor=unconfined", "seccomp=unconfined"}})
	f(`{"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}","label=disable"]}`, habits{}, Posture{SecurityOpt: []string{"label=disable", "seccomp=custom"}})
	f(`{"Privileged":true,"SecurityOpt":["label=disable"],"MaskedPaths":[]}`, habits{}, Posture{Privileged: true})
	f(`{"MaskedPaths":null}`, habits{}, Posture{})
	f(`{"MaskedPaths":[]}`, habits{}, Posture{SecurityOpt: []string{"systempaths=unconfined"}})
	f(`{"Binds":["/a:/b","/c:/d:ro,z","volume:/e"]}`, habits{}, Posture{Mounts: []Mount{{"/a", "/b", true}, {"/c", "/d", false}}})
	f(`{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true},{"Type":"tmpfs","Target":"/t"},
		{"Type":"volume","Source":"v","Target":"/v","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"none","o":"bind","device":"/etc"}}}}]}`, habits{},
		Posture{Mounts: []Mount{{"/a", "/b", false}, {"/etc", "/v", true}}})
	f(`{"Devices":[{"PathOnHost":"/dev/mem"},{"PathOnHost":"/dev/kmem"}]}`, habits{}, Posture{Devices: []string{"/dev/kmem", "/dev/mem"}})
}

func TestInspectRefuses(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                               "no Id",
		`{"Id":`:                           "unexpected end",
		`{"Id":"x","Created":"yesterday"}`: "Created",
		`{"Id":"x","State":{"StartedAt":"9999-01-01T00:00:00Z"}}`:      "out of range",
		`{"Id":"x","State":{"FinishedAt":"2020-01-01 00:00:00"}}`:      "State.FinishedAt",
		`{"Id":"x","Config":{"Labels":["a"]}}`:                         "cannot unmarshal array",
		`{"Id":"x","NetworkSettings":{"Networks":{"a":"172.17.0.2"}}}`: "cannot unmarshal string",
	} {
		if _, err := decodeInspect([]byte(in), "", "", habits{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
}

func TestInspectOldRun(t *testing.T) {
	c, err := decodeInspect([]byte(`{"Id":"x","State":{"Running":true,"StartedAt":"2026-01-02T00:00:00Z","FinishedAt":"2026-01-01T00:00:00Z"},
		"NetworkSettings":{"IPAddress":"172.17.0.9","IPPrefixLen":16}}`), "", "", habits{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Finished != 0 {
		t.Errorf("finished at %d, which was an earlier run", c.Finished)
	}
	if len(c.Attachments) != 1 || !cmp.Equal(c.Attachments[0].Addrs, []flow.Addr{addr("172.17.0.9")}) {
		t.Errorf("the address outside of Networks gives %+v", c.Attachments)
	}
}

func TestClean(t *testing.T) {
	f := func(in string, limit int, want string) {
		t.Helper()
		if got := clean(in, limit); got != want {
			t.Errorf("clean(%q, %d) = %q, want %q", in, limit, got, want)
		}
	}
	f("plain text", 100, "plain text")
	f("a\x00b\r\nc\td\x1b[31m", 100, "abcd[31m")
	f("right\u202eleft\u2028\u200b", 100, "rightleft")
	f("ünïcödé", 100, "ünïcödé")
	f("ünïcödé", 4, "ün")
	f("bad\xff\xfeutf", 100, "bad\uFFFDutf")
	f(strings.Repeat("x", 1000), 10, "xxxxxxxxxx")
	f("", 10, "")
}

// FuzzInspect: whatever an engine (or an attacker's labels in it) says, what comes out is bounded, clean and survives a recorded
// stream.
func FuzzInspect(f *testing.F) {
	data, err := os.ReadFile("testdata/inventory.json")
	if err != nil {
		f.Fatal(err)
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		f.Fatal(err)
	}
	for _, r := range raw {
		var small bytes.Buffer
		if err := json.Compact(&small, r); err != nil {
			f.Fatal(err)
		}
		f.Add(small.Bytes())
	}
	f.Add([]byte(`{"Id":"x","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"0"}],"x":[{}]},"Binds":["::","/",""]},"Mounts":[{}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := decodeInspect(in, "engine", "scope", habits{})
		if err != nil {
			return
		}
		texts := []string{c.ID, c.Name, c.Workload, c.Image, c.ImageID, c.NetworkMode, c.Posture.PidMode, c.Posture.Runtime}
		for _, l := range c.Labels {
			texts = append(texts, l.Key, l.Value)
		}
		for _, m := range c.Posture.Mounts {
			texts = append(texts, m.Source, m.Destination)
		}
		for _, list := range [][]string{c.Command, c.Posture.CapAdd, c.Posture.SecurityOpt, c.Posture.Devices} {
			if len(list) > maxFacts {
				t.Fatalf("%d entries", len(list))
			}
			texts = append(texts, list...)
		}
		if c.ID == "" || c.Workload == "" || len(c.Labels) > maxLabels || len(c.Ports) > maxPorts || len(c.Attachments) > maxAttachments {
			t.Fatalf("unbounded or empty: %+v", c)
		}
		for _, s := range texts {
			if len(s) > 1024 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Fatalf("text is not clean: %q", s)
			}
		}
		for _, at := range c.Attachments {
			if len(at.Bits) != len(at.Addrs) {
				t.Fatalf("%d prefix lengths for %d addresses", len(at.Bits), len(at.Addrs))
			}
		}
		b, err := EncodeEvent(&Event{Kind: Listed, Container: c})
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeEvent(b)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := EncodeEvent(&back); string(again) != string(b) {
			t.Fatalf("encoded again:\n%s\nfirst:\n%s", again, b)
		}
	})
}
