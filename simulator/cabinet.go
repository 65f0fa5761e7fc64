package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"batteryswap/protocol"
	"batteryswap/simulator/board"
	"batteryswap/simulator/console"
	"batteryswap/simulator/pty"
	"batteryswap/simulator/world"
)

// cabinetCommand is `simulator cabinet`: the boards of one cabinet for an agent
// that somebody starts by hand.
type cabinetCommand struct {
	ID         string        `help:"Identifier of the cabinet." default:"hb-0001"`
	Slots      int           `help:"Number of slots." default:"12"`
	Charged    int           `help:"Charged batteries inside at the start, in the highest slots." default:"8"`
	Baud       int           `help:"Rate of the serial line: bytes take the time that they would take on it." default:"19200"`
	DeviceTime time.Duration `help:"How long a board thinks before it answers." default:"5ms"`
	Meter      string        `help:"Energy meter at address 201: ddsu666, dtsu666, sdm120, sdm630." enum:"none,ddsu666,dtsu666,sdm120,sdm630" default:"ddsu666"`
	Climate    bool          `help:"An XY-MD02 climate sensor at address 202." default:"true" negatable:""`
	Link       string        `help:"Make a symbolic link with this name to the pseudo-terminal, as /dev/serial/by-path has."`
	Speed      float64       `help:"Batteries charge so many times as fast; temperatures keep their time." default:"1"`
	Scenario   string        `help:"Trouble that happens by itself: one of those above." default:""`
	Seed       uint64        `help:"Seed of sensors that flap and faults that strike now and then." default:"1"`
}

// tellEvery is how often what happened is printed.
const tellEvery = 20 * time.Millisecond

// Help lists the scenarios.
func (*cabinetCommand) Help() string { return console.ScenarioHelp() }

// Run serves the cabinet until the input ends with "quit", or a signal.
func (c *cabinetCommand) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return c.run(ctx, os.Stdin, os.Stdout)
}

func (c *cabinetCommand) run(ctx context.Context, in io.Reader, out io.Writer) error {
	if err := protocol.CabinetID(c.ID).Validate(); err != nil {
		return usageError{err}
	}
	if c.Charged < 0 || c.Charged > c.Slots {
		return usageError{fmt.Errorf("--charged is %d, expected 0 to %d", c.Charged, c.Slots)}
	}
	scenario, err := c.scenario()
	if err != nil {
		return usageError{err}
	}
	out = &lockedWriter{w: out}
	start := time.Now()
	now := func() time.Duration { return time.Since(start) }
	w := world.New(rand.New(rand.NewPCG(c.Seed, 0)), c.Speed)
	if err := w.AddCabinet(c.ID, c.Slots); err != nil {
		return usageError{err}
	}
	for i := range c.Charged {
		b := world.Battery{Serial: world.Serial(i + 1), SocPermille: 960}
		if err := w.PutInSlot(c.ID, c.Slots-i, b); err != nil {
			return err
		}
	}
	port, err := pty.Open(c.Link)
	if err != nil {
		return err
	}
	defer port.Close()
	boards, err := board.New(board.Options{
		World: w, Cabinet: c.ID, Now: now, Meter: strings.TrimPrefix(c.Meter, "none"), ClimateSensor: c.Climate,
		Wire: board.Wire{Baud: c.Baud, DeviceTime: c.DeviceTime},
	})
	if err != nil {
		return usageError{err}
	}
	fmt.Fprintf(out, "cabinet %s: slot boards 1 to %d and cabinet board 100, %d baud 8N1, at\n%s\n", c.ID, c.Slots, c.Baud, port.Path())
	if c.Meter != "none" && c.Meter != "" {
		fmt.Fprintf(out, "meter: {kind: %s, address: %d}\n", c.Meter, board.MeterUnit)
	}
	if c.Climate {
		fmt.Fprintf(out, "climate: {kind: xymd02, address: %d}\n", board.ClimateUnit)
	}
	fmt.Fprintln(out, "help lists the commands, quit ends")

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- boards.Serve(ctx, port) }()
	told := make(chan struct{})
	go func() {
		defer close(told)
		tell(ctx, w, now, out)
	}()
	hand := &console.Console{
		World: w, Person: "you", Now: now, Cabinet: c.ID, Plugs: map[string]console.Plug{c.ID: port},
	}
	played := make(chan struct{})
	go func() {
		defer close(played)
		hand.Play(ctx, scenario, c.ID, console.Wait, func(said string) { fmt.Fprintln(out, said) })
	}()
	go func() {
		// The input's end is not the end: without a terminal the cabinet stands
		// until a signal.
		if talk(in, out, hand) {
			cancel()
		}
	}()
	<-ctx.Done()
	<-played
	<-told
	return <-served
}

// scenario is the one that is wanted; the zero scenario has no steps.
func (c *cabinetCommand) scenario() (console.Scenario, error) {
	if c.Scenario == "" {
		return console.Scenario{}, nil
	}
	s, err := console.FindScenario(c.Scenario)
	if err != nil {
		return s, fmt.Errorf("--scenario: %w", err)
	}
	return s, nil
}

// talk runs typed lines and says whether the last was "quit".
func talk(in io.Reader, out io.Writer, c *console.Console) bool {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "quit" {
			return true
		}
		said, err := c.Do(lines.Text())
		switch {
		case err != nil:
			fmt.Fprintln(out, "no:", err)
		case said != "":
			fmt.Fprintln(out, said)
		}
	}
	return false
}

// tell prints what happens until ctx ends.
func tell(ctx context.Context, w *world.World, now func() time.Duration, out io.Writer) {
	ticker := time.NewTicker(tellEvery)
	defer ticker.Stop()
	last := uint64(0)
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true // and tell what happened until now
		case <-ticker.C:
		}
		w.Advance(now())
		for _, e := range w.Events(last) {
			fmt.Fprintf(out, "%8.2f s  %s\n", e.At.Seconds(), console.Tell(e))
			last = e.N
		}
	}
}

// lockedWriter lets two goroutines print whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// usageError is a mistake of whoever typed the command: exit 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func isUsage(err error) bool {
	var u usageError
	return errors.As(err, &u)
}
