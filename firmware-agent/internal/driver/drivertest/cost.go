package drivertest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/driver"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// testDeadCost polls as fast as the line allows: eleven slots, and the same
// eleven beside a twelfth that is dead.
func testDeadCost(t *testing.T, f Fixture) {
	window := map[int]time.Duration{9600: 40 * time.Second, 19200: 20 * time.Second, 115200: 10 * time.Second}
	for baud, window := range window {
		f.Baud = baud
		eleven, twelve := f.cycles(t, 11, window), f.cycles(t, 12, window)
		t.Logf("%d baud: %d cycles in %v beside a dead board, %d without it: %.3f", baud, twelve, window, eleven, float64(twelve)/float64(eleven))
		require.GreaterOrEqual(t, float64(twelve), 0.95*float64(eleven),
			"%d baud: %d cycles beside a dead board, %d without it", baud, twelve, eleven)
	}
}

// cycles counts the polls of slot 1 in the window. Slot 12, if any, is dead.
func (f Fixture) cycles(t *testing.T, slots int, window time.Duration) (polls int) {
	t.Helper()
	bubble(t, f, slots, func(t *testing.T, r *rig) {
		require.NoError(t, r.Driver.Start(t.Context()))
		r.Line.Chunk = 16 // the test is quicker, the line is not
		if slots == 12 {
			r.Board.Dead(12, true)
		}
		ctx, cancel := context.WithCancel(t.Context())
		from := r.Now() + 5*time.Second // by then a dead board is known to be
		p := driver.NewPoller(driver.PollerOptions{Board: r.Driver, Slots: slots, Interval: time.Second, Now: r.Now, Log: quiet(),
			Report: func(report driver.Report) {
				if report.Slot == 1 && report.At >= from {
					polls++
				}
			}})
		p.Hurry(true)
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		time.Sleep(5*time.Second + window)
		cancel()
		<-ended
	})
	return polls
}
