package meter

import (
	"errors"
	"fmt"
	"math"

	"batteryswap/protocol/modbus"
)

// ErrAddress is wrapped when a register is asked for that the meter does not
// have; a meter answers it with exception 2.
var ErrAddress = errors.New("no such register")

// ErrCount is wrapped when the replies are not those to the meter's requests.
var ErrCount = errors.New("number of registers is wrong")

// phases is the number of phases of the largest meter.
const phases = 3

// Value is a measured number, or the absence of one. The zero value is absent.
type Value struct {
	N     int64
	Known bool
}

// Known is the measured number n.
func Known(n int64) Value { return Value{N: n, Known: true} }

// Reading is what a meter measures.
type Reading struct {
	// VoltageMV and CurrentMA are of each phase, in mV and mA; a meter of one
	// phase knows the first only.
	VoltageMV, CurrentMA [phases]Value
	// PowerMW is the power that flows in now, of all phases, in mW; negative when
	// it flows out.
	PowerMW Value
	// ImportedJ is the energy that has flowed in since the meter was made, in J.
	// A meter counts it in steps of 10 Wh, or 36 kJ.
	ImportedJ Value
}

// LowestMV is the lowest voltage of the phases that are known.
func (r Reading) LowestMV() Value {
	var lowest Value
	for _, v := range r.VoltageMV {
		if v.Known && (!lowest.Known || v.N < lowest.N) {
			lowest = v
		}
	}
	return lowest
}

// Kind is one kind of meter.
type Kind struct {
	// Name is the kind's name in the configuration.
	Name string
	// Phases is the number of phases that it measures.
	Phases   int
	function modbus.Function
	blocks   []block
}

// block is registers that follow one another, in order.
type block struct {
	address uint16
	fields  []field
}

// field is one float32, of two registers. scale is how many of the value's units
// one of the meter's is.
type field struct {
	of    func(*Reading) *Value
	scale float64
}

// Units, in those of Reading.
const (
	volt = 1e3
	amp  = 1e3
	watt = 1e3
	kWh  = 3.6e6
)

func voltage(phase int, scale float64) field {
	return field{func(r *Reading) *Value { return &r.VoltageMV[phase] }, scale}
}

func current(phase int, scale float64) field {
	return field{func(r *Reading) *Value { return &r.CurrentMA[phase] }, scale}
}

func power(scale float64) field {
	return field{func(r *Reading) *Value { return &r.PowerMW }, scale}
}

func imported() field {
	return field{func(r *Reading) *Value { return &r.ImportedJ }, kWh}
}

// Kinds is the table of the meters.
func Kinds() []Kind {
	return []Kind{
		{Name: "ddsu666", Phases: 1, function: modbus.ReadHolding, blocks: []block{
			{0x2000, []field{voltage(0, volt), current(0, amp), power(1000 * watt)}},
			{0x4000, []field{imported()}},
		}},
		// Its voltages come in 0.1 V, its currents in mA, its power in 0.1 W.
		{Name: "dtsu666", Phases: 3, function: modbus.ReadHolding, blocks: []block{
			{0x2006, []field{
				voltage(0, volt/10), voltage(1, volt/10), voltage(2, volt/10),
				current(0, amp/1000), current(1, amp/1000), current(2, amp/1000),
				power(watt / 10),
			}},
			{0x101E, []field{imported()}},
		}},
		{Name: "sdm120", Phases: 1, function: modbus.ReadInput, blocks: []block{
			{0x0000, []field{voltage(0, volt)}},
			{0x000C, []field{power(watt)}},
			{0x0048, []field{imported()}},
		}},
		{Name: "sdm630", Phases: 3, function: modbus.ReadInput, blocks: []block{
			{0x0000, []field{
				voltage(0, volt), voltage(1, volt), voltage(2, volt),
				current(0, amp), current(1, amp), current(2, amp),
			}},
			{0x0034, []field{power(watt)}},
			{0x0048, []field{imported()}},
		}},
	}
}

// Find is the kind with that name.
func Find(name string) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// fieldRegisters is the length of a float32.
const fieldRegisters = 2

// Requests are the questions whose answers make a reading, in order.
func (k Kind) Requests(unit uint8) []modbus.Request {
	requests := make([]modbus.Request, 0, len(k.blocks))
	for _, b := range k.blocks {
		requests = append(requests, modbus.Request{
			Unit: unit, Function: k.function, Address: b.address, Count: uint16(fieldRegisters * len(b.fields)),
		})
	}
	return requests
}

// Decode makes a reading of the registers that answer Requests, in the same order.
func (k Kind) Decode(replies [][]uint16) (Reading, error) {
	var r Reading
	if len(replies) != len(k.blocks) {
		return Reading{}, fmt.Errorf("meter %s: %w: %d replies, expected %d", k.Name, ErrCount, len(replies), len(k.blocks))
	}
	for i, b := range k.blocks {
		if len(replies[i]) != fieldRegisters*len(b.fields) {
			return Reading{}, fmt.Errorf("meter %s register %04X: %w: %d, expected %d",
				k.Name, b.address, ErrCount, len(replies[i]), fieldRegisters*len(b.fields))
		}
		for j, f := range b.fields {
			*f.of(&r) = value(float(replies[i][fieldRegisters*j:]), f.scale)
		}
	}
	return r, nil
}

// Answer is what a meter of this kind with that reading answers to a question.
func (k Kind) Answer(q modbus.Request, r Reading) ([]uint16, error) {
	if q.Function != k.function {
		return nil, fmt.Errorf("meter %s: %w: %d", k.Name, modbus.ErrFunction, q.Function)
	}
	var registers []uint16
	for a := int(q.Address); a < int(q.Address)+int(q.Count); a++ {
		value, ok := k.register(a, &r)
		if !ok {
			return nil, fmt.Errorf("meter %s register %04X: %w", k.Name, a, ErrAddress)
		}
		registers = append(registers, value)
	}
	return registers, nil
}

// register is what stands in one register.
func (k Kind) register(address int, r *Reading) (uint16, bool) {
	for _, b := range k.blocks {
		offset := address - int(b.address)
		if offset < 0 || offset >= fieldRegisters*len(b.fields) {
			continue
		}
		f := b.fields[offset/fieldRegisters]
		v := *f.of(r)
		bits := math.Float32bits(float32(math.NaN()))
		if v.Known {
			bits = math.Float32bits(float32(float64(v.N) / f.scale))
		}
		if offset%fieldRegisters == 0 {
			return uint16(bits >> 16), true
		}
		return uint16(bits), true
	}
	return 0, false
}

func float(registers []uint16) float32 {
	return math.Float32frombits(uint32(registers[0])<<16 | uint32(registers[1]))
}

// largest is above anything that a cabinet's meter can say: 10 MW, 10 GWh.
const largest = 4e16

// value takes what is no number, or none that a meter can measure, as unknown.
func value(f float32, scale float64) Value {
	n := float64(f) * scale
	if math.IsNaN(n) || math.Abs(n) > largest {
		return Value{}
	}
	return Known(int64(math.Round(n)))
}
