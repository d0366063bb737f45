package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/wharfwatch/wharfwatch/baseline"
)

const (
	indicatorBytes = 256 << 20 // of one list
	indicatorLook  = time.Minute
)

// readIndicators reads lists of what is known to be bad. A line that says nothing usable is left out and counted; a list without any usable
// line is an error.
func readIndicators(files []string, log *slog.Logger) (*baseline.Indicators, error) {
	if len(files) == 0 {
		return nil, nil
	}
	var x baseline.Indicators
	for _, name := range files {
		if err := readList(&x, name, log); err != nil {
			return nil, fmt.Errorf("baseline.intel.files: %w", err)
		}
	}
	return &x, nil
}

func readList(x *baseline.Indicators, name string, log *slog.Logger) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	before, unusable, first := x.Len(), 0, error(nil)
	lines := bufio.NewScanner(io.LimitReader(f, indicatorBytes))
	for n := 1; lines.Scan(); n++ {
		if err := x.ParseLine(filepath.Base(name), lines.Text()); err != nil {
			if unusable++; first == nil {
				first = fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	switch {
	case unusable > 0 && x.Len() == before:
		return fmt.Errorf("no line of %s can be used, %w", name, first)
	case unusable > 0:
		log.Warn("lines of a list of indicators cannot be used", "file", name, "lines", unusable, "first", first)
	}
	return nil
}

// followIndicators reads the lists again when one of them changes. What cannot be read leaves those in use as they are.
func (m *monitor) followIndicators(ctx context.Context) {
	files := m.config.Baseline.Intel.Files
	if len(files) == 0 {
		return
	}
	every := time.NewTicker(indicatorLook)
	defer every.Stop()
	seen := m.indicatorsAt
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		now := changedAt(files)
		if now == seen {
			continue
		}
		x, err := readIndicators(files, m.log)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) { // a list that is being replaced
				m.log.Warn("lists of indicators were not read again: those before stay in use", "err", err)
			}
			continue
		}
		seen = now
		select {
		case m.turn <- struct{}{}:
			m.detectors.SetIndicators(x)
			<-m.turn
			m.log.Info("lists of indicators read again", "indicators", x.Len())
		case <-m.ended:
			return
		}
	}
}

// changedAt is a text that differs when a file does.
func changedAt(files []string) (at string) {
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			at += fmt.Sprintf("%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return at
}
