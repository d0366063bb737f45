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
	if text := q.Get("since"); text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			problem(w, http.StatusBadRequest, fmt.Sprintf("since %q is no time of RFC 3339", text))
			return
		}
		f.Since = alerts.Wall(at)
	}
	f.Workload, f.Detector = q.Get("workload"), q.Get("detector")
	page(w, r, s.deps.Alerts.List(f), func(i *alerts.Incident) string { return i.ID })
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
	var in triageBody
	if !body(w, r, &in) {
		return
	}
	m, id := s.deps.Alerts, r.PathValue("id")
	who := author(r, in.By)
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

// triageBody goes with a verb.
type triageBody struct {
	By      string `json:"by,omitempty"` // who, where nobody is logged in
	Comment string `json:"comment,omitempty"`
	Verdict string `json:"verdict,omitempty"` // of close
}

// author is who the history names: who is logged in, else whoever the caller says it is.
func author(r *http.Request, by string) string {
	if c := callerOf(r); c.name != "" {
		return c.name
	}
	if by = strings.TrimSpace(by); by == "" {
		return "api"
	}
	return by
}

func (s *Server) audit(w http.ResponseWriter, r *http.Request) {
	list, err := s.deps.Alerts.Audit(r.URL.Query().Get("incident"))
	if err != nil {
		refuse(w, err)
		return
	}
	items(w, list)
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
	if b.Rule.Owner == "" || callerOf(r).name != "" {
		b.Rule.Owner = author(r, b.By)
	}
	return true
}

func (s *Server) allowList(w http.ResponseWriter, r *http.Request) {
	page(w, r, s.deps.Alerts.AllowList(), func(a *alerts.AllowRule) string { return strconv.Itoa(a.ID) })
}

// allowed is what adding rules did.
type allowed struct {
	Items     []alerts.AllowRule `json:"items"`
	Incidents []alerts.Incident  `json:"incidents"` // that changed
}

// allowPreview is what rules would have hidden.
type allowPreview struct {
	Items []alerts.Incident  `json:"items"`
	Rules []alerts.AllowRule `json:"rules"`
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
	answer(w, allowed{rules, changed})
}

func (s *Server) add(b ruleBody) ([]alerts.AllowRule, []alerts.Incident, error) {
	m := s.deps.Alerts
	if b.From == "" {
		rule, changed, err := m.AllowAdd(b.Rule)
		return []alerts.AllowRule{rule}, changed, err
	}
	return m.AllowFrom(b.From, b.Rule.Owner, b.Rule.Comment, b.expires())
}

// expires is the zero time where the rule does not.
func (b *ruleBody) expires() time.Time {
	if b.Rule.Expires == 0 {
		return time.Time{}
	}
	return b.Rule.Expires.Std()
}

func (s *Server) allowRemove(w http.ResponseWriter, r *http.Request) {
	s.remove(w, r, s.deps.Alerts.AllowRemove)
}

func (s *Server) silenceList(w http.ResponseWriter, r *http.Request) {
	page(w, r, s.deps.Alerts.SilenceList(), func(a *alerts.Silence) string { return strconv.Itoa(a.ID) })
}

func (s *Server) silenceAdd(w http.ResponseWriter, r *http.Request) {
	var in alerts.Silence
	if !body(w, r, &in) {
		return
	}
	if c := callerOf(r); c.name != "" {
		in.Author = c.name
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
	if err := do(id, author(r, q.Get("by")), q.Get("comment")); err != nil {
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
	rules := []alerts.AllowRule{b.Rule}
	if b.From != "" {
		var err error
		if rules, err = s.deps.Alerts.RulesFor(b.From, b.Rule.Owner, b.Rule.Comment, b.expires()); err != nil {
			refuse(w, err)
			return
		}
	}
	hidden, err := s.deps.Alerts.AllowPreview(rules...)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, allowPreview{hidden, rules})
}
