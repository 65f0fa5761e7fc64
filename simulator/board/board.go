// Package board is the electronics: slot boards and a cabinet board that speak
// SlotBoard v1, an energy meter and a climate sensor, on one serial line, with the
// facts of a world behind them.
//
// It knows the map's rules for a board (one sequence number, one pulse; charging
// off before a lock; the master watchdog; identity and its acknowledgement) and
// how long bytes take on a wire. It gives Answer, which turns a frame into what
// goes back on the wire, and Serve, which does so on a line at the line's own
// pace, faults of line and boards included. It needs a world, a clock and a line.
//
// # Why
//
// A pseudo-terminal has no baud rate: it hands over 37 bytes at once, and an
// agent tested so would be tested on no line that exists. So the board waits for
// the time that each byte takes, in both directions.
package board

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"batteryswap/protocol/meter"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
	"batteryswap/protocol/xymd02"
	"batteryswap/simulator/pty"
	"batteryswap/simulator/world"
)

// Options say which cabinet's boards these are, and what line they hang on.
type Options struct {
	World   *world.World
	Cabinet string
	Wire    Wire // zero: 19200 baud, 8N1, no time of its own
	// WithoutBolt: the slot boards have no bolt feedback.
	WithoutBolt bool
	// Meter is the kind of energy meter on the line, one of meter.Kinds; "": none.
	// ClimateSensor: there is an XY-MD02. They answer at MeterUnit and ClimateUnit.
	Meter         string
	ClimateSensor bool
	// Now is the time since the world began. It never runs back.
	Now func() time.Duration
}

// Board is all boards of one cabinet: units 1 to the number of slots, 100, and the
// instruments.
type Board struct {
	world     *world.World
	cabinet   string
	wire      Wire
	now       func() time.Duration
	pause     func(time.Duration)
	goneError error

	mu          sync.Mutex
	slots       []*slotUnit
	own         *cabinetUnit
	instruments map[uint8]unit
}

// New makes the boards of a cabinet, just reset.
func New(o Options) (*Board, error) {
	if o.Wire.Baud == 0 {
		o.Wire.Baud = 19200
	}
	if o.Wire.CharBits == 0 {
		o.Wire.CharBits = 10
	}
	if err := o.Wire.check(); err != nil {
		return nil, fmt.Errorf("boards of cabinet %q: %w", o.Cabinet, err)
	}
	n := o.World.Slots(o.Cabinet)
	if n == 0 {
		return nil, fmt.Errorf("boards of cabinet %q: %w", o.Cabinet, world.ErrNoSuchPlace)
	}
	b := &Board{
		world: o.World, cabinet: o.Cabinet, wire: o.Wire, now: o.Now,
		pause: nanosleep, goneError: pty.ErrGone,
	}
	at := o.Now()
	for i := range n {
		b.slots = append(b.slots, newSlotUnit(o.World, o.Cabinet, i+1, at, o.WithoutBolt))
	}
	b.own = newCabinetUnit(o.World, o.Cabinet, at)
	return b, b.addInstruments(o)
}

// unit is one address on the line.
type unit interface {
	// tick lets the unit's own program run: it looks at its sensors.
	tick(at time.Duration)
	// answer does what a request asks and fills in the reply. An error is a
	// refusal. What must happen after the reply was sent is returned.
	answer(at time.Duration, q modbus.Request) (modbus.Reply, func(at time.Duration), error)
	// heard: a request with this unit and a right checksum came.
	heard(at time.Duration)
	// number of the slot in the world, 0 for the cabinet's own board.
	number() int
}

func (b *Board) unit(address uint8) unit {
	switch {
	case address == slotboard.CabinetUnit:
		return b.own
	case address >= 1 && int(address) <= len(b.slots):
		return b.slots[address-1]
	}
	return b.instruments[address]
}

// tick runs the boards' own programs: watchdogs, locks, fault bits.
func (b *Board) tick(at time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.slots {
		s.tick(at)
	}
	b.own.tick(at)
}

// Answer is what goes back on the wire for a frame that ended at a time: nothing
// for a frame that is broken or not for a unit of this cabinet.
func (b *Board) Answer(at time.Duration, frame []byte) []Transmission {
	b.mu.Lock()
	defer b.mu.Unlock()
	q, err := modbus.DecodeRequest(frame)
	if errors.Is(err, modbus.ErrCRC) || len(frame) < 4 || len(frame) > modbus.MaxFrame {
		return nil
	}
	u := b.unit(frame[0])
	if u == nil {
		return nil
	}
	if _, dead := b.world.Strikes(b.cabinet, u.number(), world.DeadBoard); dead {
		return nil
	}
	if silent, ok := u.(interface{ silent(time.Duration) bool }); ok && silent.silent(at) {
		return nil
	}
	u.tick(at)
	defer u.heard(at) // the answer to the request that ends a silence still tells of it
	reply, after := refuse(q, err), func(time.Duration) {}
	if err == nil {
		var then func(time.Duration)
		if reply, then, err = u.answer(at, q); err != nil {
			reply = refuse(q, err)
		} else if then != nil {
			after = then
		}
	}
	bytes, err := reply.Append(nil)
	if err != nil {
		// A function that the codec cannot frame: refused by its number alone.
		bytes = modbus.AppendCRC([]byte{frame[0], frame[1] | 0x80, byte(modbus.IllegalFunction)})
	}
	t := Transmission{Start: at + b.wire.DeviceTime, Bytes: bytes, After: after}
	return b.spoil(u.number(), frame, t)
}

// refuse is the exception that the map gives for an error.
func refuse(q modbus.Request, err error) modbus.Reply {
	switch {
	case errors.Is(err, modbus.ErrFunction):
		return modbus.Refusal(q, modbus.IllegalFunction)
	case errors.Is(err, slotboard.ErrAddress), errors.Is(err, meter.ErrAddress), errors.Is(err, xymd02.ErrAddress):
		return modbus.Refusal(q, modbus.IllegalAddress)
	case err != nil:
		return modbus.Refusal(q, modbus.IllegalValue)
	}
	return modbus.Reply{}
}

// readInputs reads a range of an image of input registers.
func readInputs(q modbus.Request, image []uint16) (modbus.Reply, error) {
	end := int(q.Address) + int(q.Count)
	if end > len(image) {
		return modbus.Reply{}, fmt.Errorf("input registers %04X to %04X: %w", q.Address, end-1, slotboard.ErrAddress)
	}
	r := modbus.ReplyTo(q)
	r.Registers = image[q.Address:end]
	return r, nil
}

// seconds is a counter that is counted up each second and wraps.
func seconds(d time.Duration) uint16 { return uint16(d / time.Second) }
