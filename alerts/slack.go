package alerts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Slack posts to an incoming webhook, https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.
type Slack struct {
	Common         `yaml:",inline"`
	WebhookURL     string `yaml:"webhook_url"`
	WebhookURLFile string `yaml:"webhook_url_file"`
}

// Limits of Block Kit, https://docs.slack.dev/reference/block-kit/blocks. All count characters.
const (
	slackHeader   = 150
	slackSection  = 3000
	slackField    = 2000
	slackText     = 3000 // of the fallback; the vendor cuts at 40000
	slackStories  = 10   // our own: more is a wall
	slackFacts    = 16   // likewise
	chartTitle    = 50
	chartLabel    = 20
	chartBins     = 20
	slackAttempts = 3 // that end in a 200 whose body is not ok
)

func (s *Slack) validate(report func(key, message string)) {
	checkWebhookURL(report, "webhook_url", s.WebhookURL, s.WebhookURLFile)
}

func (s Slack) build(r *Receiver) error {
	addr, err := secretURL("webhook_url", s.WebhookURL, s.WebhookURLFile, r.linkLocal)
	if err != nil {
		return err
	}
	// One message a second, short bursts: https://docs.slack.dev/apis/web-api/rate-limits
	r.notifier, r.endpoint, r.rate, r.burst, r.policy, r.secrets = &slack{url: addr}, addr, 1, 3, chat, secretsOf(addr)
	return nil
}

type slack struct{ url string }

type (
	slackMessage struct {
		Text        string `json:"text"`
		Blocks      []any  `json:"blocks"`
		UnfurlLinks bool   `json:"unfurl_links"`
		UnfurlMedia bool   `json:"unfurl_media"`
	}
	slackString struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	slackBlock struct {
		Type     string        `json:"type"`
		Text     *slackString  `json:"text,omitempty"`
		Fields   []slackString `json:"fields,omitempty"`
		Elements []slackString `json:"elements,omitempty"`
	}
	slackChart struct {
		Type  string `json:"type"`
		Title string `json:"title"`
		Chart struct {
			Type   string        `json:"type"`
			Series []slackSeries `json:"series"`
			Axis   struct {
				Categories []string `json:"categories"`
				X          string   `json:"x_label"`
				Y          string   `json:"y_label"`
			} `json:"axis_config"`
		} `json:"chart"`
	}
	slackSeries struct {
		Name string       `json:"name"`
		Data []slackPoint `json:"data"`
	}
	slackPoint struct {
		Label string `json:"label"`
		Value int    `json:"value"`
	}
)

// escape makes a name harmless inside mrkdwn: no mention, no link, no formatting that opens in one value and closes in another.
// https://docs.slack.dev/messaging/formatting-message-text#escaping
func escape(s string) string { return slackEscape.Replace(clean(s)) }

// slackPlain is for plain text, where entities would show: angle brackets become others.
var slackPlain = strings.NewReplacer("<", "‹", ">", "›")

var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// mrkdwn escapes and cuts.
func mrkdwn(s string, n int) string { return escaped(s, n, slackEscape) }

// Render makes the message.
func (s *slack) Render(m Message) (Request, error) {
	in := &m.Incident
	head := headline(&m)
	summary := mrkdwn(in.Summary, slackSection)
	msg := slackMessage{Text: mrkdwn(head+": "+in.Summary, slackText)}
	add := func(b any) { msg.Blocks = append(msg.Blocks, b) }
	add(slackBlock{Type: "header", Text: &slackString{"plain_text", cut(slackPlain.Replace(clean(head)), slackHeader)}})
	add(slackBlock{Type: "section", Text: &slackString{"mrkdwn", summary}})
	if m.Transition != Trigger {
		add(slackBlock{Type: "section", Text: &slackString{"mrkdwn", mrkdwn(m.Reason, slackSection)}})
	}
	if m.Transition != Resolve {
		add(slackBlock{Type: "section", Fields: slackFields(in)})
		add(slackBlock{Type: "section", Text: &slackString{"mrkdwn", slackFindings(in)}})
		if f := in.Strongest(); f != nil {
			if known := facts(f, slackFacts); len(known) > 0 {
				add(slackBlock{Type: "section", Text: &slackString{"mrkdwn", mrkdwn(strings.Join(known, " · "), slackSection)}})
			}
			if beats := intervals(f, 40); len(beats) > 1 {
				add(slackBlock{Type: "section", Text: &slackString{"mrkdwn", mrkdwn("intervals `"+sparkline(beats)+"` of "+f.Subject, slackSection)}})
				if !m.Plain {
					add(beatChart(beats))
				}
			}
		}
	}
	add(slackBlock{Type: "context", Elements: []slackString{{"mrkdwn", mrkdwn(fmt.Sprintf("incident %s · `wharfwatch incidents show %.8s`", in.ID, in.ID), slackField)}}})
	body, err := json.Marshal(msg)
	return Request{URL: s.url, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, err
}

func slackFields(in *Incident) []slackString {
	var out []slackString
	for _, f := range about(in) {
		out = append(out, slackString{"mrkdwn", "*" + escape(f[0]) + "*\n" + mrkdwn(f[1], slackField-40)})
	}
	return out
}

func slackFindings(in *Incident) string {
	var b strings.Builder
	shown, left := 0, 0
	for i := range in.Findings {
		f := &in.Findings[i]
		if !f.counts(in.Generation) {
			continue
		}
		if shown == slackStories {
			left++
			continue
		}
		shown++
		fmt.Fprintf(&b, "• *%s* %s, score %.2f: %s\n", mrkdwn(f.Detector, 40), f.Severity, f.Score, mrkdwn(f.Summary, 220))
	}
	if left > 0 {
		fmt.Fprintf(&b, "… (%d more)\n", left)
	}
	if b.Len() == 0 {
		return "no finding counts any more"
	}
	return b.String()
}

// beatChart is the histogram of intervals, https://docs.slack.dev/reference/block-kit/blocks/data-visualization-block.
func beatChart(beats []float64) slackChart {
	labels, counts := histogram(beats, min(chartBins, len(beats)))
	c := slackChart{Type: "data_visualization", Title: cut("Intervals between connections", chartTitle)}
	c.Chart.Type = "bar"
	c.Chart.Axis.X, c.Chart.Axis.Y = "seconds", "connections"
	series := slackSeries{Name: "intervals"}
	for i, l := range labels {
		l = cut(l, chartLabel)
		c.Chart.Axis.Categories = append(c.Chart.Axis.Categories, l)
		series.Data = append(series.Data, slackPoint{Label: l, Value: counts[i]})
	}
	c.Chart.Series = []slackSeries{series}
	return c
}

// Classify: success is 200 with the body ok, and nothing else.
func (s *slack) Classify(status int, h http.Header, body []byte, err error) Outcome {
	out := classify(status, h, err, time.Now())
	if err != nil {
		return out
	}
	text := strings.TrimSpace(string(body))
	var said struct {
		Error      string  `json:"error"`
		RetryAfter float64 `json:"retry_after"`
	}
	if json.Unmarshal(body, &said) == nil && said.Error != "" {
		text = said.Error
	}
	switch {
	case status == http.StatusOK && text == "ok":
		return out
	case out.Verdict == OK:
		return Outcome{Verdict: Retry, Reason: fmt.Sprintf("%d with %q instead of ok", status, cut(text, 100)), Limit: slackAttempts}
	case status == http.StatusBadRequest && text == "invalid_blocks":
		out.Verdict = Degrade
	case status == http.StatusTooManyRequests && out.After == 0 && said.RetryAfter > 0:
		out.After = clampAfter(said.RetryAfter)
	}
	out.Reason += ": " + text
	return out
}
