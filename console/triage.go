package console

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
)

// card is an incident with what was done about it.
type card struct {
	alerts.Incident
	SilencedUntil alerts.Time          `json:"silenced_until,omitzero"`
	History       []alerts.Audit       `json:"history"`
	Deliveries    []alerts.DeliveryRow `json:"deliveries"`
}

func (s *Server) incidents(w http.ResponseWriter, r *http.Request) {
	var f alerts.Filter
	q := r.URL.Query()
	switch state := q.Get("state"); state {
	case "", "all":
	case "active":
		f.States = []alerts.State{alerts.Open, alerts.Acknowledged}
	default:
		for one := range strings.SplitSeq(state, ",") {
			switch v := alerts.State(one); v {
			case alerts.Open, alerts.Acknowledged, alerts.Closed:
				f.States = append(f.States, v)
			default:
				problem(w, http.StatusBadRequest, fmt.Sprintf("state %q is none of open, acknowledged, closed, active, all", one))
				return
			}
		}
	}
	if text := q.Get("severity"); text != "" {
		if err := f.MinSeverity.UnmarshalText([]byte(text)); err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			problem(w, http.StatusBadRequest, fmt.Sprintf("limit %q is no number above 0", text))
			return
		}
		f.Limit = n
	}
	f.Workload, f.Detector = q.Get("workload"), q.Get("detector")
	items(w, s.deps.Alerts.List(f))
}

func (s *Server) incident(w http.ResponseWriter, r *http.Request) {
	m := s.deps.Alerts
	in, err := m.Get(r.PathValue("id"))
	if err != nil {
		refuse(w, err)
		return
	}
	c := card{Incident: in, History: []alerts.Audit{}, Deliveries: []alerts.DeliveryRow{}}
	history, err := m.Audit(in.ID)
	told, err2 := m.Deliveries(in.ID)
	if err := errors.Join(err, err2); err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	c.History, c.Deliveries = append(c.History, history...), append(c.Deliveries, told...)
	if until, ok := m.Silenced(&in); ok {
		c.SilencedUntil = until
	}
	answer(w, c)
}

func (s *Server) triage(w http.ResponseWriter, r *http.Request) {
	var in struct {
		By      string `json:"by"`
		Comment string `json:"comment"`
		Verdict string `json:"verdict"`
	}
	if !body(w, r, &in) {
		return
	}
	m, id := s.deps.Alerts, r.PathValue("id")
	who := author(in.By)
	var out alerts.Incident
	var err error
	switch verb := r.PathValue("verb"); verb {
	case "ack":
		out, err = m.Ack(id, who, in.Comment)
	case "close":
		var verdict alerts.Verdict
		if verdict, err = alerts.ParseVerdict(in.Verdict); err == nil {
			out, err = m.Close(id, verdict, who, in.Comment)
		}
	case "reopen":
		out, err = m.Reopen(id, who, in.Comment)
	default:
		problem(w, http.StatusNotFound, fmt.Sprintf("an incident cannot be told to %q: known are ack, close, reopen", verb))
		return
	}
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, out)
}

// author is who the history names. Whoever can open the control socket is believed.
func author(by string) string {
	if by = strings.TrimSpace(by); by == "" {
		return "api"
	}
	return by
}

// ruleBody is what a rule is made of: conditions, or an incident to take them from.
type ruleBody struct {
	From string           `json:"from"`
	Rule alerts.AllowRule `json:"rule"`
	By   string           `json:"by"`
}

// read takes the body and refuses conditions beside an incident.
func (b *ruleBody) read(w http.ResponseWriter, r *http.Request) bool {
	if !body(w, r, b) {
		return false
	}
	bare := alerts.AllowRule{Owner: b.Rule.Owner, Comment: b.Rule.Comment, Expires: b.Rule.Expires}
	if b.From != "" && b.Rule != bare {
		problem(w, http.StatusUnprocessableEntity, "a rule taken from an incident takes no further conditions: give all of them instead")
		return false
	}
	if b.Rule.Owner == "" {
		b.Rule.Owner = author(b.By)
	}
	return true
}

func (s *Server) allowList(w http.ResponseWriter, _ *http.Request) {
	items(w, s.deps.Alerts.AllowList())
}

func (s *Server) allowAdd(w http.ResponseWriter, r *http.Request) {
	var b ruleBody
	if !b.read(w, r) {
		return
	}
	rules, changed, err := s.add(b)
	if err != nil {
		refuse(w, err)
		return
	}
	if changed == nil {
		changed = []alerts.Incident{}
	}
	answer(w, map[string]any{"items": rules, "incidents": changed})
}

func (s *Server) add(b ruleBody) ([]alerts.AllowRule, []alerts.Incident, error) {
	m := s.deps.Alerts
	if b.From == "" {
		rule, changed, err := m.AllowAdd(b.Rule)
		return []alerts.AllowRule{rule}, changed, err
	}
	var expires time.Time
	if b.Rule.Expires != 0 {
		expires = b.Rule.Expires.Std()
	}
	return m.AllowFrom(b.From, b.Rule.Owner, b.Rule.Comment, expires)
}

func (s *Server) allowRemove(w http.ResponseWriter, r *http.Request) {
	s.remove(w, r, s.deps.Alerts.AllowRemove)
}

func (s *Server) silenceList(w http.ResponseWriter, _ *http.Request) {
	items(w, s.deps.Alerts.SilenceList())
}

func (s *Server) silenceAdd(w http.ResponseWriter, r *http.Request) {
	var in alerts.Silence
	if !body(w, r, &in) {
		return
	}
	out, err := s.deps.Alerts.SilenceAdd(in)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, out)
}

func (s *Server) silenceExpire(w http.ResponseWriter, r *http.Request) {
	s.remove(w, r, s.deps.Alerts.SilenceExpire)
}

// remove deletes a thing that has a number.
func (s *Server) remove(w http.ResponseWriter, r *http.Request, do func(id int, who, why string) error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		problem(w, http.StatusBadRequest, fmt.Sprintf("%q is no number", r.PathValue("id")))
		return
	}
	q := r.URL.Query()
	if err := do(id, author(q.Get("by")), q.Get("comment")); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) allowPreview(w http.ResponseWriter, r *http.Request) {
	var b ruleBody
	if !b.read(w, r) {
		return
	}
	if b.From != "" {
		problem(w, http.StatusUnprocessableEntity, "give the conditions: a rule taken from an incident hides what that incident says")
		return
	}
	hidden, err := s.deps.Alerts.AllowPreview(b.Rule)
	if err != nil {
		refuse(w, err)
		return
	}
	items(w, hidden)
}
