package drivertest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/protocol/modbus"
)

// Instrument is a meter or a sensor under test.
type Instrument struct {
	Baud int
	// Unit is its address; Answer is what stands in the registers that a question
	// asks for, an error when they are not there.
	Unit   uint8
	Answer func(q modbus.Request) ([]uint16, error)
	// Open makes the driver and gives its poll, whose reading has no time in it.
	Open func(b *bus.Bus, now func() time.Duration) func(ctx context.Context) (any, error)
	// Want is the reading of an instrument that answers as Answer does.
	Want any
}

// instrument is the device at the end of the line.
type instrument struct {
	unit      uint8
	registers func(modbus.Request) ([]uint16, error)
}

// Answer implements Device.
func (d instrument) Answer(received []byte) (consumed int, reply []byte) {
	n, err := modbus.RequestLen(received)
	if err != nil {
		return len(received), nil
	}
	if n == 0 || n > len(received) {
		return 0, nil
	}
	q, err := modbus.DecodeRequest(received[:n])
	if err != nil || q.Unit != d.unit {
		return n, nil
	}
	r := modbus.ReplyTo(q)
	if r.Registers, err = d.registers(q); err != nil {
		r = modbus.Refusal(q, modbus.IllegalAddress)
	}
	frame, err := r.Append(nil)
	if err != nil {
		return n, nil
	}
	return n, frame
}

// RunInstrument checks that a driver reads what an instrument says, or fails,
// whatever happens to its replies.
func RunInstrument(t *testing.T, i Instrument) {
	rig := func(t *testing.T) (*Line, func() (any, error)) {
		line := NewLine(i.Baud, instrument{i.Unit, i.Answer})
		b, err := bus.New(bus.Config{
			Open: func() (bus.Line, error) { return line, nil }, Baud: i.Baud, CharBits: 10, Device: device, Log: quiet(),
		})
		require.NoError(t, err)
		began := time.Now()
		poll := i.Open(b, func() time.Duration { return time.Since(began) })
		t.Cleanup(func() {
			require.NoError(t, b.Close())
			require.Empty(t, line.Violations())
		})
		return line, func() (any, error) { return poll(t.Context()) }
	}
	t.Run("poll says what is", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, poll := rig(t)
			for range 3 {
				got, err := poll()
				require.NoError(t, err)
				require.Equal(t, i.Want, got)
			}
		})
	})
	for _, f := range faults() {
		t.Run("poll is right or fails: "+f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line, poll := rig(t)
				good := 0
				f.put(line, func(n int) bool { return n%4 == 1 })
				for range 20 {
					got, err := poll()
					if err != nil {
						require.Zero(t, got)
						continue
					}
					require.Equal(t, i.Want, got)
					good++
				}
				line.mend()
				_, _ = poll() // what came late may spoil one more
				got, err := poll()
				require.NoError(t, err)
				require.Equal(t, i.Want, got)
				require.Positive(t, good, "three in four come through")
			})
		})
	}
	t.Run("a refusal is an error, and nothing is known", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			line, poll := rig(t)
			line.Device = instrument{i.Unit, func(modbus.Request) ([]uint16, error) { return nil, modbus.IllegalAddress }}
			got, err := poll()
			require.ErrorIs(t, err, modbus.IllegalAddress)
			require.Zero(t, got)
		})
	})
}
