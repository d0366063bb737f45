package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/wharfwatch/wharfwatch/console"
)

// client speaks the API: to the monitor's control socket, or, when none runs, to the same handlers in this process over the state
// file.
type client struct {
	http  *http.Client
	live  bool // a monitor answers
	close func() error
}

// How a command wants the state file when no monitor runs.
const (
	reading = false
	writing = true
)

// connect finds the monitor of the configured data directory. Without one it opens the state file: read-only for reading, and
// alone, under the lock, for writing.
func (g *globals) connect(ctx context.Context, write bool) (*client, error) {
	c, err := g.load()
	if err != nil {
		return nil, err
	}
	if live, err := dialMonitor(ctx, c.DataDir); live != nil || err != nil {
		return live, err
	}
	return g.offline(c, write)
}

// dialMonitor returns nil, nil when no monitor runs on the directory.
func dialMonitor(ctx context.Context, dataDir string) (*client, error) {
	conn, err := console.Dial(ctx, dataDir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		err = fmt.Errorf("reach the monitor on %s: %w", dataDir, err)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: only the user who runs it may, so run this as that user (sudo)", err)
		}
		return nil, err
	}
	conn.Close()
	transport := &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return console.Dial(ctx, dataDir) },
		ResponseHeaderTimeout: 2 * time.Minute,
	}
	return &client{
		http: &http.Client{Transport: transport, Timeout: 3 * time.Minute}, live: true,
		close: func() error { transport.CloseIdleConnections(); return nil },
	}, nil
}

// inProcess answers requests by calling the handler.
type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := &reply{header: http.Header{}, status: http.StatusOK}
	p.handler.ServeHTTP(w, r)
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Header: w.header, Request: r,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *reply) Header() http.Header         { return w.header }
func (w *reply) WriteHeader(status int)      { w.status = status }
func (w *reply) Write(b []byte) (int, error) { return w.body.Write(b) }

// refusal is what the API answers instead of data: problem+json (RFC 9457).
type refusal struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

func (r *refusal) Error() string {
	if r.Detail == "" {
		return r.Title
	}
	return r.Detail
}

// call sends one request; in and out may be nil. What the API refuses as wrong input is a usage error.
func (c *client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	target := url.URL{Scheme: "http", Host: "localhost", Path: "/api/v1" + path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("ask the monitor: %w", errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return c.refused(resp)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the monitor's answer: %w", err)
	}
	return nil
}

func (c *client) refused(resp *http.Response) error {
	p := &refusal{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode)}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = json.Unmarshal(b, p) // a proxy's page leaves the status text
	switch {
	case resp.StatusCode == http.StatusNotImplemented && !c.live:
		return errors.New("this needs a running monitor: no one answers on the control socket of the data directory")
	case resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusUnprocessableEntity:
		return usage(p)
	}
	return p
}

// list fetches all pages of a list, items as the API wrote them.
func (c *client) list(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	all, next := []json.RawMessage{}, ""
	for {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		q := url.Values{}
		maps.Copy(q, query)
		if next != "" {
			q.Set("cursor", next)
		}
		if err := c.call(ctx, http.MethodGet, path, q, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if next = page.Next; next == "" {
			return all, nil
		}
	}
}

// with connects, runs body and closes.
func (g *globals) with(ctx context.Context, write bool, body func(*client) error) error {
	c, err := g.connect(ctx, write)
	if err != nil {
		return err
	}
	return errors.Join(body(c), c.close())
}
