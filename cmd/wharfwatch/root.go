package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newRoot composes all commands.
func newRoot(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:           "wharfwatch",
		Short:         "Says which container talked, whether that is normal for it, and tells a person when it is not",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		Version:       thisBuild().Version,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("wharfwatch {{.Version}}\n")
	f := root.PersistentFlags()
	f.StringVarP(&g.config, "config", "c", "", "configuration file (YAML); without one the defaults hold")
	f.StringVar(&g.dataDir, "data-dir", "", "directory of the state file and the control socket (default ./data)")
	f.StringArrayVar(&g.sets, "set", nil, "override one key of the configuration, KEY=VALUE; may be repeated")
	f.StringVar(&g.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&g.color, "color", "auto", "auto, always or never; NO_COLOR is respected")

	groups := []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"run", "Watching:", []*cobra.Command{newRunCommand(g), newReplayCommand(g), newDemoCommand(g)}},
		{"triage", "Triage:", []*cobra.Command{newIncidentsCommand(g), newAllowCommand(g), newSilenceCommand(g)}},
		{"look", "Looking:", []*cobra.Command{newContainersCommand(g), newExplainCommand(g), newPacketsCommand(g), newDetectionsCommand(g)}},
		{"care", "Care:", []*cobra.Command{newDoctorCommand(g), newCoverageCommand(g), newConfigCommand(g), newNotifyCommand(g), newAccessCommand(g), newVersionCommand(g)}},
	}
	for _, group := range groups {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, c := range group.commands {
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	root.AddCommand(newActorCommand(g))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; see %s --help", err, cmd.CommandPath()))
	})
	return root
}

// execute runs one command line and returns its exit code. An error is printed once, on stderr.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	g := &globals{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ, now: time.Now}
	root := newRoot(g)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := exitUsage // what cobra finds wrong by itself: unknown commands, wrong numbers of arguments
	var coded *exitError
	if errors.As(err, &coded) {
		code = coded.code
	}
	if text := strings.TrimSpace(err.Error()); text != "" {
		fmt.Fprintln(stderr, "wharfwatch: "+clean(text, true))
	}
	return code
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usage(fmt.Errorf("%s wants one of its subcommands", cmd.CommandPath()))
		},
	}
	c.AddCommand(commands...)
	return c
}
