package alerts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// goneNotices tells every other receiver that one is gone: who relied on it would otherwise learn of it from silence. It is a message
// without an incident behind it; nothing resolves it.
func (d *Delivery) goneNotices(gone *worker, now Time) (out []Row) {
	reason := fmt.Sprintf("receiver %s is disabled until the next start of wharfwatch: %s", gone.Name, gone.disabled())
	in := Incident{
		ID: hash("receiver gone", gone.Name, fmt.Sprint(now)), State: Open, Severity: baseline.High, Confidence: 1, FirstSeen: now, LastSeen: now, Workload: "wharfwatch",
		Container: Container{Name: "wharfwatch"}, Attack: []string{}, Generation: 1, Count: 1,
		Findings: []Finding{{
			ID: "receiver-gone", Detector: "sensor-blind", Time: now, LastSeen: now, Subject: "receiver " + gone.Name, Score: 1, Severity: baseline.High,
			Summary: reason, Attack: []string{}, Evidence: []byte("{}"), Generation: 1, Count: 1,
		}},
	}
	in.recompute()
	for _, w := range d.receivers {
		if w == gone || w.disabled() != "" {
			continue
		}
		id := "msg_" + hash(w.Name, in.ID)
		out = append(out, Row{
			ID: id, Receiver: w.Name, Key: in.Key(), Seq: 1, Urgent: true,
			Message: Message{ID: id, Transition: Trigger, Key: in.Key(), Reason: "a receiver is gone", At: now, Incident: in},
		})
	}
	return out
}

func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%s\x00", p)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
