// Command simulator replaces the hardware and the riders: cabinets on
// pseudo-terminals for an agent started by hand, or the whole system with its
// real programs on one machine.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
)

type commands struct {
	Cabinet cabinetCommand `cmd:"" help:"Boards of one cabinet on a pseudo-terminal, for an agent started by hand; commands on standard input."`
}

func main() {
	var c commands
	parser, err := kong.New(&c, kong.Name("simulator"), kong.Exit(func(code int) {
		if code != 0 {
			code = 2
		}
		os.Exit(code)
	}), kong.Description("Replaces the hardware, the riders and the weather."), kong.UsageOnError())
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulator:", err)
		os.Exit(2)
	}
	k, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "simulator:", err)
		if isUsage(err) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}
