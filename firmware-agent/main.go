// Command firmware-agent is the controller of a battery-swap cabinet: it runs the
// agent, checks its configuration, prints and verifies its journal, clears alarms on
// site, and makes the key by which the cabinet is known.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	if os.Getenv("GOMAXPROCS") == "" {
		// One cabinet needs no second processor; to share work among several costs
		// as much again as the work of an agent at rest.
		runtime.GOMAXPROCS(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
