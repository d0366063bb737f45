package flow

import (
	"bytes"
	"encoding/binary"
)

// looksLikeRequest says whether a TCP payload begins like an HTTP/1 request, by its first four bytes.
func looksLikeRequest(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	switch binary.BigEndian.Uint32(b) {
	case 'G'<<24 | 'E'<<16 | 'T'<<8 | ' ',
		'P'<<24 | 'O'<<16 | 'S'<<8 | 'T',
		'P'<<24 | 'U'<<16 | 'T'<<8 | ' ',
		'H'<<24 | 'E'<<16 | 'A'<<8 | 'D',
		'D'<<24 | 'E'<<16 | 'L'<<8 | 'E',
		'O'<<24 | 'P'<<16 | 'T'<<8 | 'I',
		'P'<<24 | 'A'<<16 | 'T'<<8 | 'C',
		'C'<<24 | 'O'<<16 | 'N'<<8 | 'N':
		return true
	}
	return false
}

const requestLines = 64 // of a request's head that are looked at

// parseRequest reads method, Host and User-Agent of an HTTP/1 request (RFC 9112) as far as b goes. It reports false for what is none.
func parseRequest(b []byte, n *Name) bool {
	line, rest, whole := bytes.Cut(b, []byte("\n"))
	method, target, ok := bytes.Cut(line, []byte(" "))
	if !whole || !ok || len(method) > maxMethod {
		return false
	}
	if target, _, ok = bytes.Cut(target, []byte(" HTTP/1.")); !ok {
		return false
	}
	for _, c := range method {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	n.Kind, n.Method = NameHTTP, string(method)
	for range requestLines {
		line, next, more := bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 || !more {
			break
		}
		rest = next
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case len(name) == 4 && bytes.EqualFold(name, []byte("host")):
			n.Name = hostText(value)
		case len(name) == 10 && bytes.EqualFold(name, []byte("user-agent")):
			n.Agent = printable(value, maxAgent, false)
		}
	}
	if n.Name == "" && string(method) == "CONNECT" {
		n.Name = hostText(target)
	}
	return true
}
