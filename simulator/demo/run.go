package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"batteryswap/simulator/process"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// ErrDiffers says that world and ledger are not equal, or that the run did not
// end as it should: status 1.
var ErrDiffers = errors.New("the world and the ledger differ")

// Bounds of a run that ends by itself.
const (
	exitTimeout   = 15 * time.Minute
	settleTimeout = 90 * time.Second // after the last swap, until the books are still
	auditEvery    = 2 * time.Second
	stallTimeout  = 3 * time.Minute // without any event, besides the longest ride: something hangs
	longestRide   = 25 * time.Minute
)

// Run starts everything, lets riders swap, and stops everything. With Exit it
// ends by itself and prints the comparison on out; else it ends with ctx.
func Run(ctx context.Context, o Options, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	start := time.Now()
	s := &stage{
		o: o, tag: runTag(o, start), log: log, now: func() time.Duration { return time.Since(start) },
		world: world.New(rand.New(rand.NewPCG(o.Seed, 0)), o.Speed),
		tools: process.Tools{Dir: o.Programs},
		http:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.Riders + 1}},
	}
	defer func() {
		s.http.CloseIdleConnections()
		err = errors.Join(err, s.close())
	}()
	if err := s.build(ctx); err != nil {
		if ctx.Err() != nil && !o.Exit {
			return nil // stopped before it was up
		}
		return err
	}
	if o.Exit {
		ctx, cancel := context.WithTimeout(ctx, exitTimeout)
		defer cancel()
		return s.runToTheEnd(ctx, out)
	}
	return s.runUntilStopped(ctx, in, out)
}

// street is the riders at work.
type street struct {
	stage *stage

	mu       sync.Mutex
	counted  int
	running  int // riders between scan and end
	outcomes map[string]int
	gaveUp   []string
	whole    []time.Duration
	riders   sync.WaitGroup
}

// open sends the riders out to these cabinets.
func (s *stage) openStreet(ctx context.Context, cabinets []string) *street {
	st := &street{stage: s, outcomes: map[string]int{}}
	behaviours := s.o.Behaviours
	for i := range s.o.Riders {
		r := rider.New(rider.Options{
			Phone: rider.NewPhone(s.url, s.riders[i].id, s.code, s.http),
			World: s.world, Now: s.now, ID: s.riders[i].id, Number: i, Seed: s.o.Seed,
			Behaviour: behaviours[i%len(behaviours)], Speed: s.o.Speed, Cabinets: cabinets, Screens: s.screens(),
			Foreign: s.foreign(i, behaviours[i%len(behaviours)]), Log: s.log,
		})
		st.riders.Go(func() { st.ride(ctx, r) })
	}
	return st
}

// foreign gives a dishonest rider a battery that is not of the fleet.
func (s *stage) foreign(i int, b rider.Behaviour) string {
	if b != rider.Dishonest {
		return ""
	}
	serial := fmt.Sprintf("%s%03d", foreignPrefix, i)
	if err := s.world.PutInHands(s.riders[i].id, world.Battery{Serial: serial, SocPermille: 500}); err != nil {
		return ""
	}
	return serial
}

// ride is one rider's day.
func (st *street) ride(ctx context.Context, r *rider.Rider) {
	for n := 1; ; n++ {
		r.Ride(ctx, n)
		if !st.begin(ctx) {
			return
		}
		result, err := r.Swap(ctx, n)
		if err != nil {
			st.drop()
			if ctx.Err() == nil {
				st.giveUp(r, err)
			}
			return
		}
		st.end(r, result)
	}
}

// beginEvery is how often a rider looks whether another's swap came to nothing.
const beginEvery = 200 * time.Millisecond

// begin waits for a turn, so that exactly the wanted number of swaps is counted.
// False: they are done, or ctx has ended.
func (st *street) begin(ctx context.Context) bool {
	turn := false
	err := process.Until(ctx, beginEvery, "a turn", func() (bool, error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		wanted := st.stage.o.Swaps
		turn = wanted == 0 || st.counted+st.running < wanted
		if turn {
			st.running++
		}
		return turn || st.counted >= wanted, nil
	})
	return turn && err == nil
}

// drop gives a turn back.
func (st *street) drop() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.running--
}

func (st *street) giveUp(r *rider.Rider, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.gaveUp = append(st.gaveUp, fmt.Sprintf("rider %s: %v", r.ID, err))
	st.stage.log.Warn("a rider gave up", "rider_id", r.ID, "err", err)
}

func (st *street) end(r *rider.Rider, result rider.Result) {
	st.stage.log.Info("swap", "rider_id", r.ID, "cabinet_id", result.Swap.CabinetID, "event", result.Swap.Outcome,
		"reason", result.Swap.Reason)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.running--
	st.outcomes[string(result.Swap.Outcome)]++
	st.whole = append(st.whole, result.FromScan)
	if result.Swap.Outcome.Counts() {
		st.counted++
	}
}

// runToTheEnd lets the riders do their swaps, kills programs as planned, waits
// until the books are still, and compares.
func (s *stage) runToTheEnd(ctx context.Context, out io.Writer) error {
	began := s.now()
	var all []string
	for _, c := range s.cabinets {
		all = append(all, c.id)
	}
	riding, stop := context.WithCancel(ctx)
	defer stop()
	st := s.openStreet(riding, all)
	plan := planKills(s.o.Seed, s.o.KillAgents, s.o.KillBackend, s.o.Swaps)
	killed := make(chan error, 1)
	go func() { killed <- s.doKills(riding, plan) }()

	ended := make(chan struct{})
	go func() {
		st.riders.Wait()
		close(ended)
	}()
	trouble := s.watch(ctx, ended)
	stop()
	<-ended
	report := Report{Seed: s.o.Seed, Kills: len(plan)}
	if err := <-killed; err != nil && !errors.Is(err, context.Canceled) {
		trouble = append(trouble, err.Error())
	} else if err != nil {
		trouble = append(trouble, "the swaps were done before all kills were")
	}
	rows, books, err := s.settle(ctx)
	if err != nil {
		trouble = append(trouble, err.Error())
	}
	report.fill(s, st, rows, books, trouble, s.now()-began)
	if err := report.print(out, s.o.JSON); err != nil {
		return err
	}
	if !report.Equal {
		return ErrDiffers
	}
	return nil
}

// watch waits for the riders' end. It says what went wrong on the way: a
// program that ended by itself, or a street where nothing moves any more.
func (s *stage) watch(ctx context.Context, ended <-chan struct{}) []string {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	events, moved := uint64(0), s.now()
	stall := stallTimeout + time.Duration(float64(longestRide)/s.o.Speed)
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return []string{fmt.Sprintf("not done in time: %v", context.Cause(ctx))}
		case <-ticker.C:
		}
		for _, p := range s.programs() {
			if err := p.Alone(); err != nil {
				return []string{err.Error()}
			}
		}
		if fresh := s.world.Events(events); len(fresh) > 0 {
			events, moved = fresh[len(fresh)-1].N, s.now()
		} else if s.now()-moved > stall {
			return []string{fmt.Sprintf("nothing has moved for %v", stall)}
		}
	}
}

func (s *stage) programs() []*process.Program {
	all := []*process.Program{s.backend}
	for _, c := range s.cabinets {
		all = append(all, c.agent)
	}
	return all
}

// settle reads the books until they are equal to the world, or do not become so.
func (s *stage) settle(ctx context.Context) (rows []Row, books audit, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var last error
	err = process.Until(ctx, auditEvery, "the books do not become equal to the world", func() (bool, error) {
		var fresh audit
		if fresh, last = s.readBooks(ctx); last != nil {
			return false, nil
		}
		books = fresh // a read that is cut off does not hide the one before
		rows = s.rows(books)
		for _, r := range rows {
			if len(r.Differs) > 0 {
				return false, nil
			}
		}
		return len(books.Differences) == 0, nil
	})
	if err != nil && last != nil {
		err = errors.Join(err, last)
	}
	return rows, books, err
}
