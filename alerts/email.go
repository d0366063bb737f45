package alerts

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	stdmail "net/mail"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Email sends mail over SMTP: plain text and simple HTML, one thread per incident.
type Email struct {
	Common       `yaml:",inline"`
	Server       string   `yaml:"server"`  // HOST:PORT
	TLS          string   `yaml:"tls"`     // starttls (default), tls from the first byte, or none, which only loopback servers get
	CAFile       string   `yaml:"ca_file"` // PEM of who signed the server's certificate; the host's roots where empty
	Username     string   `yaml:"username"`
	Password     string   `yaml:"password"`
	PasswordFile string   `yaml:"password_file"`
	From         string   `yaml:"from"`
	To           []string `yaml:"to"`
}

const (
	emailStories = 20
	emailFacts   = 30
	emailText    = 2000
	emailSubject = 150
	mostMailTo   = 50
)

func (e *Email) validate(report func(key, message string)) {
	if err := checkHostPort(e.Server); err != nil {
		report("server", err.Error()+", such as mail.example.com:587")
	}
	switch e.TLS {
	case "", "starttls", "tls":
	case "none":
		if host, _, err := net.SplitHostPort(e.Server); err == nil && !loopbackName(host) {
			report("tls", errNotLoopback.Error())
		}
	default:
		report("tls", fmt.Sprintf("unknown %q, known are starttls, tls, none", e.TLS))
	}
	if e.Password != "" && e.PasswordFile != "" {
		report("password", "is given twice: give password or password_file")
	}
	if secret := e.Password != "" || e.PasswordFile != ""; (e.Username != "") != secret {
		report("username", "username and password (or password_file) go together")
	}
	if _, err := stdmail.ParseAddress(e.From); err != nil {
		report("from", "is no mail address such as wharfwatch@example.com")
	}
	if len(e.To) == 0 || len(e.To) > mostMailTo {
		report("to", fmt.Sprintf("must have 1 to %d addresses", mostMailTo))
	}
	for i, to := range e.To {
		if _, err := stdmail.ParseAddress(to); err != nil {
			report(fmt.Sprintf("to[%d]", i), fmt.Sprintf("%q is no mail address", to))
		}
	}
}

func loopbackName(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (e Email) build(r *Receiver) error {
	password, err := secret(e.Password, e.PasswordFile)
	if err != nil {
		return err
	}
	host, portText, err := net.SplitHostPort(e.Server)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	from, err := stdmail.ParseAddress(e.From)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	n := &email{server: e.Server, from: e.From, to: e.To, domain: "wharfwatch.invalid"}
	if _, domain, ok := strings.Cut(from.Address, "@"); ok {
		n.domain = domain
	}
	encrypted := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if e.CAFile != "" {
		if encrypted.RootCAs, err = readRoots(e.CAFile); err != nil {
			return err
		}
	}
	n.options = []mail.Option{mail.WithPort(port), mail.WithTimeout(r.timeout), mail.WithTLSConfig(encrypted)}
	n.host = host
	dial := dialer(r.linkLocal).DialContext
	switch e.TLS {
	case "none":
		n.options = append(n.options, mail.WithTLSPolicy(mail.NoTLS))
		dial = dialLoopback
	case "tls":
		n.options = append(n.options, mail.WithSSL())
		plain := dial
		dial = func(ctx context.Context, network, address string) (net.Conn, error) { // the library leaves TLS to a dialer that is given
			conn, err := plain(ctx, network, address)
			if err != nil {
				return nil, err
			}
			t := tls.Client(conn, encrypted)
			if err := t.HandshakeContext(ctx); err != nil {
				conn.Close()
				return nil, err
			}
			return t, nil
		}
	default:
		n.options = append(n.options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	n.options = append(n.options, mail.WithDialContextFunc(dial))
	if e.Username != "" {
		auth := mail.SMTPAuthAutoDiscover
		if e.TLS == "none" || e.TLS == "tls" {
			auth = mail.SMTPAuthPlainNoEnc // loopback only, or inside TLS of which the library does not know
		}
		n.options = append(n.options, mail.WithSMTPAuth(auth), mail.WithUsername(e.Username), mail.WithPassword(password))
	}
	r.notifier, r.endpoint, r.rate, r.burst, r.policy, r.secrets = n, "smtp:"+e.Server, .5, 10, chat, secretsOf(password)
	return nil
}

type email struct {
	server, host string
	options      []mail.Option
	from, domain string
	to           []string
}

// Render makes the mail. Retries carry the same Message-ID; all mails of an incident answer its first one, under the same subject, so
// that clients show one thread.
func (e *email) Render(m Message) (Request, error) {
	in := &m.Incident
	sum := sha256.Sum256([]byte(m.ID))
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent(), mail.WithBoundary("ww"+hex.EncodeToString(sum[:16])))
	if err := errors.Join(msg.From(e.from), msg.To(e.to...)); err != nil {
		return Request{}, err
	}
	root := fmt.Sprintf("%s.1.trigger@%s", in.ID, e.domain)
	id := root
	if m.Transition != Trigger || in.Generation > 1 {
		id = fmt.Sprintf("%s@%s", m.ID, e.domain)
		msg.SetGenHeader(mail.HeaderInReplyTo, "<"+root+">")
		msg.SetGenHeader(mail.HeaderReferences, "<"+root+">")
	}
	msg.SetMessageIDWithValue(id)
	msg.SetDateWithValue(m.At.Std())
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office answers
	msg.SetGenHeader("X-Wharfwatch-Severity", in.Severity.String())
	msg.SetGenHeader("X-Wharfwatch-Incident", cut(clean(in.ID), 64))
	if in.Severity >= baseline.High && m.Transition != Resolve {
		msg.SetImportance(mail.ImportanceHigh)
	}
	subject := cut(clean(fmt.Sprintf("[wharfwatch] %s, incident %.8s", cmp.Or(in.Workload, "host"), in.ID)), emailSubject)
	if m.Transition != Trigger {
		subject = "Re: " + subject
	}
	msg.Subject(subject)
	text, html, err := letter(&m)
	if err != nil {
		return Request{}, err
	}
	msg.SetBodyString(mail.TypeTextPlain, text)
	msg.AddAlternativeString(mail.TypeTextHTML, html)
	var body bytes.Buffer
	if _, err := msg.WriteTo(&body); err != nil {
		return Request{}, err
	}
	return Request{URL: "smtp://" + e.server, Header: http.Header{"Content-Type": {"message/rfc822"}}, Body: body.Bytes(), mail: msg}, nil
}

// letterPage is what both forms of a mail say.
type letterPage struct {
	Head, Summary, Reason, Footer string
	About                         [][2]string
	Findings, Facts               []string
	Beats                         string
}

var letterHTML = template.Must(template.New("mail").Parse(`<!DOCTYPE html>
<html><body>
<h3>{{.Head}}</h3>
<p>{{.Summary}}</p>
{{with .Reason}}<p><i>{{.}}</i></p>
{{end}}{{with .Findings}}<ul>
{{range .}}<li>{{.}}</li>
{{end}}</ul>
{{end}}{{with .Beats}}<p>{{.}}</p>
{{end}}{{with .About}}<table>
{{range .}}<tr><th align="left">{{index . 0}}</th><td>{{index . 1}}</td></tr>
{{end}}</table>
{{end}}{{with .Facts}}<p>{{range .}}{{.}}<br>
{{end}}</p>
{{end}}<p><small>{{.Footer}}</small></p>
</body></html>
`))

func letter(m *Message) (text, html string, err error) {
	in := &m.Incident
	p := letterPage{Head: cut(clean(headline(m)), emailSubject), Summary: cut(clean(in.Summary), emailText), Footer: footer(in)}
	if m.Transition != Trigger {
		p.Reason = cut(clean(m.Reason), emailText)
	}
	if m.Transition != Resolve {
		shown, left := counting(in, emailStories)
		for _, f := range shown {
			p.Findings = append(p.Findings, cut(clean(fmt.Sprintf("%s, %s, score %.2f: %s", f.Detector, f.Severity, f.Score, f.Summary)), 500))
		}
		if left > 0 {
			p.Findings = append(p.Findings, fmt.Sprintf("… (%d more)", left))
		}
		for _, a := range about(in) {
			p.About = append(p.About, [2]string{a[0], cut(clean(a[1]), 300)})
		}
		if f := in.Strongest(); f != nil {
			p.Facts = facts(f, emailFacts)
			if beats := intervals(f, 40); len(beats) > 1 {
				p.Beats = "intervals " + sparkline(beats)
			}
		}
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s\n\n%s", p.Head, p.Summary)
	if p.Reason != "" {
		line("%s", p.Reason)
	}
	line("")
	for _, f := range p.Findings {
		line("- %s", f)
	}
	if p.Beats != "" {
		line("%s", p.Beats)
	}
	line("")
	for _, a := range p.About {
		line("%-12s %s", a[0], a[1])
	}
	line("")
	for _, f := range p.Facts {
		line("%s", f)
	}
	line("\n%s", p.Footer)
	var h strings.Builder
	err = letterHTML.Execute(&h, p)
	return b.String(), h.String(), err
}

func (e *email) send(ctx context.Context, r Request) error {
	c, err := mail.NewClient(e.host, e.options...)
	if err != nil {
		return err
	}
	return c.DialAndSendWithContext(ctx, r.mail)
}

// Classify: a server that says 5xx to the message will say so again; one that cannot be reached, or refuses the password, may change
// its mind (RFC 5321 section 4.2.1).
func (e *email) Classify(_ int, _ http.Header, _ []byte, err error) Outcome {
	var refused *mail.SendError
	switch {
	case err == nil:
		return Outcome{Verdict: OK, Reason: "taken by " + e.server}
	case errors.Is(err, errForbidden), errors.Is(err, errNotLoopback):
		return Outcome{Verdict: Reject, Reason: err.Error()}
	case errors.As(err, &refused) && refused.ErrorCode() >= 500:
		return Outcome{Verdict: Reject, Reason: err.Error()}
	}
	return Outcome{Verdict: Retry, Reason: err.Error()}
}
