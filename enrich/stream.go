package enrich

import (
	"encoding/json"
	"fmt"
)

// EncodeEvent makes the bytes of an event in a recorded stream: one JSON object, without a line feed.
func EncodeEvent(e *Event) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s event of engine %s: %w", e.Kind, e.Engine, err)
	}
	return b, nil
}

// DecodeEvent reads what EncodeEvent wrote. Fields it does not know are passed over: a newer version may have recorded them.
func DecodeEvent(b []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	if e.Kind == "" {
		return Event{}, fmt.Errorf("decode event: no kind")
	}
	return e, nil
}
