package drivertest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/driver"
)

// unlockRequests bounds how many requests one unlock has, for the tests that
// make each of them fail in turn.
const unlockRequests = 14

func testUnlock(t *testing.T, f Fixture) {
	bubble(t, f, 3, func(t *testing.T, r *rig) {
		require.NoError(t, r.Driver.Start(t.Context()))
		time.Sleep(time.Minute)
		// More often than any sequence number wraps.
		for i := range 300 {
			require.NoError(t, r.Driver.Charge(t.Context(), 2, true))
			require.NoError(t, r.Driver.Unlock(t.Context(), 2))
			require.Equal(t, i+1, r.Board.Pulses(2))
			time.Sleep(time.Second)
		}
		require.Zero(t, r.Board.Hot(2), "charging is switched off first")
		require.Zero(t, r.Board.Pulses(1)+r.Board.Pulses(3))

		// A driver that starts anew goes on where the last one stopped.
		second, err := f.Kind.Open(driver.Options{Bus: r.Bus, Slots: 3, Now: r.Now, Log: quiet()})
		require.NoError(t, err)
		require.NoError(t, second.Start(t.Context()))
		require.Equal(t, 300, r.Board.Pulses(2))
		require.NoError(t, second.Unlock(t.Context(), 2))
		require.Equal(t, 301, r.Board.Pulses(2))

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, second.Unlock(ctx, 2), context.Canceled)
		require.Equal(t, 301, r.Board.Pulses(2))
	})
}

// testUnlockFaults makes each request of an unlock go wrong, in every way, one
// or several in a row.
func testUnlockFaults(t *testing.T, f Fixture) {
	for _, fault := range faults() {
		t.Run(fault.name, func(t *testing.T) {
			for at := range unlockRequests {
				for _, row := range []int{1, 2, 100} {
					bubble(t, f, 1, func(t *testing.T, r *rig) { unlockFault(t, r, fault, at, row) })
				}
			}
		})
	}
}

func unlockFault(t *testing.T, r *rig, fault fault, at, row int) {
	require.NoError(t, r.Driver.Start(t.Context()))
	time.Sleep(time.Minute)
	first := r.Line.Requests()
	fault.put(r.Line, func(n int) bool { return n-first >= at && n-first < at+row })
	err := r.Driver.Unlock(t.Context(), 1)
	require.LessOrEqual(t, r.Line.Requests()-first, unlockRequests, "an unlock is bounded")
	pulses := r.Board.Pulses(1)
	require.LessOrEqual(t, pulses, 1, "%s at request %d", fault.name, at)
	if err == nil {
		require.Equal(t, 1, pulses, "%s at request %d", fault.name, at)
	}
	require.Zero(t, r.Board.Hot(1))

	r.Line.mend()
	time.Sleep(time.Second)
	err = r.Driver.Unlock(t.Context(), 1)
	if err == nil {
		require.Equal(t, pulses+1, r.Board.Pulses(1), "the next unlock is a pulse of its own")
	}
	require.LessOrEqual(t, r.Board.Pulses(1), pulses+1)
}

// testUnlockReset resets the board right after a pulse, and loses the reply: the
// board remembers no unlock, and must not get another.
func testUnlockReset(t *testing.T, f Fixture) {
	for _, up := range []time.Duration{0, time.Second, 5 * time.Second, 8 * time.Second, time.Hour, 65531 * time.Second, 65533 * time.Second} {
		for at := range unlockRequests {
			bubble(t, f, 1, func(t *testing.T, r *rig) {
				require.NoError(t, r.Driver.Start(t.Context()))
				if up == time.Hour { // not the first unlock since the board's start
					require.NoError(t, r.Driver.Unlock(t.Context(), 1))
				}
				time.Sleep(up)
				before := r.Board.Pulses(1)
				pulsed := false
				first := r.Line.Requests()
				r.Line.Fault = func(n int, _, reply []byte) []Burst {
					if !pulsed && r.Board.Pulses(1) > before {
						pulsed = true
						r.Board.Reset(1)
						return nil
					}
					if n-first == at {
						return nil
					}
					return []Burst{{Bytes: reply}}
				}
				_ = r.Driver.Unlock(t.Context(), 1)
				require.LessOrEqual(t, r.Board.Pulses(1), before+1, "up for %v, request %d lost", up, at)
			})
		}
	}
}
