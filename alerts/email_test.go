package alerts

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	stdmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate makes one for 127.0.0.1, and the file that a client trusts.
func certificate(t *testing.T) (server *tls.Config, roots string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "receiver"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	roots = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

// listen takes datagrams, or one frame of each connection.
func listen(t *testing.T, network string, config *tls.Config, got chan<- string) string {
	t.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			b := make([]byte, 65536)
			for {
				n, _, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				got <- string(b[:n])
			}
		}()
		return conn.LocalAddr().String()
	}
	return serve(t, network, config, func(conn net.Conn) {
		if s := unframe(t, conn); s != "" {
			got <- s
		}
	})
}

func serve(t *testing.T, network string, config *tls.Config, each func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if network == "tls" {
				conn = tls.Server(conn, config)
			}
			each(conn)
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// post office: a small SMTP server (RFC 5321) that keeps what it is given.
type office struct {
	starttls, auth bool
	refuse         string // the answer to RCPT
	said           []string
	mails          chan string
	config         *tls.Config
}

func (o *office) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	reply := func(s string) { io.WriteString(conn, s+"\r\n") }
	reply("220 office ESMTP")
	_, secure := conn.(*tls.Conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		o.said = append(o.said, line)
		switch verb := strings.ToUpper(strings.SplitN(line, " ", 2)[0]); verb {
		case "EHLO":
			reply("250-office")
			if o.starttls && !secure {
				reply("250-STARTTLS")
			}
			if o.auth {
				reply("250-AUTH PLAIN")
			}
			reply("250 8BITMIME")
		case "STARTTLS":
			reply("220 go ahead")
			t := tls.Server(conn, o.config)
			if t.Handshake() != nil {
				return
			}
			conn, secure, r = t, true, bufio.NewReader(t)
		case "AUTH":
			reply("235 welcome")
		case "RCPT":
			if o.refuse != "" {
				reply(o.refuse)
				continue
			}
			reply("250 fine")
		case "DATA":
			reply("354 go on")
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(strings.TrimPrefix(line, "."))
			}
			reply("250 taken")
			o.mails <- b.String()
		case "QUIT":
			reply("221 bye")
			return
		default:
			reply("250 fine")
		}
	}
}

func mailConfig(address, how, roots string) Config {
	c := Default()
	c.Email = []Email{{
		Common: Common{Name: "mail", Timeout: 5 * time.Second}, Server: address, TLS: how, CAFile: roots,
		From: "Wharfwatch <wharfwatch@example.com>", To: []string{"soc@example.com", "Ann <ann@example.com>"},
	}}
	return c
}

// Mail arrives over each kind of connection, and a password only where nobody can read it.
func TestEmailTransports(t *testing.T) {
	server, roots := certificate(t)
	for _, how := range []string{"starttls", "tls", "none"} {
		t.Run(how, func(t *testing.T) {
			o := &office{starttls: how == "starttls", auth: true, mails: make(chan string, 2), config: server}
			address := serve(t, how, server, o.serve)
			c := mailConfig(address, how, roots)
			c.Email[0].Username, c.Email[0].Password = "ann", "canary-password"
			out := Test(t.Context(), receivers(t, c)[0])
			if out.Verdict != OK {
				t.Fatal(out, o.said)
			}
			checkEmail(t, []byte(<-o.mails))
			if said := strings.Join(o.said, "\n"); !strings.Contains(said, "AUTH PLAIN") || strings.Count(said, "RCPT TO") != 2 {
				t.Error(said)
			}
		})
	}
	t.Run("without STARTTLS", func(t *testing.T) {
		o := &office{mails: make(chan string, 2)}
		if out := Test(t.Context(), receivers(t, mailConfig(serve(t, "tcp", nil, o.serve), "", roots))[0]); out.Verdict != Retry || len(o.mails) != 0 {
			t.Errorf("it goes out in the clear: %+v", out)
		}
	})
	t.Run("unknown certificate", func(t *testing.T) {
		o := &office{starttls: true, mails: make(chan string, 2), config: server}
		if out := Test(t.Context(), receivers(t, mailConfig(serve(t, "tcp", nil, o.serve), "", ""))[0]); out.Verdict != Retry || !strings.Contains(out.Reason, "certificate") {
			t.Errorf("%+v", out)
		}
	})
}

// What a server refuses for good is a dead letter with its words; what it puts off is tried again.
func TestEmailRefused(t *testing.T) {
	for answer, want := range map[string]Judgement{"550 5.1.1 no such user here": Reject, "451 4.7.1 greylisted": Retry} {
		o := &office{refuse: answer, mails: make(chan string, 2)}
		out := Test(t.Context(), receivers(t, mailConfig(serve(t, "tcp", nil, o.serve), "none", ""))[0])
		if _, words, _ := strings.Cut(answer, " "); out.Verdict != want || !strings.Contains(out.Reason, words) {
			t.Errorf("%s: %+v", answer, out)
		}
	}
	if out := Test(t.Context(), receivers(t, mailConfig("192.0.2.1:25", "none", ""))[0]); out.Verdict == OK {
		t.Error("in the clear to another machine")
	}
}

// checkEmail reads a mail as a client does.
func checkEmail(t *testing.T, body []byte) {
	t.Helper()
	m, err := stdmail.ReadMessage(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range bytes.Split(body, []byte("\r\n")) {
		if len(line) > 998 { // RFC 5322 section 2.1.1
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || len([]rune(subject)) > emailSubject+4 || !strings.Contains(subject, "[wharfwatch] ") {
		t.Errorf("subject %q: %v", subject, err)
	}
	harmless(t, "subject", subject, false)
	for k := range m.Header {
		switch k {
		case "Subject", "From", "To", "Date", "Message-Id", "In-Reply-To", "References", "Mime-Version", "Content-Type", "Auto-Submitted", "Importance",
			"Priority", "X-Priority", "X-Msmail-Priority", "X-Wharfwatch-Severity", "X-Wharfwatch-Incident":
		default:
			t.Errorf("header %s: %q", k, m.Header[k])
		}
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, want := range []string{"text/plain", "text/html"} {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil || !strings.HasPrefix(p.Header.Get("Content-Type"), want) || p.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Errorf("%v: %v", p.Header, err)
		}
		s := strings.ReplaceAll(string(text), "\r", "")
		harmless(t, want, s, false)
		if want == "text/html" && (strings.Contains(s, "<!channel>") || strings.Contains(s, "<&>") || strings.Contains(s, "<U1")) {
			t.Errorf("markup in HTML: %s", s)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("a third part: %v", err)
	}
}

// All mails of an incident are one thread, over generations too.
func TestEmailThread(t *testing.T) {
	r := receivers(t, mailConfig("localhost:25", "none", ""))[0]
	in := Sample()
	header := func(tr Transition, generation int, id string) stdmail.Header {
		in.Generation = generation
		msg := message(tr, in)
		msg.ID = id
		req, err := r.Render(msg)
		if err != nil {
			t.Fatal(err)
		}
		m, err := stdmail.ReadMessage(bytes.NewReader(req.Body))
		if err != nil {
			t.Fatal(err)
		}
		return m.Header
	}
	root := header(Trigger, 1, "msg_1")
	if root.Get("In-Reply-To") != "" {
		t.Error("the first mail answers another")
	}
	ids := map[string]bool{root.Get("Message-Id"): true}
	for i, next := range []stdmail.Header{header(Update, 1, "msg_2"), header(Resolve, 1, "msg_3"), header(Trigger, 2, "msg_4"), header(Update, 2, "msg_5")} {
		if next.Get("In-Reply-To") != root.Get("Message-Id") || next.Get("References") != root.Get("Message-Id") || ids[next.Get("Message-Id")] {
			t.Errorf("mail %d: %v", i, next)
		}
		if strings.TrimPrefix(next.Get("Subject"), "Re: ") != root.Get("Subject") {
			t.Errorf("subject %q, first %q", next.Get("Subject"), root.Get("Subject"))
		}
		ids[next.Get("Message-Id")] = true
	}
	if again := header(Update, 1, "msg_2"); !ids[again.Get("Message-Id")] {
		t.Error("a retry has another Message-ID")
	}
}
