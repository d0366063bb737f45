package console

import (
	"net/http"

	"github.com/wharfwatch/wharfwatch/alerts"
)

func (s *Server) receivers(w http.ResponseWriter, _ *http.Request) {
	items(w, s.deps.Notify.Receivers())
}

func (s *Server) receiverTest(w http.ResponseWriter, r *http.Request) {
	result, err := s.deps.Notify.Test(r.Context(), r.PathValue("name"))
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, result)
}

func (s *Server) receiverPreview(w http.ResponseWriter, r *http.Request) {
	var incident *alerts.Incident
	if id := r.FormValue("incident"); id != "" {
		in, err := s.deps.Alerts.Get(id)
		if err != nil {
			refuse(w, err)
			return
		}
		incident = &in
	}
	p, err := s.deps.Notify.Preview(r.PathValue("name"), incident)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, p)
}

func (s *Server) deliveries(w http.ResponseWriter, r *http.Request) {
	if state := r.FormValue("state"); state != "" && state != "dead" {
		problem(w, http.StatusBadRequest, "only state=dead is listed: an incident shows its own deliveries")
		return
	}
	list, err := s.deps.Notify.Failed(r.Context())
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	page(w, r, list, func(d *alerts.DeliveryRow) string { return d.ID })
}

type retryBody struct {
	IDs []string `json:"ids"` // none: all
}

type retried struct {
	Queued int `json:"queued"`
}

func (s *Server) retry(w http.ResponseWriter, r *http.Request) {
	var in retryBody
	if !body(w, r, &in) {
		return
	}
	n, err := s.deps.Notify.Retry(r.Context(), in.IDs)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, retried{n})
}
