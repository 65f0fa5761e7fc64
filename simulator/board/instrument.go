package board

import (
	"fmt"
	"time"

	"batteryswap/protocol/meter"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/xymd02"
	"batteryswap/simulator/world"
)

// Addresses of the instruments on the line.
const (
	MeterUnit   uint8 = 201
	ClimateUnit uint8 = 202
)

// addInstruments hangs the instruments that are wanted on the line.
func (b *Board) addInstruments(o Options) error {
	b.instruments = map[uint8]unit{}
	if o.Meter != "" {
		kind, ok := meter.Find(o.Meter)
		if !ok {
			return fmt.Errorf("boards of cabinet %q: there is no meter %q", o.Cabinet, o.Meter)
		}
		b.instruments[MeterUnit] = &meterUnit{world: o.World, cabinet: o.Cabinet, kind: kind}
	}
	if o.ClimateSensor {
		b.instruments[ClimateUnit] = &climateUnit{world: o.World, cabinet: o.Cabinet}
	}
	return nil
}

// meterUnit is an energy meter.
type meterUnit struct {
	world   *world.World
	cabinet string
	kind    meter.Kind
	frozen  *meter.Reading // what it measured when it froze
}

func (u *meterUnit) tick(time.Duration)  {}
func (u *meterUnit) heard(time.Duration) {}
func (u *meterUnit) number() int         { return world.Meter }

// silent: a meter lives on the mains that it measures.
func (u *meterUnit) silent(at time.Duration) bool {
	r, err := u.world.ReadMeter(at, u.cabinet)
	return err != nil || !r.Live
}

func (u *meterUnit) answer(at time.Duration, q modbus.Request) (modbus.Reply, func(time.Duration), error) {
	r := u.measure(at)
	if _, frozen := u.world.Strikes(u.cabinet, world.Meter, world.FrozenBoard); !frozen {
		u.frozen = nil
	} else if u.frozen == nil {
		u.frozen = &r
	} else {
		r = *u.frozen
	}
	registers, err := u.kind.Answer(q, r)
	if err != nil {
		return modbus.Reply{}, nil, err
	}
	reply := modbus.ReplyTo(q)
	reply.Registers = registers
	return reply, nil, nil
}

// measure is what it measures: the same voltage on all phases, the power shared
// evenly.
func (u *meterUnit) measure(at time.Duration) meter.Reading {
	m, err := u.world.ReadMeter(at, u.cabinet)
	if err != nil {
		return meter.Reading{} // the cabinet exists: New asked for its slots
	}
	r := meter.Reading{PowerMW: meter.Known(int64(m.PowerMW)), ImportedJ: meter.Known(int64(m.EnergyJ))}
	for i := range u.kind.Phases {
		r.VoltageMV[i] = meter.Known(int64(m.VoltageMV))
		r.CurrentMA[i] = meter.Known(int64(m.CurrentMA / u.kind.Phases))
	}
	return r
}

// climateUnit is an XY-MD02.
type climateUnit struct {
	world   *world.World
	cabinet string
}

func (u *climateUnit) tick(time.Duration)  {}
func (u *climateUnit) heard(time.Duration) {}
func (u *climateUnit) number() int         { return world.ClimateSensor }

func (u *climateUnit) answer(at time.Duration, q modbus.Request) (modbus.Reply, func(time.Duration), error) {
	c, err := u.world.ReadClimate(at, u.cabinet)
	if err != nil {
		return modbus.Reply{}, nil, err
	}
	registers, err := xymd02.Answer(q, xymd02.Reading{
		Temp:     xymd02.Value{N: int32(c.TempDeciC), Known: true},
		Humidity: xymd02.Value{N: int32(c.HumidityPermille), Known: true},
	})
	if err != nil {
		return modbus.Reply{}, nil, err
	}
	reply := modbus.ReplyTo(q)
	reply.Registers = registers
	return reply, nil, nil
}
