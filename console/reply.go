package console

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// problem answers with application/problem+json (RFC 9457). detail is for people and says what to do.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the reader may be gone
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail,
	})
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		problem(w, http.StatusInternalServerError, "the answer cannot be written as JSON: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(b, '\n'))
}

// items writes a list. It is an object, so that paging can be added without breaking readers.
func items[T any](w http.ResponseWriter, list []T) {
	if list == nil {
		list = []T{}
	}
	answer(w, map[string]any{"items": list})
}

// body reads a JSON object strictly; false means that the problem has been answered. An empty body is an empty object.
func body(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	switch err := d.Decode(into); {
	case errors.Is(err, io.EOF):
		return true
	case err != nil:
		problem(w, http.StatusBadRequest, "the body: "+err.Error())
		return false
	}
	if d.More() {
		problem(w, http.StatusBadRequest, "the body: more than one JSON value")
		return false
	}
	return true
}
