//go:build !linux

package flow

import (
	"errors"
	"log/slog"

	"github.com/VictoriaMetrics/metrics"
)

// captureOptions is what a Config says about captures.
type captureOptions struct {
	patterns  string
	ringBytes int
	ignore    []ignoreRule
	store     *packetStore
	unwrap    string
}

func openCapture(captureOptions, Pool, *metrics.Set, *slog.Logger) (Source, string, error) {
	return nil, "", errors.New("live capture is not in this build: it needs Linux")
}
