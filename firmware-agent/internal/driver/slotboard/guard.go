package slotboard

import (
	"context"
	"fmt"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// What the safety loop asks. None of it waits for a Poll or an Unlock, and none
// is repeated here: the loop knows what is more urgent.

// lookCount is the length of a look: longer than a poll's and than its repetition,
// so that no late reply to the one is taken for the other's.
const lookCount = slotboard.FastCount + 2

// Look reads a slot's fast registers.
func (b *Board) Look(ctx context.Context, number int) (slot.Reading, error) {
	u, err := b.unit(number)
	if err != nil {
		return slot.Reading{}, fmt.Errorf("look: %w", err)
	}
	count := lookCount + uint16(u.looked.Add(1)%2)
	registers, err := b.read(ctx, bus.Safety, uint8(number), slotboard.RegStatus, count)
	if err != nil {
		return slot.Reading{}, fmt.Errorf("look at slot %d: %w", number, err)
	}
	fast, err := slotboard.DecodeFast(registers)
	if err != nil {
		return slot.Reading{}, fmt.Errorf("look at slot %d: %w", number, err)
	}
	r := reading(number, fast, slotboard.Status(u.senses.Load()), b.now())
	r.IdentityEpoch = registers[slotboard.RegIdentityEpoch]
	return r, nil
}

// LookCabinet reads the cabinet's own board.
func (b *Board) LookCabinet(ctx context.Context) (driver.CabinetReading, error) {
	return b.readCabinet(ctx, bus.Safety)
}

// Charge switches charging of a slot on or off.
func (b *Board) Charge(ctx context.Context, number int, on bool) error {
	u, err := b.unit(number)
	if err != nil {
		return fmt.Errorf("charge: %w", err)
	}
	value := uint16(0)
	if on {
		if !u.locking.TryLock() {
			return fmt.Errorf("charge slot %d: %w", number, driver.ErrBusy)
		}
		defer u.locking.Unlock()
		value = 1
	}
	if err := b.writeOnce(ctx, bus.Safety, uint8(number), slotboard.HoldCharge, value); err != nil {
		return fmt.Errorf("charge slot %d: %w", number, err)
	}
	return nil
}

// Limit sets the highest charge current of a slot, in mA; 0 is the battery's own.
func (b *Board) Limit(ctx context.Context, number, milliamps int) error {
	if _, err := b.unit(number); err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	value := uint16(min(max(milliamps, 0)/10, maxLimit))
	if err := b.writeOnce(ctx, bus.Safety, uint8(number), slotboard.HoldAmpLimit, value); err != nil {
		return fmt.Errorf("limit slot %d to %d mA: %w", number, milliamps, err)
	}
	return nil
}

// Air says what a slot's fan and its heater are to do.
func (b *Board) Air(ctx context.Context, number int, fan, heater slot.Air) error {
	if _, err := b.unit(number); err != nil {
		return fmt.Errorf("fan and heater: %w", err)
	}
	// The two registers stand side by side.
	if _, err := b.bus.Modbus(ctx, bus.Safety, modbus.Request{
		Unit: uint8(number), Function: modbus.WriteRegisters, Address: slotboard.HoldFan, Registers: []uint16{uint16(fan), uint16(heater)},
	}); err != nil {
		return fmt.Errorf("fan and heater of slot %d: %w", number, err)
	}
	return nil
}

// maxLimit is the highest charge current limit of the map, in 10 mA.
const maxLimit = 10_000

// Contactor closes or opens the main contactor.
func (b *Board) Contactor(ctx context.Context, closed bool) error {
	value := uint16(0)
	if closed {
		value = 1
	}
	if err := b.writeOnce(ctx, bus.Safety, slotboard.CabinetUnit, slotboard.HoldContactor, value); err != nil {
		return fmt.Errorf("main contactor: %w", err)
	}
	return nil
}
