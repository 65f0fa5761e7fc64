package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"batteryswap/simulator/console"
	"batteryswap/simulator/process"
	"batteryswap/simulator/world"
)

// kill is one kill -9 to come: after so many physical events, and a little
// later.
type kill struct {
	afterEvents int
	delay       time.Duration
	down        time.Duration
	backend     bool
}

// eventsPerSwap is how many physical events a quick rider's swap makes: pulse,
// open, battery, shut, for each of two doors.
const eventsPerSwap = 8

// planKills draws the moments from the seed, spread over the expected events of
// the run.
func planKills(seed uint64, agents, backends, swaps int) []kill {
	r := rand.New(rand.NewPCG(seed, 2))
	span := max(1, swaps*eventsPerSwap*8/10)
	var all []kill
	for i := range agents + backends {
		all = append(all, kill{
			afterEvents: eventsPerSwap + r.IntN(span),
			delay:       time.Duration(r.IntN(1500)) * time.Millisecond,
			down:        time.Duration(200+r.IntN(1800)) * time.Millisecond,
			backend:     i >= agents,
		})
	}
	slices.SortStableFunc(all, func(a, b kill) int { return a.afterEvents - b.afterEvents })
	return all
}

// killEvery is how often the world is looked at for the next moment.
const killEvery = 20 * time.Millisecond

// doKills carries the plan out. It returns when all is done or ctx ends.
func (s *stage) doKills(ctx context.Context, plan []kill) error {
	var at world.Event // the last physical one
	happened, seen := 0, uint64(0)
	for i, k := range plan {
		err := process.Until(ctx, killEvery, "the next kill", func() (bool, error) {
			for _, e := range s.world.Events(seen) {
				seen = e.N
				if e.Kind.Physical() {
					happened++
					at = e
				}
			}
			return happened >= k.afterEvents, nil
		})
		if err != nil {
			return fmt.Errorf("%d of %d kills were done: %w", i, len(plan), err)
		}
		if err := console.Wait(ctx, k.delay); err != nil {
			return err
		}
		if err := s.kill(ctx, k, at); err != nil {
			return err
		}
	}
	return nil
}

// kill kills the agent of the cabinet where something has just happened, or the
// backend, and starts it again.
func (s *stage) kill(ctx context.Context, k kill, at world.Event) error {
	if k.backend {
		s.log.Info("kill -9", "event", "backend")
		s.backend.Kill()
		s.world.Note(world.Event{At: s.now(), Kind: world.BackendKilled})
		if err := console.Wait(ctx, k.down); err != nil {
			return err
		}
		s.world.Note(world.Event{At: s.now(), Kind: world.BackendStarted})
		return s.backend.Start()
	}
	c := s.cabinets[0]
	for _, other := range s.cabinets {
		if other.id == at.Cabinet {
			c = other
		}
	}
	s.log.Info("kill -9", "event", "agent", "cabinet_id", c.id)
	c.agent.Kill()
	s.world.Note(world.Event{At: s.now(), Kind: world.AgentKilled, Cabinet: c.id})
	if err := console.Wait(ctx, k.down); err != nil {
		return err
	}
	return s.startAgent(c)
}
