package rig

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Browser is one page of a headless Chromium, driven by its DevTools protocol over a pipe (https://chromedevtools.github.io/devtools-protocol/;
// messages are JSON, each ended by a zero byte). It notes what a page must not do. Safe for concurrent use.
type Browser struct {
	t       testing.TB
	to      io.WriteCloser
	session string

	mu       sync.Mutex // protects all below
	next     int
	waiting  map[int]chan reply
	reports  []string // violations of a content security policy, and exceptions
	requests []string // addresses asked for
	gone     error
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// OpenBrowser starts Chromium until the test ends. Without one the test is skipped, or fails where CI is true.
func OpenBrowser(t testing.TB) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is not there, and CI must have it")
		}
		t.Skip("chromium is not there: apt-get install chromium")
	}
	theirs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, theirs2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, theirs2} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	theirs2.Close()
	b := &Browser{t: t, to: to, waiting: map[int]chan reply{}}
	read := make(chan struct{})
	go func() { b.read(from); close(read) }()
	t.Cleanup(func() {
		_ = b.call("", "Browser.close", nil, nil) // then it ends by itself, and lets go of its directory
		to.Close()
		if cmd.Wait() != nil {
			t.Log("chromium did not end well")
		}
		<-read
	})
	var target struct{ TargetID, SessionID string }
	b.must("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.must("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network"} {
		b.must(b.session, domain+".enable", nil, nil)
	}
	b.must(b.session, "Runtime.addBinding", map[string]any{"name": "wharfwatchReport"}, nil)
	b.must(b.session, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": `document.addEventListener("securitypolicyviolation",
		(e) => wharfwatchReport(e.documentURI + ": " + e.effectiveDirective + " " + e.blockedURI + " " + e.sample))`}, nil)
	return b
}

// read hands out what the browser says, until it ends.
func (b *Browser) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			b.gone = fmt.Errorf("chromium ended: %w", err)
			for _, c := range b.waiting {
				close(c)
			}
			b.waiting = nil
			b.mu.Unlock()
			return
		}
		var m struct {
			ID     int
			Method string
			Params struct {
				Payload          string
				Request          struct{ URL string }
				ExceptionDetails struct {
					Text      string
					Exception struct{ Description string }
				}
			}
			reply
		}
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue // an event whose parameters have another shape
		}
		b.mu.Lock()
		switch m.Method {
		case "":
			if c := b.waiting[m.ID]; c != nil {
				delete(b.waiting, m.ID)
				c <- m.reply
			}
		case "Runtime.bindingCalled":
			b.reports = append(b.reports, m.Params.Payload)
		case "Runtime.exceptionThrown":
			b.reports = append(b.reports, "exception: "+m.Params.ExceptionDetails.Text+" "+m.Params.ExceptionDetails.Exception.Description)
		case "Network.requestWillBeSent":
			b.requests = append(b.requests, m.Params.Request.URL)
		}
		b.mu.Unlock()
	}
}

const browserWaits = 30 * time.Second

func (b *Browser) call(session, method string, params map[string]any, out any) error {
	answer := make(chan reply, 1)
	b.mu.Lock()
	if b.gone != nil {
		b.mu.Unlock()
		return b.gone
	}
	b.next++
	m := map[string]any{"id": b.next, "method": method}
	if params != nil {
		m["params"] = params
	}
	if session != "" {
		m["sessionId"] = session
	}
	text, err := json.Marshal(m)
	if err == nil {
		b.waiting[b.next] = answer
		_, err = b.to.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), browserWaits)
	defer cancel()
	select {
	case r, ok := <-answer:
		switch {
		case !ok:
			return errors.New("chromium ended")
		case r.Error != nil:
			return fmt.Errorf("%s: %s", method, r.Error.Message)
		case out != nil:
			return json.Unmarshal(r.Result, out)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer in %s", method, browserWaits)
	}
}

func (b *Browser) must(session, method string, params map[string]any, out any) {
	b.t.Helper()
	if err := b.call(session, method, params, out); err != nil {
		b.t.Fatal(err)
	}
}

// Visit loads an address.
func (b *Browser) Visit(address string) {
	b.t.Helper()
	b.must(b.session, "Page.navigate", map[string]any{"url": address}, nil)
}

// Wait waits until an expression of the page is true, and fails the test when it is not in time.
func (b *Browser) Wait(expression string) {
	b.t.Helper()
	source := `new Promise((done) => { const look = () => { try { if (` + expression + `) return done(true) } catch {} setTimeout(look, 20) }; look(); setTimeout(() => done(false), 10000) })`
	for range 5 { // a page that loads takes the promise with it
		var out struct{ Result struct{ Value bool } }
		err := b.call(b.session, "Runtime.evaluate", map[string]any{"expression": source, "awaitPromise": true, "returnByValue": true}, &out)
		if err == nil && out.Result.Value {
			return
		}
		if err == nil {
			break
		}
	}
	b.t.Fatalf("never true: %s\nthe page says:\n%s", expression, b.Text("document.body?.innerText ?? ''"))
}

// Text evaluates an expression whose value is a string.
func (b *Browser) Text(expression string) string {
	b.t.Helper()
	var out struct{ Result struct{ Value string } }
	b.must(b.session, "Runtime.evaluate", map[string]any{"expression": "String(" + expression + ")", "returnByValue": true}, &out)
	return out.Result.Value
}

// Press presses one key: a letter, or Enter, Tab, Escape.
func (b *Browser) Press(key string) {
	b.t.Helper()
	down := map[string]any{"type": "keyDown", "key": key, "text": key}
	codes := map[string]int{"Enter": 13, "Tab": 9, "Escape": 27}
	if code, named := codes[key]; named {
		down["windowsVirtualKeyCode"], down["code"] = code, key
		delete(down, "text")
		if key == "Enter" {
			down["text"] = "\r"
		}
	}
	b.must(b.session, "Input.dispatchKeyEvent", down, nil)
	delete(down, "text")
	down["type"] = "keyUp"
	b.must(b.session, "Input.dispatchKeyEvent", down, nil)
}

// Type writes into what has the focus.
func (b *Browser) Type(text string) {
	b.t.Helper()
	b.must(b.session, "Input.insertText", map[string]any{"text": text}, nil)
}

// Look sets the size of the window and the colours that the system prefers.
func (b *Browser) Look(width, height int, colours string) {
	b.t.Helper()
	b.must(b.session, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.must(b.session, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": colours}}}, nil)
}

// Screenshot writes the whole page as PNG.
func (b *Browser) Screenshot(path string) {
	b.t.Helper()
	var out struct{ Data string }
	b.must(b.session, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &out)
	png, err := base64.StdEncoding.DecodeString(out.Data)
	if err == nil {
		err = os.WriteFile(path, png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// TakeAnyCertificate lets the browser load from servers that nobody vouches for.
func (b *Browser) TakeAnyCertificate() {
	b.t.Helper()
	b.must(b.session, "Security.setIgnoreCertificateErrors", map[string]any{"ignore": true}, nil)
}

// Reports gives violations of content security policies and exceptions so far, and forgets them.
func (b *Browser) Reports() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.reports
	b.reports = nil
	return out
}

// Requests gives the addresses asked for so far.
func (b *Browser) Requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.requests...)
}
