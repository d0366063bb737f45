package baseline

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// blobsOf is everything that an engine would put for one detector, by key.
func blobsOf(e *Engine, detector string) map[string][]byte {
	out := map[string][]byte{}
	e.Dirty(1<<30, func(d, key string, blob []byte) bool {
		if d == detector {
			out[key] = slices.Clone(blob)
		}
		return true
	})
	return out
}

// checkRoundTrip restores what an engine put into a new one and holds that the new one would put the same, and that torn blobs are
// refused.
func checkRoundTrip(t *testing.T, e *Engine, detector string, dirty func(*Engine)) {
	t.Helper()
	want := blobsOf(e, detector)
	if len(want) == 0 {
		t.Fatalf("%s put nothing", detector)
	}
	again := New(Default(), nil, func(Finding) {})
	for key, blob := range want {
		for n := range blob {
			if err := New(Default(), nil, func(Finding) {}).Restore(detector, key, blob[:n]); err == nil {
				t.Errorf("%s %q: a blob cut to %d of %d bytes is taken", detector, key, n, len(blob))
			}
		}
		if err := again.Restore(detector, key, blob); err != nil {
			t.Fatalf("%s %q: %v", detector, key, err)
		}
	}
	dirty(again)
	if diff := cmp.Diff(want, blobsOf(again, detector)); diff != "" {
		t.Errorf("%s (-put +put again):\n%s", detector, diff)
	}
}

// detectorOf is the running detector of a type.
func detectorOf[T Detector](e *Engine) (out T) {
	for _, d := range e.detectors {
		if v, ok := d.Detector.(T); ok {
			out = v
		}
	}
	return out
}

// touchAll makes everything that a memory holds dirty.
func touchAll[T any](m *memory[T]) {
	for _, s := range m.byIndex {
		if s != nil {
			m.touch(s)
		}
	}
}

func TestIdles(t *testing.T) {
	f := func(command string, want bool) {
		t.Helper()
		if got := idles(strings.Split(command, "|")); got != want {
			t.Errorf("%q: %v, want %v", command, got, want)
		}
	}
	f("sh|-c|sleep 3600", true)
	f("sleep|infinity", true)
	f("/bin/sleep|1d", true)
	f("tini|--|sleep|infinity", true)
	f("tail|-f|/dev/null", true)
	f("/bin/sh|-c|while true; do sleep 1000; done", true)
	f("bash|-c|exec sleep 3600", true)
	f("", false)
	f("sh", false)
	f("nginx|-g|daemon off;", false)
	f("sh|-c|sleep 5 && exec app", false)
	f("sh|-c|sleep 5; exec app", false)
	f("tail|-f|/var/log/app.log", false)
	f("sleepy", false)
}

func TestPoissonTail(t *testing.T) {
	for _, c := range []struct {
		n    int
		mean float64
		want float64
	}{{0, 3, 1}, {1, 1, .632121}, {10, 3, .001102}, {20, .5, 0}} {
		if got := poissonTail(c.n, c.mean); max(got-c.want, c.want-got) > 1e-6 {
			t.Errorf("P(X >= %d) at %v: %v, want %v", c.n, c.mean, got, c.want)
		}
	}
}

// Sixty starts in an hour are told once where two an hour are usual, and never where sixty are.
func TestChurn(t *testing.T) {
	for _, usual := range []int{2, 60} {
		var c churn
		told := 0
		for h := range 100 {
			n := usual
			if h >= 90 {
				n = 60
			}
			for i := range n {
				if c.start(epoch+int64(h)*hour+int64(i)*sec, 20) {
					told++
				}
			}
		}
		if want := map[int]int{2: 1, 60: 0}[usual]; told != want {
			t.Errorf("usual %d: told %d times, want %d", usual, told, want)
		}
	}
}

func TestLifecycleRestore(t *testing.T) {
	e := New(Default(), nil, func(Finding) {})
	send := func(at int64, kind enrich.EventKind, c *enrich.Container, detail string) {
		e.Event(&enrich.Event{Time: epoch + at, Kind: kind, Engine: "local", Container: c, Detail: detail})
	}
	send(0, enrich.Synced, nil, "")
	for i, name := range []string{"a", "b"} {
		c := box(name, "name:"+name, "")
		c.Image = "acme/" + name + ":1"
		send(int64(i)*hour, enrich.Created, c, "")
		send(int64(i)*hour+1, enrich.Started, c, "")
		send(int64(i)*hour+2, enrich.Exec, c, "pg_isready")
	}
	checkRoundTrip(t, e, "lifecycle", func(e *Engine) {
		l := detectorOf[*lifecycle](e)
		touchAll(&l.memory)
		for name, engine := range l.engines.byName {
			l.engines.touch(name)
			for image := range engine.images {
				engine.grown = append(engine.grown, image)
			}
		}
	})
}

// An engine that shows more images than are kept stops calling them new, and says so.
func TestLifecycleIsBounded(t *testing.T) {
	told := 0
	e := New(Default(), nil, func(Finding) { told++ })
	e.Event(&enrich.Event{Time: epoch, Kind: enrich.Synced, Engine: "local"})
	l := detectorOf[*lifecycle](e)
	one := box("a", "name:a", "")
	for i := range maxImages + 100 {
		c := *one
		c.Image = fmt.Sprintf("acme/job-%d:1", i)
		c.ID = c.Image
		e.Event(&enrich.Event{Time: epoch + hour + int64(i)*sec, Kind: enrich.Created, Engine: "local", Container: &c})
		e.Event(&enrich.Event{Time: epoch + hour + int64(i)*sec, Kind: enrich.Started, Engine: "local", Container: &c})
	}
	s := l.at(e.env.learning.named("name:a")).v
	if n := len(l.engines.of("local").images); n > maxImages || len(s.fresh) > maxFresh || len(s.runs) > maxRuns || len(l.deploys) > maxDeploys {
		t.Errorf("%d images, %d newcomers, %d runs, %d deploys", n, len(s.fresh), len(s.runs), len(l.deploys))
	}
	if l.engines.refused.Get() == 0 {
		t.Error("nothing was refused")
	}
	e.Tick(epoch + 10*hour)
	if told == 0 || told > 4 {
		t.Errorf("one deploy was told %d times", told)
	}
}
