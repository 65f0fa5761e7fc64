package agent

import (
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/cabinet"
)

// TestOnlyWhatAllGoesOnLives: the watchdog is fed only when the line, the poller, the
// safety loop and the cabinet's loop have all gone on since it was fed last.
func TestOnlyWhatAllGoesOnLives(t *testing.T) {
	whole := &Agent{cabinet: &cabinet.Cabinet{}}
	withoutJournal := &Agent{}
	last := turns{bus: 7, poller: 3, safety: 8, cabinet: 9}
	for name, c := range map[string]struct {
		a    *Agent
		now  turns
		want bool
	}{
		"all go on":                     {whole, turns{8, 4, 9, 10}, true},
		"nothing goes on":               {whole, last, false},
		"the line stands still":         {whole, turns{7, 4, 9, 10}, false},
		"the poller stands still":       {whole, turns{8, 3, 9, 10}, false},
		"the safety loop stands still":  {whole, turns{8, 4, 8, 10}, false},
		"the cabinet stands still":      {whole, turns{8, 4, 9, 9}, false},
		"without a journal":             {withoutJournal, turns{8, 4, 9, 9}, true},
		"without one, no safety either": {withoutJournal, turns{8, 4, 8, 9}, false},
	} {
		require.Equal(t, c.want, c.a.advanced(last, c.now), name)
	}
	require.True(t, whole.advanced(turns{bus: 7, safety: 8, cabinet: 9}, turns{8, 0, 9, 10}), "the boards are still being started")
	for name, s := range map[string]bus.Stats{
		"a request": {Requests: 1}, "the port opens": {Opened: 1}, "it does not": {OpenFailed: 1}, "it is lost": {LineFailed: 1},
	} {
		require.Greater(t, progress(s), progress(bus.Stats{}), name)
	}
}
