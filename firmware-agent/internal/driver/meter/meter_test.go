package meter_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/driver/drivertest"
	drivermeter "batteryswap/firmware-agent/internal/driver/meter"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/meter"
	"batteryswap/protocol/modbus"
)

const unit = 201

func TestMeters(t *testing.T) {
	said := meter.Reading{
		VoltageMV: [3]meter.Value{meter.Known(230_000), meter.Known(221_500), meter.Known(233_000)},
		PowerMW:   meter.Known(2_960_400), ImportedJ: meter.Known(36_000_000_000),
	}
	for _, k := range meter.Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			require.LessOrEqual(t, len(k.Requests(unit)), drivermeter.Exchanges)
			volts := slot.Known(221_500)
			if k.Phases == 1 {
				volts = slot.Known(230_000)
			}
			drivertest.RunInstrument(t, drivertest.Instrument{
				Baud: 9600, Unit: unit,
				Answer: func(q modbus.Request) ([]uint16, error) { return k.Answer(q, said) },
				Open: func(b *bus.Bus, now func() time.Duration) func(context.Context) (any, error) {
					m, err := drivermeter.Open(drivermeter.Options{Bus: b, Kind: k.Name, Unit: unit, Now: now})
					require.NoError(t, err)
					return func(ctx context.Context) (any, error) {
						r, err := m.PollMeter(ctx)
						require.Equal(t, err == nil, r.At > 0, "a reading has its time")
						r.At = 0
						return r, err
					}
				},
				Want: driver.MeterReading{PowerW: slot.Known(2_960), VoltageMV: volts, EnergyJ: 36_000_000_000, EnergyKnown: true},
			})
		})
	}
}

func TestWhatAMeterDoesNotKnow(t *testing.T) {
	k, _ := meter.Find("sdm120")
	drivertest.RunInstrument(t, drivertest.Instrument{
		Baud: 9600, Unit: unit,
		Answer: func(q modbus.Request) ([]uint16, error) {
			return k.Answer(q, meter.Reading{ImportedJ: meter.Known(-3_600_000), PowerMW: meter.Known(3e12)})
		},
		Open: func(b *bus.Bus, now func() time.Duration) func(context.Context) (any, error) {
			m, err := drivermeter.Open(drivermeter.Options{Bus: b, Kind: k.Name, Unit: unit, Now: now})
			require.NoError(t, err)
			return func(ctx context.Context) (any, error) {
				r, err := m.PollMeter(ctx)
				r.At = 0
				return r, err
			}
		},
		Want: driver.MeterReading{},
	})
	_, err := drivermeter.Open(drivermeter.Options{Kind: "abacus"})
	require.ErrorContains(t, err, `meter kind is "abacus", expected one of ["ddsu666" "dtsu666" "sdm120" "sdm630"]`)
}
