package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var updatePages = flag.Bool("update-pages", false, "rewrite docs/reference/cli.md")

// TestCommandLinePage holds docs/reference/cli.md against the commands: it is made from them (go test ./cmd/wharfwatch -run
// CommandLinePage -update-pages).
func TestCommandLinePage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reference", "cli.md")
	want := commandLinePage(newRoot(&globals{}))
	if *updatePages {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("the page is not what the commands say (-commands +page), run with -update-pages:\n%s", d)
	}
}

func commandLinePage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(`# Command line

Standard output carries data, standard error logs and progress. Exit codes: 0 fine, 1 something at or above ` + "`--fail-on`" + ` or a check that failed,
2 usage or configuration, 3 anything else. Commands that look into or steer a monitor talk to the control socket in its data directory;
where none runs they read the state file, and change it alone. ` + "`-o table|json|jsonl`" + ` where there is data.

This page is made from the commands.

All commands take:

`)
	b.WriteString("```\n" + root.PersistentFlags().FlagUsages() + "```\n")
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if !sub.IsAvailableCommand() || sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			if sub.HasSubCommands() {
				visit(sub)
				continue
			}
			fmt.Fprintf(&b, "\n## %s\n", strings.TrimPrefix(sub.CommandPath(), root.Name()+" "))
			about := sub.Long
			if about == "" {
				about = sub.Short
			}
			fmt.Fprintf(&b, "%s.\n\n```\n%s\n", strings.TrimSuffix(about, "."), strings.TrimSuffix(sub.UseLine(), " [flags]"))
			if sub.Example != "" {
				fmt.Fprintf(&b, "%s\n", sub.Example)
			}
			b.WriteString(sub.LocalFlags().FlagUsages() + "```\n")
		}
	}
	visit(root)
	return b.String()
}
