package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/console"
)

// streamRig is a monitor that records, as a process: it can be killed.
type streamRig struct {
	*killRig
	random *rand.Rand
}

func newStreamRig(t *testing.T) *streamRig {
	return &streamRig{newKillRig(t), rand.New(rand.NewPCG(3, 1))}
}

// begin starts the monitor and waits until its engine answers.
func (s *streamRig) begin(args ...string) {
	s.t.Helper()
	s.log = &bytes.Buffer{}
	s.cmd = exec.Command(s.binary, append([]string{"run", "-c", filepath.Join(s.dir, "wharfwatch.yaml"), "--docker", "off"}, args...)...)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := console.Dial(s.t.Context(), filepath.Join(s.dir, "data"))
		if err == nil {
			conn.Close()
			s.command("containers")
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no answer: %v\n%s", err, s.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// end sends a signal and waits for the process; it returns what it said.
func (s *streamRig) end(signal os.Signal) string {
	s.t.Helper()
	s.cmd.Process.Signal(signal)
	err := s.cmd.Wait()
	s.cmd = nil
	if signal != syscall.SIGKILL && err != nil {
		s.t.Errorf("the monitor ended with %v:\n%s", err, s.log)
	}
	return s.log.String()
}

// tell exports the beacons of workloads [from, to) until each of them is an incident.
func (s *streamRig) tell(from, to int) {
	s.t.Helper()
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	for i := from; i < to; i++ {
		if _, err := conn.Write(s.beacon(i, s.random)); err != nil {
			s.t.Fatal(err)
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		known := s.command("incidents", "list", "--state", "all", "-o", "jsonl")
		missing := slices.ContainsFunc(s.services(from, to), func(w string) bool { return !strings.Contains(known, w) })
		if !missing {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not all of %v are incidents:\n%s\n%s", s.services(from, to), known, s.log)
		}
		// Event time goes on with the next datagram; this one is of a container that calls nobody else.
		if _, err := conn.Write(s.beacon(killWorkloads-1, s.random)[:24]); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *streamRig) services(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf(`"compose:kill/s%03d"`, i))
	}
	return out
}

// command runs a command line on the monitor's configuration, in this process.
func (s *streamRig) command(args ...string) string {
	s.t.Helper()
	var out, errs strings.Builder
	args = append(args, "-c", filepath.Join(s.dir, "wharfwatch.yaml"))
	if code := execute(s.t.Context(), args, strings.NewReader(""), &out, &errs, []string{"USER=ann"}); code != 0 {
		s.t.Fatalf("wharfwatch %s: exit code %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

// same checks that the recording gives the incidents of the state file, and twice the same bytes.
func (s *streamRig) same(record string) {
	s.t.Helper()
	live := lines(s.command("incidents", "list", "--state", "all", "-o", "jsonl"))
	first := s.command("replay", record)
	if again := s.command("replay", record); again != first {
		s.t.Errorf("two replays of %s differ:\n%s\n%s", record, first, again)
	}
	got := lines(first)
	for i := range max(len(live), len(got)) {
		if i >= len(live) || i >= len(got) || live[i] != got[i] {
			s.t.Fatalf("incident %d of %d and %d:\nlive   %s\nreplay %s", i, len(live), len(got), at(live, i), at(got, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "none"
}

// TestStream records a monitor over a clean end, over a person's work, over kill -9, and from a state file that knows a lot already. Each
// time the recording gives what the state file holds.
func TestStream(t *testing.T) {
	if testing.Short() {
		t.Skip("starting the monitor again and again is not short")
	}
	s := newStreamRig(t)
	one, two := filepath.Join(s.dir, "one"), filepath.Join(s.dir, "two")

	s.begin("--record", one)
	s.tell(0, 5)
	s.end(syscall.SIGTERM)
	s.same(one)

	// A person acknowledges one incident and allows another; the monitor goes on from there.
	id := func(service string) string {
		var i alerts.Incident
		if err := json.Unmarshal([]byte(s.command("incidents", "list", "--workload", "compose:kill/"+service, "-o", "jsonl")), &i); err != nil {
			t.Fatal(err)
		}
		return i.ID
	}
	s.command("incidents", "ack", id("s001"), "--comment", "looking")
	s.command("allow", "add", "--from", id("s002"), "--comment", "our updater")
	s.command("allow", "add", "--workload", "compose:kill/s009", "--comment", "a test")
	s.begin("--record", one)
	s.tell(5, 8)
	s.end(syscall.SIGKILL)
	s.begin("--record", one)
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		t.Fatal(err)
	}
	conn.Write(s.beacon(9, s.random)) // allowed: in the recording too
	conn.Close()
	s.tell(10, 12)
	if log := s.end(syscall.SIGTERM); !strings.Contains(log, "did not end by itself") {
		t.Errorf("the restart after a kill does not say so:\n%s", log)
	}
	s.same(one)
	if all := s.command("replay", one); strings.Contains(all, "compose:kill/s009") || !strings.Contains(all, `"state":"acknowledged"`) || !strings.Contains(all, `"verdict":"benign"`) {
		t.Errorf("what people did is missing in the replay:\n%s", all)
	}

	// Another recording begins when much is known.
	s.begin("--record", two)
	s.tell(12, 14)
	s.end(syscall.SIGTERM)
	s.same(two)

	t.Run("cut", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(two, "*.wws"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		whole, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		cut := write(t, filepath.Join(t.TempDir(), "cut.wws"), whole[:len(whole)-3])
		var out, errs strings.Builder
		if code := execute(t.Context(), []string{"replay", cut}, nil, &out, &errs, nil); code != 0 || !strings.Contains(out.String(), "s011") {
			t.Errorf("exit code %d, %d bytes\n%s", code, out.Len(), errs.String())
		}
		if !strings.Contains(errs.String(), "note: "+cut+" ends in the middle of a frame") {
			t.Errorf("no note:\n%s", errs.String())
		}
	})
	t.Run("stdin", func(t *testing.T) {
		files, _ := filepath.Glob(filepath.Join(two, "*.wws"))
		whole, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		code := execute(t.Context(), []string{"replay", "-"}, bytes.NewReader(whole), &out, &errs, nil)
		if code != 0 || out.String() != s.command("replay", two) {
			t.Errorf("a stream on standard input: exit code %d, %d bytes\n%s", code, out.Len(), errs.String())
		}
	})
	t.Run("learn", func(t *testing.T) {
		var out, errs strings.Builder
		data := filepath.Join(t.TempDir(), "learned")
		if code := execute(t.Context(), []string{"replay", "--learn", "--data-dir", data, one}, nil, &out, &errs, nil); code != 0 || out.Len() > 0 {
			t.Errorf("exit code %d, told %q\n%s", code, out.String(), errs.String())
		}
		if !strings.Contains(errs.String(), "learned ") || !strings.Contains(errs.String(), "findings 0\n") {
			t.Errorf("learning from a stream says:\n%s", errs.String())
		}
	})
}

// TestInventoryTwice starts a monitor on an inventory of privileged containers: what merely is there is one low report, at the first start
// and never again, even if that start was killed before it could save a baseline.
func TestInventoryTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("starting the monitor again and again is not short")
	}
	s := newStreamRig(t)
	s.inventoryOf(map[string]any{"Privileged": true, "NetworkMode": "host"})
	told := func() (n int) {
		for _, keys := range s.opens() {
			n += len(keys)
		}
		return n
	}
	for n, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGTERM} {
		s.begin("--set", "snapshot_interval=1h")
		if n == 0 {
			s.wait("the adoption report", func() bool { return told() == 1 })
		}
		log := s.end(signal)
		if n == 2 && !strings.Contains(log, "\nfindings 0\n") {
			t.Errorf("the third start finds something:\n%s", log)
		}
		all := lines(s.command("incidents", "list", "--state", "all", "-o", "jsonl"))
		if len(all) != 1 || !strings.Contains(all[0], `"severity":"low"`) || !strings.Contains(all[0], `"subject":"adoption"`) || !strings.Contains(all[0], `"count":1`) {
			t.Fatalf("start %d: %d incidents:\n%s", n, len(all), strings.Join(all, "\n"))
		}
	}
	if told() != 1 {
		t.Errorf("told %d times, want 1", told())
	}
}

// inventoryOf replaces the inventory by one of three containers with these settings.
func (s *streamRig) inventoryOf(settings map[string]any) {
	s.t.Helper()
	newSite(1, "a", "b", "c").inventory(s.t, filepath.Join(s.dir, "inventory.json"), settings)
}

func (s *streamRig) wait(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("no %s\n%s", what, s.log)
		}
		select {
		case <-s.inbox.changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
}
