package console

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// stream reads events from a server: next gives id, kind and data of one.
func stream(t *testing.T, s *Server, last string) (next func() (id, kind, data string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.Addr().String()+"/api/v1/events", nil)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatal(resp.StatusCode, kind)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() (id, kind, data string) {
		for lines.Scan() {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); {
			case name == "id":
				id = value
			case name == "event":
				kind = value
			case name == "data":
				data = value
			case lines.Text() == "" && kind != "":
				return id, kind, data
			}
		}
		t.Fatal("the stream ended")
		return
	}
}

// TestEvents holds that a change is heard, that who comes back hears what was missed, and that who cannot is told to read again.
func TestEvents(t *testing.T) {
	d := whole(t)
	s := start(t, "127.0.0.1:0", d)
	next := stream(t, s, s.hub.epoch+"-0") // from the beginning: the incident of whole came before the server
	d.Alerts.Finding(finding("compose:shop/api", "f2"))
	id, kind, data := next()
	if kind != "incident" || !strings.Contains(data, `"workload":"compose:shop/api"`) || !strings.Contains(data, `"state":"open"`) {
		t.Errorf("%s %s %s", id, kind, data)
	}
	in := d.Alerts.Incidents()[0].ID
	if _, err := d.Alerts.Ack(in, "alice", ""); err != nil {
		t.Fatal(err)
	}
	if _, _, data := next(); !strings.Contains(data, in) || !strings.Contains(data, `"state":"acknowledged"`) {
		t.Error(data)
	}
	if again, _, data := stream(t, s, id)(); !strings.HasSuffix(again, "-2") || !strings.Contains(data, in) {
		t.Errorf("resumed with %s %s", again, data)
	}
	if _, kind, _ := stream(t, s, "another-7")(); kind != "resync" {
		t.Errorf("an id of another run is answered with %s", kind)
	}
}

// TestHubBounds holds that a listener that does not read loses nothing silently, and that there are no more than 64.
func TestHubBounds(t *testing.T) {
	d := whole(t)
	s := New(Default(), d, metrics.NewSet(), slog.New(slog.DiscardHandler))
	h := s.hub
	l, _, _, _ := h.join("")
	for i := range listenerRoom + 1 {
		d.Alerts.Finding(finding(fmt.Sprint("w", i), fmt.Sprint("id", i)))
	}
	if upTo, lost := h.caughtUp(l); !lost || upTo != listenerRoom+1 || len(l.queue) != 0 {
		t.Error(upTo, lost, len(l.queue))
	}
	if _, lost := h.caughtUp(l); lost {
		t.Error("told twice")
	}
	for i := range eventsKept {
		d.Alerts.Finding(finding(fmt.Sprint("v", i), fmt.Sprint("vid", i)))
	}
	if len(h.kept) != eventsKept || h.kept[0].n != listenerRoom+2 {
		t.Errorf("%d kept, from %d", len(h.kept), h.kept[0].n)
	}
	if _, missed, again, _ := h.join(fmt.Sprintf("%s-%d", h.epoch, listenerRoom+1)); again || len(missed) != eventsKept {
		t.Error(len(missed), again)
	}
	for _, id := range []string{h.epoch + "-1", h.epoch + "-99999", h.epoch + "-x", "x"} {
		if _, _, again, _ := h.join(id); !again {
			t.Errorf("%s resumes", id)
		}
	}
	for len(h.listeners) < maxListeners {
		h.join("")
	}
	if _, _, _, ok := h.join(""); ok {
		t.Error("one listener too many")
	}
	h.leave(l)
	if _, _, _, ok := h.join(""); !ok {
		t.Error("the place of one who left is not given away")
	}
}
