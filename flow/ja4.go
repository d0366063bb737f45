package flow

// ja4Text takes a JA4 that somebody else computed: a_b_c, 36 bytes. "" for what is none.
func ja4Text(b []byte) string {
	if len(b) != ja4Size || b[10] != '_' || b[23] != '_' {
		return ""
	}
	for _, c := range b {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	return string(b)
}

const ja4Size = 36
