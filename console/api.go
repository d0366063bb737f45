package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// mux is everything that is served.
func (s *Server) mux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if s.may(w, r, Read) {
			s.metrics(w, r)
		}
	})
	mux.HandleFunc("GET /healthz", s.health)
	s.api(mux)
	s.web(mux)
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
	case errors.Is(err, alerts.ErrNotFound), errors.Is(err, ErrNoReceiver), errors.Is(err, ErrNoAccount):
		problem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, errTaken):
		problem(w, http.StatusConflict, err.Error())
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
	if of := r.FormValue("workload"); of != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(c *enrich.Container) bool { return c.Workload != of })
	}
	page(w, r, list, func(c **enrich.Container) string { return (*c).Engine + "/" + (*c).ID })
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
	if learning := r.FormValue("learning"); learning != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(v baseline.WorkloadState) bool { return v.Learning != (learning == "true") })
	}
	page(w, r, list, func(v *baseline.WorkloadState) string { return v.Workload })
}

func (s *Server) sources(w http.ResponseWriter, r *http.Request) {
	list, err := s.deps.Sources(r.Context())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	page(w, r, list, func(v *SourceStatus) string { return v.Name })
}

func (s *Server) detections(w http.ResponseWriter, _ *http.Request) {
	list, err := s.deps.Detections()
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	items(w, list)
}

func (s *Server) detection(w http.ResponseWriter, r *http.Request) {
	list, err := s.deps.Detections()
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	i := slices.IndexFunc(list, func(d Detection) bool { return d.ID == r.PathValue("id") })
	if i < 0 {
		problem(w, http.StatusNotFound, fmt.Sprintf("no page about a detection %q", r.PathValue("id")))
		return
	}
	answer(w, list[i])
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
	page(w, r, rows, func(c *Coverage) string { return c.Detector + " " + c.Workload })
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
