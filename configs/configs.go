// Package configs is the shipped configuration and its strict loader.
//
// wharfwatch.yaml is documentation, defaults and test fixture in one. Each room owns its Config, Default and Validate; this package
// composes them, reads one YAML file, the environment and --set over the defaults, and reports every problem at once, each with its
// place and what to write instead.
package configs

import (
	_ "embed" // the shipped files
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/alerts"
	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/console"
	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// Sample is the shipped wharfwatch.yaml: every key at its default, with a comment that says when to change it.
//
//go:embed wharfwatch.yaml
var Sample []byte

// Schema is the JSON Schema of the configuration, made from the Go types and their comments by `go test ./configs -update`.
//
//go:embed schema.json
var Schema []byte

// Config is the whole configuration.
type Config struct {
	// DataDir is where the state file, its lock and the control socket live. It is made if needed, for this user only.
	DataDir string `yaml:"data_dir"`
	// Record is a directory to which everything that enters the engine is written, for replay. Empty: off. It grows without bound.
	Record string `yaml:"record"`
	// SnapshotInterval is how often changed baselines are saved. A crash loses at most this much of what was learned, and says so.
	SnapshotInterval time.Duration `yaml:"snapshot_interval"`
	// Log says what goes to standard error.
	Log Log `yaml:"log"`
	// Flow is what comes in: exports of routers, live capture.
	Flow flow.Config `yaml:"flow"`
	// Enrich is who: the container engines, and how workloads are named.
	Enrich enrich.Config `yaml:"enrich"`
	// Baseline is what is normal: the detectors.
	Baseline baseline.Config `yaml:"baseline"`
	// Alerts is whom to tell, and how.
	Alerts alerts.Config `yaml:"alerts"`
	// Console is the HTTP listener.
	Console console.Config `yaml:"console"`

	origins map[string]Origin
}

// Log says what goes to standard error.
type Log struct {
	// Level is the least level written: debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is text, json, or auto: text on a terminal, JSON elsewhere.
	Format string `yaml:"format"`
}

// Default is the configuration without a file.
func Default() *Config {
	c := &Config{
		DataDir:          "./data",
		SnapshotInterval: 30 * time.Second,
		Log:              Log{Level: "info", Format: "auto"},
		Flow:             flow.Default(),
		Enrich:           enrich.Default(),
		Baseline:         baseline.Default(),
		Alerts:           alerts.Default(),
		Console:          console.Default(),
		origins:          map[string]Origin{},
	}
	if len(c.Enrich.Docker) == 0 {
		c.Enrich.Docker = []enrich.EngineConfig{enrich.DefaultEngine()}
	}
	return c
}

// Load reads the file at path ("" for none) over the defaults, then the WHARFWATCH_ variables of environ, then sets (KEY=VALUE).
// Its error is Problems when the content is wrong: all of them, not the first.
func Load(path string, sets, environ []string) (*Config, error) {
	if path == "" {
		return load("", nil, sets, environ)
	}
	text, err := readCapped(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return load(path, text, sets, environ)
}

// readCapped reads one byte more than is allowed, so that parse can say so.
func readCapped(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxBytes+1))
}

func load(name string, text []byte, sets, environ []string) (*Config, error) {
	c := Default()
	src, problems := overlay(reflect.ValueOf(c).Elem(), name, text, sets, environ, c.origins)
	c.Flow.ExplicitNetflow, c.Flow.ExplicitSFlow, c.Flow.ExplicitInterfaces = c.Explicit("flow.netflow"), c.Explicit("flow.sflow"), c.Explicit("flow.interfaces")
	c.validate(func(path, message string) {
		problems = append(problems, semantic(src, c.origins, path, message, problems)...)
	})
	if len(problems) > 0 {
		problems.sort()
		return nil, problems
	}
	return c, nil
}

// overlay writes the file, the environment and the sets into root, in this order.
func overlay(root reflect.Value, name string, text []byte, sets, environ []string, origins map[string]Origin) (*source, Problems) {
	src, node, problems := parse(name, text, true)
	d := &decoder{src: src, kind: "file", origins: origins}
	if node != nil {
		d.value(node, root, "", node.GetToken())
	}
	problems = append(problems, d.problems...)
	problems = append(problems, environment(root, environ, origins)...)
	return src, append(problems, settings(root, sets, origins)...)
}

// validate asks every room.
func (c *Config) validate(report func(path, message string)) {
	if c.SnapshotInterval < time.Second {
		report("snapshot_interval", "must be at least 1s")
	}
	if strings.TrimSpace(c.DataDir) == "" {
		report("data_dir", "is empty: name a directory")
	}
	if !oneOf(c.Log.Level, "debug", "info", "warn", "error") {
		report("log.level", fmt.Sprintf("%q is none of debug, info, warn, error", c.Log.Level))
	}
	if !oneOf(c.Log.Format, "auto", "text", "json") {
		report("log.format", fmt.Sprintf("%q is none of auto, text, json", c.Log.Format))
	}
	below := func(room string) func(path, message string) {
		return func(path, message string) { report(join(room, path), message) }
	}
	c.Flow.Validate(below("flow"))
	c.Enrich.Validate(below("enrich"))
	c.Baseline.Validate(below("baseline"))
	c.Alerts.Validate(below("alerts"))
	c.Console.Validate(below("console"))
}

func oneOf(s string, words ...string) bool { return slices.Contains(words, s) }
