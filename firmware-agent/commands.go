package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"batteryswap/firmware-agent/internal/config"
)

// The flags are parsed by the standard library: one that calls methods by name
// would keep every method of every type in the program, 2 MB of the 10 it has.

// command is one thing that the program does.
type command struct {
	name  string
	takes string // its argument, "" for none
	help  string
	flags []string // besides those of all commands
	run   func(shell) error
}

func commands() []command {
	return []command{
		{"run", "", "run the cabinet until SIGTERM or SIGINT", []string{"config"}, runAgent},
		{"check-config", "", "say all that is wrong with the configuration and the files that it names", []string{"config"}, checkConfig},
		{"journal print", "DIR", "print every record of state_dir/journal, one JSON object a line", nil, printJournal},
		{"journal verify", "DIR", "check every record and the chain of state_dir/journal; exit 1 when something is wrong", nil, verifyJournal},
		{"clear-alarm", "SLOT|all", "clear latched safety alarms of a slot, of the cabinet (0), or all: on site, with the maintenance key turned", []string{"config"}, clearAlarm},
		{"keygen", "", "make the cabinet's own key, and print what the backend needs to know of it", []string{"out"}, keygen},
	}
}

// options are the values of all flags.
type options struct{ config, keyFile, logFormat, logLevel string }

// define defines a flag; each has its name in the environment too.
func (o *options) define(fs *flag.FlagSet, name string) {
	switch name {
	case "config":
		fs.StringVar(&o.config, name, "/etc/batteryswap/agent.yaml", "the configuration `file`")
	case "out":
		fs.StringVar(&o.keyFile, name, "", "the `file` for the private key; it must not exist")
	case "log-format":
		fs.StringVar(&o.logFormat, name, "json", "`json|text`")
	case "log-level":
		fs.StringVar(&o.logLevel, name, "info", "`debug|info|warn|error`")
	}
}

// inAll are the flags of all commands.
func inAll() []string { return []string{"log-format", "log-level"} }

func envName(flagName string) string {
	return "SWAP_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// shell is what a command may use of the world.
type shell struct {
	options
	ctx    context.Context
	arg    string
	level  slog.Level
	out    io.Writer
	errout io.Writer
}

// errFailed is a failure that was told already.
var errFailed = errors.New("failed")

// usageError is a mistake of who called the program.
type usageError struct{ error }

// run parses and runs one command: 0 done, 1 failed, 2 wrong usage or
// configuration.
func run(ctx context.Context, args []string, getenv func(string) string, out, errout io.Writer) int {
	s := shell{ctx: ctx, out: out, errout: errout}
	c, err := s.parse(args, getenv)
	if errors.Is(err, flag.ErrHelp) {
		help(out)
		return 0
	}
	if err == nil {
		err = c.run(s)
	}
	var mistakes config.Mistakes
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFailed):
		return 1
	}
	fmt.Fprintln(errout, "firmware-agent:", strings.ReplaceAll(err.Error(), "\n", "\nfirmware-agent: "))
	if errors.As(err, &mistakes) || errors.As(err, &usage) {
		return 2
	}
	return 1
}

// parse finds the command. Flags may stand before, between and after words.
func (s *shell) parse(args []string, getenv func(string) string) (command, error) {
	fs := flag.NewFlagSet("firmware-agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, name := range []string{"config", "out", "log-format", "log-level"} {
		s.define(fs, name)
		if v := getenv(envName(name)); v != "" {
			if err := fs.Set(name, v); err != nil {
				return command{}, usageError{fmt.Errorf("%s: %w", envName(name), err)}
			}
		}
	}
	var words []string
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return command{}, err
			}
			return command{}, usageError{err}
		}
		if args = fs.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	c, err := s.find(words)
	if err != nil {
		return c, usageError{fmt.Errorf("%w; see --help", err)}
	}
	fs.Visit(func(f *flag.Flag) {
		if known := append(inAll(), c.flags...); getenv(envName(f.Name)) == "" && !slices.Contains(known, f.Name) {
			err = usageError{fmt.Errorf("%s takes no --%s; see --help", c.name, f.Name)}
		}
	})
	if err == nil && s.logFormat != "json" && s.logFormat != "text" {
		err = usageError{fmt.Errorf("log-format is %q: want json or text", s.logFormat)}
	}
	if err == nil && s.level.UnmarshalText([]byte(s.logLevel)) != nil {
		err = usageError{fmt.Errorf("log-level is %q: want debug, info, warn or error", s.logLevel)}
	}
	return c, err
}

func (s *shell) find(words []string) (command, error) {
	typed := strings.Join(words, " ")
	for _, c := range commands() {
		switch rest, ok := strings.CutPrefix(typed, c.name); {
		case !ok || rest != "" && rest[0] != ' ':
		case rest == "" && c.takes != "":
			return c, fmt.Errorf("%s: want %s", c.name, c.takes)
		case rest == "":
			return c, nil
		case c.takes == "" || len(words) != len(strings.Fields(c.name))+1:
			return c, fmt.Errorf("%s: %q is too much", c.name, strings.TrimSpace(rest))
		default:
			s.arg = words[len(words)-1]
			return c, nil
		}
	}
	if typed == "" {
		return command{}, errors.New("want a command")
	}
	return command{}, fmt.Errorf("there is no command %q", typed)
}

func help(out io.Writer) {
	fmt.Fprint(out, "firmware-agent is the controller of a battery-swap cabinet.\n\n")
	show := func(names []string) {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		for _, name := range names {
			new(options).define(fs, name)
		}
		fs.VisitAll(func(f *flag.Flag) {
			value, text := flag.UnquoteUsage(f)
			if f.DefValue != "" {
				text = strings.TrimPrefix(text+", ", value+", ") + "by default " + f.DefValue
			}
			fmt.Fprintf(out, "      --%s %s\n            %s ($%s)\n", f.Name, value, text, envName(f.Name))
		})
	}
	for _, c := range commands() {
		fmt.Fprintf(out, "  firmware-agent %s\n      %s\n", strings.TrimSpace(c.name+" "+c.takes), c.help)
		show(c.flags)
	}
	fmt.Fprint(out, "\nFor all commands:\n")
	show(inAll())
}
