package soak

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/fleet"
)

var (
	seedFlag  = flag.Uint64("seed", 1, "the first seed")
	swapsFlag = flag.Int("swaps", fewSwaps, "swaps to make")
	forFlag   = flag.Duration("for", time.Hour, "how long to go on at most; 0: until the swaps are made")
	leastFlag = flag.Int("least", 0, "hits that each possible cell of fault × state must have")
	tableFlag = flag.Bool("table", false, "print the cells")
)

// busy is the processor time that this program has used.
func busy() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// replay says how to have a run again.
func replay(seed uint64) string {
	return fmt.Sprintf("go test ./simulator/soak -count=1 -v -run TestReplay -seed %d", seed)
}

// traced runs a seed again, with a trace.
func traced(seed uint64) (*sim, *violation) {
	s := newSim(seed, profileOf(seed))
	s.tracing = true
	v := s.run()
	s.tell()
	return s, v
}

// tell ends a trace with what stands in the books: the ledger's last lines, the
// reviews, and the credits that are open.
func (s *sim) tell() {
	const lines = 15
	v := s.fleet.Store(s.wall()).View()
	for _, e := range v.Ledger[max(0, len(v.Ledger)-lines):] {
		s.note("BOOKS %s #%d %s %s at %s slot %d: %s%s", e.SwapID, e.EntryNo, e.RiderID, e.What, e.CabinetID, e.Slot, e.BatterySerial, e.CreditID)
	}
	for _, r := range v.Reviews {
		s.note("BOOKS review of %s at %s: %s, %v", r.SwapID, r.CabinetID, r.Reason, r.Explanations)
	}
	for _, id := range slices.Sorted(maps.Keys(v.Credits)) {
		if c := v.Credits[id]; c.State == fleet.CreditOpen || c.State == fleet.CreditReserved {
			s.note("BOOKS credit %s of %s is %s", id, c.RiderID, c.State)
		}
	}
}

// TestReplay runs one seed and tells what happened.
func TestReplay(t *testing.T) {
	s, v := traced(*seedFlag)
	for _, line := range s.trace {
		t.Log(line)
	}
	if v != nil {
		t.Fatal(v)
	}
}

// TestSameSeedSameRun: a violation's seed is worth something only if the run can
// be had again.
func TestSameSeedSameRun(t *testing.T) {
	for _, seed := range []uint64{3, 4} {
		run := func() *sim {
			p := profileOf(seed)
			p.swaps = 12
			s := newSim(seed, p)
			s.tracing = true
			_ = s.run()
			return s
		}
		a, b := run(), run()
		require.Greater(t, len(a.trace), 100)
		for i := range a.trace {
			require.Equal(t, a.trace[i], b.trace[i])
		}
	}
}

// TestSoak runs seeds on all cores, each on one goroutine, until the swaps are made.
func TestSoak(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var mu sync.Mutex
	total, next := newTally(), *seedFlag
	broken := map[uint64]*violation{}
	began, was := time.Now(), busy()
	claim := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if total.Swaps >= *swapsFlag || len(broken) >= 3 || *forFlag > 0 && time.Since(began) >= *forFlag {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed, ok := claim(); ok; seed, ok = claim() {
				s := newSim(seed, profileOf(seed))
				v := s.run()
				mu.Lock()
				total.add(s.tally)
				if v != nil {
					broken[seed] = v
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	t.Logf("%d swaps of %d seeds in %v of simulated time with %d faults, in %v: %.0f swaps per second of one core", total.Swaps, total.Seeds,
		total.Time.Round(time.Hour), total.Faults, took.Round(time.Second), float64(total.Swaps)/(busy()-was).Seconds())
	if *tableFlag || testing.Verbose() {
		t.Logf("\n%s", total)
	}
	for seed, v := range broken {
		s, _ := traced(seed)
		t.Errorf("seed %d: %s\n… %s\nreplay: %s", seed, v, strings.Join(s.trace[max(0, len(s.trace)-60):], "\n"), replay(seed))
	}
	if least := *leastFlag; least > 0 && len(broken) == 0 {
		require.Empty(t, total.missing(least), "cells of fault × state with fewer hits than %d", least)
	}
}
