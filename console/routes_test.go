package console

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
)

// good is a request that each route takes, with the status that it is answered with. %s is the incident.
var good = map[string]struct {
	path, body string
	status     int
}{
	"GET /incidents":                     {"/incidents?state=active&severity=low&workload=compose:*&detector=beacon&since=1970-01-01T00:00:00Z&limit=5", "", 200},
	"GET /incidents/{id}":                {"/incidents/%s", "", 200},
	"POST /incidents/{id}/{verb}":        {"/incidents/%s/ack", `{"by":"a","comment":"c"}`, 200},
	"GET /audit":                         {"/audit?incident=%s", "", 200},
	"GET /allow":                         {"/allow", "", 200},
	"POST /allow":                        {"/allow", `{"from":"%s","rule":{"comment":"c"}}`, 200},
	"POST /allow/preview":                {"/allow/preview", `{"from":"%s"}`, 200},
	"DELETE /allow/{id}":                 {"/allow/7", "", 404},
	"GET /silences":                      {"/silences", "", 200},
	"POST /silences":                     {"/silences", `{"matchers":[{"label":"workload","op":"=","value":"w"}],"starts":"2026-01-01T00:00:00Z","ends":"2100-01-01T00:00:00Z","author":"a","comment":"c"}`, 200},
	"DELETE /silences/{id}":              {"/silences/7", "", 404},
	"GET /containers":                    {"/containers?all=true&workload=compose:shop/worker", "", 200},
	"GET /explain":                       {"/explain?addr=10.0.0.1&port=1&at=2026-01-01T00:00:00Z", "", 200},
	"GET /workloads":                     {"/workloads?learning=true", "", 200},
	"GET /coverage":                      {"/coverage?gaps=true", "", 200},
	"GET /sources":                       {"/sources", "", 200},
	"GET /doctor":                        {"/doctor", "", 200},
	"GET /detections":                    {"/detections", "", 200},
	"GET /detections/{id}":               {"/detections/beacon", "", 200},
	"GET /receivers":                     {"/receivers", "", 200},
	"POST /receivers/{name}/test":        {"/receivers/team/test", "", 501}, // not there in this test
	"GET /receivers/{name}/preview":      {"/receivers/team/preview", "", 501},
	"GET /deliveries":                    {"/deliveries", "", 501},
	"POST /deliveries/retry":             {"/deliveries/retry", `{}`, 501},
	"GET /session":                       {"/session", "", 200},
	"POST /session":                      {"/session", `{"name":"a","password":"b"}`, 401},
	"DELETE /session":                    {"/session", "", 204},
	"GET /access":                        {"/access", "", 200},
	"POST /access":                       {"/access", `{"kind":"users","name":"a","scope":"read"}`, 200},
	"POST /access/users/{name}/password": {"/access/users/b/password", "", 404},
	"DELETE /access/{kind}/{name}":       {"/access/users/b", "", 404},
	"GET /events":                        {"", "", 0}, // TestEvents
}

// TestEveryRoute asks each route what it should take, as nobody, as somebody whose scope is one too low, with a parameter that it does not
// know, and with a body that is none.
func TestEveryRoute(t *testing.T) {
	d := whole(t)
	s := New(Default(), d, metrics.NewSet(), slog.New(slog.DiscardHandler))
	id := d.Alerts.Incidents()[0].ID
	as := func(scope Scope, method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		r := withCaller(httptest.NewRequest(method, "/api/v1"+path, strings.NewReader(body)), caller{name: "x", scope: scope})
		s.mux().ServeHTTP(w, r)
		if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d is no problem+json", method, path, w.Code)
		}
		return w.Code, w.Body.String()
	}
	fill := func(text string) string { return strings.ReplaceAll(text, "%s", id) }
	for _, r := range s.routes() {
		name := r.method + " " + r.path
		g, listed := good[name]
		if !listed {
			t.Errorf("%s is in no table: say here what it takes", name)
			continue
		}
		if g.path == "" {
			continue
		}
		if r.scope > Nobody {
			if got, _ := as(Nobody, r.method, fill(g.path), fill(g.body)); got != 401 {
				t.Errorf("%s answers nobody with %d", name, got)
			}
		}
		if r.scope > Read {
			if got, _ := as(r.scope-1, r.method, fill(g.path), fill(g.body)); got != 403 {
				t.Errorf("%s answers the scope %s with %d", name, r.scope-1, got)
			}
		}
		if g.status != 501 {
			path, _, _ := strings.Cut(fill(g.path), "?")
			if got, _ := as(Admin, r.method, path+"?nonsense=1", fill(g.body)); got != 400 {
				t.Errorf("%s takes a parameter that it does not know: %d", name, got)
			}
			if r.body != nil && r.body != (struct{}{}) {
				for _, bad := range []string{"{", "[]", `{"nonsense":1}`, "{}{}"} {
					if got, _ := as(Admin, r.method, fill(g.path), bad); got != 400 {
						t.Errorf("%s with the body %s: %d", name, bad, got)
					}
				}
			}
			for _, p := range r.query {
				if p.kind == "string" {
					continue
				}
				if got, _ := as(Admin, r.method, path+"?"+p.name+"=nonsense", ""); got != 400 {
					t.Errorf("%s takes %s=nonsense: %d", name, p.name, got)
				}
			}
		}
		if got, text := as(Admin, r.method, fill(g.path), fill(g.body)); got != g.status {
			t.Errorf("%s: %d, want %d: %s", name, got, g.status, text)
		}
	}
	for _, bad := range []string{
		"GET /incidents?state=nowhere", "GET /incidents?severity=nowhere", "GET /incidents?limit=0", "GET /incidents?limit=1001",
		"GET /incidents?limit=1&limit=2", "GET /explain", "GET /explain?addr=10.0.0.1&port=70000", "DELETE /allow/x", "DELETE /silences/x",
	} {
		method, path, _ := strings.Cut(bad, " ")
		if got, _ := as(Admin, method, path, ""); got != 400 {
			t.Errorf("%s: %d", bad, got)
		}
	}
	for _, unknown := range []string{"GET /incidents/zzz", "POST /incidents/" + id + "/nonsense", "GET /detections/nonsense", "GET /nonsense", "PUT /incidents"} {
		method, path, _ := strings.Cut(unknown, " ")
		if got, _ := as(Admin, method, path, ""); got != 404 {
			t.Errorf("%s: %d", unknown, got)
		}
	}
}

// TestPages holds that pages together are the list, that a page goes on where the one before ended although the list grew, and that a
// cursor which is gone says so.
func TestPages(t *testing.T) {
	d := whole(t)
	for i := range 24 {
		d.Alerts.Finding(finding(fmt.Sprint("w", i), fmt.Sprint("id", i)))
	}
	h := New(Default(), d, metrics.NewSet(), slog.New(slog.DiscardHandler)).Handler()
	get := func(query string) (ids []string, next string, status int) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/incidents?"+query, nil))
		var p struct {
			Items []alerts.Incident
			Next  string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		for _, i := range p.Items {
			ids = append(ids, i.ID)
		}
		return ids, p.Next, w.Code
	}
	all, next, _ := get("")
	if len(all) != 25 || next != "" {
		t.Fatal(len(all), next)
	}
	var walked []string
	for cursor := ""; ; {
		ids, next, _ := get("limit=10&cursor=" + cursor)
		walked = append(walked, ids...)
		if cursor = next; cursor == "" {
			break
		}
	}
	if !slices.Equal(walked, all) {
		t.Errorf("pages give\n%v, the list is\n%v", walked, all)
	}
	if _, _, status := get("cursor=gone"); status != http.StatusGone {
		t.Error(status)
	}
}

// TestPreviewFrom holds that the rules that would cover an incident can be seen with what they hide before they are added.
func TestPreviewFrom(t *testing.T) {
	d := whole(t)
	h := New(Default(), d, metrics.NewSet(), slog.New(slog.DiscardHandler)).Handler()
	id := d.Alerts.Incidents()[0].ID
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/allow/preview", strings.NewReader(`{"from":"`+id+`"}`)))
	var p allowPreview
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err, w.Body)
	}
	if len(p.Rules) != 1 || p.Rules[0].Destination != "203.0.113.9" || len(p.Items) != 1 || p.Items[0].ID != id {
		t.Errorf("%+v", p)
	}
	if rules := d.Alerts.AllowList(); len(rules) != 0 {
		t.Errorf("a preview added %v", rules)
	}
}
