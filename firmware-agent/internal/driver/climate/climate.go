// Package climate drives a sensor of temperature and humidity that hangs on the
// boards' line at an address of its own.
//
// It knows one question. It gives a driver.Climate. It needs a bus; the registers
// are those of protocol/xymd02.
package climate

import (
	"context"
	"fmt"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/xymd02"
)

// Options is what a sensor is opened with.
type Options struct {
	Bus *bus.Bus
	// Kind is one of Kinds, Unit its address on the line.
	Kind string
	Unit uint8
	// Now is the agent's monotonic clock.
	Now func() time.Duration
}

// Sensor is one climate sensor on a bus.
type Sensor struct{ o Options }

// Kinds lists the kinds of sensor that there are.
func Kinds() []string { return []string{"xymd02"} }

// Open makes the driver. It asks nothing of the sensor.
func Open(o Options) (*Sensor, error) {
	if o.Kind != Kinds()[0] {
		return nil, fmt.Errorf("climate kind is %q, expected one of %q", o.Kind, Kinds())
	}
	return &Sensor{o: o}, nil
}

// PollClimate reads the sensor.
func (s *Sensor) PollClimate(ctx context.Context) (driver.ClimateReading, error) {
	reply, err := s.o.Bus.Modbus(ctx, bus.Poll, xymd02.Request(s.o.Unit))
	if err != nil {
		return driver.ClimateReading{}, fmt.Errorf("poll the climate sensor at %d: %w", s.o.Unit, err)
	}
	r, err := xymd02.Decode(reply.Registers)
	if err != nil {
		return driver.ClimateReading{}, fmt.Errorf("poll the climate sensor at %d: %w", s.o.Unit, err)
	}
	return driver.ClimateReading{At: s.o.Now(), Temp: slot.Value(r.Temp), Humidity: slot.Value(r.Humidity)}, nil
}
