package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestClockTellsOfStepsAndOfBeingSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64 // nanoseconds
		var synced atomic.Bool
		c := newClock(synced.Load, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }, nil)
		var told []protocol.TimeStep
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			ended <- c.watch(ctx, func(s protocol.TimeStep) error { told = append(told, s); return nil })
		}()
		pass := func() {
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		pass()
		require.Empty(t, told)
		ahead.Store(int64(1900 * time.Millisecond))
		pass()
		require.Empty(t, told, "less than two seconds is no step")
		ahead.Store(int64(10 * 365 * 24 * time.Hour))
		pass()
		require.Len(t, told, 1)
		require.Equal(t, protocol.ClockUnsynchronised, told[0].Clock)
		_, wall, state := c.read()
		require.InDelta(t, wall, told[0].WallMS, 10_000)
		require.Equal(t, protocol.ClockUnsynchronised, state)
		synced.Store(true)
		pass()
		require.Len(t, told, 2)
		require.Equal(t, protocol.ClockSynchronised, told[1].Clock)
		synced.Store(false)
		ahead.Store(int64(-10 * 365 * 24 * time.Hour))
		pass()
		require.Len(t, told, 3)
		require.Equal(t, protocol.ClockSynchronised, told[2].Clock, "it was set in this boot")
		mono, _, _ := c.read()
		require.Equal(t, uint64(50_000), mono, "the monotonic clock knows nothing of it")
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestClockWatchEndsWhenItCannotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		synced := false
		c := newClock(func() bool { return synced }, nil, nil)
		synced = true
		full := errors.New("full")
		require.ErrorIs(t, c.watch(t.Context(), func(protocol.TimeStep) error { return full }), full)
	})
}

func TestTheKernelIsAsked(t *testing.T) {
	require.NotPanics(t, func() { kernelSynchronised() })
	c := newClock(nil, nil, nil)
	_, wall, _ := c.read()
	require.InDelta(t, time.Now().UnixMilli(), wall, 60_000)
}
