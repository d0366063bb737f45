package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/flow"
)

// routes is every endpoint. write adds those that change something.
func (s *Server) routes(write bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, "wharfwatch: /metrics, /healthz, /api/v1/…; the web console comes later\n")
	})

	api := func(pattern string, there bool, h http.HandlerFunc) {
		method, path, _ := strings.Cut(pattern, " ")
		if method != http.MethodGet && !write {
			return
		}
		if !there {
			h = func(w http.ResponseWriter, _ *http.Request) {
				problem(w, http.StatusNotImplemented, "this needs a running monitor")
			}
		}
		mux.HandleFunc(method+" /api/v1"+path, h)
	}
	triage, n := s.deps.Alerts != nil, s.deps.Notify
	api("GET /incidents", triage, s.incidents)
	api("GET /incidents/{id}", triage, s.incident)
	api("POST /incidents/{id}/{verb}", triage, s.triage)
	api("GET /allow", triage, s.allowList)
	api("POST /allow", triage, s.allowAdd)
	api("POST /allow/preview", triage, s.allowPreview)
	api("DELETE /allow/{id}", triage, s.allowRemove)
	api("GET /silences", triage, s.silenceList)
	api("POST /silences", triage, s.silenceAdd)
	api("DELETE /silences/{id}", triage, s.silenceExpire)

	api("GET /containers", s.deps.Containers != nil, s.containers)
	api("GET /explain", s.deps.Explain != nil, s.explain)
	api("GET /workloads", s.deps.Workloads != nil, s.workloads)
	api("GET /coverage", s.deps.Workloads != nil && s.deps.Sources != nil, s.coverage)
	api("GET /doctor", s.deps.Sources != nil, s.doctor)

	api("GET /receivers", n.Receivers != nil, s.receivers)
	api("POST /receivers/{name}/test", n.Test != nil, s.receiverTest)
	api("GET /receivers/{name}/preview", n.Preview != nil, s.receiverPreview)
	api("GET /deliveries", n.Failed != nil, s.deliveries)
	api("POST /deliveries/retry", n.Retry != nil, s.retry)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "no endpoint "+r.Method+" "+r.URL.Path)
	})
	return mux
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	s.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
	fmt.Fprintf(w, "wharfwatch_build_info{version=%q} 1\n", s.deps.Version)
}

// health says whether, not what: it is open to whoever reaches the port.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if s.deps.Health != nil {
		if err := s.deps.Health(); err != nil {
			s.log.Warn("the health check fails", "err", err)
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "not healthy: see wharfwatch doctor")
			return
		}
	}
	fmt.Fprintln(w, "ok")
}

// refuse answers what a room refused.
func refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, alerts.ErrNotFound), errors.Is(err, ErrNoReceiver):
		problem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, alerts.ErrUndurable):
		problem(w, http.StatusServiceUnavailable, err.Error())
	default:
		problem(w, http.StatusUnprocessableEntity, err.Error())
	}
}

func (s *Server) containers(w http.ResponseWriter, r *http.Request) {
	list, err := s.deps.Containers(r.Context())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if r.FormValue("all") != "true" {
		running := list[:0:0]
		for _, c := range list {
			if c.Running {
				running = append(running, c)
			}
		}
		list = running
	}
	items(w, list)
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	addr, err := flow.ParseAddr(q.Get("addr"))
	if err != nil {
		problem(w, http.StatusBadRequest, fmt.Sprintf("addr %q is no IP address", q.Get("addr")))
		return
	}
	port, err := strconv.ParseUint(first(q, "port", "0"), 10, 16)
	if err != nil {
		problem(w, http.StatusBadRequest, fmt.Sprintf("port %q is no port", q.Get("port")))
		return
	}
	at := time.Now()
	if text := q.Get("at"); text != "" {
		if at, err = time.Parse(time.RFC3339Nano, text); err != nil {
			problem(w, http.StatusBadRequest, fmt.Sprintf("at %q is no time of RFC 3339", text))
			return
		}
	}
	e, err := s.deps.Explain(r.Context(), addr, uint16(port), at.UnixNano())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, e)
}

func first(q url.Values, key, otherwise string) string {
	if v := q.Get(key); v != "" {
		return v
	}
	return otherwise
}

func (s *Server) workloads(w http.ResponseWriter, r *http.Request) {
	list, err := s.deps.Workloads(r.Context())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	items(w, list)
}

func (s *Server) coverage(w http.ResponseWriter, r *http.Request) {
	workloads, err := s.deps.Workloads(r.Context())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	sources, err := s.deps.Sources(r.Context())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	rows := coverage(workloads, sources)
	if s.deps.Unnamed != nil {
		unnamed, err := s.deps.Unnamed(r.Context())
		if err != nil {
			problem(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		rows = append(rows, namesCoverage(unnamed)...)
	}
	if r.FormValue("gaps") == "true" {
		gaps := rows[:0:0]
		for _, c := range rows {
			if c.State == "no" {
				gaps = append(gaps, c)
			}
		}
		rows = gaps
	}
	items(w, rows)
}

func (s *Server) doctor(w http.ResponseWriter, r *http.Request) {
	sources, err := s.deps.Sources(r.Context())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	var rows []Check
	for _, src := range sources {
		rows = append(rows, Check{State: src.State, What: src.Name, Reason: src.said(), Fix: src.Fix})
	}
	if s.deps.Checks != nil {
		more, err := s.deps.Checks(r.Context())
		if err != nil {
			problem(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		rows = append(rows, more...)
	}
	if s.deps.Health != nil {
		if err := s.deps.Health(); err != nil {
			rows = append(rows, Check{State: "fail", What: "state", Reason: err.Error(), Fix: "make room on the disk of the data directory, then look into the log"})
		}
	}
	items(w, rows)
}
