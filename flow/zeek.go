package flow

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// zeek reads one of Zeek's logs, https://docs.zeek.org/en/master/log-formats.html: tab-separated with header lines, or a JSON object per
// line. conn gives records; dns, ssl, quic and http give names; other logs are counted. Columns it does not know are passed over.
type zeek struct {
	separator         byte
	set, unset, empty string
	path              zeekPath
	columns           [numZeekField]int // place in a row, -1 absent
	cells             [][]byte
	json              map[string]json.RawMessage
}

func newZeek() *zeek {
	return &zeek{separator: '\t', set: ",", unset: "-", empty: "(empty)", json: map[string]json.RawMessage{}}
}

// zeekPath says which log a row is of.
type zeekPath uint8

const (
	zeekUnknown zeekPath = iota
	zeekConn
	zeekDNS
	zeekSSL
	zeekQUIC
	zeekHTTP
)

var zeekPaths = map[string]zeekPath{"conn": zeekConn, "dns": zeekDNS, "ssl": zeekSSL, "quic": zeekQUIC, "http": zeekHTTP}

// zeekField is a column that is read.
type zeekField uint8

const (
	zTS zeekField = iota
	zOrigH
	zOrigP
	zRespH
	zRespP
	zProto
	zIPProto
	zDuration
	zOrigBytes
	zRespBytes
	zOrigPkts
	zRespPkts
	zOrigIP
	zRespIP
	zState
	zHistory
	zVLAN
	zQuery
	zQType
	zRCode
	zRTT
	zAnswers
	zTTLs
	zServer
	zNextProtocol
	zJA4
	zHost
	zMethod
	zAgent
	numZeekField = iota
)

var zeekFields = [numZeekField]string{
	"ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "ip_proto", "duration", "orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts",
	"orig_ip_bytes", "resp_ip_bytes", "conn_state", "history", "vlan", "query", "qtype", "rcode", "rtt", "answers", "TTLs", "server_name",
	"next_protocol", "ja4", "host", "method", "user_agent",
}

// IsZeek tells a log of Zeek by its first bytes, tab-separated or JSON.
func IsZeek(head []byte) bool {
	if bytes.HasPrefix(head, []byte("#separator ")) {
		return true
	}
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	return bytes.HasPrefix(line, []byte("{")) && bytes.Contains(line, []byte(`"ts":`)) &&
		(bytes.Contains(line, []byte(`"id.orig_h":`)) || bytes.Contains(line, []byte(`"_path":`)))
}

func (z *zeek) line(b []byte, out rowSink) (string, int64) {
	switch {
	case len(b) == 0:
		return rowOther, 0
	case b[0] == '#':
		z.header(b)
		return rowOther, 0
	case b[0] == '{':
		return z.object(b, out)
	case z.path == zeekUnknown:
		return rowOther, 0
	}
	z.cells = z.cells[:0]
	for rest, more := b, true; more; {
		var cell []byte
		cell, rest, more = bytes.Cut(rest, []byte{z.separator})
		z.cells = append(z.cells, cell)
	}
	return z.row(z.path, out)
}

// header takes a line that begins with #. It may come again in the middle: files are glued together and logs rotate.
func (z *zeek) header(b []byte) {
	if text, ok := bytes.CutPrefix(b, []byte("#separator ")); ok {
		if s := zeekText(text); len(s) == 1 {
			z.separator = s[0]
		}
		z.path = zeekUnknown
		return
	}
	key, value, _ := bytes.Cut(b, []byte{z.separator})
	switch string(key) {
	case "#set_separator":
		z.set = string(zeekText(value))
	case "#empty_field":
		z.empty = string(zeekText(value))
	case "#unset_field":
		z.unset = string(zeekText(value))
	case "#path":
		z.path = zeekPaths[string(value)]
	case "#fields":
		for f := range z.columns {
			z.columns[f] = -1
		}
		for i, name := range bytes.Split(value, []byte{z.separator}) {
			for f, known := range zeekFields {
				if string(name) == known {
					z.columns[f] = i
				}
			}
		}
	}
}

// object takes a row in JSON.
func (z *zeek) object(b []byte, out rowSink) (string, int64) {
	path, ok := z.pathOf(b)
	if !ok {
		return rowMalformed, 0
	}
	return z.row(path, out)
}

// pathOf reads a row in JSON. The log is named by _path, else shown by the columns that only it has.
func (z *zeek) pathOf(b []byte) (zeekPath, bool) {
	clear(z.json)
	if err := json.Unmarshal(b, &z.json); err != nil {
		return zeekUnknown, false
	}
	z.cells = nil
	if p, ok := z.json["_path"]; ok {
		return zeekPaths[jsonText(p)], true
	}
	for _, sign := range zeekSigns {
		if _, ok := z.json[sign.column]; ok {
			return sign.path, true
		}
	}
	return zeekUnknown, true
}

// zeekSigns are columns that only one log has.
var zeekSigns = []struct {
	column string
	path   zeekPath
}{
	{"conn_state", zeekConn},
	{"orig_ip_bytes", zeekConn},
	{"trans_id", zeekDNS},
	{"qtype", zeekDNS},
	{"client_initial_dcid", zeekQUIC},
	{"cipher", zeekSSL},
	{"ssl_history", zeekSSL},
	{"trans_depth", zeekHTTP},
}

// get returns a value, nil where it is unset.
func (z *zeek) get(f zeekField) []byte {
	if z.cells == nil {
		raw := z.json[zeekFields[f]]
		if len(raw) == 0 || string(raw) == "null" {
			return nil
		}
		if raw[0] == '"' {
			return []byte(jsonText(raw))
		}
		return raw
	}
	i := z.columns[f]
	if i < 0 || i >= len(z.cells) {
		return nil
	}
	v := z.cells[i]
	if len(v) == 0 || string(v) == z.unset || string(v) == z.empty {
		return nil
	}
	if bytes.IndexByte(v, '\\') >= 0 {
		return zeekText(v)
	}
	return v
}

// list returns the values of a vector, at most as many as a Name takes.
func (z *zeek) list(f zeekField) (out []string) {
	if z.cells == nil {
		var all []json.RawMessage
		if json.Unmarshal(z.json[zeekFields[f]], &all) != nil {
			return nil
		}
		for _, raw := range all[:min(len(all), dnsRecords)] {
			if raw[0] == '"' {
				out = append(out, jsonText(raw))
			} else {
				out = append(out, string(raw))
			}
		}
		return out
	}
	i := z.columns[f]
	if i < 0 || i >= len(z.cells) || string(z.cells[i]) == z.unset || string(z.cells[i]) == z.empty {
		return nil
	}
	for rest, more := string(z.cells[i]), true; more && len(out) < dnsRecords; {
		var v string
		v, rest, more = strings.Cut(rest, z.set)
		out = append(out, v)
	}
	return out
}

func jsonText(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s) // what is no string is the empty one
	return s
}

// zeekText undoes the \xNN of the tab-separated form.
func zeekText(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) && b[i+1] == 'x' {
			if n, err := strconv.ParseUint(string(b[i+2:i+4]), 16, 8); err == nil {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

// ZeekPath says which log of Zeek a file is, by its first bytes: "conn", "dns", "" for one that cannot be told.
func ZeekPath(head []byte) string {
	if bytes.HasPrefix(head, []byte("#")) {
		for line := range bytes.Lines(head) {
			if path, ok := bytes.CutPrefix(line, []byte("#path")); ok {
				return string(bytes.TrimSpace(path))
			}
		}
		return ""
	}
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	z := newZeek()
	path, ok := z.pathOf(line)
	if !ok {
		return ""
	}
	for name, p := range zeekPaths {
		if p == path {
			return name
		}
	}
	return ""
}
