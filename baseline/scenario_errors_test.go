package baseline

import (
	"strings"
	"testing"
)

// Whoever writes a scenario without Go at hand is told the line.
func TestScenarioErrors(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := parseScenario("x.txtar", []byte(text))
		if err == nil {
			t.Errorf("no error, want %q", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	const head = "A sentence.\n-- containers --\nweb 172.18.0.2 compose:shop/web\n"
	f("-- want --\n", "x.txtar:1: the file begins with a sentence")
	f("A sentence.\n-- containers --\n", "no want section")
	f("A sentence.\n-- flow --\n-- want --\n", `x.txtar:2: unknown section "flow"`)
	f("A sentence.\n-- config.yaml --\nbeacons: {}\n-- want --\n", "x.txtar:3: ")
	f("A sentence.\n-- config.yaml --\negress_spike: {floor_ratio: 0}\n-- want --\n", "egress_spike.floor_ratio")
	f("A sentence.\n-- containers --\nweb 172.18.0\n", "x.txtar:3: a container is")
	f("A sentence.\n-- containers --\nweb 172.18.0 w\n", "x.txtar:3: address of web")
	f(head+"web - w\n", `x.txtar:4: container "web" is there twice`)
	f("A sentence.\n-- containers --\nweb - w caps=A\n", `x.txtar:3: unknown option "caps", known are cap, `)
	f(head+"-- events --\n1x created web\n", `x.txtar:5: "1x" is no time`)
	f(head+"-- events --\n1s created app\n", `x.txtar:5: unknown container "app", known are web`)
	f(head+"-- events --\n1s paused web\n", `x.txtar:5: unknown event "paused web"`)
	f(head+"-- events --\n1s exec app ls\n", `x.txtar:5: unknown container "app"`)
	f(head+"-- events --\n1s exec web\n", `x.txtar:5: unknown event "exec web"`)
	f(head+"-- events --\n1s died web 999\n", `x.txtar:5: exit code "999"`)
	f(head+"-- indicators --\ncom\n", `x.txtar:5: "com" is neither`)
	f(head+"-- names --\n1s web example.com\n", "x.txtar:5: a name is")
	f(head+"-- names --\n1s web a.example 10.0.0\n", `x.txtar:5: "10.0.0" is neither an address nor an option`)
	f(head+"-- names --\n1s web a.example type X\n", `x.txtar:5: type: unknown question type "X"`)
	f(head+"-- names --\n1s web a.example answer maybe\n", `x.txtar:5: answer: unknown answer "maybe"`)
	f(head+"-- names --\n1s web a.example answer none type\n", `x.txtar:5: option "type" has no value`)
	f(head+"-- names --\n1s web a.example every 5s\n", "x.txtar:5: a repetition needs an end")
	f(head+"-- names --\n1s web {hex:99}.example answer none\n", "x.txtar:5: \"{hex:99}.example\": {n}")
	f(head+"-- flows --\n\n# at\n0s web 203.0.113.9:443\n", "x.txtar:7: a flow is")
	f(head+"-- flows --\n0s app 203.0.113.9:443 5\n", `x.txtar:5: "app" is neither a container (web) nor an address`)
	f(head+"-- flows --\n0s web 203.0.113.9:443/sctp 5\n", `x.txtar:5: unknown protocol "sctp"`)
	f(head+"-- flows --\n0s web 203.0.113.9:443 5MiB\n", `x.txtar:5: "5MiB" is no number of bytes`)
	f(head+"-- flows --\n0s web 203.0.113.9:443 5 every\n", `x.txtar:5: option "every" has no value`)
	f(head+"-- flows --\n0s web 203.0.113.9:443 5 each 1s\n", `x.txtar:5: unknown option "each"`)
	f(head+"-- flows --\n0s web 203.0.113.9:443 5 every 1s\n", "x.txtar:5: a repetition needs an end")
	f(head+"-- flows --\n0s web 203.0.113.9:443 5 jitter 3\n", `x.txtar:5: jitter: "3" is no percentage`)
	f(head+"-- flows --\ndaily@25:00 web 203.0.113.9:443 5\n", `x.txtar:5: "daily@25:00" is no time of day`)
}
