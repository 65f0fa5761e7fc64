package agent

import (
	"sync"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/driver/climate"
	"batteryswap/firmware-agent/internal/driver/meter"
)

// instrumentStale is the age at which what an instrument said is no longer known.
const instrumentStale = stalePolls * driver.InstrumentEvery

// instruments is what the meter and the climate sensor said last. It is safe for
// several goroutines.
type instruments struct {
	mu      sync.Mutex
	meter   driver.MeterReading
	climate driver.ClimateReading
}

// openInstruments opens the instruments that are configured for the poller. It
// asks nothing of them.
func openInstruments(c config.Config, b *bus.Bus, now func() time.Duration, o *driver.PollerOptions) error {
	if c.Meter.Kind != "" {
		m, err := meter.Open(meter.Options{Bus: b, Kind: c.Meter.Kind, Unit: uint8(c.Meter.Address), Now: now})
		if err != nil {
			return err
		}
		o.Meter = m
	}
	if c.Climate.Kind != "" {
		s, err := climate.Open(climate.Options{Bus: b, Kind: c.Climate.Kind, Unit: uint8(c.Climate.Address), Now: now})
		if err != nil {
			return err
		}
		o.Climate = s
	}
	return nil
}

// instrumentPolls is how many exchanges the instruments add to a cycle, each no
// longer than a slot's.
func instrumentPolls(c config.Config) int {
	n := 0
	if c.Meter.Kind != "" {
		n += meter.Exchanges
	}
	if c.Climate.Kind != "" {
		n++
	}
	return n
}

// took takes the outcome of one poll. What is not read gets old by itself.
func (i *instruments) took(r driver.Report) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case r.Err != nil:
	case r.Slot == driver.MeterPoll:
		i.meter = r.Meter
	case r.Slot == driver.ClimatePoll:
		i.climate = r.Climate
	}
}

// read is what is known now; what is too old is the zero reading, which knows
// nothing.
func (i *instruments) read(now time.Duration) (driver.MeterReading, driver.ClimateReading) {
	i.mu.Lock()
	defer i.mu.Unlock()
	m, c := i.meter, i.climate
	if now-m.At > instrumentStale {
		m = driver.MeterReading{}
	}
	if now-c.At > instrumentStale {
		c = driver.ClimateReading{}
	}
	return m, c
}

// expose writes what is known.
func (i *instruments) expose(e *exposition, now time.Duration) {
	m, c := i.read(now)
	if m.PowerW.Known {
		e.gauge("swap_cabinet_power_watts", "What the cabinet takes from the mains now.", float64(m.PowerW.N))
	}
	if m.VoltageMV.Known {
		e.gauge("swap_cabinet_mains_volts", "Voltage of the mains, of the lowest phase.", float64(m.VoltageMV.N)/1000)
	}
	if m.EnergyKnown {
		e.counter("swap_cabinet_energy_joules_total", "What the cabinet has taken from the mains.", float64(m.EnergyJ))
	}
	if c.Temp.Known {
		e.gauge("swap_cabinet_air_celsius", "Temperature of the air inside.", float64(c.Temp.N)/10)
	}
	if c.Humidity.Known {
		e.gauge("swap_cabinet_humidity_ratio", "Relative humidity of the air inside.", float64(c.Humidity.N)/1000)
	}
}
