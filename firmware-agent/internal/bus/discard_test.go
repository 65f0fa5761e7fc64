package bus_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/protocol/modbus"
)

// hungLine keeps what is written until its adapter wakes up.
type hungLine struct {
	timeout time.Duration
	unsent  []byte
}

func (l *hungLine) SetReadTimeout(d time.Duration) error { l.timeout = d; return nil }
func (l *hungLine) Read([]byte) (int, error)             { time.Sleep(l.timeout); return 0, nil }
func (l *hungLine) Write(p []byte) (int, error) {
	l.unsent = append(l.unsent, p...)
	return len(p), nil
}
func (l *hungLine) Discard() error { l.unsent = nil; return nil }
func (l *hungLine) Close() error   { return nil }

// What was given up is taken back, before anybody is told that it was.
func TestFailedRequestIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &hungLine{}
		b := newBus(t, 19200, func() (bus.Line, error) { return l, nil })
		for _, q := range []modbus.Request{read(1, 16), {Unit: 1, Function: modbus.WriteRegister, Value: 0x4F05}} {
			_, err := b.Modbus(t.Context(), bus.Unlock, q)
			require.ErrorIs(t, err, bus.ErrTimeout)
			require.Empty(t, l.unsent)
		}
	})
}
