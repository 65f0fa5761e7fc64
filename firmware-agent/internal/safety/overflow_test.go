package safety

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/protocol"
)

// TestWhatDoesNotFitIsCounted: a loop that stands still keeps nobody waiting, and what
// nobody takes does not grow for ever.
func TestWhatDoesNotFitIsCounted(t *testing.T) {
	l := New(Options{
		Limits: charging.DefaultLimits(protocol.MaxSlots), Now: func() time.Duration { return 0 }, Log: slog.New(slog.DiscardHandler),
	})
	for range maxReports + 3 {
		l.Report(driver.Report{Slot: 1})
	}
	l.judge()
	require.Equal(t, uint64(3), l.State().Dropped)

	for n := range maxCuts + 5 {
		c := protocol.ChargeCut{Slot: n / 5, Kind: protocol.AlarmKind(string(rune('a' + n%5)))}
		for range 2 { // one cut is told once
			l.mu.Lock()
			l.cut(c)
			l.mu.Unlock()
		}
	}
	l.judge()
	require.Equal(t, uint64(3+2*5), l.State().Dropped)
	require.Len(t, l.Cuts(), maxCuts)
	require.Empty(t, l.Cuts())
}
