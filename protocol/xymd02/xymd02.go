// Package xymd02 is the register map of the XY-MD02, a sensor of temperature and
// humidity.
//
// It knows two input registers (function 04): 0001 temperature, 0.1 °C, two's
// complement; 0002 relative humidity, 0.1 %. It gives both directions. It needs
// nothing and does no I/O; the frames around the registers are package modbus.
//
// Source: its data sheet. Units that give hundredths, and 8E1, have been seen: what
// no air in a cabinet can be is unknown.
package xymd02

import (
	"errors"
	"fmt"

	"batteryswap/protocol/modbus"
)

// What is wrapped: a register that is not there, and a reply that is none.
var (
	ErrAddress = errors.New("no such register")
	ErrCount   = errors.New("number of registers is wrong")
)

// Registers.
const (
	regTemp uint16 = 0x0001
	count   uint16 = 2
)

// What the sensor can measure, 0.1 °C and 0.1 %.
const (
	coldest  = -400
	hottest  = 1250
	wettest  = 1000
	unsigned = 1 << 16
)

// Value is a measured number, or the absence of one. The zero value is absent.
type Value struct {
	N     int32
	Known bool
}

// Reading is what the sensor measures.
type Reading struct {
	Temp     Value // 0.1 °C
	Humidity Value // 0.1 %
}

// Request is the question whose answer makes a reading.
func Request(unit uint8) modbus.Request {
	return modbus.Request{Unit: unit, Function: modbus.ReadInput, Address: regTemp, Count: count}
}

// Decode makes a reading of the registers that answer Request.
func Decode(registers []uint16) (Reading, error) {
	if len(registers) != int(count) {
		return Reading{}, fmt.Errorf("xymd02: %w: %d, expected %d", ErrCount, len(registers), count)
	}
	var r Reading
	if t := int32(int16(registers[0])); t >= coldest && t <= hottest {
		r.Temp = Value{N: t, Known: true}
	}
	if h := int32(registers[1]); h <= wettest {
		r.Humidity = Value{N: h, Known: true}
	}
	return r, nil
}

// Answer is what a sensor with that reading answers to a question. What it does
// not know is a number that it cannot measure.
func Answer(q modbus.Request, r Reading) ([]uint16, error) {
	if q.Function != modbus.ReadInput {
		return nil, fmt.Errorf("xymd02: %w: %d", modbus.ErrFunction, q.Function)
	}
	image := [count]uint16{0x7FFF, unsigned - 1}
	if r.Temp.Known {
		image[0] = uint16(int16(r.Temp.N))
	}
	if r.Humidity.Known {
		image[1] = uint16(r.Humidity.N)
	}
	start, end := int(q.Address)-int(regTemp), int(q.Address)-int(regTemp)+int(q.Count)
	if start < 0 || end > len(image) {
		return nil, fmt.Errorf("xymd02 registers %04X to %04X: %w", q.Address, int(q.Address)+int(q.Count)-1, ErrAddress)
	}
	return append([]uint16(nil), image[start:end]...), nil
}
