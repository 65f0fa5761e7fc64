package world_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"batteryswap/simulator/world"
)

// Whatever people and boards do in whatever order, each battery is in exactly
// one place, and the openings account for every battery that changed places.
func TestNothingIsLostInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slots, batteries = 3, 5
		w := world.New(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), 100)
		people := []string{"li", "wang", "zhang"}
		require.NoError(t, w.AddCabinet("hb-0001", slots))
		inSlot := map[int]string{}
		holder := map[string]string{}
		for i := range batteries {
			serial := fmt.Sprintf("B%d", i)
			if i < 2 {
				require.NoError(t, w.PutInSlot("hb-0001", i+1, world.Battery{Serial: serial}))
				inSlot[i+1] = serial
				continue
			}
			require.NoError(t, w.PutInHands(people[i-2], world.Battery{Serial: serial}))
			holder[serial] = people[i-2]
		}
		at := time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(t, "acts") {
			at += time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
			act(t, w, at, people[rapid.IntRange(0, 2).Draw(t, "person")], rapid.IntRange(1, slots).Draw(t, "slot"), batteries)
		}
		for _, o := range world.Openings(w.Events(0)) {
			if s := o.Taken(); s != "" {
				require.Equal(t, s, inSlot[o.Slot], "I3: taken from where it was not")
				delete(inSlot, o.Slot)
				holder[s] = o.TakenBy
			}
			if s := o.Deposited(); s != "" {
				require.Empty(t, inSlot[o.Slot], "I3: two in one slot")
				inSlot[o.Slot] = s
				delete(holder, s)
			}
		}
		found := 0
		for _, f := range w.Facts(at, "hb-0001") {
			if f.Battery == nil {
				require.Empty(t, inSlot[f.Slot])
				continue
			}
			found++
			require.Equal(t, f.Battery.Serial, inSlot[f.Slot])
		}
		for _, p := range people {
			found += len(w.Hands(p))
		}
		require.Equal(t, batteries, found, "I2: a battery is lost or doubled")
	})
}

func act(t *rapid.T, w *world.World, at time.Duration, person string, slot, batteries int) {
	const cabinet = "hb-0001"
	var err error
	switch rapid.IntRange(0, 8).Draw(t, "act") {
	case 0:
		require.NoError(t, w.Pulse(at, cabinet, slot, 400*time.Millisecond))
	case 1:
		_, err = w.Take(at, person, cabinet, slot)
	case 2:
		serial := fmt.Sprintf("B%d", rapid.IntRange(0, batteries-1).Draw(t, "battery"))
		err = w.Insert(at, person, cabinet, slot, serial, rapid.Bool().Draw(t, "plugged"))
	case 3:
		require.NoError(t, w.CloseDoor(at, person, cabinet, slot))
	case 4:
		err = w.PullDoor(at, person, cabinet, slot)
	case 5:
		require.NoError(t, w.ForceDoor(at, person, cabinet, slot))
	case 6:
		f := rapid.SampledFrom(world.Faults()).Draw(t, "fault")
		require.NoError(t, w.SetFault(at, cabinet, slot, f, world.Setting{
			Count: rapid.IntRange(0, 2).Draw(t, "count"), Delay: time.Duration(rapid.IntRange(0, 2).Draw(t, "s")) * time.Second,
		}))
	case 7:
		err = w.Plug(at, person, cabinet, slot, rapid.Bool().Draw(t, "plugged"))
	case 8:
		require.NoError(t, w.SwitchCharger(at, cabinet, slot, true))
	}
	_ = err // what cannot be done is refused, and that is fine here
}
