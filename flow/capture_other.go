//go:build !linux

package flow

import (
	"errors"
	"log/slog"

	"github.com/VictoriaMetrics/metrics"
)

func openCapture(string, Pool, *metrics.Set, *slog.Logger) (Source, string, error) {
	return nil, "", errors.New("live capture is not in this build: it needs Linux")
}
