package agent

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
)

func TestInstrumentsAreUnknownWhenTheyAreOld(t *testing.T) {
	var i instruments
	m, c := i.read(time.Hour)
	require.Zero(t, m)
	require.Zero(t, c)
	said := driver.MeterReading{At: 10 * time.Second, PowerW: slot.Known(900), EnergyJ: 7, EnergyKnown: true}
	i.took(driver.Report{Slot: driver.MeterPoll, Meter: said})
	i.took(driver.Report{Slot: driver.ClimatePoll, Climate: driver.ClimateReading{At: 12 * time.Second, Temp: slot.Known(-5)}})
	i.took(driver.Report{Slot: driver.MeterPoll, Err: errors.New("no reply")})
	m, c = i.read(25 * time.Second)
	require.Equal(t, said, m)
	require.Equal(t, slot.Known(-5), c.Temp)
	var e exposition
	i.expose(&e, 25*time.Second)
	require.Contains(t, e.String(), "swap_cabinet_energy_joules_total 7")
	require.Contains(t, e.String(), "swap_cabinet_air_celsius -0.5")
	m, c = i.read(25*time.Second + time.Millisecond)
	require.Zero(t, m, "three polls old")
	require.Equal(t, slot.Known(-5), c.Temp)
	e = exposition{}
	i.expose(&e, time.Hour)
	require.Empty(t, e.String(), "what is not known is not told")
}

// Every kind that the configuration takes can be opened, at any address.
func TestEveryConfiguredInstrumentOpens(t *testing.T) {
	for _, kind := range []string{"ddsu666", "dtsu666", "sdm120", "sdm630"} {
		c := config.Default()
		c.Meter = config.Instrument{Kind: kind, Address: 201}
		c.Climate = config.Instrument{Kind: "xymd02", Address: 247}
		var o driver.PollerOptions
		require.NoError(t, openInstruments(c, nil, nil, &o))
		require.NotNil(t, o.Meter)
		require.NotNil(t, o.Climate)
	}
	c := config.Default()
	var o driver.PollerOptions
	require.NoError(t, openInstruments(c, nil, nil, &o))
	require.Nil(t, o.Meter)
	require.Nil(t, o.Climate)
	c.Meter.Kind = "abacus"
	require.ErrorContains(t, openInstruments(c, nil, nil, &o), "abacus")
}

// A reading on a slow line is old later: three cycles, however long one takes.
func TestReadingsOnASlowLineLastLonger(t *testing.T) {
	for _, c := range []struct {
		baud, slots, deviceMS int
		instruments           bool
		low, high             time.Duration
	}{
		{115200, 12, 5, false, 3 * time.Second, 3 * time.Second},
		{19200, 12, 20, false, 3 * time.Second, 3 * time.Second},
		// A cycle of 13 exchanges at 54 ms, and 50 ms for the board to think.
		{9600, 12, 50, false, 4 * time.Second, 4100 * time.Millisecond},
		{9600, 12, 50, true, 5 * time.Second, 5400 * time.Millisecond},
		{9600, 48, 150, false, 29 * time.Second, 31 * time.Second},
		{1200, 12, 150, false, 20 * time.Second, 25 * time.Second},
	} {
		cfg := config.Default()
		cfg.Board.Slots = c.slots
		if c.instruments {
			cfg.Meter, cfg.Climate = config.Instrument{Kind: "sdm120", Address: 201}, config.Instrument{Kind: "xymd02", Address: 202}
		}
		b, err := bus.New(bus.Config{
			Open: func() (bus.Line, error) { return nil, errors.New("none") }, Baud: c.baud, CharBits: 10,
			Device: time.Duration(c.deviceMS) * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		stale := staleAfter(b.Timing(), cycleExchanges(cfg))
		require.GreaterOrEqual(t, stale, c.low, "%+v", c)
		require.LessOrEqual(t, stale, c.high, "%+v", c)
		require.NoError(t, b.Close())
	}
}
