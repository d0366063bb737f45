package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretsStayInside plants secrets in the configuration, its environment and its mistakes, and reads everything that commands print.
func TestSecretsStayInside(t *testing.T) {
	data := t.TempDir()
	db, _, m := store(t, data)
	closeAll(t, db, m)
	secret := filepath.Join(data, "key")
	config := filepath.Join(data, "c.yaml")
	wrong := filepath.Join(data, "wrong.yaml")
	for file, text := range map[string]string{
		secret: "canary-in-file-000000000000000000",
		config: `
alerts:
  slack: [{name: team, webhook_url: 'http://127.0.0.1:9/services/canary'}]
  pagerduty: [{name: pager, url: 'http://127.0.0.1:9/canary', routing_key: canary00000000000000000000000000}]
  webhook:
    - {name: hook, url: 'http://ann:canary@127.0.0.1:9/canary?token=canary', headers: [{name: Authorization, value: Bearer canary}]}
  teams: [{name: teams, webhook_url: 'http://127.0.0.1:9/canary'}]
  discord: [{name: discord, webhook_url: 'http://127.0.0.1:9/canary'}]
  alertmanager: [{name: am, url: 'http://ann:canary@127.0.0.1:9', headers: [{name: Authorization, value: Bearer canary}]}]
  email: [{name: mail, server: '127.0.0.1:9', tls: none, username: ann, password: canary, from: a@example.com, to: [b@example.com]}]
  syslog: [{name: siem, address: 'tcp://127.0.0.1:9'}]
`,
		wrong: `
alerts:
  slack: [{name: team, webhok_url: 'https://hooks.slack.com/services/canary'}]
  pagerduty: [{name: pager, routing_key: [canary]}]
  webhook: [{name: hook, url: 'ftp://canary.example/', secret: canary}]
  jsonl: {canary: canary}
tokne: canary
`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &cli{t: t, data: data, env: []string{"WHARFWATCH_ALERTS__SLAK__0__WEBHOOK_URL=https://hooks.slack.com/canary"}}
	var said strings.Builder
	say := func(want int, args ...string) {
		t.Helper()
		out, errs := c.run(want, args...)
		said.WriteString(out + errs)
		if text := strings.ReplaceAll(out+errs, "canary.example", ""); strings.Contains(text, "canary") && !strings.Contains(text, `unknown key "canary"`) {
			t.Errorf("%s:\n%s", strings.Join(args, " "), text)
		}
	}
	say(2, "config", "check", config)
	c.env = nil
	say(2, "config", "check", wrong)
	say(2, "incidents", "list", "-c", wrong)
	say(0, "config", "check", config)
	say(0, "config", "show", "-c", config)
	say(0, "config", "show", "-c", config, "-o", "json")
	say(0, "notify", "receivers", "-c", config)
	for _, name := range []string{"team", "pager", "hook", "teams", "discord", "am", "mail", "siem"} {
		say(0, "notify", "preview", name, "-c", config)
		say(1, "notify", "test", name, "-c", config)
	}
	say(1, "doctor", "-c", config, "--set", "flow.netflow=127.0.0.1:0", "--set", "flow.sflow=off", "--set", "console.listen=1.1.1.1:1")
	say(2, "config", "check", config, "--set", "alerts.slack.0.webhook_ur=https://canary", "--set", "alerts.pagerduty.0.routing_key=canary")
	if !strings.Contains(said.String(), "team") || !strings.Contains(said.String(), "********") {
		t.Errorf("the commands said too little to prove anything:\n%s", said.String())
	}
}
