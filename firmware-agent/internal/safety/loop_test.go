package safety_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver/drivertest"
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
