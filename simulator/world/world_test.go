package world_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/world"
)

const pulse = 400 * time.Millisecond

func newWorld(t *testing.T, speed float64) *world.World {
	t.Helper()
	w := world.New(rand.New(rand.NewPCG(1, 2)), speed)
	require.NoError(t, w.AddCabinet("hb-0001", 3))
	require.NoError(t, w.PutInSlot("hb-0001", 2, world.Battery{Serial: "B2", SocPermille: 950}))
	require.NoError(t, w.PutInHands("li", world.Battery{Serial: "B1", SocPermille: 300}))
	return w
}

func TestSwapByHand(t *testing.T) {
	w := newWorld(t, 1)
	require.ErrorIs(t, w.Insert(0, "li", "hb-0001", 1, "B1", true), world.ErrDoorShut)
	require.NoError(t, w.Pulse(time.Second, "hb-0001", 1, pulse))
	s, err := w.Sense(time.Second, "hb-0001", 1)
	require.NoError(t, err)
	require.True(t, s.CoilActive)
	require.False(t, s.BoltLocked)
	require.False(t, s.DoorOpen, "the spring takes its time")
	s, err = w.Sense(1100*time.Millisecond, "hb-0001", 1)
	require.NoError(t, err)
	require.True(t, s.DoorOpen)
	require.False(t, s.CoilActive, "the pulse ends early on door-open")

	require.NoError(t, w.Insert(2*time.Second, "li", "hb-0001", 1, "B1", true))
	require.ErrorIs(t, w.Insert(2*time.Second, "li", "hb-0001", 1, "B1", true), world.ErrNotInHands)
	require.NoError(t, w.CloseDoor(3*time.Second, "li", "hb-0001", 1))
	require.ErrorIs(t, w.PullDoor(3*time.Second, "li", "hb-0001", 1), world.ErrBoltLocked)

	require.NoError(t, w.Pulse(4*time.Second, "hb-0001", 2, pulse))
	serial, err := w.Take(5*time.Second, "li", "hb-0001", 2)
	require.NoError(t, err)
	require.Equal(t, "B2", serial)
	_, err = w.Take(5*time.Second, "li", "hb-0001", 2)
	require.ErrorIs(t, err, world.ErrSlotEmpty)
	require.NoError(t, w.CloseDoor(6*time.Second, "li", "hb-0001", 2))
	require.Equal(t, []string{"B2"}, w.Hands("li"))

	all := world.Openings(w.Events(0))
	require.Len(t, all, 2)
	require.Equal(t, "B1", all[0].Deposited())
	require.Equal(t, "li", all[0].PutBy)
	require.Empty(t, all[0].Taken())
	require.Equal(t, "B2", all[1].Taken())
	require.Equal(t, "li", all[1].TakenBy)
	require.Equal(t, world.ByPulse, all[1].Cause)
	require.NotZero(t, all[1].Pulse)
	require.NotZero(t, all[1].Shut)
}

func TestPutBackIsNoTake(t *testing.T) {
	w := newWorld(t, 1)
	require.NoError(t, w.Pulse(0, "hb-0001", 2, pulse))
	_, err := w.Take(time.Second, "li", "hb-0001", 2)
	require.NoError(t, err)
	require.NoError(t, w.Insert(time.Second, "li", "hb-0001", 2, "B2", true))
	require.NoError(t, w.CloseDoor(time.Second, "li", "hb-0001", 2))
	all := world.Openings(w.Events(0))
	require.Len(t, all, 1)
	require.Empty(t, all[0].Taken())
	require.Empty(t, all[0].Deposited())

	require.NoError(t, w.Pulse(2*time.Second, "hb-0001", 2, pulse))
	_, err = w.Take(3*time.Second, "li", "hb-0001", 2)
	require.NoError(t, err)
	require.NoError(t, w.Insert(3*time.Second, "li", "hb-0001", 2, "B1", true))
	all = world.Openings(w.Events(0))
	require.Equal(t, "B2", all[1].Taken(), "the other battery went in instead")
	require.Equal(t, "B1", all[1].Deposited())
	require.Zero(t, all[1].Shut)
}

func TestLockFaults(t *testing.T) {
	set := func(w *world.World, f world.Fault, how world.Setting) {
		require.NoError(t, w.SetFault(0, "hb-0001", 1, f, how))
	}
	closed := func(w *world.World, at time.Duration) (open, locked bool) {
		f := w.Facts(at, "hb-0001")[0]
		return f.DoorOpen, f.BoltLocked
	}
	t.Run("stuck lock", func(t *testing.T) {
		w := newWorld(t, 1)
		set(w, world.StuckLock, world.Setting{})
		require.NoError(t, w.Pulse(0, "hb-0001", 1, pulse))
		open, locked := closed(w, time.Minute)
		require.False(t, open)
		require.True(t, locked)
	})
	t.Run("one pulse fails", func(t *testing.T) {
		w := newWorld(t, 1)
		set(w, world.FailedPulse, world.Setting{Count: 1})
		require.NoError(t, w.Pulse(0, "hb-0001", 1, pulse))
		open, locked := closed(w, time.Minute)
		require.False(t, open)
		require.True(t, locked)
		require.NoError(t, w.Pulse(time.Minute, "hb-0001", 1, pulse))
		open, _ = closed(w, 2*time.Minute)
		require.True(t, open)
	})
	t.Run("bolt pulled, door sticks and opens later", func(t *testing.T) {
		w := newWorld(t, 1)
		set(w, world.StickingDoor, world.Setting{Delay: time.Minute})
		require.NoError(t, w.Pulse(0, "hb-0001", 1, pulse))
		open, locked := closed(w, 59*time.Second)
		require.False(t, open)
		require.False(t, locked)
		open, _ = closed(w, 61*time.Second)
		require.True(t, open)
		opened := world.Openings(w.Events(0))[0]
		require.Equal(t, time.Minute, opened.At, "it happened then, not when somebody looked")
		require.NotZero(t, opened.Pulse)
	})
	t.Run("bolt pulled, door sticks, somebody pushes it", func(t *testing.T) {
		w := newWorld(t, 1)
		set(w, world.StickingDoor, world.Setting{Delay: time.Minute})
		require.NoError(t, w.Pulse(0, "hb-0001", 1, pulse))
		require.NoError(t, w.CloseDoor(time.Second, "li", "hb-0001", 1))
		open, locked := closed(w, time.Hour)
		require.False(t, open)
		require.True(t, locked)
	})
	t.Run("the bolt does not catch", func(t *testing.T) {
		w := newWorld(t, 1)
		set(w, world.NoLatch, world.Setting{Count: 1})
		require.NoError(t, w.Pulse(0, "hb-0001", 1, pulse))
		require.NoError(t, w.CloseDoor(time.Second, "li", "hb-0001", 1))
		open, locked := closed(w, 2*time.Second)
		require.False(t, open)
		require.False(t, locked)
		require.NoError(t, w.PullDoor(3*time.Second, "wang", "hb-0001", 1))
		require.NoError(t, w.CloseDoor(4*time.Second, "wang", "hb-0001", 1))
		_, locked = closed(w, 5*time.Second)
		require.True(t, locked)
	})
}

func TestSensorFaults(t *testing.T) {
	w := newWorld(t, 1)
	sense := func() world.Sensed {
		s, err := w.Sense(0, "hb-0001", 2)
		require.NoError(t, err)
		return s
	}
	require.True(t, sense().BoltLocked)
	require.NoError(t, w.SetFault(0, "hb-0001", 2, world.LyingBolt, world.Setting{}))
	require.False(t, sense().BoltLocked)
	require.NoError(t, w.ClearFault(0, "hb-0001", 2, world.LyingBolt))
	require.True(t, sense().BoltLocked)

	require.NoError(t, w.SetFault(0, "hb-0001", 2, world.PresenceFlaps, world.Setting{}))
	seen := map[bool]bool{}
	for range 100 {
		seen[sense().Present] = true
	}
	require.Len(t, seen, 2)

	before := sense().Changes
	require.NotNil(t, sense().Battery)
	require.NoError(t, w.ChangeBattery(0, "B2", func(b *world.Battery) { b.Mute = true }))
	require.Nil(t, sense().Battery)
	require.Greater(t, sense().Changes, before)
	require.ErrorContains(t, w.SetFault(0, "hb-0001", 2, "broken", world.Setting{}), "expected one of")
	require.ErrorIs(t, w.SetFault(0, "hb-0001", 4, world.StuckLock, world.Setting{}), world.ErrNoSuchPlace)
}

func TestCharging(t *testing.T) {
	w := newWorld(t, 60)
	soc := func(at time.Duration) int {
		b, ok := w.Battery(at, "B2")
		require.True(t, ok)
		return b.SocPermille
	}
	require.Equal(t, 950, soc(time.Minute), "nothing flows before the charger is on")
	require.NoError(t, w.ChangeBattery(time.Minute, "B2", func(b *world.Battery) { b.SocPermille = 400 }))
	require.NoError(t, w.SwitchCharger(time.Minute, "hb-0001", 2, true))
	// 10 A into 20 Ah for 12 s at sixty times the speed: 12 minutes, 10 %.
	require.InDelta(t, 500, soc(72*time.Second), 1)
	s, err := w.Sense(72*time.Second, "hb-0001", 2)
	require.NoError(t, err)
	require.Equal(t, 10_000, s.CurrentMA)
	require.Greater(t, s.Battery.TempDeciC, 250)

	require.NoError(t, w.SetCabinet(72*time.Second, "hb-0001", func(c *world.CabinetSensors) { c.ContactorClosed = false }))
	require.InDelta(t, 500, soc(100*time.Second), 1, "no mains, no current")
	require.NoError(t, w.SwitchCharger(100*time.Second, "hb-0001", 2, false))
	require.NoError(t, w.SetCabinet(100*time.Second, "hb-0001", func(c *world.CabinetSensors) { c.ContactorClosed = true }))
	require.NoError(t, w.SetFault(100*time.Second, "hb-0001", 2, world.StuckCharger, world.Setting{}))
	require.InDelta(t, 600, soc(112*time.Second), 1, "current flows though it is off")

	w.Ride(112*time.Second, "li", 100)
	b, _ := w.Battery(112*time.Second, "B1")
	require.Equal(t, 200, b.SocPermille)
	w.Ride(112*time.Second, "li", 900)
	b, _ = w.Battery(112*time.Second, "B1")
	require.Equal(t, 20, b.SocPermille)
}

func TestTheHandThatTookItIsNamed(t *testing.T) {
	w := newWorld(t, 1)
	require.NoError(t, w.PutInHands("wang", world.Battery{Serial: "B3"}))
	require.NoError(t, w.Pulse(0, "hb-0001", 2, pulse))
	_, err := w.Take(time.Second, "li", "hb-0001", 2)
	require.NoError(t, err)
	require.NoError(t, w.Insert(time.Second, "wang", "hb-0001", 2, "B3", true))
	_, err = w.Take(time.Second, "wang", "hb-0001", 2)
	require.NoError(t, err)
	require.NoError(t, w.CloseDoor(time.Second, "wang", "hb-0001", 2))
	o := world.Openings(w.Events(0))[0]
	require.Equal(t, "B2", o.Taken())
	require.Equal(t, "li", o.TakenBy)
	require.Empty(t, o.Deposited())
	require.Empty(t, o.PutBy)
}
