package drivertest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
)

func testLook(t *testing.T, f Fixture) {
	bubble(t, f, 2, func(t *testing.T, r *rig) {
		require.NoError(t, r.Driver.Start(t.Context()))
		for i, facts := range []Facts{shut, open, holding, mute, another} {
			r.Board.Put(1, facts)
			got, err := r.Driver.Look(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, 1, got.Slot)
			require.Empty(t, got.Serial, "a look reads no identity")
			facts.Serial, got.Serial = "", ""
			require.Equal(t, slot.TriOf(facts.Battery), got.Switch, "step %d", i)
			require.Equal(t, slot.TriOf(facts.DoorOpen), got.DoorOpen, "step %d", i)
			require.Greater(t, got.At, r.Now()-100*time.Millisecond)
			time.Sleep(time.Second)
		}
		_, err := r.Driver.LookCabinet(t.Context())
		require.NoError(t, err)
		require.NoError(t, r.Driver.Limit(t.Context(), 1, 4_000))
		r.Board.Dead(2, true)
		_, err = r.Driver.Look(t.Context(), 2)
		require.ErrorContains(t, err, "slot 2")
		require.ErrorContains(t, r.Driver.Limit(t.Context(), 2, 0), "slot 2")
	})
}

func testContactor(t *testing.T, f Fixture) {
	bubble(t, f, 1, func(t *testing.T, r *rig) {
		for _, closed := range []bool{true, false, true} {
			require.NoError(t, r.Driver.Contactor(t.Context(), closed))
			require.Equal(t, closed, r.Board.Contactor())
			got, err := r.Driver.LookCabinet(t.Context())
			require.NoError(t, err)
			require.Equal(t, slot.TriOf(closed), got.Contactor)
		}
		r.Board.Dead(0, true)
		require.Error(t, r.Driver.Contactor(t.Context(), false))
	})
}

func testAir(t *testing.T, f Fixture) {
	bubble(t, f, 2, func(t *testing.T, r *rig) {
		for _, want := range [][2]slot.Air{{slot.AirOn, slot.AirOff}, {slot.AirAuto, slot.AirOn}, {slot.AirOff, slot.AirAuto}} {
			require.NoError(t, r.Driver.Air(t.Context(), 2, want[0], want[1]))
			fan, heater := r.Board.Air(2)
			require.Equal(t, want, [2]slot.Air{fan, heater})
			fan, heater = r.Board.Air(1)
			require.Zero(t, fan)
			require.Zero(t, heater)
		}
		r.Board.Dead(2, true)
		require.ErrorContains(t, r.Driver.Air(t.Context(), 2, slot.AirOff, slot.AirOff), "slot 2")
		require.Error(t, r.Driver.Air(t.Context(), 3, slot.AirOff, slot.AirOff))
	})
}

// testOffAtOnce cuts a slot's charging while an unlock of the same slot, and a
// poll, wait for replies that do not come.
func testOffAtOnce(t *testing.T, f Fixture) {
	for at := range unlockRequests {
		bubble(t, f, 1, func(t *testing.T, r *rig) {
			require.NoError(t, r.Driver.Start(t.Context()))
			require.NoError(t, r.Driver.Charge(t.Context(), 1, true))
			first := r.Line.Requests()
			r.Line.Fault = func(n int, _, reply []byte) []Burst {
				if n >= first && n < first+at {
					return nil
				}
				return []Burst{{Bytes: reply}}
			}
			var others sync.WaitGroup
			others.Go(func() { _ = r.Driver.Unlock(t.Context(), 1) })
			others.Go(func() { _, _ = r.Driver.Poll(t.Context(), 1) })
			time.Sleep(5 * time.Millisecond)
			require.ErrorIs(t, r.Driver.Charge(t.Context(), 1, true), driver.ErrBusy)
			began := r.Now()
			for r.Driver.Charge(t.Context(), 1, false) != nil {
				require.Less(t, r.Now()-began, time.Duration(at+1)*300*time.Millisecond, "each lost reply costs its time")
			}
			require.False(t, r.Board.Facts(1).Charging)
			others.Wait()
			require.False(t, r.Board.Facts(1).Charging)
		})
	}
}
