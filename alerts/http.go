package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	defaultTimeout = 15 * time.Second
	connectTimeout = 5 * time.Second
	maxResponse    = 64 << 10
)

// errForbidden is the guard against requests that a name in the configuration smuggles to the cloud's metadata service.
var errForbidden = errors.New("link-local and metadata addresses are refused, see alerts.allow_link_local")

// Metadata services outside the link-local range: AWS over IPv6, Alibaba, Oracle.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"),
}

// forbidden says whether an address may not be sent to. Loopback may.
func forbidden(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, m := range metadata {
		if a == m {
			return true
		}
	}
	return a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || !a.IsValid()
}

// newClient follows no redirect and refuses forbidden addresses after names are resolved. dial replaces the network in tests.
func newClient(timeout time.Duration, linkLocal bool, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	if dial == nil {
		d := net.Dialer{Timeout: connectTimeout}
		if !linkLocal {
			d.Control = guard
		}
		dial = d.DialContext
	}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext: dial, Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: connectTimeout, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: maxResponse,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func guard(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || forbidden(ap.Addr()) {
		return fmt.Errorf("%s: %w", address, errForbidden)
	}
	return nil
}

// attempt renders a message and sends it once. sent says that bytes may have reached the receiver.
func (r *Receiver) attempt(ctx context.Context, client *http.Client, m Message) (out Outcome, sent bool) {
	req, err := r.Render(m)
	if err != nil {
		return Outcome{Verdict: Reject, Reason: err.Error()}, false
	}
	if s, ok := r.notifier.(sender); ok {
		out = r.notifier.Classify(0, nil, nil, s.send(ctx, req))
	} else {
		status, header, body, err := post(ctx, client, req)
		out = r.notifier.Classify(status, header, body, err)
		out.Status = status
	}
	out.Reason = cut(clean(redact(out.Reason, r.secrets)), 300)
	return out, true
}

func post(ctx context.Context, client *http.Client, r Request) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return 0, nil, nil, bare(err)
	}
	req.Header = r.Header.Clone()
	req.Header.Set("User-Agent", "wharfwatch")
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, bare(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return resp.StatusCode, resp.Header, body, fmt.Errorf("read response: %w", bare(err))
	}
	return resp.StatusCode, resp.Header, body, nil
}

// bare takes the address out of an error: it is a secret.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		if u.Timeout() {
			return fmt.Errorf("timeout: %w", u.Err)
		}
		return u.Err
	}
	return err
}

// redactURL keeps scheme and host; the rest of a webhook's address is all that it takes to post there.
func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return s[:0] + "[redacted]"
	}
	if u.Path == "" && u.RawQuery == "" && u.User == nil {
		return u.Scheme + "://" + u.Host
	}
	return u.Scheme + "://" + u.Host + "/[redacted]"
}

// checkURL refuses what cannot be posted to.
func checkURL(s string, linkLocal bool) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return errors.New("is no http or https address: write https://HOST/PATH")
	case linkLocal:
		return nil
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && forbidden(a) {
		return errForbidden
	}
	return nil
}

// checkWebhookURL reports an address that is missing, there twice or wrong.
func checkWebhookURL(report func(key, message string), key, value, file string) {
	oneOf(report, key, value, file)
	if value == "" {
		return
	}
	if err := checkURL(value, true); err != nil {
		report(key, err.Error())
	}
}

// secretURL reads an address from the configuration or its file, and checks it.
func secretURL(key, value, file string, linkLocal bool) (string, error) {
	addr, err := secret(value, file)
	if err != nil {
		return "", err
	}
	if err := checkURL(addr, linkLocal); err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return addr, nil
}

// classify is what all vendors have in common.
func classify(status int, h http.Header, err error, now time.Time) Outcome {
	reason := fmt.Sprintf("%d %s", status, http.StatusText(status))
	switch {
	case errors.Is(err, errForbidden):
		return Outcome{Verdict: Reject, Reason: err.Error()}
	case err != nil:
		return Outcome{Verdict: Retry, Reason: err.Error()}
	case status >= 200 && status < 300:
		return Outcome{Verdict: OK, Reason: reason}
	case status == http.StatusGone:
		return Outcome{Verdict: Disable, Reason: reason}
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return Outcome{Verdict: Retry, After: retryAfter(h, now), Reason: reason}
	case status >= 300 && status < 400:
		return Outcome{Verdict: Reject, Reason: reason + ": redirects are not followed"}
	}
	return Outcome{Verdict: Reject, Reason: reason}
}
