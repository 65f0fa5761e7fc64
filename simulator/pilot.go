package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"batteryswap/simulator/pilot"
)

type pilotCommand struct {
	Days     int    `help:"How many days; the last was yesterday." default:"38"`
	Swaps    int    `help:"How many counted swaps." default:"2425"`
	Cabinets int    `help:"How many cabinets stand in the street." default:"4"`
	Riders   int    `help:"How many couriers there are." default:"40"`
	Seed     uint64 `help:"Draws the times and the trouble." default:"1"`
	JSON     bool   `help:"Print the figures as JSON."`
}

// Run lives through the pilot, or until a signal.
func (c *pilotCommand) Run(log *slog.Logger) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the programs: %w", err)
	}
	o := pilot.Options{
		Days: c.Days, Swaps: c.Swaps, Cabinets: c.Cabinets, Riders: c.Riders, Seed: c.Seed, JSON: c.JSON, Programs: filepath.Dir(self),
	}
	if err := o.Check(); err != nil {
		return usageError{err}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return pilot.Run(ctx, o, os.Stdout, log)
}
