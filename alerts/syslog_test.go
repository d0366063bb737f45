package alerts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var syslogForm = regexp.MustCompile(`^<(\d{1,3})>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [!-~]{1,255} wharfwatch - [!-~]{1,32} - (.*)$`)

var cefForm = regexp.MustCompile(`^CEF:0\|Wharfwatch\|Wharfwatch\|1\|(?:[^|\\]|\\[\\|])*\|(?:[^|\\]|\\[\\|])*\|(?:10|\d)\|(.*)$`)

func checkSyslog(t *testing.T, form string, body []byte) {
	t.Helper()
	if len(body) > syslogUDP {
		t.Errorf("%s: a datagram of %d bytes", form, len(body))
	}
	parts := syslogForm.FindSubmatch(body)
	if parts == nil {
		t.Fatalf("no RFC 5424 message: %q", body)
	}
	harmless(t, form, string(body), false)
	if bytes.ContainsAny(body, "\n\r") {
		t.Error("more than one line")
	}
	if form == "cef" {
		ext := cefForm.FindSubmatch(parts[2])
		if ext == nil {
			t.Fatalf("no CEF: %s", parts[2])
		}
		keys := regexp.MustCompile(`(?:^| )([A-Za-z0-9]+)=`).FindAllSubmatch(ext[1], -1)
		seen := map[string]bool{}
		for _, k := range keys {
			if seen[string(k[1])] {
				t.Errorf("key %s twice in %s", k[1], ext[1])
			}
			seen[string(k[1])] = true
		}
		for _, k := range []string{"rt", "externalId", "act", "cs1", "cs1Label"} {
			if !seen[k] && !(strings.HasPrefix(k, "cs1") && !seen["cs1"]) {
				t.Errorf("no %s in %s", k, ext[1])
			}
		}
		return
	}
	var doc map[string]any
	if err := json.Unmarshal(parts[2], &doc); err != nil {
		t.Fatalf("%s: %v in %s", form, err, parts[2])
	}
	if form == "ocsf" {
		for _, k := range []string{"activity_id", "category_uid", "class_uid", "finding_info", "metadata", "severity_id", "time", "type_uid"} { // what the class requires
			if _, ok := doc[k]; !ok {
				t.Errorf("ocsf without %s", k)
			}
		}
	}
}

// A name cannot add a key to a CEF line.
func TestCEFSeparators(t *testing.T) {
	in := hostileIncident(t, `a|b\ act=deleted outcome=none`, 2)
	line := string(cefLine(new(message(Trigger, in)), 4000))
	if strings.Count(line, " act=") != 1 || strings.Count(line, " outcome=") != 1 || !strings.Contains(line, `cs2=a|b\\ act\=deleted`) {
		t.Error(line)
	}
	in.Findings[1].Detector, in.Findings[1].Severity = `x|y\`, 4
	if line := string(cefLine(new(message(Trigger, in)), 4000)); !strings.HasPrefix(line, `CEF:0|Wharfwatch|Wharfwatch|1|x\|y\\|x\|y\\ trigger|`) {
		t.Error(line)
	}
}

// What is sent arrives, as one frame, over each transport; TLS is checked against the roots that are given.
func TestSyslogTransports(t *testing.T) {
	server, roots := certificate(t)
	for _, network := range []string{"udp", "tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			got := make(chan string, 4)
			address := listen(t, network, server, got)
			c := Default()
			c.Syslog = []Syslog{{Common: Common{Name: "siem"}, Address: network + "://" + address, Format: "ecs", Hostname: "sensor", CAFile: roots}}
			r := receivers(t, c)[0]
			if out := Test(t.Context(), r); out.Verdict != OK {
				t.Fatal(out)
			}
			checkSyslog(t, "ecs", []byte(<-got))
			if network != "tls" {
				return
			}
			c.Syslog[0].CAFile = ""
			if out := Test(t.Context(), receivers(t, c)[0]); out.Verdict != Retry || !strings.Contains(out.Reason, "certificate") {
				t.Errorf("a certificate nobody knows: %+v", out)
			}
		})
	}
}

// Nobody listens: that is said, over each transport.
func TestSyslogRefused(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		c := Default()
		c.Syslog = []Syslog{{Common: Common{Name: "siem"}, Address: network + "://" + address}}
		if out := Test(t.Context(), receivers(t, c)[0]); out.Verdict != Retry || !strings.Contains(out.Reason, "refused") {
			t.Errorf("%s: %+v", network, out)
		}
		c.Syslog[0].Address = network + "://169.254.169.254:514"
		if out := Test(t.Context(), receivers(t, c)[0]); out.Verdict != Reject {
			t.Errorf("%s: the metadata service is asked: %+v", network, out)
		}
	}
}

// unframe reads one message with octet counting, RFC 6587 section 3.4.1.
func unframe(t *testing.T, conn net.Conn) string {
	r := bufio.NewReader(conn)
	length, err := r.ReadString(' ')
	if err != nil {
		return "" // a handshake that failed
	}
	n, err := strconv.Atoi(strings.TrimSpace(length))
	if err != nil {
		t.Error(err)
		return ""
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Error(err)
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("%q after the frame", rest)
	}
	return string(b)
}

func TestSyslogMistakes(t *testing.T) {
	for key, s := range map[string]Syslog{
		"address": {Address: "http://x"}, "format": {Address: "udp://x:1", Format: "leef"}, "facility": {Address: "udp://x:1", Facility: "local9"},
		"max_bytes": {Address: "udp://x:1", MaxBytes: 10}, "hostname": {Address: "udp://x:1", Hostname: "a b"},
	} {
		var got []string
		s.validate(func(key, _ string) { got = append(got, key) })
		if len(got) != 1 || got[0] != key {
			t.Errorf("want %s: %v", key, got)
		}
	}
	if at := message(Trigger, Sample()).At.Std(); at.Location() != time.UTC {
		t.Error(at)
	}
}
