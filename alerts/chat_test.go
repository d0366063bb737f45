package alerts

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf16"
)

// checkDiscord counts as the vendor may: in UTF-16.
func checkDiscord(t *testing.T, body []byte) {
	t.Helper()
	var m struct {
		Embeds []struct {
			Title, Description string
			Fields             []struct{ Name, Value string }
			Footer             struct{ Text string }
		}
		Mentions map[string][]string `json:"allowed_mentions"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	if list, ok := m.Mentions["parse"]; !ok || len(list) != 0 || list == nil || len(m.Embeds) != 1 {
		t.Errorf("mentions %v, %d embeds", m.Mentions, len(m.Embeds))
	}
	total := 0
	within := func(what, s string, most int) {
		t.Helper()
		n := len(utf16.Encode([]rune(s)))
		total += n
		if n < 1 || n > most {
			t.Errorf("%s of %d characters, want 1 to %d", what, n, most)
		}
		harmless(t, what, s, false)
		for i, r := range s {
			if strings.ContainsRune("<>@`[]", r) && (i == 0 || s[i-1] != '\\') {
				t.Errorf("%s: %q is not escaped in %.100q", what, r, s[max(0, i-20):])
				return
			}
		}
	}
	e := m.Embeds[0]
	within("title", e.Title, 256)
	within("description", e.Description, 4096)
	within("footer", e.Footer.Text, 2048)
	if len(e.Fields) > 25 {
		t.Errorf("%d fields", len(e.Fields))
	}
	for _, f := range e.Fields {
		within("field", f.Name, 256)
		within("field", f.Value, 1024)
	}
	if total > 6000 {
		t.Errorf("%d characters in all", total)
	}
}

func checkTeams(t *testing.T, body []byte) {
	t.Helper()
	if len(body) > 28<<10 {
		t.Errorf("a card of %d bytes", len(body))
	}
	var m struct {
		Type        string
		Attachments []struct {
			ContentType string
			Content     struct {
				Type, Version, FallbackText string
				Body                        []struct {
					Type    string
					Inlines []struct{ Type, Text string }
				}
			}
		}
	}
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	if m.Type != "message" || len(m.Attachments) != 1 || m.Attachments[0].Content.Type != "AdaptiveCard" || len(m.Attachments[0].Content.Body) < 3 {
		t.Fatalf("no card: %.200s", body)
	}
	for _, b := range m.Attachments[0].Content.Body {
		if b.Type != "RichTextBlock" {
			t.Errorf("a %s reads markup", b.Type)
		}
		for _, i := range b.Inlines {
			if i.Type != "TextRun" || i.Text == "" {
				t.Errorf("a run of %s %q", i.Type, i.Text)
			}
			harmless(t, "card", i.Text, false)
		}
	}
}

func chats() Config {
	c := Default()
	c.Discord = []Discord{{Common: Common{Name: "discord"}, WebhookURL: "http://vendor/discord"}}
	c.Teams = []Teams{{Common: Common{Name: "teams"}, WebhookURL: "http://vendor/teams"}}
	return c
}

// What Discord and Teams say about their limits is obeyed, and what they refuse is kept in their words.
func TestChatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, chats())
		began := time.Now()
		s.say("/discord", answer(429, `{"message":"You are being rate limited.","retry_after":20.5,"global":false}`),
			answer(200, "{}", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset-After", "40"))
		s.say("/teams", answer(429, "", "Retry-After", "30"), answer(400, `{"error":{"code":"TriggerInputSchemaMismatch","message":"no card"}}`))
		s.m.Finding(critical(start))
		time.Sleep(21 * time.Second)
		f := critical(start + 1)
		f.ID, f.Workload = "second", "second"
		s.m.Finding(f)
		time.Sleep(time.Hour)
		got := spread(began, s.requests("/discord"))
		if len(got) != 3 || got[1] != 20.5 || got[2] < 60.5 {
			t.Errorf("discord was asked at %v", got)
		}
		if got := spread(began, s.requests("/teams")); len(got) != 3 || got[1] < 30 {
			t.Errorf("teams was asked at %v", got)
		}
		failed, err := s.store.Failed(10)
		if err != nil || len(failed) != 1 || failed[0].Receiver != "teams" || !strings.Contains(failed[0].Reason, "TriggerInputSchemaMismatch no card") {
			t.Error(failed, err)
		}
		if r := s.requests("/discord")[0]; r.Header.Get("Content-Type") != "application/json" {
			t.Error(r.Header)
		}
	})
}

// A webhook that was deleted at the vendor is given up, and nothing else is.
func TestDiscordWebhookDeleted(t *testing.T) {
	d := &discord{}
	for body, want := range map[string]Judgement{`{"message":"Unknown Webhook","code":10015}`: Disable, `{"code":10003}`: Reject, "": Reject} {
		if out := d.Classify(404, http.Header{}, []byte(body), nil); out.Verdict != want {
			t.Errorf("%s: %s", body, out.Verdict)
		}
	}
	if req, err := everyReceiver(t)[4].Render(message(Trigger, Sample())); err != nil || req.URL != "http://vendor/discord?thread_id=7&wait=true" {
		t.Error(req.URL, err)
	}
}
