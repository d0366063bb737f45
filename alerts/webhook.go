package alerts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Webhook posts incidents as JSON, signed as Standard Webhooks 1.0.0 wants it (https://www.standardwebhooks.com); without a secret
// it is not signed.
type Webhook struct {
	Common     `yaml:",inline"`
	URL        string   `yaml:"url"`
	URLFile    string   `yaml:"url_file"`
	Secret     string   `yaml:"secret"`      // whsec_ and base64 of 24 to 64 bytes
	SecretFile string   `yaml:"secret_file"` // one a line, the newest first: all of them sign, so that keys can be changed
	Headers    []Header `yaml:"headers"`     // sent along, such as an Authorization
}

// Header is one header of a request. Its value counts as a secret.
type Header struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

func (w *Webhook) validate(report func(key, message string)) {
	oneOf(report, "url", w.URL, w.URLFile)
	if w.URL != "" {
		if err := checkURL(w.URL, true); err != nil {
			report("url", err.Error())
		}
	}
	if w.Secret != "" && w.SecretFile != "" {
		report("secret", "is given twice: give secret or secret_file")
	}
	if _, err := signingKey(w.Secret); w.Secret != "" && err != nil {
		report("secret", err.Error())
	}
	checkHeaders(report, w.Headers)
}

// checkHeaders reports headers that may not be set.
func checkHeaders(report func(key, message string), headers []Header) {
	for i, h := range headers {
		if n := http.CanonicalHeaderKey(h.Name); h.Name == "" || strings.HasPrefix(n, "Webhook-") || strings.ContainsAny(h.Name, "\r\n: ") {
			report(fmt.Sprintf("headers[%d].name", i), "is no name of a header that may be set")
		}
		if strings.ContainsAny(h.Value, "\r\n") {
			report(fmt.Sprintf("headers[%d].value", i), "must be one line")
		}
	}
}

const keyPrefix = "whsec_"

func signingKey(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, keyPrefix))
	if err != nil || !strings.HasPrefix(s, keyPrefix) || len(b) < 24 || len(b) > 64 {
		return nil, fmt.Errorf("is no signing key: want %s and base64 of 24 to 64 random bytes (openssl rand -base64 32)", keyPrefix)
	}
	return b, nil
}

func (w Webhook) build(r *Receiver) error {
	addr, err := secret(w.URL, w.URLFile)
	if err != nil {
		return err
	}
	if err := checkURL(addr, r.linkLocal); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	keys, err := secret(w.Secret, w.SecretFile)
	if err != nil {
		return err
	}
	n := &webhook{url: addr, headers: w.Headers}
	hide := []string{addr, keys}
	for _, k := range strings.Fields(keys) {
		b, err := signingKey(k)
		if err != nil {
			return fmt.Errorf("secret: %w", err)
		}
		n.keys = append(n.keys, b)
		hide = append(hide, k)
	}
	for _, h := range w.Headers {
		hide = append(hide, h.Value)
	}
	r.notifier, r.endpoint, r.rate, r.burst, r.policy, r.secrets = n, addr, 10, 20, hook, secretsOf(hide...)
	return nil
}

type webhook struct {
	url     string
	keys    [][]byte
	headers []Header
}

// event is the body. Standard Webhooks asks for less than 20 KB.
type event struct {
	Type      string   `json:"type"`
	Timestamp Time     `json:"timestamp"` // of the transition, equal over retries
	Reason    string   `json:"reason"`
	DedupKey  string   `json:"dedup_key"`
	Data      Incident `json:"data"`
}

const maxWebhook = 20_000

var eventTypes = map[Transition]string{
	Trigger: "incident.opened", Update: "incident.updated", Acknowledge: "incident.acknowledged", Resolve: "incident.resolved",
}

// Render makes body and signature.
func (w *webhook) Render(m Message) (Request, error) {
	body, err := shrink(event{Type: eventTypes[m.Transition], Timestamp: m.At, Reason: m.Reason, DedupKey: m.Key, Data: m.Incident})
	if err != nil {
		return Request{}, err
	}
	h := http.Header{"Content-Type": {"application/json"}}
	for _, x := range w.headers {
		h.Set(x.Name, x.Value)
	}
	seconds := strconv.FormatInt(m.Attempt.Std().Unix(), 10)
	h.Set("webhook-id", m.ID)
	h.Set("webhook-timestamp", seconds)
	var signatures []string
	for _, k := range w.keys {
		mac := hmac.New(sha256.New, k)
		fmt.Fprintf(mac, "%s.%s.%s", m.ID, seconds, body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if len(signatures) > 0 {
		h.Set("webhook-signature", strings.Join(signatures, " "))
	}
	return Request{URL: w.url, Header: h, Body: body}, nil
}

// shrink leaves out the least important until the body fits: weak findings, then evidence, then the length of what people named.
func shrink(e event) ([]byte, error) {
	in := e.Data.clone()
	e.Data = in
	b, err := json.Marshal(e)
	for err == nil && len(b) > maxWebhook && len(e.Data.Findings) > 1 {
		for range max(1, len(e.Data.Findings)/8) {
			e.Data.drop()
		}
		b, err = json.Marshal(e)
	}
	if err == nil && len(b) > maxWebhook && len(e.Data.Findings) == 1 {
		e.Data.Findings[0].Evidence = json.RawMessage(fmt.Sprintf(`{"omitted_bytes":%d}`, len(e.Data.Findings[0].Evidence)))
		b, err = json.Marshal(e)
	}
	if err == nil && len(b) > maxWebhook && len(e.Data.Findings) == 1 {
		const n = 200
		d := &e.Data
		f := &d.Findings[0]
		for _, s := range []*string{
			&d.Workload, &d.Container.ID, &d.Container.Name, &d.Container.Image, &d.Summary, &e.Reason, &f.ID, &f.Detector, &f.Subject, &f.Summary,
		} {
			*s = cut(*s, n)
		}
		for _, list := range []*[]string{&d.Attack, &f.Attack} {
			short := []string{}
			for _, s := range (*list)[:min(len(*list), 20)] {
				short = append(short, cut(s, 20))
			}
			*list = short
		}
		b, err = json.Marshal(e)
	}
	return b, err
}

// Classify follows the specification: 2xx is success, 410 the end.
func (w *webhook) Classify(status int, h http.Header, body []byte, err error) Outcome {
	out := classify(status, h, err, time.Now())
	if err == nil && status >= 300 && len(body) > 0 && out.Verdict != OK {
		out.Reason += ": " + string(body)
	}
	return out
}
