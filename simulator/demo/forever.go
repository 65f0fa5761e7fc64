package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"batteryswap/simulator/console"
	"batteryswap/simulator/world"
)

// runUntilStopped keeps riders swapping until ctx ends, and serves the page by
// which a person drives a cabinet.
func (s *stage) runUntilStopped(ctx context.Context, in io.Reader, out io.Writer) error {
	you := s.riders[len(s.riders)-1]
	theirs, yours := s.share()
	c := s.console(you.id)
	page, err := s.servePage(c, yours)
	if err != nil {
		return err
	}
	if err := s.printSign(out, yours, page); err != nil {
		return err
	}
	out = &lines{w: out}
	s.inbox.onMessage(s.number(s.o.Riders), func(code string) {
		fmt.Fprintf(out, "text message to %s: %s is your code for battery swaps\n", s.number(s.o.Riders), code)
	})
	// A read of the terminal cannot be ended; it ends with the program.
	go s.talk(in, out, c)

	riding, stop := context.WithCancel(ctx)
	defer stop()
	st := s.openStreet(riding, theirs, nil)
	defer st.home()
	var playing sync.WaitGroup
	playing.Go(func() { s.play(riding, out, c, yours) })
	defer playing.Wait()
	err = s.keepUp(ctx)
	fmt.Fprintln(out, "\nstopping …")
	stop()
	st.riders.Wait()
	fmt.Fprintf(out, "%d counted swaps %v\n", st.counted, st.outcomes)
	return err
}

// play plays the scenario that is wanted.
func (s *stage) play(ctx context.Context, out io.Writer, c *console.Console, cabinetID string) {
	scenario, err := console.FindScenario(s.o.Scenario)
	if err != nil {
		return // none: Check has refused names that do not exist
	}
	fmt.Fprintf(out, "\nscenario %s at cabinet %s: %s\n", scenario.Name, cabinetID, scenario.Sentence)
	var telling sync.WaitGroup
	telling.Go(func() { s.tellTrouble(ctx, out, cabinetID) })
	defer telling.Wait()
	c.Play(ctx, scenario, cabinetID, console.Wait, func(said string) { fmt.Fprintln(out, said) })
}

// tellEvery is how often what a scenario has brought about is told.
const tellEvery = 100 * time.Millisecond

// tellTrouble tells what burns, flows and is cut at a cabinet, until ctx ends.
func (s *stage) tellTrouble(ctx context.Context, out io.Writer, cabinetID string) {
	for last := uint64(0); console.Wait(ctx, tellEvery) == nil; {
		s.world.Advance(s.now())
		for _, e := range s.world.Events(last) {
			last = e.N
			switch e.Kind {
			case world.CurrentFlows, world.CurrentStops, world.ContactorCloses, world.ContactorOpens, world.SmokeRises, world.InputChanged:
				if e.Cabinet == cabinetID {
					fmt.Fprintf(out, "%8.2f s  %s\n", e.At.Seconds(), console.Tell(e))
				}
			}
		}
	}
}

// share leaves the last of several cabinets to the person before the screen.
func (s *stage) share() (theirs []string, yours string) {
	for _, c := range s.cabinets {
		theirs = append(theirs, c.id)
	}
	yours = theirs[len(theirs)-1]
	if len(theirs) > 1 {
		theirs = theirs[:len(theirs)-1]
	}
	return theirs, yours
}

func (s *stage) console(you string) *console.Console {
	plugs := map[string]console.Plug{}
	for _, c := range s.cabinets {
		plugs[c.id] = c.port
	}
	return &console.Console{World: s.world, Person: you, Now: s.now, Plugs: plugs}
}

// keepUp restarts programs that end by themselves, until ctx ends: what systemd
// does for them in production.
func (s *stage) keepUp(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, p := range s.programs() {
			if err := p.Alone(); err != nil {
				s.log.Error("restarting a program", "err", err)
				if err := p.Start(); err != nil {
					return err
				}
			}
		}
	}
}

// servePage serves the page of the cabinets on the loopback interface.
func (s *stage) servePage(c *console.Console, yours string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("serve the cabinets' page: %w", err)
	}
	p, err := newPage(c, s.world, s.now, yours)
	if err == nil {
		p.message = func() string { return s.inbox.last(s.number(s.o.Riders)) }
	}
	if err != nil {
		return "", errors.Join(err, l.Close())
	}
	server := &http.Server{Handler: p.handler(), ReadHeaderTimeout: 5 * time.Second}
	var served sync.WaitGroup
	served.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the cabinets' page ended", "err", err)
		}
	})
	s.onClose(func() error {
		err := server.Close()
		served.Wait()
		return err
	})
	return "http://" + l.Addr().String(), nil
}

func (s *stage) printSign(out io.Writer, yours, page string) error {
	link := s.public + "/c/" + yours
	code, err := terminalQR(link)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\nDEMO, NOT FOR PRODUCTION: simulated cabinets, text messages to riders come here,\n"+
		"%d unlock pulses an hour are allowed (production: 120), physics runs %g times as fast.\n\n",
		strings.Repeat("─", 78), pulsesInAnHour, s.o.Speed)
	fmt.Fprintf(out, "%s\nyour page      %s\n  your phone   %s   (type this number there; the code that is sent to it comes here, and on the cabinets' page)\n", code, link, s.number(s.o.Riders))
	fmt.Fprintf(out, "the cabinets   %s   (put in, take out, close: cabinet %s is yours)\n", page, yours)
	s.printStaff(out)
	for i, r := range s.replicas {
		fmt.Fprintf(out, "%-14s http://%s/metrics (%s)\n", first(i, "metrics"), r.metrics, r.Name)
	}
	for _, c := range s.cabinets {
		fmt.Fprintf(out, "               http://%s/metrics (%s, its screen: http://%s/)\n", c.metrics, c.id, c.screen)
	}
	s.printWatchers(out)
	fmt.Fprintf(out, "logs           %s, %s\n", filepath.Join(s.dir, "backend.log"), filepath.Join(s.dir, "*", "agent.log"))
	fmt.Fprintf(out, "typed here     cabinet %s status, … insert 3, … close 3, code operator, help\n", yours)
	_, err = fmt.Fprintf(out, "Ctrl-C stops everything and leaves nothing behind.\n%s\n", strings.Repeat("─", 78))
	return err
}

// first is the name of a list before its first line, and nothing before others.
func first(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}

// lines lets several goroutines print whole lines.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// talk runs typed lines.
func (s *stage) talk(in io.Reader, out io.Writer, c *console.Console) {
	typed := bufio.NewScanner(in)
	for typed.Scan() {
		do := c.Do
		if words := strings.Fields(typed.Text()); len(words) > 0 && words[0] == "code" {
			do = func(string) (string, error) { return s.tellCode(words, time.Now()) }
		}
		said, err := do(typed.Text())
		switch {
		case err != nil:
			fmt.Fprintln(out, "no:", err)
		case said != "":
			fmt.Fprintln(out, said)
		}
	}
}
