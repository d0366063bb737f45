package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

// route is one endpoint below /api/v1. The table of them is what is served, what is checked before a handler runs, and what
// docs/reference/openapi.json is made from.
type route struct {
	method, path string
	scope        Scope // least that the caller must have
	there        bool  // the part of Deps that it needs
	handler      http.HandlerFunc
	what         string // for people, one line
	query        []param
	body, reply  any // examples of the types; nil none. A list's reply is its element.
	list         bool
	status       int // of success; 0 is 200
}

// param is one parameter of the query. What a route does not list is refused: a filter with a typing error would select everything.
type param struct {
	name, kind string // kind: string, integer, boolean, date-time
	what       string
}

var (
	pLimit  = param{"limit", "integer", "at most so many items, 1 to 1000 (default 1000)"}
	pCursor = param{"cursor", "string", "go on behind this: the `next` of the page before"}
	pBy     = param{"by", "string", "who does it, where nobody is logged in"}
	pWhy    = param{"comment", "string", "why"}
)

// routes lists every endpoint.
func (s *Server) routes() []route {
	triage, n := s.deps.Alerts != nil, s.deps.Notify
	paged := func(more ...param) []param { return append(more, pLimit, pCursor) }
	get := func(path string, there bool, h http.HandlerFunc, what string, reply any, query ...param) route {
		return route{method: http.MethodGet, path: path, scope: Read, there: there, handler: h, what: what, reply: reply, query: query}
	}
	many := func(r route) route { r.list = true; return r }
	post := func(path string, scope Scope, there bool, h http.HandlerFunc, what string, body, reply any) route {
		return route{method: http.MethodPost, path: path, scope: scope, there: there, handler: h, what: what, body: body, reply: reply}
	}
	remove := func(path string, scope Scope, there bool, h http.HandlerFunc, what string, query ...param) route {
		return route{method: http.MethodDelete, path: path, scope: scope, there: there, handler: h, what: what, query: query, status: http.StatusNoContent}
	}
	return []route{
		many(get("/incidents", triage, s.incidents, "incidents, the most severe first, then the one seen last", alerts.Incident{}, paged(
			param{"state", "string", "open, acknowledged, closed (several with commas), active or all (default)"},
			param{"severity", "string", "this severity and above"},
			param{"workload", "string", "exact, or with a final *"},
			param{"detector", "string", "with a finding of this detector"},
			param{"since", "date-time", "last seen at or after, event time"})...)),
		get("/incidents/{id}", triage, s.incident, "one incident with its history and deliveries; an unambiguous prefix of the id will do", card{}),
		post("/incidents/{id}/{verb}", Triage, triage, s.triage, "acknowledge (ack), close or reopen an incident", triageBody{}, alerts.Incident{}),
		get("/events", triage, s.events, "changes of incidents as server-sent events; Last-Event-ID resumes", nil),
		many(get("/audit", triage, s.audit, "what was done to incidents, rules and silences, oldest first, the newest thousand", alerts.Audit{},
			param{"incident", "string", "only of this one"})),
		many(get("/allow", triage, s.allowList, "allow rules, oldest first", alerts.AllowRule{}, paged()...)),
		post("/allow/preview", Read, triage, s.allowPreview, "what a rule, or those that cover an incident, would have hidden; nothing changes", ruleBody{}, allowPreview{}),
		post("/allow", Triage, triage, s.allowAdd, "add an allow rule, or those that cover an incident; applied at once", ruleBody{}, allowed{}),
		remove("/allow/{id}", Triage, triage, s.allowRemove, "remove an allow rule", pBy, pWhy),
		many(get("/silences", triage, s.silenceList, "silences, oldest first", alerts.Silence{}, paged()...)),
		post("/silences", Triage, triage, s.silenceAdd, "add a silence", alerts.Silence{}, alerts.Silence{}),
		remove("/silences/{id}", Triage, triage, s.silenceExpire, "end a silence now", pBy, pWhy),

		many(get("/containers", s.deps.Containers != nil, s.containers, "containers", enrich.Container{}, paged(
			param{"all", "boolean", "ended ones too"}, param{"workload", "string", "of this workload"})...)),
		get("/explain", s.deps.Explain != nil, s.explain, "who had an address", enrich.Explanation{},
			param{"addr", "string", "IP address"}, param{"port", "integer", "0 to 65535"}, param{"at", "date-time", "when (default: now)"}),
		many(get("/workloads", s.deps.Workloads != nil, s.workloads, "workloads and their learning", baseline.WorkloadState{}, paged(
			param{"learning", "boolean", "only those that are learning, or only those that are not"})...)),
		many(get("/coverage", s.deps.Workloads != nil && s.deps.Sources != nil, s.coverage, "which detector can see which workload, and why not", Coverage{}, paged(
			param{"gaps", "boolean", "only what cannot be seen"})...)),
		many(get("/sources", s.deps.Sources != nil, s.sources, "inputs, whether they are heard, and what to do if not", SourceStatus{}, paged()...)),
		many(get("/doctor", s.deps.Sources != nil, s.doctor, "checks of the running monitor", Check{})),
		many(get("/detections", s.deps.Detections != nil, s.detections, "the pages of the detections", Detection{})),
		get("/detections/{id}", s.deps.Detections != nil, s.detection, "one page, Markdown", Detection{}),

		many(get("/receivers", n.Receivers != nil, s.receivers, "receivers, without secrets", Receiver{})),
		post("/receivers/{name}/test", Admin, n.Test != nil, s.receiverTest, "send a test message", struct{}{}, TestResult{}),
		get("/receivers/{name}/preview", n.Preview != nil, s.receiverPreview, "the message that a receiver would get", Preview{},
			param{"incident", "string", "of this one (default: an example)"}),
		many(get("/deliveries", n.Failed != nil, s.deliveries, "deliveries that were given up", alerts.DeliveryRow{}, paged(
			param{"state", "string", "dead"})...)),
		post("/deliveries/retry", Admin, n.Retry != nil, s.retry, "send again what was given up", retryBody{}, retried{}),

		get("/session", true, s.session, "who the caller is", Session{}),
		{
			method: http.MethodPost, path: "/session", scope: Nobody, there: s.deps.Access != nil, handler: s.login,
			what: "log in: sets the cookie", body: loginBody{}, reply: Session{},
		},
		{method: http.MethodDelete, path: "/session", scope: Nobody, there: true, handler: s.logout, what: "log out", status: http.StatusNoContent},
		many(get("/access", s.deps.Access != nil, s.accessList, "users and tokens, without secrets", Account{})).as(Admin),
		post("/access", Admin, s.deps.Access != nil, s.accessAdd, "add a user or a token; the secret is shown this once", accessBody{}, Secret{}),
		post("/access/users/{name}/password", Admin, s.deps.Access != nil, s.accessPassword, "give a user another password; shown this once", struct{}{}, Secret{}),
		remove("/access/{kind}/{name}", Admin, s.deps.Access != nil, s.accessRemove, "remove a user (users) or a token (tokens)"),
	}
}

func (r route) as(scope Scope) route { r.scope = scope; return r }

// api serves the table.
func (s *Server) api(mux *http.ServeMux) {
	for _, r := range s.routes() {
		mux.HandleFunc(r.method+" /api/v1"+r.path, func(w http.ResponseWriter, q *http.Request) {
			switch {
			case !s.may(w, q, r.scope):
			case !r.there:
				problem(w, http.StatusNotImplemented, "this needs a running monitor")
			case r.fits(w, q):
				r.handler(w, q)
			}
		})
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		if s.may(w, r, Read) {
			problem(w, http.StatusNotFound, "no endpoint "+r.Method+" "+r.URL.Path)
		}
	})
}

// fits refuses a query that the route does not know; false means that the problem has been answered.
func (r *route) fits(w http.ResponseWriter, q *http.Request) bool {
	for name, values := range q.URL.Query() {
		i := slices.IndexFunc(r.query, func(p param) bool { return p.name == name })
		if i < 0 {
			var known []string
			for _, p := range r.query {
				known = append(known, p.name)
			}
			problem(w, http.StatusBadRequest, fmt.Sprintf("no parameter %q: known here are %s", name, strings.Join(known, ", ")))
			return false
		}
		if len(values) != 1 {
			problem(w, http.StatusBadRequest, fmt.Sprintf("%s is given %d times", name, len(values)))
			return false
		}
		if p, text := r.query[i], values[0]; text != "" && !p.takes(text) {
			problem(w, http.StatusBadRequest, fmt.Sprintf("%s %q is no %s", name, text, kinds[p.kind]))
			return false
		}
	}
	return true
}

var kinds = map[string]string{"integer": "whole number", "boolean": "true or false", "date-time": "time of RFC 3339"}

func (p param) takes(text string) bool {
	var err error
	switch p.kind {
	case "integer":
		_, err = strconv.ParseInt(text, 10, 64)
	case "boolean":
		return text == "true" || text == "false"
	case "date-time":
		_, err = time.Parse(time.RFC3339Nano, text)
	}
	return err == nil
}

const maxPage = 1000

// page answers with a part of a list. id names an item: where one page ends, the next goes on, also when the list has changed meanwhile.
func page[T any](w http.ResponseWriter, r *http.Request, list []T, id func(*T) string) {
	q := r.URL.Query()
	limit, err := strconv.Atoi(first(q, "limit", strconv.Itoa(maxPage)))
	if err != nil || limit < 1 || limit > maxPage {
		problem(w, http.StatusBadRequest, fmt.Sprintf("limit %q is no number from 1 to %d", q.Get("limit"), maxPage))
		return
	}
	if after := q.Get("cursor"); after != "" {
		i := slices.IndexFunc(list, func(v T) bool { return id(&v) == after })
		if i < 0 {
			problem(w, http.StatusGone, "what the cursor names is not in the list any more: begin again without it")
			return
		}
		list = list[i+1:]
	}
	if len(list) <= limit {
		items(w, list)
		return
	}
	answer(w, map[string]any{"items": list[:limit], "next": id(&list[limit-1])})
}
