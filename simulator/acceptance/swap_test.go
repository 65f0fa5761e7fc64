package acceptance

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/world"
)

// TestSwapRealParts does whole swaps with nothing replaced but the hardware: a
// mosquitto and a PostgreSQL as in production, two replicas of the backend, an
// agent at a serial line. The rider's phone talks to one replica, the books are
// read at the other.
func TestSwapRealParts(t *testing.T) {
	t.Parallel()
	s := newStage(t, true)
	first, second := s.startReplica(), s.startReplica()
	c := s.newCabinet(6, 4)
	c.startBoards()
	c.startAgent()
	c.heard(4)
	id, own := s.newRider()
	r := s.quickRider(first, id, c)

	const swaps = 3
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	began := len(s.world.Events(0))
	held := own
	for n := 1; n <= swaps; n++ {
		result, err := r.Swap(ctx, n)
		require.NoError(t, err)
		require.Equal(t, protocol.OutcomeSwapped, result.Swap.Outcome)
		require.Equal(t, held, string(result.Swap.Deposited))
		held = string(result.Swap.Taken)
		require.Equal(t, []string{held}, s.world.Hands(id))
		s.until("the other replica does not count the swap", func() bool {
			account, err := s.phone(second, id).Account(ctx)
			return err == nil && account.SwapsTotal == n
		})
		account, err := s.phone(second, id).Account(ctx)
		require.NoError(t, err)
		require.Equal(t, []protocol.BatterySerial{protocol.BatterySerial(held)}, account.Batteries)
		require.Zero(t, account.OpenCredits)
		require.Empty(t, account.OpenSwap)
	}
	requirePulses(t, s.world.Events(uint64(began)), 2*swaps)

	books := s.audited().of(t, id)
	require.Equal(t, swaps, books.Counted)
	require.Equal(t, swaps, books.Deposits)
	require.Equal(t, swaps, books.Takes)
	require.Equal(t, []string{held}, books.Batteries)
	require.Empty(t, books.OpenSwaps)
	require.Zero(t, books.Reviews)

	if !raceDetector { // which holds several times as much
		require.LessOrEqual(t, resident(t, c.PID()), int64(maxAgentMemory))
	}

	// The broker gives each message to one of them: both have worked.
	for _, b := range s.replicas {
		require.Positive(t, metric(t, b.metrics, "swap_mqtt_messages_total", `direction="in"`), b.Name)
	}
}

// requirePulses wants so many unlocks, each of which opened a door that was
// closed before the next.
func requirePulses(t *testing.T, events []world.Event, want int) {
	t.Helper()
	pulses, open := 0, 0
	for _, e := range events {
		switch e.Kind {
		case world.Pulsed:
			pulses++
			require.Zero(t, open, "a lock was pulsed while a door stood open: %+v", e)
		case world.DoorOpened:
			open++
		case world.DoorShut:
			open--
		}
	}
	require.Equal(t, want, pulses)
	require.Zero(t, open)
}
