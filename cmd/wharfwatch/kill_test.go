package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/rig"
	"github.com/wharfwatch/wharfwatch/state"
)

const (
	killWorkloads = 400
	killInterval  = time.Second // of snapshots
)

// TestKill kills the monitor at random moments (WHARFWATCH_KILLS of them, 20 without) while beacons are found. What was accepted, which is
// what the state file or a receiver has seen, must survive; no incident may open twice at a receiver that deduplicates by the given key;
// and learning may lose the snapshot interval, no more, and must say so.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: kills the monitor again and again")
	}
	kills := 20
	if n, err := strconv.Atoi(os.Getenv("WHARFWATCH_KILLS")); err == nil {
		kills = n
	}
	k := newKillRig(t)
	random := rand.New(rand.NewPCG(1, uint64(kills)))
	start := time.Now()
	for n := range kills {
		k.start(n)
		k.feed(time.Duration(random.IntN(3500))*time.Millisecond, random)
		k.kill()
		k.accept()
		if n%10 == 9 {
			t.Logf("%3d kills, %5.1f s: %d findings accepted, %d opens at the receiver", n+1, time.Since(start).Seconds(), len(k.accepted), len(k.opens()))
		}
	}
	if len(k.accepted) < kills/4 {
		t.Fatalf("%d findings in %d rounds: the kills met nothing", len(k.accepted), kills)
	}

	k.start(kills)
	deadline := time.Now().Add(90 * time.Second)
	for len(k.opens()) < len(k.accepted) && time.Now().Before(deadline) {
		select {
		case <-k.inbox.changed:
		case <-time.After(time.Second):
		}
	}
	k.kill()
	k.accept()
	opens := k.opens()
	for id, workload := range k.accepted {
		switch keys := opens[workload]; len(keys) {
		case 0:
			t.Errorf("finding %s of %s was accepted and never told", id, workload)
		case 1:
		default:
			t.Errorf("%s was opened under %d keys: %v", workload, len(keys), keys)
		}
	}
	t.Logf("kills %d, findings accepted %d, lost 0, opened twice 0, longest loss of learning %.1f s (snapshot interval %s)", kills, len(k.accepted), k.longest.Seconds(), killInterval)
}

// killRig is a monitor that takes NetFlow on loopback and tells a PagerDuty receiver.
type killRig struct {
	t        *testing.T
	dir      string
	binary   string
	port     int
	inbox    *inbox
	cmd      *exec.Cmd
	log      *bytes.Buffer
	accepted map[string]string // finding id → workload
	killed   time.Time
	longest  time.Duration
	sequence uint32
}

func newKillRig(t *testing.T) *killRig {
	binary, err := rig.ActorBinary()
	if err != nil {
		t.Fatal(err)
	}
	k := &killRig{t: t, dir: t.TempDir(), binary: binary, inbox: newInbox(), accepted: map[string]string{}}
	if k.inbox.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: k.inbox}
	go server.Serve(k.inbox.listener)
	t.Cleanup(func() { server.Close() })
	t.Cleanup(func() {
		if k.cmd != nil {
			k.cmd.Process.Kill()
			k.cmd.Wait()
		}
	})
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k.port = free.LocalAddr().(*net.UDPAddr).Port
	free.Close()

	type object = map[string]any
	var inventory []object
	for i := range killWorkloads {
		service := fmt.Sprintf("s%03d", i)
		inventory = append(inventory, object{
			"Id": fmt.Sprintf("%064x", i+1), "Name": "/kill-" + service + "-1", "Created": "2020-01-01T00:00:00Z",
			"State":      object{"Running": true, "StartedAt": "2020-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"},
			"Config":     object{"Image": "acme/" + service + ":1", "Labels": object{"com.docker.compose.project": "kill", "com.docker.compose.service": service}},
			"HostConfig": object{"NetworkMode": "kill"},
			"NetworkSettings": object{"Networks": object{"kill": object{
				"IPAddress": fmt.Sprintf("10.77.%d.%d", i/200, i%200+10), "NetworkID": strings.Repeat("a", 64),
			}}},
		})
	}
	text, err := json.Marshal(inventory)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
data_dir: %[1]s/data
snapshot_interval: %[2]s
flow: {netflow: ["127.0.0.1:%[3]d"], interfaces: ["off"]}
enrich: {inventory: %[1]s/inventory.json}
console: {listen: "off"}
alerts:
  group_wait: 0s
  pagerduty: [{name: pagerduty, min_severity: info, routing_key: 0123456789abcdef0123456789abcdef, url: "http://%[4]s/kill/pagerduty"}]
`, k.dir, killInterval, k.port, k.inbox.listener.Addr())
	for name, text := range map[string][]byte{"inventory.json": text, "wharfwatch.yaml": []byte(config)} {
		if err := os.WriteFile(filepath.Join(k.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// start runs the monitor and waits until its control socket answers. Every start but the first says what learning was lost.
func (k *killRig) start(n int) {
	k.t.Helper()
	k.log = &bytes.Buffer{}
	k.cmd = exec.Command(k.binary, "run", "-c", filepath.Join(k.dir, "wharfwatch.yaml"), "--docker", "off")
	k.cmd.Stderr = k.log
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := console.Dial(k.t.Context(), filepath.Join(k.dir, "data"))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			k.cmd.Process.Kill()
			k.cmd.Wait()
			k.t.Fatalf("start %d: no answer: %v\n%s", n, err, k.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// kill ends the monitor with SIGKILL and reads from its log what it said about lost learning.
func (k *killRig) kill() {
	before := k.killed
	k.killed = time.Now()
	k.cmd.Process.Kill()
	k.cmd.Wait()
	k.cmd = nil
	for _, line := range strings.Split(k.log.String(), "\n") {
		var said struct {
			Msg  string
			From time.Time
		}
		if json.Unmarshal([]byte(line), &said) != nil || !strings.Contains(said.Msg, "did not end by itself") {
			continue
		}
		lost := before.Sub(said.From)
		k.longest = max(k.longest, lost)
		// Event time runs a second and a tick behind the clock, and a round of snapshots takes its time.
		if lost > killInterval+4*time.Second {
			k.t.Errorf("learning lost %s before the kill, with a snapshot every %s", lost, killInterval)
		}
		return
	}
	if !before.IsZero() {
		k.t.Errorf("a restart after a kill does not say what learning was lost:\n%s", k.log)
	}
}

// accept reads what is durable; whatever was durable before must still be.
func (k *killRig) accept() {
	k.t.Helper()
	db, err := state.OpenReadOnly(filepath.Join(k.dir, "data"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Read().Query("SELECT id, workload FROM finding")
	if err != nil {
		k.t.Fatal(err)
	}
	defer rows.Close()
	now := map[string]string{}
	for rows.Next() {
		var id, workload string
		if err := rows.Scan(&id, &workload); err != nil {
			k.t.Fatal(err)
		}
		now[id] = workload
	}
	for id, workload := range k.accepted {
		if now[id] == "" {
			k.t.Errorf("finding %s of %s was durable before the kill and is lost", id, workload)
		}
	}
	told := map[string]bool{}
	for _, workload := range now {
		told[workload] = true
	}
	for workload := range k.opens() {
		if !told[workload] {
			k.t.Errorf("%s was told to the receiver and is not in the state file", workload)
		}
	}
	k.accepted = now
}

// opens are the dedup keys that the receiver saw triggered, by workload.
func (k *killRig) opens() map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, l := range k.inbox.letters("kill", "pagerduty") {
		var e struct {
			Action  string `json:"event_action"`
			Dedup   string `json:"dedup_key"`
			Payload struct{ Source, Component string }
		}
		if json.Unmarshal(l.body, &e) != nil || e.Action != "trigger" {
			continue
		}
		workload := e.Payload.Source
		if !strings.Contains(workload, ":") {
			workload = e.Payload.Component
		}
		if out[workload] == nil {
			out[workload] = map[string]bool{}
		}
		out[workload][e.Dedup] = true
	}
	return out
}

// feed exports the beacons of one workload after the other that has not been found yet, as NetFlow v5.
func (k *killRig) feed(limit time.Duration, random *rand.Rand) {
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", k.port))
	if err != nil {
		k.t.Fatal(err)
	}
	defer conn.Close()
	known := map[string]bool{}
	for _, workload := range k.accepted {
		known[workload] = true
	}
	end := time.Now().Add(limit)
	for i := range killWorkloads {
		if time.Now().After(end) {
			return
		}
		if known[fmt.Sprintf("compose:kill/s%03d", i)] {
			continue
		}
		if _, err := conn.Write(k.beacon(i, random)); err != nil {
			k.t.Fatal(err)
		}
		time.Sleep(90 * time.Millisecond)
	}
	time.Sleep(time.Until(end))
}

// beacon is a v5 datagram with 24 calls of one container, a minute apart, the last one just over.
func (k *killRig) beacon(i int, random *rand.Rand) []byte {
	const beats, uptime = 24, 2 * 3600 * 1000
	now := time.Now()
	d := binary.BigEndian.AppendUint16(nil, 5)
	d = binary.BigEndian.AppendUint16(d, beats)
	d = binary.BigEndian.AppendUint32(d, uptime)
	d = binary.BigEndian.AppendUint32(d, uint32(now.Unix()))
	d = binary.BigEndian.AppendUint32(d, uint32(now.Nanosecond()))
	d = binary.BigEndian.AppendUint32(d, k.sequence)
	d = append(d, 0, 0, 0, 0)
	k.sequence += beats
	for b := range beats {
		first := uint32(uptime - 3000 - (beats-1-b)*60_000 + random.IntN(6000) - 3000)
		r := make([]byte, 48)
		copy(r, []byte{10, 77, byte(i / 200), byte(i%200 + 10), 203, 0, byte(113 + i/250), byte(i%250 + 1)})
		binary.BigEndian.PutUint32(r[16:], 8)
		binary.BigEndian.PutUint32(r[20:], 900)
		binary.BigEndian.PutUint32(r[24:], first)
		binary.BigEndian.PutUint32(r[28:], first+200)
		binary.BigEndian.PutUint16(r[32:], uint16(30_000+b))
		binary.BigEndian.PutUint16(r[34:], 443)
		r[37], r[38] = 0x1b, 6
		d = append(d, r...)
	}
	return d
}
