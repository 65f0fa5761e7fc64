package bus_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver/drivertest"
	"batteryswap/protocol/modbus"
)

// On a plain adapter the first write is answered, and a dead board's is not.
func TestFirstWriteWithoutEcho(t *testing.T) {
	for _, unit := range []uint8{1, 7} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, 19200)
			r.board.dead[7] = true
			_, err := r.Modbus(t.Context(), bus.Charge, modbus.Request{Unit: unit, Function: modbus.WriteRegister, Address: 0x10, Value: 0})
			require.Equal(t, unit == 7, err != nil, "%v", err)
		})
	}
}

// Noise before an echo does not make a reply of it.
func TestEchoBehindNoise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		r.board.dead[7] = true
		r.line.Fault = func(_ int, request, reply []byte) []drivertest.Burst {
			return []drivertest.Burst{{Bytes: append(append([]byte{0}, request...), reply...)}}
		}
		for range 3 {
			_, err := r.Modbus(t.Context(), bus.Charge, modbus.Request{Unit: 7, Function: modbus.WriteRegister, Address: 0x10, Value: 0})
			require.Error(t, err)
		}
	})
}

// The first exchange on a line that was just opened may be a write ("charging
// off" before a pulse): an echo of it is no reply of a dead board.
func TestEchoOfTheFirstWriteIsNoReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		r.board.dead[7] = true
		r.line.Fault = func(_ int, request, reply []byte) []drivertest.Burst {
			return []drivertest.Burst{{Bytes: append(append([]byte(nil), request...), reply...)}}
		}
		_, err := r.Modbus(t.Context(), bus.Charge, modbus.Request{Unit: 7, Function: modbus.WriteRegister, Address: 0x10, Value: 0})
		require.Error(t, err, "a dead board has switched its charger off")
		_, err = r.Modbus(t.Context(), bus.Charge, modbus.Request{Unit: 1, Function: modbus.WriteRegister, Address: 0x10, Value: 0})
		require.NoError(t, err, "and one that lives has")
	})
}
