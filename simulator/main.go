// Command simulator replaces the hardware, the riders and the weather: the
// boards of one cabinet for an agent started by hand, or the whole system with
// its real programs on one machine.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"batteryswap/simulator/rider"
)

type commands struct {
	LogFormat string     `help:"json or text." enum:"json,text" default:"text"`
	LogLevel  slog.Level `help:"debug, info, warn or error." default:"info"`

	Demo    demoCommand    `cmd:"" help:"The real programs, a throwaway PostgreSQL, an embedded broker, simulated cabinets and riders."`
	Cabinet cabinetCommand `cmd:"" help:"Boards of one cabinet on a pseudo-terminal, for an agent started by hand; commands on standard input."`
	Pilot   pilotCommand   `cmd:"" help:"38 days of a street's pilot at high speed through the real backend: every source must give the same count."`
}

func main() {
	// Whoever reads our output may go: what was started must still be stopped.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(os.Args[1:]))
}

// run parses and runs one command: 0 done, 1 failed, 2 wrong usage.
func run(args []string) int {
	var c commands
	parser, err := kong.New(&c, kong.Name("simulator"), kong.DefaultEnvars("SWAP"),
		kong.Description("Replaces the hardware, the riders and the weather."),
		kong.Vars{"behaviours": fmt.Sprint(rider.Behaviours())})
	if err != nil {
		return complain(err)
	}
	k, err := parser.Parse(args)
	if err != nil {
		return complain(usageError{err})
	}
	if err := k.Run(c.logger()); err != nil {
		return complain(err)
	}
	return 0
}

func (c *commands) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "simulator:", strings.ReplaceAll(err.Error(), "\n", "\nsimulator: "))
	if isUsage(err) {
		return 2
	}
	return 1
}
