package alerts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// PagerDuty sends to the Events API v2, https://developer.pagerduty.com/docs/send-alert-event.
type PagerDuty struct {
	Common         `yaml:",inline"`
	RoutingKey     string `yaml:"routing_key"` // of the integration, 32 characters
	RoutingKeyFile string `yaml:"routing_key_file"`
	Region         string `yaml:"region"` // us (default) or eu
	URL            string `yaml:"url"`    // replaces the address of the region; for proxies and tests
}

// Addresses and limits of the Events API v2.
const (
	pagerDutyUS  = "https://events.pagerduty.com/v2/enqueue"
	pagerDutyEU  = "https://events.eu.pagerduty.com/v2/enqueue"
	pagerSummary = 1024
	pagerKey     = 255
	pagerField   = 255
	pagerBody    = 512 << 10
	pagerFacts   = 40
	pagerStories = 50
)

func (p *PagerDuty) validate(report func(key, message string)) {
	oneOf(report, "routing_key", p.RoutingKey, p.RoutingKeyFile)
	if p.RoutingKey != "" && len(p.RoutingKey) != 32 {
		report("routing_key", "must have 32 characters: it is the integration key of an Events API v2 integration")
	}
	if p.Region != "" && p.Region != "us" && p.Region != "eu" {
		report("region", fmt.Sprintf("unknown region %q, known are us, eu", p.Region))
	}
	if p.URL != "" {
		if err := checkURL(p.URL, true); err != nil {
			report("url", err.Error())
		}
	}
}

func (p PagerDuty) build(r *Receiver) error {
	key, err := secret(p.RoutingKey, p.RoutingKeyFile)
	if err != nil {
		return err
	}
	n := &pagerDuty{key: key, url: pagerDutyUS}
	if p.Region == "eu" {
		n.url = pagerDutyEU
	}
	if p.URL != "" {
		if err := checkURL(p.URL, r.linkLocal); err != nil {
			return fmt.Errorf("url: %w", err)
		}
		n.url = p.URL
	}
	// About 120 events a minute and key, by a sliding window.
	r.notifier, r.endpoint, r.rate, r.burst, r.policy, r.secrets = n, "pagerduty:"+key, 2, 20, chat, secretsOf(key)
	return nil
}

type pagerDuty struct{ key, url string }

type pagerEvent struct {
	RoutingKey  string        `json:"routing_key"`
	EventAction string        `json:"event_action"`
	DedupKey    string        `json:"dedup_key"`
	Client      string        `json:"client,omitempty"`
	Payload     *pagerPayload `json:"payload,omitempty"`
}

type pagerPayload struct {
	Summary       string         `json:"summary"`
	Source        string         `json:"source"`
	Severity      string         `json:"severity"`
	Timestamp     Time           `json:"timestamp"`
	Component     string         `json:"component,omitempty"`
	Group         string         `json:"group,omitempty"`
	Class         string         `json:"class,omitempty"`
	CustomDetails map[string]any `json:"custom_details"`
}

var pagerActions = map[Transition]string{Trigger: "trigger", Update: "trigger", Acknowledge: "acknowledge", Resolve: "resolve"}

var pagerSeverity = map[baseline.Severity]string{
	baseline.Critical: "critical", baseline.High: "error", baseline.Medium: "warning", baseline.Low: "info", baseline.Info: "info",
}

// Render makes an event. An update is another trigger with the same dedup_key: PagerDuty adds it to the alert that is open.
func (p *pagerDuty) Render(m Message) (Request, error) {
	in := &m.Incident
	e := pagerEvent{RoutingKey: p.key, EventAction: pagerActions[m.Transition], DedupKey: cut(m.Key, pagerKey), Client: "wharfwatch"}
	if m.Transition == Trigger || m.Transition == Update {
		source := in.Container.Name
		if source == "" {
			source = in.Workload
		}
		if source = clean(source); source == "" {
			source = "wharfwatch" // required
		}
		e.Payload = &pagerPayload{
			Summary:  cut(clean(fmt.Sprintf("%s: %s", in.Severity, in.Summary)), pagerSummary),
			Source:   cut(source, pagerField),
			Severity: pagerSeverity[in.Severity], Timestamp: in.FirstSeen, Component: cut(clean(in.Workload), pagerField),
			Group: cut(clean(in.Container.Image), pagerField), Class: cut(strings.Join(in.Detectors(), ","), pagerField),
			CustomDetails: pagerDetails(&m),
		}
	}
	body, err := json.Marshal(e)
	if err == nil && len(body) > pagerBody {
		e.Payload.CustomDetails = map[string]any{"incident": in.ID, "note": fmt.Sprintf("details of %d bytes left out", len(body))}
		body, err = json.Marshal(e)
	}
	return Request{URL: p.url, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, err
}

func pagerDetails(m *Message) map[string]any {
	in := &m.Incident
	stories := []string{}
	for i := range in.Findings {
		f := &in.Findings[i]
		if !f.counts(in.Generation) {
			continue
		}
		if len(stories) == pagerStories {
			stories = append(stories, fmt.Sprintf("… (%d more)", len(in.Findings)-i))
			break
		}
		stories = append(stories, cut(clean(fmt.Sprintf("%s (%s, score %.2f): %s", f.Detector, f.Severity, f.Score, f.Summary)), pagerSummary))
	}
	d := map[string]any{
		"incident": in.ID, "generation": in.Generation, "reason": cut(clean(m.Reason), pagerField), "workload": cut(clean(in.Workload), pagerSummary),
		"container": cut(clean(in.Container.Name), pagerSummary), "container_id": cut(clean(in.Container.ID), pagerField),
		"image": cut(clean(in.Container.Image), pagerSummary), "attribution": in.Attribution.String(),
		"confidence": in.Confidence, "first_seen": in.FirstSeen, "last_seen": in.LastSeen, "attack": cut(clean(strings.Join(in.Attack, ", ")), pagerSummary), "findings": stories,
	}
	if f := in.Strongest(); f != nil {
		d["evidence"] = facts(f, pagerFacts)
		d["subject"] = cut(clean(f.Subject), pagerSummary)
	}
	return d
}

// Classify: 202 is taken, 400 will never be.
func (p *pagerDuty) Classify(status int, h http.Header, body []byte, err error) Outcome {
	out := classify(status, h, err, time.Now())
	if err == nil && out.Verdict != OK {
		var said struct {
			Message string   `json:"message"`
			Errors  []string `json:"errors"`
		}
		if json.Unmarshal(body, &said) == nil {
			out.Reason += ": " + said.Message + " " + strings.Join(said.Errors, "; ")
		}
	}
	if err == nil && status == http.StatusTooManyRequests && out.After == 0 {
		out.After = time.Minute // the window of the limit
	}
	return out
}
