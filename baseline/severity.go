package baseline

import "fmt"

var severityText = []string{"info", "low", "medium", "high", "critical"}

// String is the word of the JSON contract.
func (s Severity) String() string {
	if int(s) < len(severityText) {
		return severityText[s]
	}
	return fmt.Sprintf("severity-%d", uint8(s))
}

// MarshalText makes the word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word.
func (s *Severity) UnmarshalText(b []byte) error {
	for i, w := range severityText {
		if w == string(b) {
			*s = Severity(i)
			return nil
		}
	}
	return fmt.Errorf("unknown severity %q, known are %v", b, severityText)
}
