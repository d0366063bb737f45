package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
)

// keep gives the lab a file, as Open does.
func (l *lab) keep(file string) *keeper {
	k := openKeeper(file, l.now, l.set, nil)
	k.add(l.decoder)
	return k
}

// write is save for whoever does not hold writing.
func (k *keeper) write() {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.save()
}

// A restart knows templates, sampling rates and the boot time at once. The templates are stale until the exporter sends them.
func TestKeeper(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates.json")
	l := newLab(t, Config{})
	k := l.keep(file)
	data := newMessage(10).set(256, u32(1, 2, 0)).set(257, u32(3, 4, 7)).bytes()
	l.send(newMessage(10).template(256, 8, 4, 12, 4, 48, 4).template(257, 8, 4, 12, 4, 48, 4).bytes())
	l.send(newMessage(10).options(300, 302, 4, 305, 4, 306, 4).set(300, u32(7, 1, 99)).bytes()) // sampler 7: 1 in 100
	l.send(newMessage(10).options(301, 144, 4, 34, 4).set(301, u32(1, 50)).bytes())             // anybody: 1 in 50
	want := l.send(data)
	if len(want) != 2 || want[0].Sampling != 50 || want[1].Sampling != 100 {
		t.Fatalf("before: %+v", want)
	}
	k.write()
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	l = newLab(t, Config{})
	k = l.keep(file)
	if n := k.note(); !strings.Contains(n, "4 templates of 1 exporters") {
		t.Errorf("note %q", n)
	}
	l.now += 3600 * sec
	got := l.send(data)
	for i := range got {
		got[i].First, got[i].Last = want[i].First, want[i].Last
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the restart (-want +got):\n%s", diff)
	}
	if s := l.status(1); s.Templates != 4 || s.StaleTemplates != 4 || l.decoder.stats.restoredTemplates.Get() != 4 || l.decoder.templates != 4 {
		t.Errorf("status %+v", s)
	}
	k.write()
	second, _ := os.ReadFile(file)
	later := fmt.Sprintf(`"seen":%d,"templates"`, l.now)
	if diff := cmp.Diff(strings.Replace(string(first), fmt.Sprintf(`"seen":%d,"templates"`, labNow), later, 1), string(second)); diff != "" {
		t.Errorf("saved again (-want +got):\n%s", diff)
	}
	l.send(newMessage(10).template(256, 8, 4, 12, 4, 48, 4).bytes())
	if s := l.status(1); s.StaleTemplates != 3 || l.decoder.stats.templateChanges.Get() != 0 {
		t.Errorf("after a refresh: %+v", s)
	}
}

// Data that a stale template cannot explain waits for the new one.
func TestStaleTemplateThatDoesNotFit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates.json")
	l := newLab(t, Config{})
	k := l.keep(file)
	l.send(newMessage(9).template(256, 8, 4, 12, 4).bytes())
	k.write()
	l = newLab(t, Config{})
	l.keep(file)
	if got := l.send(newMessage(9).set(256, u32(1, 2, 3)).bytes()); len(got) != 0 {
		t.Errorf("read by a template it does not fit: %+v", got)
	}
	if got := l.send(newMessage(9).template(256, 8, 4, 12, 4, 1, 4).bytes()); len(got) != 1 || got[0].Bytes != 3 {
		t.Errorf("got %+v", got)
	}
	if l.refused(partPadding) != 0 {
		t.Error("a rest was counted")
	}
}

// What cannot be read is set aside, said, and never written over; what is too old or wrong in it is not believed.
func TestKeeperFiles(t *testing.T) {
	l := newLab(t, Config{})
	good := filepath.Join(t.TempDir(), "templates.json")
	k := l.keep(good)
	l.send(goodV9())
	k.write()
	whole, _ := os.ReadFile(good)
	for name, c := range map[string]struct {
		file string
		note string
	}{
		"torn":   {string(whole[:len(whole)/2]), "torn"},
		"empty":  {"", "torn"},
		"newer":  {strings.Replace(string(whole), `"version":1`, `"version":2`, 1), "version 2, this program reads 1"},
		"no map": {"[1,2]", "torn"},
	} {
		file := filepath.Join(t.TempDir(), "templates.json")
		if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		l := newLab(t, Config{})
		k := l.keep(file)
		if n := k.note(); !strings.Contains(n, c.note) || !strings.Contains(n, "templates.json.bad") {
			t.Errorf("%s: note %q", name, n)
		}
		if b, err := os.ReadFile(file + ".bad"); err != nil || string(b) != c.file {
			t.Errorf("%s: not set aside: %v", name, err)
		}
		l.send(goodV9())
		k.write()
		if b, err := os.ReadFile(file); err != nil || !json.Valid(b) {
			t.Errorf("%s: the file after it: %v", name, err)
		}
	}
	for name, from := range map[string]string{
		"record": `"record":"A4QAAwAIAAQADAAEAAEABA=="`, "seen": `"seen":1694498816020000000`, "exporter": `"exporter":"192.0.2.1"`,
	} {
		if !strings.Contains(string(whole), from) {
			t.Fatalf("%s is not in %s", from, whole)
		}
		to := map[string]string{"record": `"record":"A4T//wAIAAQADAAEAAEABA=="`, "seen": `"seen":1`, "exporter": `"exporter":""`}[name]
		file := filepath.Join(t.TempDir(), "templates.json")
		if err := os.WriteFile(file, bytes.ReplaceAll(whole, []byte(from), []byte(to)), 0o600); err != nil {
			t.Fatal(err)
		}
		l := newLab(t, Config{})
		l.keep(file)
		l.send(newMessage(9).set(901, u32(1)).bytes())
		for _, s := range l.decoder.exportersStatus() {
			if s.Templates != 0 {
				t.Errorf("%s: believed: %+v", name, s)
			}
		}
	}
}

// The file is written five seconds after a change, an hour after a refresh, not otherwise, and at the end; a failure is said once.
func TestKeeperWrites(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "templates.json")
	l := newLab(t, Config{})
	k := l.keep(file)
	var said bytes.Buffer
	k.log = slog.New(slog.NewTextHandler(&said, nil))
	step := func(what string, now int64, want uint64) {
		t.Helper()
		k.tend(now)
		if n := k.writes.Get(); n != want {
			t.Errorf("%s: %d writes, want %d", what, n, want)
		}
	}
	step("nothing yet", labNow*2, 0)
	l.send(goodV9())
	at := k.changed.Load()
	step("a change, too early", at+4*sec, 0)
	step("a change", at+5*sec, 1)
	step("nothing since", at+7200*sec, 1)
	l.send(goodV9())
	at = k.seen.Load()
	step("a refresh, too early", at+3599*sec, 1)
	step("a refresh", at+3600*sec, 2)
	l.send(newMessage(9).options(300, 1, 4, 34, 4).set(300, u32(1, 50)).bytes())
	k.finish()
	k.finish()
	step("the end", 0, 3)
	l.send(newMessage(9).set(300, u32(1, 50)).bytes())
	if k.changed.Load() != 0 {
		t.Error("the same rate again is a change")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	k.write()
	k.write()
	if k.errors.Get() != 2 || strings.Count(said.String(), "cannot be kept") != 1 || k.changed.Load() == 0 {
		t.Errorf("%d errors, said %q", k.errors.Get(), said.String())
	}
}

// Exporters that are not heard in this run stay in the file, and a second socket's are written beside the first one's.
func TestKeeperOfSeveral(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates.json")
	l, other := newLab(t, Config{}), newLab(t, Config{})
	k := l.keep(file)
	k.add(other.decoder)
	l.send(goodV9())
	other.from = other.from.Next()
	other.send(goodV9())
	k.write()
	l = newLab(t, Config{})
	k = l.keep(file)
	l.send(newMessage(9).set(900, u32(1, 2, 3)).bytes()) // 192.0.2.2 is silent
	k.write()
	k = openKeeper(file, l.now, metrics.NewSet(), nil)
	if len(k.kept) != 2 || k.templates != 2 {
		t.Errorf("%d domains, %d templates", len(k.kept), k.templates)
	}
}

// FuzzTemplateFile opens any file, and decodes with what is in it.
func FuzzTemplateFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"domains":[{"exporter":"192.0.2.1","version":9,"domain":1,"rate":5,"samplers":{"3":7},"boot":5,"seen":1694498816020000000,"templates":[{"seen":1694498816020000000,"record":"A4QAAwAIAAQADAAEAAEABA=="}]}]}`))
	f.Add([]byte(`{"version":1,"domains":[null,{"exporter":"::1"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(t.TempDir(), "templates.json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l := newLab(t, Config{})
		k := l.keep(file)
		l.send(newMessage(9).set(901, u32(1, 2, 3)).bytes())
		if n := len(l.send(goodV9())); n != 1 && l.refused(partRate) == 0 {
			t.Errorf("a good datagram gave %d records", n)
		}
		if b, err := json.Marshal(k.snapshot()); err != nil || len(b) == 0 {
			t.Errorf("written: %v", err)
		}
	})
}

// A collector that is stopped and opened again reads the data of an exporter that has not sent its template since.
func TestRestart(t *testing.T) {
	c := Default()
	c.TemplateFile = filepath.Join(t.TempDir(), "templates.json")
	for _, d := range [][]byte{goodV9(), newMessage(9).set(900, u32(3, 4, 5)).bytes()} {
		_, all, notes := openLoopback(t, c, "127.0.0.1:0")
		seen := make(chan int, 1)
		stop := run(t, all[0], seen)
		conn, err := net.Dial("udp", all[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(d); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		select {
		case n := <-seen:
			if n != 1 {
				t.Errorf("%d records", n)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing was read; notes %q", notes)
		}
		stop()
	}
}
