// Command firmware-agent is the controller of a battery-swap cabinet: it runs the
// agent, checks its configuration, prints and verifies its journal, and makes the
// key by which the cabinet is known.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
