package pilot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"batteryswap/protocol"
)

// Options of a run.
type Options struct {
	Days, Swaps      int
	Cabinets, Riders int
	Seed             uint64
	JSON             bool
	Programs         string // folder of the backend's program
}

// Check names what cannot be.
func (o Options) Check() error {
	var errs []error
	for _, f := range []struct {
		name             string
		value, low, high int
	}{
		{"--days", o.Days, 1, 366}, {"--swaps", o.Swaps, 1, 1_000_000}, {"--cabinets", o.Cabinets, 1, 99}, {"--riders", o.Riders, 10, 999},
	} {
		if f.value < f.low || f.value > f.high {
			errs = append(errs, fmt.Errorf("%s: %d, want %d to %d", f.name, f.value, f.low, f.high))
		}
	}
	return errors.Join(errs...)
}

// play is the pilot as it goes on.
type play struct {
	*stage
	log    *slog.Logger
	plan   []visit
	free   []time.Time            // when each rider wants no battery and has no swap open
	back   map[*cabinet]time.Time // when a silent cabinet has its network again
	scans  int
	counts map[fate]int
}

// Run lives through the pilot, whose last day was yesterday, and prints what each
// source says of it. It fails unless all say the same.
func Run(ctx context.Context, o Options, out io.Writer, log *slog.Logger) (err error) {
	began := time.Now()
	now := began.In(street)
	first := time.Date(now.Year(), now.Month(), now.Day()-o.Days, 0, 0, 0, 0, street)
	s := &stage{o: o, facts: &facts{slots: map[protocol.CabinetID][]compartment{}, takes: map[string]int{}}}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.build(ctx, first); err != nil {
		return err
	}
	p := &play{
		stage: s, log: log, plan: newPlan(o, first), free: make([]time.Time, o.Riders), back: map[*cabinet]time.Time{}, counts: map[fate]int{},
	}
	if err := p.live(ctx, first); err != nil {
		return err
	}
	r, err := s.report(ctx, first)
	if err != nil {
		return err
	}
	r.Scans, r.Visits, r.Seconds = p.scans, p.counts, time.Since(began).Seconds()
	if err := r.print(out, o.JSON); err != nil {
		return err
	}
	if !r.Equal {
		return errors.New("the sources do not agree")
	}
	return nil
}

// live goes through all visits in the order of their times.
func (p *play) live(ctx context.Context, first time.Time) error {
	for _, c := range p.cabinets {
		if err := c.listen(); err != nil {
			return err
		}
		if err := errors.Join(c.start(first, protocol.ClockSynchronised), c.hello(ctx, protocol.Challenge{}), c.tell(ctx)); err != nil {
			return err
		}
	}
	for n, v := range p.plan {
		if err := p.backend.Alone(); err != nil {
			return err
		}
		if err := p.visit(ctx, n, v); err != nil {
			return fmt.Errorf("visit %d, %s: %w", n+1, v.fate, err)
		}
		p.counts[v.fate]++
		if n%500 == 499 {
			p.log.Info("the pilot goes on", "event", v.at.In(street).Format(time.DateOnly))
		}
	}
	return p.reconnect(ctx, time.Time{})
}

// reconnect lets cabinets tell whose network is back at that time; all of them at
// the zero time.
func (p *play) reconnect(ctx context.Context, at time.Time) error {
	for _, c := range p.cabinets {
		back, away := p.back[c]
		if !away || !at.IsZero() && back.After(at) {
			continue
		}
		delete(p.back, c)
		c.now = back
		if err := errors.Join(c.hello(ctx, protocol.Challenge{}), c.tell(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// visit lets one rider come.
func (p *play) visit(ctx context.Context, n int, v visit) error {
	if err := p.reconnect(ctx, v.at); err != nil {
		return err
	}
	who := p.rider(n, v.at)
	c, at := p.nearest(v)
	if c == nil {
		return errors.New("no cabinet of the street has a charged battery and its network: the street is too small")
	}
	c.now = at
	s := &script{cabinet: c, rider: who}
	p.free[who] = at.Add(time.Hour)
	scan := func(code string) bool {
		p.scans++
		if s.err == nil {
			s.granted, s.err = c.scan(ctx, func() error {
				_, err := p.phones[who].ScanWithCode(ctx, string(c.id), fmt.Sprintf("pilot-%d", p.scans), code)
				return err
			})
		}
		return s.err == nil
	}
	tell := func() {
		if s.err == nil {
			s.err = c.tell(ctx)
		}
	}
	if !scan("") {
		return s.err
	}
	switch v.fate {
	case usual, silent:
		s.swapped()
	case hesitates:
		s.nothing()
		tell()
		if scan("") {
			s.swapped()
		}
	case forgotten:
		s.left()
	case blackout:
		s.cut()
		if s.err == nil {
			s.err = c.hello(ctx, protocol.Challenge{})
		}
	}
	if v.fate == silent && s.err == nil {
		p.back[c] = at.Add(silence)
		p.free[who] = p.back[c]
		return nil
	}
	tell()
	if v.fate == forgotten || v.fate == blackout {
		c.now = c.now.Add(afterwards)
		if scan(presence) {
			s.collected()
		}
		tell()
	}
	return s.err
}

const (
	silence  = 5 * time.Hour // of a cabinet without a network
	presence = "PILOT2"      // what the rider types; the cabinet is ours
)

// rider is who comes: the next who wants a battery.
func (p *play) rider(n int, at time.Time) int {
	for i := range p.free {
		who := (n + i) % len(p.free)
		if !p.free[who].After(at) {
			return who
		}
	}
	return n % len(p.free)
}

// nearest is the planned cabinet, or the next with a charged battery, an empty slot
// and a network. A cabinet whose last swap is later than the visit lets it wait.
func (p *play) nearest(v visit) (*cabinet, time.Time) {
	for i := range p.cabinets {
		c := p.cabinets[(v.cabinet+i)%len(p.cabinets)]
		at := v.at
		if at.Before(c.now) {
			at = c.now.Add(time.Minute)
		}
		if _, away := p.back[c]; !away && len(p.facts.offers(c.id, at)) > 0 && len(p.facts.empty(c.id)) > 0 {
			return c, at
		}
	}
	return nil, time.Time{}
}
