package agent

import (
	"bytes"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/protocol/modbus"
)

// A request that was given up must not reach a board minutes later. Nobody reads
// the far end, as when an adapter hangs, and its own buffer is full: the request
// stays in this machine. It times out; then the far end wakes up.
func TestAnAbandonedRequestIsTakenBack(t *testing.T) {
	master, c := terminal(t)
	slave, err := os.OpenFile(c.Port, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { slave.Close() })
	const full = 8000 // more than the 4095 bytes that a terminal keeps for its reader
	_, err = slave.Write(bytes.Repeat([]byte{'x'}, full))
	require.NoError(t, err)
	b, err := newBus(c, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	lock := modbus.Request{Unit: 1, Function: modbus.WriteRegister, Address: 0, Value: 0x4F05}
	_, err = b.Modbus(t.Context(), bus.Unlock, lock)
	require.ErrorIs(t, err, bus.ErrTimeout)
	frame, err := lock.Append(nil)
	require.NoError(t, err)
	got := make(chan []byte)
	go func() {
		defer close(got)
		for {
			buffer := make([]byte, full)
			n, err := master.Read(buffer)
			if err != nil {
				return
			}
			got <- buffer[:n]
		}
	}()
	var all []byte
	quiet := time.NewTimer(500 * time.Millisecond)
	for waiting := true; waiting; {
		select {
		case some := <-got:
			all = append(all, some...)
		case <-quiet.C:
			waiting = false
		}
	}
	require.NotEmpty(t, all)
	require.False(t, bytes.Contains(all, frame), "the lock command arrives after it was given up")
	require.NoError(t, master.Close())
	for range got { // until the reader has ended
	}
}
