package enrich

import "fmt"

var (
	methodText     = []string{"none", "ip", "reused", "nat", "socket", "listener", "port", "shared-netns", "shared-socket"}
	confidenceText = []string{"unknown", "low", "medium", "high", "exact"}
	reasonText     = []string{"none", "external", "no-engine", "not-ready", "proxied", "host", "no-nat-entry", "short-socket", "gap"}
	openerText     = []string{"unknown", "local", "remote"}
)

// String is the word of the JSON contract.
func (m Method) String() string { return word(methodText, int(m)) }

// String is the word of the JSON contract.
func (c Confidence) String() string { return word(confidenceText, int(c)) }

// String is the label of the counter.
func (r Reason) String() string { return word(reasonText, int(r)) }

// String says who opened.
func (o Opener) String() string { return word(openerText, int(o)) }

// MarshalText makes the JSON contract's word.
func (m Method) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalText makes the JSON contract's word.
func (c Confidence) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads MarshalText's word.
func (m *Method) UnmarshalText(b []byte) error {
	i, err := unword(methodText, b)
	*m = Method(i)
	return err
}

// UnmarshalText reads MarshalText's word.
func (c *Confidence) UnmarshalText(b []byte) error {
	i, err := unword(confidenceText, b)
	*c = Confidence(i)
	return err
}

func word(words []string, i int) string {
	if i < len(words) {
		return words[i]
	}
	return fmt.Sprintf("unknown-%d", i)
}

func unword(words []string, b []byte) (int, error) {
	for i, w := range words {
		if w == string(b) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("unknown word %q, known are %v", b, words)
}
