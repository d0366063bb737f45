package alerts

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/wharfwatch/wharfwatch/baseline"
)

// Forms of a message that log collectors understand. Each takes the room it has in bytes, and leaves out the least important first; the
// room is at least syslogLeast less the header.

// amounts are how much is said, from everything to the least.
var amounts = []struct{ findings, text, facts int }{{50, 1000, 40}, {20, 500, 20}, {8, 300, 10}, {3, 200, 0}, {1, 120, 0}, {0, 60, 0}, {0, 20, 0}}

// fitting tries less and less until the line fits.
func fitting(room int, line func(findings, text, facts int) []byte) (b []byte) {
	for _, a := range amounts {
		if b = line(a.findings, a.text, a.facts); len(b) <= room {
			return b
		}
	}
	return b
}

// peer reads "203.0.113.9:443/tcp" out of a subject; not ok where the subject is something else.
func peer(subject string) (addr netip.Addr, port int, proto string, ok bool) {
	host, proto, _ := strings.Cut(subject, "/")
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return ap.Addr(), int(ap.Port()), proto, true
	}
	a, err := netip.ParseAddr(host)
	return a, 0, proto, err == nil
}

// CEF, version 0: https://www.microfocus.com/documentation/arcsight/arcsight-smartconnectors/pdfdoc/common-event-format-v25/common-event-format-v25.pdf
var (
	cefHead  = strings.NewReplacer(`\`, `\\`, "|", `\|`)
	cefValue = strings.NewReplacer(`\`, `\\`, "=", `\=`)
	cefLevel = map[baseline.Severity]int{baseline.Critical: 10, baseline.High: 8, baseline.Medium: 5, baseline.Low: 3, baseline.Info: 1}
)

func cefLine(m *Message, room int) []byte {
	return fitting(room, func(findings, text, _ int) []byte { return []byte(cef(m, findings, text)) })
}

func cef(m *Message, findings, text int) string {
	in := &m.Incident
	class, name := "incident", string(m.Transition)
	if f := in.Strongest(); f != nil {
		class, name = f.Detector, f.Detector+" "+name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "CEF:0|Wharfwatch|Wharfwatch|1|%s|%s|%d|", cefHead.Replace(cut(clean(class), 100)), cefHead.Replace(cut(clean(name), 200)), cefLevel[in.Severity])
	first := true
	put := func(key, value string, most int) {
		if value = clean(value); value == "" {
			return
		}
		if !first {
			b.WriteByte(' ')
		}
		first = false
		b.WriteString(key + "=" + cefValue.Replace(cut(value, min(most, text))))
	}
	number := func(key string, v int64) { put(key, strconv.FormatInt(v, 10), 20) }
	const ms = 1_000_000
	number("rt", int64(m.At)/ms)
	number("start", int64(in.FirstSeen)/ms)
	number("end", int64(in.LastSeen)/ms)
	put("externalId", in.ID, 40)
	put("act", string(m.Transition), 63)
	put("outcome", string(in.State)+suffix(string(in.Verdict)), 63)
	put("msg", in.Summary, 1000)
	put("reason", m.Reason, 1000)
	if f := in.Strongest(); f != nil {
		if a, port, proto, ok := peer(f.Subject); ok {
			put("dst", a.String(), 60)
			if port != 0 {
				number("dpt", int64(port))
			}
			put("proto", strings.ToUpper(proto), 31)
		}
	}
	put("sourceServiceName", in.Workload, 1000)
	number("cnt", int64(in.Count))
	for i, c := range [][2]string{
		{"workload", in.Workload},
		{"container", in.Container.Name},
		{"image", in.Container.Image},
		{"attack", strings.Join(in.Attack, ",")},
		{"detectors", strings.Join(in.Detectors(), ",")},
		{"attribution", in.Attribution.String()},
	} {
		if c[1] != "" {
			put(fmt.Sprintf("cs%d", i+1), c[1], 1000)
			put(fmt.Sprintf("cs%dLabel", i+1), c[0], 20)
		}
	}
	put("cfp1", strconv.FormatFloat(in.Confidence, 'g', 4, 64), 20)
	put("cfp1Label", "confidence", 20)
	if list := stories(in, findings, text); len(list) > 0 {
		put("flexString1", strings.Join(list, "; "), 1000)
		put("flexString1Label", "findings", 20)
	}
	return b.String()
}

func suffix(s string) string {
	if s == "" {
		return ""
	}
	return " " + s
}

func stories(in *Incident, n, text int) []string {
	out := []string{}
	shown, left := counting(in, n)
	for _, f := range shown {
		out = append(out, cut(clean(fmt.Sprintf("%s %s %.2f %s", f.Detector, f.Severity, f.Score, f.Summary)), text))
	}
	if left > 0 {
		out = append(out, fmt.Sprintf("… (%d more)", left))
	}
	return out
}

// texts cleans and cuts a list of words.
func texts(list []string, n, text int) []string {
	out := []string{}
	for _, s := range list[:min(len(list), n)] {
		out = append(out, cut(clean(s), text))
	}
	return out
}

func jsonLine(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		b, _ = json.Marshal(map[string]string{"error": err.Error()}) // no value here fails; a line is never empty
	}
	return b
}

// ECS 8.11, https://www.elastic.co/guide/en/ecs/current/ecs-alert.html
func ecsLine(m *Message, room int) []byte {
	return fitting(room, func(findings, text, nfacts int) []byte {
		in := &m.Incident
		say := func(s string) string { return cut(clean(s), text) }
		kind := map[Transition]string{Trigger: "start", Update: "change", Acknowledge: "info", Resolve: "end"}[m.Transition]
		doc := map[string]any{
			"@timestamp": m.At, "ecs": map[string]string{"version": "8.11.0"}, "message": say(in.Summary),
			"event": map[string]any{
				"kind": "alert", "category": []string{"intrusion_detection", "network"}, "type": []string{"info", kind}, "id": m.ID, "action": "incident-" + string(m.Transition),
				"severity": int(in.Severity) * 25, "start": in.FirstSeen, "end": in.LastSeen, "reason": say(m.Reason), "provider": "wharfwatch", "module": "wharfwatch",
				"risk_score": in.Confidence * 100,
			},
			"observer": map[string]string{"vendor": "Wharfwatch", "product": "Wharfwatch", "type": "ids"},
			"container": map[string]any{
				"id": cut(clean(in.Container.ID), 64), "name": say(in.Container.Name), "image": map[string]string{"name": say(in.Container.Image)},
			},
			"service": map[string]string{"name": say(in.Workload)},
			"labels":  map[string]string{"incident": cut(clean(in.ID), 64), "state": string(in.State), "verdict": string(in.Verdict), "severity": in.Severity.String(), "attribution": in.Attribution.String()},
		}
		if len(in.Attack) > 0 {
			doc["threat"] = map[string]any{"framework": "MITRE ATT&CK", "technique": map[string]any{"id": texts(in.Attack, findings+5, 20)}}
		}
		if f := in.Strongest(); f != nil {
			doc["rule"] = map[string]any{"name": say(f.Detector), "description": say(f.Summary), "category": "detector"}
			if a, port, proto, ok := peer(f.Subject); ok {
				d := map[string]any{"address": a.String(), "ip": a.String()}
				if port != 0 {
					d["port"] = port
				}
				doc["destination"] = d
				if proto != "" {
					doc["network"] = map[string]string{"transport": cut(clean(proto), 20)}
				}
			}
			if nfacts > 0 {
				doc["wharfwatch"] = map[string]any{"evidence": facts(f, nfacts), "findings": stories(in, findings, text)}
			}
		}
		return jsonLine(doc)
	})
}

// OCSF 1.5, Detection Finding (class 2004): https://schema.ocsf.io/1.5.0/classes/detection_finding
func ocsfLine(m *Message, room int) []byte {
	return fitting(room, func(findings, text, nfacts int) []byte { return jsonLine(ocsf(m, findings, text, nfacts)) })
}

var (
	ocsfActivity = map[Transition]int{Trigger: 1, Update: 2, Acknowledge: 2, Resolve: 3} // create, update, close
	ocsfLevel    = map[baseline.Severity]int{baseline.Info: 1, baseline.Low: 2, baseline.Medium: 3, baseline.High: 4, baseline.Critical: 5}
	ocsfStatus   = map[State]int{Open: 1, Acknowledged: 2, Closed: 4} // new, in progress, resolved
	ocsfVerdict  = map[Verdict]int{FalsePositive: 1, TruePositive: 2, Benign: 5, Duplicate: 10}
	ocsfSeen     = map[string]string{
		"beacon": "Time Pattern", "long-connection": "Time Pattern", "lifecycle": "Time Pattern", "egress-spike": "Volume Analysis", "egress-slow": "Volume Analysis",
	}
)

func ocsf(m *Message, findings, text, nfacts int) map[string]any {
	in := &m.Incident
	const ms = 1_000_000
	say := func(s string) string { return cut(clean(s), text) }
	activity := ocsfActivity[m.Transition]
	info := map[string]any{
		"uid": cut(clean(in.ID), 64), "title": say(in.Summary), "created_time": int64(in.FirstSeen) / ms, "first_seen_time": int64(in.FirstSeen) / ms,
		"last_seen_time": int64(in.LastSeen) / ms, "modified_time": int64(m.At) / ms, "types": texts(in.Detectors(), findings+1, text),
	}
	attacks := []map[string]any{}
	for _, t := range texts(in.Attack, findings+5, 20) {
		attacks = append(attacks, map[string]any{"technique": map[string]string{"uid": t}})
	}
	doc := map[string]any{
		"category_uid": 2, "class_uid": 2004, "activity_id": activity, "type_uid": 200400 + activity, "severity_id": ocsfLevel[in.Severity], "severity": in.Severity.String(),
		"time": int64(m.At) / ms, "start_time": int64(in.FirstSeen) / ms, "end_time": int64(in.LastSeen) / ms, "message": say(in.Summary), "status_id": ocsfStatus[in.State],
		"status": string(in.State), "status_detail": say(m.Reason), "is_alert": true, "confidence_score": int(in.Confidence*100 + .5), "count": max(1, in.Count),
		"metadata": map[string]any{
			"version": "1.5.0", "uid": m.ID, "product": map[string]string{"name": "Wharfwatch", "vendor_name": "Wharfwatch"}, "profiles": []string{"container"},
		},
		"finding_info": info,
		"container":    map[string]any{"uid": cut(clean(in.Container.ID), 64), "name": say(in.Container.Name), "image": map[string]string{"name": say(in.Container.Image), "uid": say(in.Container.Image)}},
		"resources":    []map[string]string{{"name": say(in.Workload), "type": "workload", "uid": say(in.Workload)}},
	}
	if len(attacks) > 0 {
		info["attacks"] = attacks
	}
	if v, ok := ocsfVerdict[in.Verdict]; ok {
		doc["verdict_id"], doc["verdict"] = v, string(in.Verdict)
	}
	shown, _ := counting(in, findings)
	var evidence, anomalies []map[string]any
	for _, f := range shown {
		if a, port, _, ok := peer(f.Subject); ok {
			e := map[string]any{"ip": a.String()}
			if port != 0 {
				e["port"] = port
			}
			evidence = append(evidence, map[string]any{"dst_endpoint": e})
		}
		seen := []map[string]any{{"value": say(f.Summary), "count": max(1, f.Count)}}
		for _, fact := range facts(f, nfacts) {
			seen = append(seen, map[string]any{"value": fact})
		}
		kind := ocsfSeen[f.Detector]
		if kind == "" {
			kind = "Frequency"
		}
		anomalies = append(anomalies, map[string]any{"observation_parameter": say(f.Detector), "observation_type": kind, "observed_pattern": say(f.Subject), "observations": seen})
	}
	if f := in.Strongest(); f != nil {
		info["analytic"] = map[string]any{"name": say(f.Detector), "uid": say(f.Detector), "type_id": 2, "type": "Behavioral"}
	}
	if evidence != nil {
		doc["evidences"] = evidence
	}
	if anomalies != nil {
		doc["anomaly_analyses"] = []map[string]any{{"analysis_targets": []map[string]string{{"name": say(in.Workload), "type": "workload"}}, "anomalies": anomalies}}
	}
	return doc
}
