package agent

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/driver/climate"
	"batteryswap/firmware-agent/internal/driver/meter"
	"batteryswap/firmware-agent/internal/swap"
)

// TestTheConfigurationKnowsTheKindsThereAre: what can be configured can be driven,
// and the other way round.
func TestTheConfigurationKnowsTheKindsThereAre(t *testing.T) {
	var boards []string
	for _, k := range kinds() {
		boards = append(boards, k.Name)
	}
	for field, known := range map[string][]string{"board": boards, "meter": meter.Kinds(), "climate": climate.Kinds()} {
		_, err := config.Parse(fmt.Appendf(nil, "%s: {kind: frog}", field))
		require.Error(t, err)
		require.Contains(t, err.Error()+"\n", fmt.Sprintf("%s.kind: is %q: want one of %v\n", field, "frog", known))
	}
}

// TestTheConfigurationKnowsTheMostPulses: no bucket is larger than the machine's.
func TestTheConfigurationKnowsTheMostPulses(t *testing.T) {
	_, err := config.Parse([]byte("limits: {max_pulses_per_hour: 1000000}"))
	require.Error(t, err)
	require.Contains(t, err.Error()+"\n", fmt.Sprintf("limits.max_pulses_per_hour: is 1000000: want 18 to %d\n", swap.MaxPulsesPerHour))
}
