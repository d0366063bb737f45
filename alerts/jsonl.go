package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
)

// JSONL appends incidents to a file, one JSON object a line; Path "-" is standard output. It is an export: it knows no grouping, no
// reminder, and by default no least severity but that of every receiver.
type JSONL struct {
	Common `yaml:",inline"`
	Path   string `yaml:"path"`
}

func (j *JSONL) validate(report func(key, message string)) {
	if j.Path == "" {
		report("path", `is missing: give a file, or "-" for standard output`)
	}
}

func (j JSONL) build(r *Receiver) error {
	r.notifier, r.endpoint, r.policy = &jsonl{path: j.Path}, "jsonl:"+j.Path, chat
	return nil
}

type jsonl struct {
	path string
	mu   sync.Mutex // one line at a time
}

// line is an incident with what happened to it.
type line struct {
	Transition Transition `json:"transition"`
	Reason     string     `json:"reason"`
	At         Time       `json:"at"` // wall clock
	MessageID  string     `json:"message_id"`
	Incident
}

// Render makes the line.
func (j *jsonl) Render(m Message) (Request, error) {
	b, err := json.Marshal(line{Transition: m.Transition, Reason: m.Reason, At: m.At, MessageID: m.ID, Incident: m.Incident})
	return Request{URL: j.path, Body: append(b, '\n')}, err
}

// Classify retries for ever: a full disk empties.
func (j *jsonl) Classify(_ int, _ http.Header, _ []byte, err error) Outcome {
	if err != nil {
		return Outcome{Verdict: Retry, Reason: err.Error()}
	}
	return Outcome{Verdict: OK, Reason: "written"}
}

// send appends. The file is opened for each line, so that log rotation needs no signal.
func (j *jsonl) send(_ context.Context, r Request) (err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.path == "-" {
		_, err = os.Stdout.Write(r.Body)
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.Write(r.Body); err != nil {
		if st.Mode().IsRegular() {
			_ = f.Truncate(st.Size()) // no half line
		}
		return fmt.Errorf("append: %w", err)
	}
	if st.Mode().IsRegular() {
		return f.Sync()
	}
	return nil
}
