package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wharfwatch/wharfwatch/configs"
)

// globals is what every command is handed: the flags that all have, and the outside world, so that a test can be one.
type globals struct {
	config   string   // --config: path of the YAML file; "" none
	dataDir  string   // --data-dir; "" as configured
	sets     []string // --set KEY=VALUE
	logLevel string   // --log-level; "" as configured
	color    string   // --color: auto, always, never

	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	now            func() time.Time
}

// The exit codes: a contract with scripts.
const (
	exitFound   = 1 // something at or above --fail-on, or a check that failed
	exitUsage   = 2 // flags, arguments or configuration
	exitRuntime = 3 // the rest
)

// exitError carries an exit code. A nil err exits without a word: everything was said on stdout.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the caller's: exit code 2.
func usage(err error) error { return &exitError{exitUsage, err} }

// action wraps the body of a command: what it returns without a code of its own is a runtime error.
func action(body func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := body(cmd.Context(), args)
		var coded *exitError
		if err == nil || errors.As(err, &coded) {
			return err
		}
		return &exitError{exitRuntime, err}
	}
}

// load reads the configuration with the global flags on top. more are further KEY=VALUE settings of a command's own flags; they win
// over the file and lose against --set.
func (g *globals) load(more ...string) (*configs.Config, error) {
	sets := append([]string(nil), more...)
	if g.dataDir != "" {
		sets = append(sets, "data_dir="+g.dataDir)
	}
	if g.logLevel != "" {
		sets = append(sets, "log.level="+g.logLevel)
	}
	c, err := configs.Load(g.config, append(sets, g.sets...), g.environ)
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}

// logger writes to stderr as configured.
func (g *globals) logger(c configs.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" || c.Format == "auto" && !terminal(g.stderr) {
		return slog.New(slog.NewJSONHandler(g.stderr, options))
	}
	return slog.New(slog.NewTextHandler(g.stderr, options))
}

// colored says whether to colour stdout: --color, else NO_COLOR (https://no-color.org), else whether it is a terminal.
func (g *globals) colored() bool {
	switch g.color {
	case "always":
		return true
	case "never":
		return false
	}
	for _, pair := range g.environ {
		if value, ok := strings.CutPrefix(pair, "NO_COLOR="); ok && value != "" {
			return false
		}
		if pair == "TERM=dumb" {
			return false
		}
	}
	return terminal(g.stdout)
}

// terminal says whether w is a character device.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
