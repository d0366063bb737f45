package alerts

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/enrich"
)

// Notifier speaks one vendor's language. It sends nothing itself.
type Notifier interface {
	// Render builds the request; it is pure: the same message gives the same bytes.
	Render(Message) (Request, error)
	// Classify judges an attempt. err is set when no whole response came; body is cut at 64 KB.
	Classify(status int, h http.Header, body []byte, err error) Outcome
}

// sender is a Notifier that does not speak HTTP.
type sender interface {
	send(ctx context.Context, r Request) error
}

// Request is what goes out.
type Request struct {
	URL    string
	Header http.Header
	Body   []byte

	secrets []string  // what must not be shown
	mail    *mail.Msg // what Body shows, for e-mail
}

// Redacted is the request as people may see it: the address cut down to scheme and host, secrets blotted out.
func (r Request) Redacted() Request {
	out := Request{URL: redactURL(r.URL), Header: r.Header.Clone(), Body: []byte(redact(string(r.Body), r.secrets))}
	for k, vs := range out.Header {
		for i := range vs {
			out.Header[k][i] = redact(vs[i], r.secrets)
		}
	}
	return out
}

// Outcome is how one attempt went.
type Outcome struct {
	Verdict Judgement
	After   time.Duration // what the receiver asked for before the next attempt; 0 for the own schedule
	Reason  string        // in the vendor's words where there are any
	Status  int           // HTTP status, 0 without a response
	Limit   int           // attempts after which this kind of Retry becomes Reject; 0 none
}

// Judgement says what to do after an attempt.
type Judgement uint8

// The judgements.
const (
	OK      Judgement = iota // taken
	Retry                    // not now
	Degrade                  // not in this form: once more, plain, at once
	Reject                   // never: dead letter
	Disable                  // never, nor anything else: the receiver is gone
)

var judgementText = []string{"ok", "retry", "degrade", "reject", "disable"}

// String is the word in logs and metrics.
func (j Judgement) String() string { return judgementText[min(int(j), len(judgementText)-1)] }

// Receiver is one configured receiver.
type Receiver struct {
	Name        string
	Kind        string // slack, pagerduty, webhook, teams, discord, alertmanager, email, syslog, jsonl
	MinSeverity baseline.Severity
	Workloads   []string // as configured, see Common
	Labels      []string
	Mute        []string
	Active      []string

	notifier  Notifier
	route     route
	hours     hours
	endpoint  string // receivers of one endpoint share its rate
	rate      float64
	burst     float64
	policy    policy
	timeout   time.Duration
	linkLocal bool
	secrets   []string // never shown
}

// Render builds the request for a message.
func (r *Receiver) Render(m Message) (Request, error) {
	req, err := r.notifier.Render(m)
	req.secrets = r.secrets
	if err != nil {
		return req, fmt.Errorf("render for %s: %w", r.Name, err)
	}
	return req, nil
}

// QuietUntil says until when messages about incidents of this severity wait, by mute and active; false: they go out.
func (r *Receiver) QuietUntil(now time.Time, s baseline.Severity) (time.Time, bool) {
	return r.hours.until(now, s)
}

// Hears says whether the receiver is told of an incident as it is, mute times aside; labels are those of its container. why says what
// speaks against it.
func (r *Receiver) Hears(in *Incident, labels []enrich.Label) (why string, ok bool) {
	switch {
	case in.Severity < r.MinSeverity:
		return fmt.Sprintf("its severity is %s, below min_severity %s", in.Severity, r.MinSeverity), false
	case !r.route.wants(in.Workload, labels):
		return "workloads or labels leave it out", false
	}
	return "", true
}

// Preview is what a receiver would be sent if the incident opened now, with secrets blotted out. Nothing is sent.
func Preview(r *Receiver, in Incident) (Request, error) {
	req, err := r.Render(Message{
		ID: "msg_preview", Transition: Trigger, Key: in.Key(), Reason: "preview", At: in.LastSeen, Attempt: in.LastSeen, Incident: in,
	})
	return req.Redacted(), err
}

// Test sends a sample incident to a receiver, once, and resolves it where that matters. It says what the receiver answered.
func Test(ctx context.Context, r *Receiver) Outcome {
	in := Sample()
	now := Wall(time.Now())
	m := Message{
		ID: fmt.Sprintf("msg_test_%d", now), Transition: Trigger, Key: fmt.Sprintf("wharfwatch-test-%d", now), Reason: "test",
		At: now, Attempt: now, Incident: in,
	}
	client := newClient(r.timeout, r.linkLocal, nil)
	out, _ := r.attempt(ctx, client, m)
	if out.Verdict == Degrade {
		m.Plain = true
		out, _ = r.attempt(ctx, client, m)
	}
	if out.Verdict == OK && (r.Kind == "pagerduty" || r.Kind == "alertmanager") {
		m.Transition, m.Reason = Resolve, "test ended"
		out, _ = r.attempt(ctx, client, m)
	}
	return out
}

// Sample is the incident that Test sends.
func Sample() Incident {
	first := Time(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	last := first + Time(3*time.Hour)
	in := Incident{
		ID: "0000000000000000", State: Open, FirstSeen: first, LastSeen: last, Workload: "compose:shop/worker",
		Container:   Container{ID: strings.Repeat("0", 64), Name: "shop-worker-1", Image: "acme/worker:1.8"},
		Attribution: Attribution{Method: enrich.MethodIP, Confidence: enrich.Exact},
		Generation:  1, Count: 1,
		Findings: []Finding{{
			ID: "test", Detector: "beacon", Time: last, LastSeen: last, Subject: "203.0.113.9:443/tcp", Score: .97, Severity: baseline.High, Count: 1,
			Generation: 1, Summary: "test by wharfwatch: shop-worker-1 called 203.0.113.9:443 every 60 s for 3 h", Attack: []string{"T1071.001"},
			Evidence: []byte(`{"intervals":[60,61,59,60,60,58,62,60,61,60],"period_seconds":60.1}`),
		}},
	}
	in.recompute()
	return in
}

func redact(s string, secrets []string) string {
	for _, k := range secrets {
		if len(k) >= 4 {
			s = strings.ReplaceAll(s, k, "[redacted]")
		}
	}
	return s
}

// secretsOf makes a list out of what is set, longest first, so that a part does not spoil the whole.
func secretsOf(s ...string) []string {
	s = slices.DeleteFunc(s, func(k string) bool { return k == "" })
	slices.SortFunc(s, func(a, b string) int { return len(b) - len(a) })
	return s
}
