package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"batteryswap/simulator/console"
	"batteryswap/simulator/process"
	"batteryswap/simulator/world"
)

// killKind is a kind of program that is killed.
type killKind string

const (
	killAgents   killKind = "agents"
	killBackend  killKind = "backend"
	killBroker   killKind = "broker"
	killPostgres killKind = "postgres"
)

func killKinds() []killKind { return []killKind{killAgents, killBackend, killBroker, killPostgres} }

// kill is one kill to come: after so many physical events since the one before,
// and a little later.
type kill struct {
	kind   killKind
	events int
	delay  time.Duration
	down   time.Duration
	pick   int // which program of several, where no event says so
}

const (
	// eventsPerSwap is how many physical events a quick rider's swap makes: pulse,
	// open, battery, shut, for each of two doors.
	eventsPerSwap = 8
	// killPatience is how long a kill waits for events: with a program down that
	// all need, there are none.
	killPatience = 3 * time.Second
	// killEvery is how often the world is looked at for the next moment.
	killEvery = 20 * time.Millisecond
)

// planKills draws the kills and their moments from the seed, all kinds mixed,
// spread over the expected events of so many swaps, but never further apart than
// two swaps.
func planKills(o Options) []kill {
	r := rand.New(rand.NewPCG(o.Seed, 2))
	var all []kill
	for _, kind := range killKinds() {
		for range o.kills(kind) {
			all = append(all, kill{kind: kind})
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	apart := min(max(eventsPerSwap, o.Swaps*eventsPerSwap/(len(all)+1)), 2*eventsPerSwap)
	for i := range all {
		all[i].events = 1 + r.IntN(apart)
		all[i].delay = time.Duration(r.IntN(1000)) * time.Millisecond
		all[i].down = time.Duration(200+r.IntN(1800)) * time.Millisecond
		all[i].pick = r.IntN(1 << 16)
	}
	return all
}

// killer carries kills out.
type killer struct {
	stage  *stage
	starts sync.WaitGroup

	mu   sync.Mutex
	done map[killKind]int
	errs []error
	last time.Duration // when the last killed program was started again
}

func newKiller(s *stage) *killer { return &killer{stage: s, done: map[killKind]int{}} }

// run carries the plan out. A program that was killed starts again while others
// are killed. It returns when all run again, or ctx ends.
func (k *killer) run(ctx context.Context, plan []kill) error {
	defer k.starts.Wait()
	seen := uint64(0)
	for i, next := range plan {
		at, err := k.await(ctx, next, &seen)
		if err == nil {
			err = console.Wait(ctx, next.delay)
		}
		if err != nil {
			return fmt.Errorf("%d of %d kills were done: %w", i, len(plan), err)
		}
		k.starts.Go(func() { k.note(next.kind, k.kill(ctx, next, at)) })
	}
	k.starts.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	return errors.Join(k.errs...)
}

// await waits for a kill's events. It returns the last.
func (k *killer) await(ctx context.Context, next kill, seen *uint64) (at world.Event, err error) {
	happened, began := 0, time.Now()
	err = process.Until(ctx, killEvery, "the next kill", func() (bool, error) {
		for _, e := range k.stage.world.Events(*seen) {
			*seen = e.N
			if e.Kind.Physical() {
				happened++
				at = e
			}
		}
		return happened >= next.events || time.Since(began) > killPatience, nil
	})
	return at, err
}

func (k *killer) note(kind killKind, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = k.stage.now()
	if err != nil {
		k.errs = append(k.errs, err)
		return
	}
	k.done[kind]++
}

// kill kills a program and starts it again: the agent of the cabinet where
// something has just happened, a backend, the broker, or the database.
func (k *killer) kill(ctx context.Context, next kill, at world.Event) error {
	s := k.stage
	switch next.kind {
	case killAgents:
		c := s.cabinets[next.pick%len(s.cabinets)]
		for _, other := range s.cabinets {
			if other.id == at.Cabinet {
				c = other
			}
		}
		return s.down(ctx, &c.killing, next, func() {
			c.agent.Kill()
			s.world.Note(world.Event{At: s.now(), Kind: world.AgentKilled, Cabinet: c.id})
		}, func() error { return s.startAgent(c) })
	case killBackend:
		r := s.replicas[next.pick%len(s.replicas)]
		return s.down(ctx, &r.killing, next, func() {
			r.Kill()
			s.world.Note(world.Event{At: s.now(), Kind: world.BackendKilled})
		}, func() error {
			s.world.Note(world.Event{At: s.now(), Kind: world.BackendStarted})
			return r.Start()
		})
	case killBroker:
		return s.down(ctx, &s.killingBroker, next, s.broker.Kill, s.broker.Start)
	default:
		return s.down(ctx, &s.killingDatabase, next, s.database.Abort, s.database.Start)
	}
}

// down takes a program down for as long as the kill says. Two kills of the same
// program come one after the other.
func (s *stage) down(ctx context.Context, killing *sync.Mutex, k kill, end func(), start func() error) error {
	killing.Lock()
	defer killing.Unlock()
	s.log.Info("killed", "event", string(k.kind))
	end()
	waited := console.Wait(ctx, k.down)
	return errors.Join(waited, start())
}
