package alerts

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Syslog sends RFC 5424 messages whose text is CEF, OCSF or ECS: over UDP (RFC 5426), TCP with octet counting (RFC 6587) or TLS (RFC
// 5425). It is an export: every transition goes out at once.
type Syslog struct {
	Common   `yaml:",inline"`
	Address  string `yaml:"address"`   // udp://HOST:514, tcp://HOST:601 or tls://HOST:6514
	Format   string `yaml:"format"`    // cef (default), ocsf or ecs
	Facility string `yaml:"facility"`  // local0 (default) to local7, auth, authpriv, daemon or user
	Hostname string `yaml:"hostname"`  // this machine's where empty
	MaxBytes int    `yaml:"max_bytes"` // of one message; 2048 over UDP and 16384 else where 0
	CAFile   string `yaml:"ca_file"`   // PEM of who signed the server's certificate; the host's roots where empty
}

const (
	syslogLeast   = 1024
	syslogMost    = 60_000
	syslogUDP     = 2048 // what receivers should take, RFC 5426 section 3.2
	syslogTCP     = 16384
	syslogLinger  = 2 * time.Second        // for the server to close after us
	syslogRefused = 100 * time.Millisecond // for a "port unreachable" to come back
)

var syslogFacilities = map[string]int{
	"user": 1, "daemon": 3, "auth": 4, "authpriv": 10, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21,
	"local6": 22, "local7": 23,
}

var syslogForms = map[string]func(*Message, int) []byte{"cef": cefLine, "ocsf": ocsfLine, "ecs": ecsLine}

// syslogSeverity is the PRI's, RFC 5424 table 2.
var syslogSeverity = map[baseline.Severity]int{baseline.Critical: 2, baseline.High: 3, baseline.Medium: 4, baseline.Low: 5, baseline.Info: 6}

func (s *Syslog) validate(report func(key, message string)) {
	u, err := url.Parse(s.Address)
	switch {
	case err != nil || u.Scheme != "udp" && u.Scheme != "tcp" && u.Scheme != "tls" || strings.Trim(u.Path, "/") != "" || u.User != nil:
		report("address", "must be udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT")
	default:
		if err := checkHostPort(u.Host); err != nil {
			report("address", err.Error())
		}
	}
	if _, ok := syslogForms[cmp.Or(s.Format, "cef")]; !ok {
		report("format", fmt.Sprintf("unknown format %q, known are %s", s.Format, strings.Join(sorted(syslogForms), ", ")))
	}
	if _, ok := syslogFacilities[cmp.Or(s.Facility, "local0")]; !ok {
		report("facility", fmt.Sprintf("unknown facility %q, known are %s", s.Facility, strings.Join(sorted(syslogFacilities), ", ")))
	}
	if s.MaxBytes != 0 && (s.MaxBytes < syslogLeast || s.MaxBytes > syslogMost) {
		report("max_bytes", fmt.Sprintf("must be between %d and %d", syslogLeast, syslogMost))
	}
	if syslogHeader(s.Hostname, 255) != cmp.Or(s.Hostname, "-") {
		report("hostname", "may have 255 printable characters of ASCII, without spaces")
	}
}

func (s Syslog) build(r *Receiver) error {
	u, err := url.Parse(s.Address)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	n := &syslog{network: u.Scheme, address: u.Host, linkLocal: r.linkLocal, form: syslogForms[cmp.Or(s.Format, "cef")], most: s.MaxBytes}
	if n.form == nil {
		return fmt.Errorf("format: unknown %q", s.Format)
	}
	n.facility = syslogFacilities[cmp.Or(s.Facility, "local0")]
	if n.most == 0 {
		n.most = syslogTCP
		if n.network == "udp" {
			n.most = syslogUDP
		}
	}
	host := s.Hostname
	if host == "" {
		host, _ = os.Hostname() // "-" says that it is not known
	}
	n.hostname = syslogHeader(host, 255)
	if n.network == "tls" {
		n.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
		if s.CAFile != "" {
			if n.tls.RootCAs, err = readRoots(s.CAFile); err != nil {
				return err
			}
		}
	}
	r.notifier, r.endpoint, r.rate, r.burst, r.policy = n, s.Address, 50, 200, chat
	return nil
}

// readRoots reads certificates that are trusted in place of the host's.
func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", file)
	}
	return pool, nil
}

type syslog struct {
	network, address, hostname string
	facility, most             int
	linkLocal                  bool
	tls                        *tls.Config
	form                       func(m *Message, room int) []byte
}

// syslogHeader keeps what a header field may hold (PRINTUSASCII).
func syslogHeader(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < 33 || r > 126 {
			return -1
		}
		return r
	}, s)
	return cmp.Or(s[:min(len(s), n)], "-")
}

// Render makes the message without its frame. The time is that of the transition: retries are equal.
func (s *syslog) Render(m Message) (Request, error) {
	pri := s.facility*8 + syslogSeverity[m.Incident.Severity]
	if m.Transition == Resolve {
		pri = s.facility*8 + 5
	}
	head := fmt.Sprintf("<%d>1 %s %s wharfwatch - %s - ", pri, m.At.Std().Format("2006-01-02T15:04:05.000000Z07:00"), s.hostname, syslogHeader(string(m.Transition), 32))
	body := append([]byte(head), s.form(&m, s.most-len(head))...)
	return Request{URL: s.network + "://" + s.address, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: body}, nil
}

// send opens a connection for each message: a message written into a connection that the other side has left is lost without a word.
// Over TCP and TLS the server's own close says that it has read everything; UDP says at best that nobody listens.
func (s *syslog) send(ctx context.Context, r Request) error {
	network := "tcp"
	if s.network == "udp" {
		network = "udp"
	}
	conn, err := dialer(s.linkLocal).DialContext(ctx, network, s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	if network == "udp" {
		if _, err := conn.Write(r.Body); err != nil {
			return err
		}
		return heard(conn, syslogRefused)
	}
	var half interface{ CloseWrite() error } = conn.(*net.TCPConn)
	if s.tls != nil {
		t := tls.Client(conn, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		conn, half = t, t
	}
	if _, err := conn.Write(append(strconv.AppendInt(nil, int64(len(r.Body)), 10), append([]byte{' '}, r.Body...)...)); err != nil {
		return err
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	return heard(conn, syslogLinger)
}

// heard waits for the other side to close or refuse. One that does neither in time is taken to have read.
func heard(conn net.Conn, most time.Duration) error {
	if err := conn.SetReadDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, conn, maxResponse)
	var timeout net.Error
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}

// Classify: syslog knows no refusal, only that nobody listens.
func (s *syslog) Classify(_ int, _ http.Header, _ []byte, err error) Outcome {
	switch {
	case err == nil:
		return Outcome{Verdict: OK, Reason: "sent over " + s.network}
	case errors.Is(err, errForbidden):
		return Outcome{Verdict: Reject, Reason: err.Error()}
	}
	return Outcome{Verdict: Retry, Reason: err.Error()}
}
