package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"batteryswap/simulator/process"
	"batteryswap/simulator/proxy"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// ErrDiffers says that world and ledger are not equal, or that the run did not
// end as it should: status 1.
var ErrDiffers = errors.New("the world and the ledger differ")

// Bounds of a run that ends by itself.
const (
	exitTimeout   = 15 * time.Minute
	settleTimeout = 60 * time.Second // after the last kill and the last hand, until the books are exact
	killTimeout   = 30 * time.Second // more of exitTimeout for each kill
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
		world:   world.New(rand.New(rand.NewPCG(o.Seed, 0)), o.Speed),
		tools:   process.Tools{Dir: o.Programs},
		http:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.Riders + 1}},
		network: network{strikes: map[proxy.Fault]int{}},
	}
	if s.tag != "" {
		s.started = start.Unix()
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
		kills := len(planKills(o))
		ctx, cancel := context.WithTimeout(ctx, exitTimeout+time.Duration(kills)*killTimeout)
		defer cancel()
		return s.runToTheEnd(ctx, out)
	}
	return s.runUntilStopped(ctx, in, out)
}

// street is the riders at work.
type street struct {
	stage *stage
	kills <-chan struct{} // open while there are kills to come; nil: there are none

	mu       sync.Mutex
	counted  int
	running  int // riders between scan and end
	outcomes map[string]int
	gaveUp   []string
	whole    []time.Duration
	riders   sync.WaitGroup
	home     context.CancelFunc // calls off the rides: no swap follows them
}

// openStreet sends the riders out to these cabinets.
func (s *stage) openStreet(ctx context.Context, cabinets []string, kills <-chan struct{}) *street {
	st := &street{stage: s, kills: kills, outcomes: map[string]int{}}
	resting, home := context.WithCancel(ctx)
	st.home = home
	behaviours := s.o.Behaviours
	for i := range s.o.Riders {
		r := rider.New(rider.Options{
			Phone: s.riders[i].phone,
			World: s.world, Now: s.now, ID: s.riders[i].id, Number: i, Seed: s.o.Seed,
			Behaviour: behaviours[i%len(behaviours)], Speed: s.o.Speed, Cabinets: cabinets, Screens: s.screens(),
			Foreign: s.foreign(i, behaviours[i%len(behaviours)]), Log: s.log,
		})
		st.riders.Go(func() { st.ride(ctx, resting, r) })
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
func (st *street) ride(ctx, resting context.Context, r *rider.Rider) {
	for n := 1; ; n++ {
		r.Ride(resting, n)
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

// begin waits for a turn, so that exactly the wanted number of swaps is counted,
// and more only while there are kills to come. False: they are done, or ctx has
// ended.
func (st *street) begin(ctx context.Context) bool {
	turn := false
	err := process.Until(ctx, beginEvery, "a turn", func() (bool, error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		wanted := st.stage.o.Swaps
		turn = wanted == 0 || st.counted+st.running < wanted || st.killing()
		if turn {
			st.running++
		}
		if !turn && st.counted >= wanted {
			st.home()
			return true, nil
		}
		return turn, nil
	})
	return turn && err == nil
}

// killing reports whether there are kills to come.
func (st *street) killing() bool {
	if st.kills == nil {
		return false
	}
	select {
	case <-st.kills:
		return false
	default:
		return true
	}
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
	plan, killer, kills := planKills(s.o), newKiller(s), make(chan struct{})
	var killErr error
	go func() {
		defer close(kills)
		killErr = s.strike(riding, killer, plan)
	}()
	st := s.openStreet(riding, all, kills)

	ended := make(chan struct{})
	go func() {
		st.riders.Wait()
		close(ended)
	}()
	trouble := s.watch(ctx, ended)
	stop()
	st.home()
	<-ended
	<-kills
	if killErr != nil {
		trouble = append(trouble, killErr.Error())
	}
	last := max(killer.last, lastHand(s.world.Events(0)))
	found := s.settle(ctx, last+settleTimeout)
	if found.err != nil {
		trouble = append(trouble, found.err.Error())
	}
	report := Report{Seed: s.o.Seed, Kills: killer.done, NetworkFaults: s.network.strikes, ExactAfter: (found.at - last).Seconds()}
	report.fill(s, st, found, trouble, s.now()-began)
	if err := report.print(out, s.o.JSON); err != nil {
		return err
	}
	if !report.Equal {
		return ErrDiffers
	}
	return nil
}

// strike kills as planned, while the network misbehaves if it is to.
func (s *stage) strike(ctx context.Context, k *killer, plan []kill) error {
	stormy, calm := context.WithCancel(ctx)
	var storm sync.WaitGroup
	storm.Go(func() { s.network.misbehave(stormy, s.o.Seed) })
	defer storm.Wait()
	defer calm()
	return k.run(ctx, plan)
}

// lastHand is when hands last touched a door or a battery.
func lastHand(events []world.Event) time.Duration {
	for _, e := range slices.Backward(events) {
		if e.Person != "" && e.Kind.Physical() {
			return e.At
		}
	}
	return 0
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
	var all []*process.Program
	for _, p := range []*process.Program{s.database, s.broker, s.watchers.alertmanager, s.watchers.prometheus} {
		if p != nil {
			all = append(all, p)
		}
	}
	for _, r := range s.replicas {
		all = append(all, r.Program)
	}
	for _, c := range s.cabinets {
		all = append(all, c.agent)
	}
	return all
}

// finding is the books beside the world.
type finding struct {
	books     audit
	rows      []Row
	misplaced []string
	at        time.Duration // when they were read
	err       error         // they do not become equal
}

func (f finding) equal() bool {
	for _, r := range f.rows {
		if len(r.Differs) > 0 {
			return false
		}
	}
	return len(f.misplaced) == 0 && len(f.books.Differences) == 0
}

// settle reads the books until they are equal to the world, or until they have
// not become so in time.
func (s *stage) settle(ctx context.Context, until time.Duration) (found finding) {
	ctx, cancel := context.WithTimeout(ctx, until-s.now())
	defer cancel()
	var last error
	err := process.Until(ctx, auditEvery, "the books do not become equal to the world", func() (bool, error) {
		books, err := s.readBooks(ctx)
		if last = err; err != nil {
			return false, nil // a read that is cut off does not hide the one before
		}
		found = finding{books: books, rows: s.rows(books), misplaced: s.misplaced(books), at: s.now()}
		return found.equal(), nil
	})
	if err != nil {
		found.err = errors.Join(err, last)
	}
	return found
}
