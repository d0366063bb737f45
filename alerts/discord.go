package alerts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Discord posts to a webhook of a channel, https://docs.discord.com/developers/resources/webhook#execute-webhook.
type Discord struct {
	Common         `yaml:",inline"`
	WebhookURL     string `yaml:"webhook_url"`
	WebhookURLFile string `yaml:"webhook_url_file"`
}

// Our own limits: with at most 8 fields they stay below 6000 characters over the whole embed, title 256, description 4096, field 256 and
// 1024, footer 2048 (https://docs.discord.com/developers/resources/message#embed-object-embed-limits), even where the vendor counts a
// character outside the basic plane as two.
const (
	discordTitle   = 120
	discordSummary = 600
	discordStory   = 140
	discordStories = 6
	discordField   = 100
	discordFooter  = 100
	discordUnknown = 10015 // the webhook was deleted, https://docs.discord.com/developers/topics/opcodes-and-status-codes#json
)

func (d *Discord) validate(report func(key, message string)) {
	checkWebhookURL(report, "webhook_url", d.WebhookURL, d.WebhookURLFile)
}

func (d Discord) build(r *Receiver) error {
	addr, err := secretURL("webhook_url", d.WebhookURL, d.WebhookURLFile, r.linkLocal)
	if err != nil {
		return err
	}
	u, err := url.Parse(addr)
	if err != nil {
		return fmt.Errorf("webhook_url: %w", bare(err))
	}
	q := u.Query()
	q.Set("wait", "true") // without it errors are silent
	u.RawQuery = q.Encode()
	// 30 messages a minute and channel; what the answers say is obeyed beside that.
	r.notifier, r.endpoint, r.rate, r.burst, r.policy, r.secrets = &discord{url: u.String()}, addr, .5, 5, chat, secretsOf(addr, u.String())
	return nil
}

type discord struct{ url string }

type (
	discordMessage struct {
		Embeds   []discordEmbed  `json:"embeds"`
		Mentions discordMentions `json:"allowed_mentions"`
	}
	discordMentions struct {
		Parse []string `json:"parse"` // empty and not absent: nobody is mentioned, whatever the text says
	}
	discordEmbed struct {
		Title       string         `json:"title"`
		Description string         `json:"description"`
		Color       int            `json:"color"`
		Timestamp   Time           `json:"timestamp"`
		Fields      []discordPair  `json:"fields,omitempty"`
		Footer      discordComment `json:"footer"`
	}
	discordPair struct {
		Name   string `json:"name"`
		Value  string `json:"value"`
		Inline bool   `json:"inline"`
	}
	discordComment struct {
		Text string `json:"text"`
	}
)

var discordColor = map[baseline.Severity]int{
	baseline.Critical: 0xb00020, baseline.High: 0xe53935, baseline.Medium: 0xfb8c00, baseline.Low: 0xfdd835, baseline.Info: 0x1e88e5,
}

const discordClosed = 0x43a047

// discordEscape takes the meaning from every mark of the vendor's Markdown, and from mentions.
var discordEscape = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "~", `\~`, "`", "\\`", "|", `\|`, ">", `\>`, "<", `\<`, "#", `\#`,
	"[", `\[`, "]", `\]`, "(", `\(`, ")", `\)`, "@", `\@`, "-", `\-`, ":", `\:`, "/", `\/`)

func discordText(s string, n int) string { return escaped(s, n, discordEscape) }

// Render makes one embed. The whole text is escaped: names are somebody else's.
func (d *discord) Render(m Message) (Request, error) {
	in := &m.Incident
	e := discordEmbed{
		Title: discordText(headline(&m), discordTitle), Color: discordColor[in.Severity], Timestamp: m.At,
		Footer: discordComment{cut(footer(in), discordFooter)},
	}
	lines := []string{discordText(in.Summary, discordSummary)}
	if m.Transition != Trigger {
		lines = append(lines, discordText(m.Reason, discordStory))
	}
	if m.Transition == Resolve {
		e.Color = discordClosed
	} else {
		shown, left := counting(in, discordStories)
		for _, f := range shown {
			lines = append(lines, fmt.Sprintf("• **%s** %s, score %.2f: %s", discordText(f.Detector, 40), f.Severity, f.Score, discordText(f.Summary, discordStory)))
		}
		if left > 0 {
			lines = append(lines, fmt.Sprintf("… (%d more)", left))
		}
		if f := in.Strongest(); f != nil {
			if beats := intervals(f, 40); len(beats) > 1 {
				lines = append(lines, "intervals "+sparkline(beats))
			}
		}
		for _, f := range about(in) {
			e.Fields = append(e.Fields, discordPair{Name: f[0], Value: discordText(f[1], discordField) + "\u00a0", Inline: true})
		}
	}
	e.Description = strings.Join(lines, "\n")
	body, err := json.Marshal(discordMessage{Embeds: []discordEmbed{e}, Mentions: discordMentions{Parse: []string{}}})
	return Request{URL: d.url, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, err
}

// Classify obeys what the vendor says about its rate, also where the message was taken.
func (d *discord) Classify(status int, h http.Header, body []byte, err error) Outcome {
	out := classify(status, h, err, time.Now())
	if err != nil {
		return out
	}
	var said struct {
		Message    string  `json:"message"`
		Code       int     `json:"code"`
		RetryAfter float64 `json:"retry_after"` // seconds
	}
	_ = json.Unmarshal(body, &said) // what is no JSON says nothing
	switch {
	case out.Verdict == OK:
		if h.Get("X-RateLimit-Remaining") == "0" {
			if s, err := strconv.ParseFloat(h.Get("X-RateLimit-Reset-After"), 64); err == nil {
				out.After = clampAfter(s)
			}
		}
		return out
	case status == http.StatusTooManyRequests && said.RetryAfter > 0:
		out.After = max(out.After, clampAfter(said.RetryAfter))
	case said.Code == discordUnknown:
		out.Verdict = Disable
	}
	if said.Message != "" {
		out.Reason += ": " + said.Message
	}
	return out
}
