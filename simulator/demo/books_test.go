package demo

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/world"
)

const (
	li   = "019a0000-0000-7000-8000-000000000001"
	wang = "019a0000-0000-7000-8000-000000000002"
)

// corner is a cabinet with a charged battery B2 in slot 2, and li who holds B1.
type corner struct {
	t     *testing.T
	world *world.World
	at    time.Duration
}

func newCorner(t *testing.T) *corner {
	t.Helper()
	w := world.New(rand.New(rand.NewPCG(1, 1)), 1)
	require.NoError(t, w.AddCabinet("hb-0001", 3))
	require.NoError(t, w.PutInSlot("hb-0001", 2, world.Battery{Serial: "B2"}))
	require.NoError(t, w.PutInHands(li, world.Battery{Serial: "B1"}))
	return &corner{t: t, world: w}
}

func (c *corner) note(kind world.Kind, person, cause string) {
	c.at += time.Second
	cabinet := "hb-0001"
	c.world.Note(world.Event{At: c.at, Kind: kind, Cabinet: cabinet, Person: person, Cause: cause})
}

func (c *corner) scan(person, answer string) {
	c.note(world.Scanned, person, "")
	c.note(world.Answered, person, answer)
}

// door opens a slot, lets hands do something, and closes it.
func (c *corner) door(person string, slot int, do func(at time.Duration) error) {
	c.t.Helper()
	c.at += time.Second
	require.NoError(c.t, c.world.Pulse(c.at, "hb-0001", slot, time.Second))
	c.at += time.Second
	require.NoError(c.t, do(c.at))
	c.at += time.Second
	require.NoError(c.t, c.world.CloseDoor(c.at, person, "hb-0001", slot))
}

func (c *corner) put(person string, slot int, serial string) {
	c.t.Helper()
	c.door(person, slot, func(at time.Duration) error {
		return c.world.Insert(at, person, "hb-0001", slot, serial, true)
	})
}

func (c *corner) take(person string, slot int) {
	c.t.Helper()
	c.door(person, slot, func(at time.Duration) error {
		_, err := c.world.Take(at, person, "hb-0001", slot)
		return err
	})
}

func TestPhysicalCountsWhatStayed(t *testing.T) {
	t.Run("a swap", func(t *testing.T) {
		c := newCorner(t)
		c.scan(li, answerGranted)
		c.put(li, 1, "B1")
		c.take(li, 2)
		require.Equal(t, Physical{Deposits: 1, Takes: 1}, *physical(c.world.Events(0))[li])
	})
	t.Run("the own battery given back", func(t *testing.T) {
		c := newCorner(t)
		c.scan(li, answerGranted)
		c.put(li, 1, "B1")
		c.take(li, 1)
		require.Equal(t, Physical{}, *physical(c.world.Events(0))[li])
	})
	t.Run("the own battery dispensed by a later swap", func(t *testing.T) {
		c := newCorner(t)
		c.scan(li, answerGranted)
		c.put(li, 1, "B1")
		c.scan(li, "presence_required")
		c.scan(li, answerGranted)
		c.take(li, 1)
		require.Equal(t, Physical{Deposits: 1, Takes: 1}, *physical(c.world.Events(0))[li])
	})
	t.Run("somebody else takes it", func(t *testing.T) {
		c := newCorner(t)
		c.scan(li, answerGranted)
		c.put(li, 1, "B1")
		c.take(wang, 2)
		all := physical(c.world.Events(0))
		require.Equal(t, Physical{Deposits: 1}, *all[li])
		require.Equal(t, Physical{Takes: 1}, *all[wang])
		require.Len(t, strangers(all, []person{{id: li}}), 1)
		require.Empty(t, strangers(all, []person{{id: li}, {id: wang}}))
	})
}

// Each row that is not equal says so: a checker that never complains is none.
func TestCompareFindsEveryDifference(t *testing.T) {
	happened := Physical{Deposits: 3, Takes: 3, Batteries: []string{"B9"}}
	equal := Account{RiderID: li, Deposits: 3, Takes: 3, Counted: 3, Batteries: []string{"B9"}}
	require.Empty(t, compare(person{id: li}, happened, equal).Differs)

	for name, spoil := range map[string]func(*Account){
		"deposits":     func(a *Account) { a.Deposits, a.OpenCredits = 4, 1 },
		"takes":        func(a *Account) { a.Takes, a.Counted, a.OpenCredits = 2, 2, 1 },
		"counted":      func(a *Account) { a.Counted = 2 },
		"batteries":    func(a *Account) { a.Batteries = []string{"B8"} },
		"swaps still":  func(a *Account) { a.OpenSwaps = []string{"x"} },
		"wait for a":   func(a *Account) { a.Reviews = 1 },
		"open credits": func(a *Account) { a.OpenCredits = 1 },
	} {
		a := equal
		spoil(&a)
		differs := compare(person{id: li}, happened, a).Differs
		require.Len(t, differs, 1, name)
		require.Contains(t, differs[0], name)
	}
}

func TestOpenedAtBoot(t *testing.T) {
	start := func(c *corner) { c.note(world.AgentStarted, "", "") }
	t.Run("nobody asked", func(t *testing.T) {
		c := newCorner(t)
		start(c)
		c.take(li, 2)
		require.Len(t, openedAtBoot(c.world.Events(0)), 1)
	})
	t.Run("the grant was of the boot before", func(t *testing.T) {
		c := newCorner(t)
		start(c)
		c.scan(li, answerGranted)
		c.put(li, 1, "B1")
		c.note(world.AgentKilled, "", "")
		start(c)
		c.take(li, 2)
		require.Len(t, openedAtBoot(c.world.Events(0)), 1)
	})
	t.Run("the scan after the boot was refused", func(t *testing.T) {
		c := newCorner(t)
		start(c)
		c.scan(li, "busy")
		c.take(li, 2)
		require.Len(t, openedAtBoot(c.world.Events(0)), 1)
	})
	t.Run("the answer was lost", func(t *testing.T) {
		c := newCorner(t)
		start(c)
		c.scan(li, answerNone)
		start(c)
		c.put(li, 1, "B1")
		require.Empty(t, openedAtBoot(c.world.Events(0)))
		c.at += lostAnswer
		start(c)
		c.take(li, 2)
		require.Len(t, openedAtBoot(c.world.Events(0)), 1, "but long before the boot")
	})
	t.Run("granted after the boot", func(t *testing.T) {
		c := newCorner(t)
		start(c)
		c.scan(li, answerGranted)
		c.put(li, 1, "B1")
		require.Empty(t, openedAtBoot(c.world.Events(0)))
	})
	t.Run("asked before the boot, granted after it", func(t *testing.T) {
		c := newCorner(t)
		c.note(world.Scanned, li, "")
		start(c)
		c.put(li, 1, "B1")
		c.note(world.Answered, li, answerGranted)
		require.Empty(t, openedAtBoot(c.world.Events(0)))
	})
}

func TestKillsComeFromTheSeed(t *testing.T) {
	o := Options{Seed: 7, Swaps: 60, KillAgents: 10, KillBackend: 3, KillBroker: 2, KillPostgres: 1}
	plan := planKills(o)
	require.Len(t, plan, 16)
	require.Equal(t, plan, planKills(o))
	times, events := map[killKind]int{}, 0
	for _, k := range plan {
		times[k.kind]++
		events += k.events
		require.Positive(t, k.events)
	}
	require.Equal(t, map[killKind]int{killAgents: 10, killBackend: 3, killBroker: 2, killPostgres: 1}, times)
	require.Less(t, events, 60*eventsPerSwap, "the swaps would be over")
	o.Seed = 8
	require.NotEqual(t, plan, planKills(o))
}

// TestMisplaced: a battery that is elsewhere than the books say is told.
func TestMisplaced(t *testing.T) {
	c := newCorner(t)
	s := &stage{world: c.world, now: func() time.Duration { return c.at }, riders: []person{{id: li}}, cabinets: []*cabinet{{id: "hb-0001"}}}
	books := audit{Batteries: []Custody{
		{Serial: "B1", Holder: "rider", RiderID: li}, {Serial: "B2", Holder: "slot", CabinetID: "hb-0001", Slot: 2},
	}}
	require.Empty(t, s.misplaced(books))
	c.put(li, 1, "B1")
	require.Len(t, s.misplaced(books), 1)
	books.Batteries[0] = Custody{Serial: "B1", Holder: "slot", CabinetID: "hb-0001", Slot: 3}
	require.Len(t, s.misplaced(books), 1, "another slot")
	books.Batteries[0].Slot = 1
	require.Empty(t, s.misplaced(books))
	require.Len(t, s.misplaced(audit{}), 2)
}
