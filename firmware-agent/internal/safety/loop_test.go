package safety_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver/drivertest"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// TestAChargerThatWentOnIsSwitchedAtOnce: only one that does not go on is told again
// ever more seldom.
func TestAChargerThatWentOnIsSwitchedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{slots: 2})
		for range 6 {
			began := r.now()
			r.want(1)
			r.charging(1)
			require.Less(t, r.now()-began, 3*time.Second)
			time.Sleep(1500 * time.Millisecond) // its board has told by now
			r.want()
			r.until("off", func() bool {
				r.boards.mu.Lock()
				defer r.boards.mu.Unlock()
				return !r.boards.power(1)
			})
		}
	})
}

// TestAnAnswerOfTheContactorIsLost: whether it closed or not, it is no contactor that
// does not open, and charging begins in a moment.
func TestAnAnswerOfTheContactorIsLost(t *testing.T) {
	closing, err := modbus.Request{
		Unit: slotboard.CabinetUnit, Function: modbus.WriteRegister, Address: slotboard.HoldContactor, Value: 1,
	}.Append(nil)
	require.NoError(t, err)
	for name, c := range map[string]struct{ lost, works int }{"it closed": {1, 0}, "it did not": {2, 2}, "again and again": {5, 5}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lost := 0
				r := newRig(t, rigOptions{slots: 2, change: func(b *boards) { b.deaf = c.works }, line: func(l *drivertest.Line) {
					l.Fault = func(_ int, request, reply []byte) []drivertest.Burst {
						if slices.Equal(request, closing) && lost < c.lost {
							lost++
							return nil
						}
						return []drivertest.Burst{{Bytes: reply}}
					}
				}, latched: []charging.Alarm{{Kind: protocol.AlarmSmoke}}})
				r.want(1)
				r.boards.set(func() { r.boards.own.Status |= slotboard.MaintenanceKey })
				r.until("cleared", func() bool { return r.Clear(t.Context(), charging.Alarm{Kind: protocol.AlarmSmoke}) == nil })
				began := r.now()
				r.charging(1)
				require.Less(t, r.now()-began, 12*time.Second)
				require.Equal(t, c.lost, lost)
				time.Sleep(time.Minute)
				require.Empty(t, r.State().Causes)
			})
		})
	}
}

// TestFanAndHeater: they are told what the plan wants, and again when their board was
// reset; a slot without power is not warmed, and while the cabinet is halted neither runs.
func TestFanAndHeater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{slots: 2})
		air := func(n int) [2]slot.Air {
			r.boards.mu.Lock()
			defer r.boards.mu.Unlock()
			return [2]slot.Air{r.boards.units[n-1].fan, r.boards.units[n-1].heater}
		}
		told := func(n int, fan, heater slot.Air) {
			t.Helper()
			began := r.now()
			r.until("fan and heater", func() bool { return air(n) == [2]slot.Air{fan, heater} })
			require.Less(t, r.now()-began, 3*time.Second)
		}
		r.wish(charging.Order{Slot: 1, Heater: slot.AirOn}, charging.Order{Slot: 2, On: true, Fan: slot.AirOn, Heater: slot.AirOff})
		told(1, slot.AirAuto, slot.AirOn)
		told(2, slot.AirOn, slot.AirOff)
		r.until("it is said", func() bool { return slices.Equal(r.State().Heated, []int{1}) })

		r.boards.set(func() { r.boards.units[0].fan, r.boards.units[0].heater = slot.AirAuto, slot.AirAuto }) // its board forgot
		time.Sleep(65 * time.Second)
		require.Equal(t, [2]slot.Air{slot.AirAuto, slot.AirOn}, air(1))

		r.boards.set(func() { r.boards.units[0].perS, r.boards.units[0].risingAt = .8, time.Now() }) // up to warm
		r.until("no heat", func() bool { return air(1) == [2]slot.Air{slot.AirAuto, slot.AirOff} })
		require.False(t, r.State().Halt)
		r.boards.set(func() { r.boards.own.Status |= slotboard.CabinetSmoke })
		told(1, slot.AirOff, slot.AirOff)
		told(2, slot.AirOff, slot.AirOff)
		r.until("it is said", func() bool { return len(r.State().Heated) == 0 })
	})
}
