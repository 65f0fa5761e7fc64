package rider_test

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// street is a cabinet, a system and a rider in a bubble of fake time.
func street(t *testing.T, b rider.Behaviour) (*system, *rider.Rider) {
	t.Helper()
	start := time.Now()
	now := func() time.Duration { return time.Since(start) }
	w := world.New(rand.New(rand.NewPCG(1, 1)), 1)
	require.NoError(t, w.AddCabinet(cabinetID, 3))
	require.NoError(t, w.PutInSlot(cabinetID, 2, world.Battery{Serial: charged, SocPermille: 950}))
	require.NoError(t, w.PutInHands(riderID, world.Battery{Serial: own, SocPermille: 900}))
	require.NoError(t, w.PutInHands(riderID, world.Battery{Serial: foreign, SocPermille: 500}))
	s := newSystem(w, now)
	return s, rider.New(rider.Options{
		Phone: rider.NewPhone("http://backend", riderID, "code", &http.Client{Transport: s}),
		World: w, Now: now, ID: riderID, Number: 1, Seed: 7, Behaviour: b, Speed: 1,
		Cabinets: []string{cabinetID}, Foreign: foreign, Log: slog.New(slog.DiscardHandler),
	})
}

// numberWith finds a swap in which a behaviour does a deed.
func numberWith(t *testing.T, b rider.Behaviour, deed rider.Deed, fits func(rider.Plan) bool) int {
	t.Helper()
	for n := 1; n < 10_000; n++ {
		if p := rider.PlanFor(7, 1, n, b, 1); p.Deed == deed && fits(p) {
			return n
		}
	}
	require.Fail(t, "no such plan", "%s %s", b, deed)
	return 0
}

func anyPlan(rider.Plan) bool { return true }

func TestDeedsChangeFacts(t *testing.T) {
	long := func(p rider.Plan) bool { return p.Away > 95*time.Second }
	short := func(p rider.Plan) bool { return p.Away < 80*time.Second }
	cases := []struct {
		name      string
		behaviour rider.Behaviour
		deed      rider.Deed
		fits      func(rider.Plan) bool
		outcome   protocol.Outcome
		hands     []string
	}{
		{"plain", rider.Quick, rider.Plain, anyPlan, protocol.OutcomeSwapped, []string{charged, foreign}},
		{"unplugged", rider.Hurried, rider.Unplugged, anyPlan, protocol.OutcomeSwapped, []string{charged, foreign}},
		{"leaves the deposit for long", rider.AbsentMinded, rider.LeaveDeposit, long, protocol.OutcomeDepositedOwed, []string{foreign}},
		{"leaves the deposit", rider.AbsentMinded, rider.LeaveDeposit, short, protocol.OutcomeSwapped, []string{charged, foreign}},
		{"leaves with the charged one", rider.AbsentMinded, rider.LeaveTake, long, protocol.OutcomeSwapped, []string{charged, foreign}},
		{"closes empty", rider.Dishonest, rider.CloseEmpty, anyPlan, protocol.OutcomeNoDeposit, []string{own, foreign}},
		{"puts back", rider.Dishonest, rider.PutBack, anyPlan, protocol.OutcomeDepositedOwed, []string{foreign}},
		{"foreign battery", rider.Dishonest, rider.Foreign, anyPlan, protocol.OutcomeReturned, []string{own, foreign}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, r := street(t, c.behaviour)
				n := numberWith(t, c.behaviour, c.deed, c.fits)
				result, err := r.Swap(t.Context(), n)
				require.NoError(t, err)
				require.Equal(t, c.outcome, result.Swap.Outcome)
				require.ElementsMatch(t, c.hands, s.world.Hands(riderID))
				for _, f := range s.world.Facts(r.Now(), cabinetID) {
					require.False(t, f.DoorOpen, "slot %d", f.Slot)
				}
			})
		})
	}
}

func TestWithoutAPageTheRiderLooksAtDoors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := street(t, rider.Quick)
		s.mute = true
		go func() {
			<-time.After(5 * time.Minute)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.mute = false
		}()
		result, err := r.Swap(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, protocol.OutcomeSwapped, result.Swap.Outcome)
		opened := world.Openings(s.world.Events(0))
		require.Len(t, opened, 2)
		require.Less(t, opened[1].At, 5*time.Minute, "done before the page was back")
		require.Equal(t, riderID, opened[1].TakenBy)
	})
	// Somebody else was granted a swap meanwhile: the door may be theirs.
	synctest.Test(t, func(t *testing.T) {
		s, r := street(t, rider.Quick)
		s.mute = true
		go func() {
			<-time.After(50 * time.Millisecond)
			s.world.Note(world.Event{At: s.now(), Kind: world.Scanned, Cabinet: cabinetID, Person: "another"})
			s.world.Note(world.Event{At: s.now(), Kind: world.Answered, Cabinet: cabinetID, Person: "another", Cause: "granted"})
			<-time.After(5 * time.Minute)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.mute = false
		}()
		result, err := r.Swap(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, protocol.OutcomeDepositedOwed, result.Swap.Outcome, "too late for more")
		for _, e := range s.world.Events(0) {
			require.False(t, e.Kind == world.BatteryIn && e.At < 5*time.Minute, "a door that the page did not name")
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := street(t, rider.Quick)
		s.refusals = []refusal{
			{http.StatusConflict, protocol.ReasonBusy},
			{http.StatusServiceUnavailable, ""}, // no answer: the same key again
			{http.StatusForbidden, protocol.ReasonPresence},
		}
		result, err := r.Swap(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, protocol.OutcomeSwapped, result.Swap.Outcome)
		require.Len(t, s.keys, 4)
		require.Equal(t, s.keys[1], s.keys[2], "no answer is not no")
		require.Len(t, slices.Compact(slices.Clone(s.keys)), 3, "a new scan has a new key")
		kinds := map[world.Kind]int{}
		for _, e := range s.world.Events(0) {
			kinds[e.Kind]++
		}
		require.Equal(t, 1, kinds[world.ButtonPressed])
		require.Equal(t, 4, kinds[world.Scanned])
		require.Equal(t, 4, kinds[world.Answered])
	})
	synctest.Test(t, func(t *testing.T) {
		s, r := street(t, rider.Quick)
		s.refusals = []refusal{{http.StatusConflict, protocol.ReasonUnderReview}}
		_, err := r.Swap(t.Context(), 1)
		require.ErrorIs(t, err, rider.ErrGaveUp)
		require.ErrorContains(t, err, string(protocol.ReasonUnderReview))
	})
	synctest.Test(t, func(t *testing.T) {
		s, r := street(t, rider.Quick)
		s.refusals = []refusal{{http.StatusUnprocessableEntity, ""}}
		_, err := r.Swap(t.Context(), 1)
		require.ErrorContains(t, err, "422")
	})
}

func TestPlansComeFromSeedRiderAndNumber(t *testing.T) {
	for _, b := range rider.Behaviours() {
		found, err := rider.ParseBehaviour(string(b))
		require.NoError(t, err)
		require.Equal(t, b, found)
		again := rider.PlanFor(1, 2, 3, b, 3)
		require.Equal(t, rider.PlanFor(1, 2, 3, b, 3), again)
		require.NotEqual(t, rider.PlanFor(1, 2, 3, b, 3), rider.PlanFor(2, 2, 3, b, 3))
		require.NotEqual(t, rider.PlanFor(1, 2, 3, b, 3), rider.PlanFor(1, 3, 3, b, 3))
		require.NotEqual(t, rider.PlanFor(1, 2, 3, b, 3), rider.PlanFor(1, 2, 4, b, 3))
	}
	for n := range 1000 {
		require.Equal(t, rider.Plain, rider.PlanFor(1, 1, n, rider.Quick, 1).Deed)
	}
	_, err := rider.ParseBehaviour("lazy")
	require.ErrorContains(t, err, "expected one of")
}

func TestRideDrainsTheBattery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := street(t, rider.Quick)
		began := time.Now()
		r.Ride(t.Context(), 1)
		require.GreaterOrEqual(t, time.Since(began), 10*time.Minute)
		b, ok := s.world.Battery(r.Now(), own)
		require.True(t, ok)
		require.LessOrEqual(t, b.SocPermille, 350)
	})
}
