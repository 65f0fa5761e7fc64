package climate_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/driver/climate"
	"batteryswap/firmware-agent/internal/driver/drivertest"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/xymd02"
)

func TestClimateSensor(t *testing.T) {
	const unit = 210
	said := xymd02.Reading{Temp: xymd02.Value{N: -205, Known: true}, Humidity: xymd02.Value{N: 546, Known: true}}
	drivertest.RunInstrument(t, drivertest.Instrument{
		Baud: 9600, Unit: unit,
		Answer: func(q modbus.Request) ([]uint16, error) { return xymd02.Answer(q, said) },
		Open: func(b *bus.Bus, now func() time.Duration) func(context.Context) (any, error) {
			s, err := climate.Open(climate.Options{Bus: b, Kind: "xymd02", Unit: unit, Now: now})
			require.NoError(t, err)
			return func(ctx context.Context) (any, error) {
				r, err := s.PollClimate(ctx)
				require.Equal(t, err == nil, r.At > 0, "a reading has its time")
				r.At = 0
				return r, err
			}
		},
		Want: driver.ClimateReading{Temp: slot.Known(-205), Humidity: slot.Known(546)},
	})
	_, err := climate.Open(climate.Options{Kind: "frog"})
	require.ErrorContains(t, err, `climate kind is "frog", expected one of ["xymd02"]`)
}
