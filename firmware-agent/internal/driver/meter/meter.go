// Package meter drives an energy meter that hangs on the boards' line at an
// address of its own.
//
// It knows which questions make a reading, and that a meter which missed one is
// left alone until its next turn. It gives a driver.Meter. It needs a bus;
// addresses and units of the kinds of meter are those of protocol/meter.
//
// # Why
//
// A meter's answers to different questions can have the same length. A late answer
// could pass for the answer to the next question; so after a miss nothing more is
// asked in that turn, and before the next turn whatever came late was discarded.
package meter

import (
	"context"
	"fmt"
	"math"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/meter"
)

// Options is what a meter is opened with.
type Options struct {
	Bus *bus.Bus
	// Kind is one of Kinds, Unit its address on the line.
	Kind string
	Unit uint8
	// Now is the agent's monotonic clock.
	Now func() time.Duration
}

// Meter is one meter on a bus.
type Meter struct {
	o    Options
	kind meter.Kind
}

// Exchanges is the most that one poll of any kind of meter takes.
const Exchanges = 3

// Kinds lists the kinds of meter that there are.
func Kinds() []string {
	var names []string
	for _, k := range meter.Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// Open makes the driver. It asks nothing of the meter.
func Open(o Options) (*Meter, error) {
	kind, ok := meter.Find(o.Kind)
	if !ok {
		return nil, fmt.Errorf("meter kind is %q, expected one of %q", o.Kind, Kinds())
	}
	return &Meter{o: o, kind: kind}, nil
}

// PollMeter reads the meter.
func (m *Meter) PollMeter(ctx context.Context) (driver.MeterReading, error) {
	var replies [][]uint16
	for _, q := range m.kind.Requests(m.o.Unit) {
		reply, err := m.o.Bus.Modbus(ctx, bus.Poll, q)
		if err != nil {
			return driver.MeterReading{}, fmt.Errorf("poll the meter at %d, register %04X: %w", m.o.Unit, q.Address, err)
		}
		replies = append(replies, reply.Registers)
	}
	r, err := m.kind.Decode(replies)
	if err != nil {
		return driver.MeterReading{}, fmt.Errorf("poll the meter at %d: %w", m.o.Unit, err)
	}
	reading := driver.MeterReading{
		At:        m.o.Now(),
		PowerW:    thousandth(r.PowerMW),
		VoltageMV: value(r.LowestMV()),
	}
	if r.ImportedJ.Known && r.ImportedJ.N >= 0 {
		reading.EnergyJ, reading.EnergyKnown = uint64(r.ImportedJ.N), true
	}
	return reading, nil
}

func thousandth(v meter.Value) slot.Value {
	v.N = int64(math.Round(float64(v.N) / 1000))
	return value(v)
}

// value takes what does not fit as unknown.
func value(v meter.Value) slot.Value {
	if !v.Known || v.N > math.MaxInt32 || v.N < math.MinInt32 {
		return slot.Value{}
	}
	return slot.Known(int32(v.N))
}
