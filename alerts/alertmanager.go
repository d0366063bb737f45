package alerts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Alertmanager posts to the API v2 of a Prometheus Alertmanager,
// https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml. Every peer of a cluster wants an entry of its own: they
// do not pass alerts on.
type Alertmanager struct {
	Common         `yaml:",inline"`
	URL            string        `yaml:"url"` // of the server, without /api/v2/alerts
	URLFile        string        `yaml:"url_file"`
	ResendInterval time.Duration `yaml:"resend_interval"` // open incidents are sent again so often: the Alertmanager forgets at a restart; 1m where 0
	Headers        []Header      `yaml:"headers"`
}

const (
	alertmanagerPath   = "/api/v2/alerts"
	alertmanagerResend = time.Minute
	alertmanagerLives  = 5 // resend intervals until an alert of which nothing is heard ends by itself
	alertmanagerBatch  = 64
	alertmanagerValue  = 1024
	alertmanagerText   = 4000
)

func (a *Alertmanager) validate(report func(key, message string)) {
	checkWebhookURL(report, "url", a.URL, a.URLFile)
	if strings.Contains(a.URL, "/api/") {
		report("url", "must be that of the server, without "+alertmanagerPath)
	}
	if a.ResendInterval != 0 && a.ResendInterval < 10*time.Second {
		report("resend_interval", "below 10s it is noise")
	}
	checkHeaders(report, a.Headers)
}

func (a Alertmanager) build(r *Receiver) error {
	addr, err := secretURL("url", a.URL, a.URLFile, r.linkLocal)
	if err != nil {
		return err
	}
	n := &alertmanager{url: strings.TrimRight(addr, "/") + alertmanagerPath, headers: a.Headers, resend: cmp.Or(a.ResendInterval, alertmanagerResend)}
	hide := []string{addr}
	for _, h := range a.Headers {
		hide = append(hide, h.Value)
	}
	r.notifier, r.endpoint, r.rate, r.burst, r.policy, r.secrets = n, n.url, 20, 50, chat, secretsOf(hide...)
	return nil
}

type alertmanager struct {
	url     string
	headers []Header
	resend  time.Duration
}

// alertmanagerAlert is postableAlert. Its labels are its identity: they stay the same over updates, but for the severity.
type alertmanagerAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    Time              `json:"startsAt"`
	EndsAt      Time              `json:"endsAt"`
}

// Render makes the alert of one incident. Where its severity may have been another before, those alerts are ended with it.
func (a *alertmanager) Render(m Message) (Request, error) {
	list := []alertmanagerAlert{a.alert(&m, m.Incident.Severity, m.Transition == Resolve)}
	if m.Transition != Trigger {
		for s := baseline.Info; s <= baseline.Critical; s++ {
			if s != m.Incident.Severity {
				list = append(list, a.alert(&m, s, true))
			}
		}
	}
	return a.request(list)
}

func (a *alertmanager) request(list []alertmanagerAlert) (Request, error) {
	body, err := json.Marshal(list)
	h := http.Header{"Content-Type": {"application/json"}}
	for _, x := range a.headers {
		h.Set(x.Name, x.Value)
	}
	return Request{URL: a.url, Header: h, Body: body}, err
}

func (a *alertmanager) alert(m *Message, s baseline.Severity, ended bool) alertmanagerAlert {
	in := &m.Incident
	out := alertmanagerAlert{
		Labels: map[string]string{
			"alertname": "WharfwatchIncident", "severity": s.String(), "incident": in.ID, "workload": cut(clean(in.Workload), alertmanagerValue),
		},
		Annotations: map[string]string{
			"summary": cut(clean(in.Summary), alertmanagerValue), "description": a.description(in), "reason": cut(clean(m.Reason), alertmanagerValue),
			"container": cut(clean(in.Container.Name), alertmanagerValue), "image": cut(clean(in.Container.Image), alertmanagerValue),
			"detectors": cut(clean(strings.Join(in.Detectors(), ", ")), alertmanagerValue), "attack": cut(clean(strings.Join(in.Attack, ", ")), alertmanagerValue),
			"confidence": fmt.Sprintf("%.2f", in.Confidence), "attribution": in.Attribution.String(), "state": string(in.State),
			"first_seen": in.FirstSeen.String(), "last_seen": in.LastSeen.String(),
		},
		EndsAt: m.Attempt + Time(alertmanagerLives*a.resend),
	}
	for k, v := range out.Annotations {
		if v == "" {
			delete(out.Annotations, k)
		}
	}
	if ended {
		out.EndsAt = m.At
	}
	out.StartsAt = min(in.FirstSeen, m.At-Time(time.Millisecond)) // an end at or before the beginning is refused
	return out
}

func (a *alertmanager) description(in *Incident) string {
	var lines []string
	shown, left := counting(in, 10)
	for _, f := range shown {
		lines = append(lines, fmt.Sprintf("%s (%s, score %.2f): %s", clean(f.Detector), f.Severity, f.Score, cut(clean(f.Summary), 300)))
	}
	if left > 0 {
		lines = append(lines, fmt.Sprintf("… (%d more)", left))
	}
	return cut(strings.Join(lines, "\n"), alertmanagerText)
}

// again makes the requests that keep open incidents alive at the receiver; see resender.
func (a *alertmanager) again(open []Message) (out []Request, err error) {
	for len(open) > 0 {
		n := min(len(open), alertmanagerBatch)
		var list []alertmanagerAlert
		for i := range open[:n] {
			list = append(list, a.alert(&open[i], open[i].Incident.Severity, false))
		}
		r, err := a.request(list)
		if err != nil {
			return out, err
		}
		out, open = append(out, r), open[n:]
	}
	return out, nil
}

func (a *alertmanager) interval() time.Duration { return a.resend }

// Classify: 200 is taken, 400 will never be; the body says why.
func (a *alertmanager) Classify(status int, h http.Header, body []byte, err error) Outcome {
	out := classify(status, h, err, time.Now())
	if err == nil && out.Verdict != OK && len(body) > 0 {
		out.Reason += ": " + string(body)
	}
	return out
}
