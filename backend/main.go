// Command backend is the server of a fleet of battery-swap cabinets, and the
// acts of its staff at a shell: keys, cabinets, batteries, riders, reviews, the audit.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // days are counted in Asia/Shanghai, also where the system has no zones

	"github.com/alecthomas/kong"

	"batteryswap/backend/internal/config"
)

type commands struct {
	config.Logging

	Serve       serveCommand       `cmd:"" help:"Run the server until SIGTERM or SIGINT."`
	CheckConfig checkConfigCommand `cmd:"" name:"check-config" help:"Say all that is wrong with flags, environment, keys, database and broker."`
	Migrate     migrateCommand     `cmd:"" help:"Bring the database to this version."`
	Keys        keysCommand        `cmd:"" help:"The keys that speak for the backend."`
	Cabinet     cabinetCommand     `cmd:"" help:"Enrol cabinets, list them, accept a new epoch."`
	Battery     batteryCommand     `cmd:"" help:"Import the registry of batteries, say where one is."`
	Rider       riderCommand       `cmd:"" help:"Add riders, give one a first battery."`
	Roll        rollCommand        `cmd:"" help:"The union's roll of its members."`
	Review      reviewCommand      `cmd:"" help:"Decide the cases that have more than one explanation."`
	Staff       staffCommand       `cmd:"" help:"Accounts of staff, tokens of machines, the audit log."`
	Audit       auditCommand       `cmd:"" help:"Recompute every count, credit and custody from the ledger; exit 1 on a difference."`
}

// shell is what a command may use of the world.
type shell struct {
	ctx    context.Context
	log    *slog.Logger
	in     io.Reader
	out    io.Writer
	errout io.Writer
}

// errFailed is a failure that was told already.
var errFailed = errors.New("failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the next signal ends the program at once
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run parses and runs one command: 0 done, 1 failed, 2 wrong usage or
// configuration.
func run(ctx context.Context, args []string, in io.Reader, out, errout io.Writer) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c, kong.Name("backend"), kong.Description("The server of a fleet of battery-swap cabinets."),
		kong.Writers(out, errout), kong.Exit(func(status int) { exit = status }), kong.UsageOnError())
	if err != nil {
		return complain(errout, err)
	}
	k, err := parser.Parse(args)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		return complain(errout, config.Mistakes{err})
	}
	return complain(errout, k.Run(shell{ctx: ctx, log: c.Logger(errout), in: in, out: out, errout: errout}))
}

// complain says what went wrong and returns the status.
func complain(errout io.Writer, err error) int {
	var mistakes config.Mistakes
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFailed):
		return 1
	}
	fmt.Fprintln(errout, "backend:", strings.ReplaceAll(err.Error(), "\n", "\nbackend: "))
	if errors.As(err, &mistakes) {
		return 2
	}
	return 1
}
