// Command wharfwatch says which container talked, whether that is normal for it, and tells a person when it is not.
//
// One file per subcommand; root.go composes them. engine.go, monitor.go and run.go are the wiring; nothing here knows detection.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ())
	stop()
	os.Exit(code)
}
