package flow

// Most bytes of the texts in a Name.
const (
	maxALPN   = 32
	maxAgent  = 128
	maxMethod = 16
)

// hostText is a host as DNS names are kept: lower case, no final dot, no port, what is not printable escaped as \DDD, at most 253 bytes.
// "" for what is no name.
func hostText(b []byte) string {
	if len(b) > 0 && b[0] == '[' { // an IPv6 address in brackets
		for i, c := range b {
			if c == ']' {
				return printable(b[1:i], dnsNameLength, true)
			}
		}
		return ""
	}
	colons := 0
	at := len(b)
	for i, c := range b {
		if c == ':' {
			colons, at = colons+1, i
		}
	}
	if colons == 1 {
		b = b[:at]
	}
	for len(b) > 0 && b[len(b)-1] == '.' {
		b = b[:len(b)-1]
	}
	return printable(b, dnsNameLength, true)
}

// printable keeps printable ASCII, escapes the rest as \DDD (RFC 4343), and cuts at limit bytes. lower folds the case.
func printable(b []byte, limit int, lower bool) string {
	out := make([]byte, 0, min(len(b), limit))
	for _, x := range b {
		n := len(out)
		switch {
		case lower && x >= 'A' && x <= 'Z':
			out = append(out, x+'a'-'A')
		case x == '\\' || x < ' ' || x > '~' || lower && x == ' ':
			out = append(out, '\\', '0'+x/100, '0'+x/10%10, '0'+x%10)
		default:
			out = append(out, x)
		}
		if len(out) > limit {
			return string(out[:n])
		}
	}
	return string(out)
}
