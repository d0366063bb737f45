package alerts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Teams posts an Adaptive Card to a workflow ("when a Teams webhook request is received"),
// https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook.
type Teams struct {
	Common         `yaml:",inline"`
	WebhookURL     string `yaml:"webhook_url"`
	WebhookURLFile string `yaml:"webhook_url_file"`
}

const (
	teamsBody    = 26_000 // bytes; the vendor takes 28 KB
	teamsSummary = 2000
	teamsStory   = 300
	teamsStories = 10
	teamsField   = 300
)

func (t *Teams) validate(report func(key, message string)) {
	checkWebhookURL(report, "webhook_url", t.WebhookURL, t.WebhookURLFile)
}

func (t Teams) build(r *Receiver) error {
	addr, err := secretURL("webhook_url", t.WebhookURL, t.WebhookURLFile, r.linkLocal)
	if err != nil {
		return err
	}
	// Four requests a second make the vendor throttle: https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using#rate-limiting-for-connectors
	r.notifier, r.endpoint, r.rate, r.burst, r.policy, r.secrets = &teams{url: addr}, addr, 1, 3, chat, secretsOf(addr)
	return nil
}

type teams struct{ url string }

type (
	teamsMessage struct {
		Type        string            `json:"type"`
		Attachments []teamsAttachment `json:"attachments"`
	}
	teamsAttachment struct {
		ContentType string    `json:"contentType"`
		Content     teamsCard `json:"content"`
	}
	teamsCard struct {
		Schema  string       `json:"$schema"`
		Type    string       `json:"type"`
		Version string       `json:"version"`
		Text    string       `json:"fallbackText"`
		Body    []teamsBlock `json:"body"`
		Teams   teamsWidth   `json:"msteams"`
	}
	teamsWidth struct {
		Width string `json:"width"`
	}
	// teamsBlock is a RichTextBlock: unlike in a TextBlock, no Markdown is read in its runs, so that names cannot format, link or mention.
	teamsBlock struct {
		Type    string     `json:"type"`
		Inlines []teamsRun `json:"inlines"`
	}
	teamsRun struct {
		Type   string `json:"type"`
		Text   string `json:"text"`
		Weight string `json:"weight,omitempty"`
		Size   string `json:"size,omitempty"`
		Color  string `json:"color,omitempty"`
		Subtle bool   `json:"isSubtle,omitempty"`
	}
)

var teamsColor = map[baseline.Severity]string{
	baseline.Critical: "attention", baseline.High: "attention", baseline.Medium: "warning", baseline.Low: "accent", baseline.Info: "default",
}

func teamsText(s string, n int) teamsRun {
	return teamsRun{Type: "TextRun", Text: cut(clean(s), n) + " "}
}

// Render makes the card; what does not fit leaves from the end of the list of findings.
func (t *teams) Render(m Message) (Request, error) {
	for stories := teamsStories; ; stories-- {
		body, err := json.Marshal(teamsMessage{Type: "message", Attachments: []teamsAttachment{{
			ContentType: "application/vnd.microsoft.card.adaptive", Content: t.card(&m, stories),
		}}})
		if err != nil || len(body) <= teamsBody || stories == 0 {
			return Request{URL: t.url, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, err
		}
	}
}

func (t *teams) card(m *Message, stories int) teamsCard {
	in := &m.Incident
	c := teamsCard{
		Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.2",
		Text: cut(clean(headline(m)+": "+in.Summary), teamsStory), Teams: teamsWidth{"Full"},
	}
	add := func(runs ...teamsRun) { c.Body = append(c.Body, teamsBlock{"RichTextBlock", runs}) }
	head := teamsText(headline(m), teamsStory)
	head.Weight, head.Size, head.Color = "bolder", "large", teamsColor[in.Severity]
	if m.Transition == Resolve {
		head.Color = "good"
	}
	add(head)
	add(teamsText(in.Summary, teamsSummary))
	if m.Transition != Trigger {
		add(teamsText(m.Reason, teamsStory))
	}
	if m.Transition != Resolve {
		for _, f := range about(in) {
			name := teamsText(f[0]+":", teamsField)
			name.Weight = "bolder"
			add(name, teamsText(f[1], teamsField))
		}
		shown, left := counting(in, stories)
		for _, f := range shown {
			name := teamsText("• "+f.Detector, 40)
			name.Weight = "bolder"
			add(name, teamsText(fmt.Sprintf("%s, score %.2f: %s", f.Severity, f.Score, f.Summary), teamsStory))
		}
		if left > 0 {
			add(teamsText(fmt.Sprintf("… (%d more)", left), teamsStory))
		}
		if f := in.Strongest(); f != nil {
			if beats := intervals(f, 40); len(beats) > 1 {
				add(teamsText("intervals "+sparkline(beats), teamsStory))
			}
		}
	}
	last := teamsText(footer(in), teamsStory)
	last.Subtle = true
	add(last)
	return c
}

// Classify: a workflow answers 202 and says nothing more about the card. What it refuses it explains in the body.
func (t *teams) Classify(status int, h http.Header, body []byte, err error) Outcome {
	out := classify(status, h, err, time.Now())
	if err != nil || out.Verdict == OK {
		return out
	}
	var said struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	if json.Unmarshal(body, &said) == nil && said.Error.Message != "" {
		body = []byte(said.Error.Code + " " + said.Error.Message)
	}
	if len(body) > 0 {
		out.Reason += ": " + string(body)
	}
	return out
}
