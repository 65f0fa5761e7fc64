package board

import (
	"fmt"
	"time"

	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
	"batteryswap/simulator/world"
)

// Units of the charge limits, in mV and mA.
const (
	deciVolt = 100
	centiAmp = 10
)

// coilCount is the number of coils: fan, heater, charging enabled.
const coilCount = 3

func (u *slotUnit) coils() slotboard.Status {
	var coils slotboard.Status
	if u.holding[slotboard.HoldFan] == 2 {
		coils |= 1 << slotboard.CoilFan
	}
	if u.holding[slotboard.HoldHeater] == 2 {
		coils |= 1 << slotboard.CoilHeater
	}
	if u.holding[slotboard.HoldCharge] == 1 {
		coils |= 1 << slotboard.CoilChargeEnable
	}
	return coils
}

func (u *slotUnit) readHolding(q modbus.Request) (modbus.Reply, error) {
	r := modbus.ReplyTo(q)
	for i := range q.Count {
		v, ok := u.holding[q.Address+i]
		if !ok {
			return modbus.Reply{}, fmt.Errorf("holding register %04X: %w", q.Address+i, slotboard.ErrAddress)
		}
		r.Registers = append(r.Registers, v)
	}
	return r, nil
}

// write does a write request as a whole, or refuses it as a whole.
func (u *slotUnit) write(at time.Duration, q modbus.Request, frozen bool) (func(time.Duration), error) {
	address, values := q.Address, q.Registers
	switch q.Function {
	case modbus.WriteCoil:
		var err error
		if address, values, err = coilWrite(q); err != nil {
			return nil, err
		}
	case modbus.WriteRegister:
		values = []uint16{q.Value}
	}
	for i, v := range values {
		if err := u.check(at, address+uint16(i), v); err != nil {
			return nil, err
		}
	}
	if frozen {
		return nil, nil
	}
	var after func(time.Duration)
	for i, v := range values {
		if then := u.set(at, address+uint16(i), v); then != nil {
			after = then
		}
	}
	return after, nil
}

// coilWrite is the holding register that a coil mirrors.
func coilWrite(q modbus.Request) (uint16, []uint16, error) {
	on := uint16(0)
	if q.Value == modbus.CoilOn {
		on = 1
	}
	switch q.Address {
	case slotboard.CoilFan:
		return slotboard.HoldFan, []uint16{1 + on}, nil
	case slotboard.CoilHeater:
		return slotboard.HoldHeater, []uint16{1 + on}, nil
	case slotboard.CoilChargeEnable:
		return slotboard.HoldCharge, []uint16{on}, nil
	}
	return 0, nil, fmt.Errorf("coil %04X: %w", q.Address, slotboard.ErrAddress)
}

func (u *slotUnit) check(at time.Duration, address, value uint16) error {
	switch address {
	case slotboard.HoldUnprotect:
		if value != slotboard.UnprotectKey {
			return fmt.Errorf("holding register %04X: %w", address, slotboard.ErrValue)
		}
		return nil
	case slotboard.HoldUnit, slotboard.HoldBaud, slotboard.HoldParity:
		low, high := uint16(0), uint16(2)
		if address == slotboard.HoldUnit {
			low, high = 1, slotboard.MaxSlots
		}
		if at > u.unprotected || u.unprotected == 0 || value < low || value > high {
			return fmt.Errorf("holding register %04X is protected or out of range: %w", address, slotboard.ErrValue)
		}
		return nil
	case slotboard.HoldIdentityAck:
		if value != u.epoch {
			return fmt.Errorf("identity epoch is %d, not %d: %w", u.epoch, value, slotboard.ErrValue)
		}
		return nil
	}
	return slotboard.CheckWrite(address, value)
}

// set obeys one register that has passed check. What must wait until the reply
// is sent is returned.
func (u *slotUnit) set(at time.Duration, address, value uint16) func(time.Duration) {
	switch address {
	case slotboard.HoldLock:
		return u.unlock(at, value)
	case slotboard.HoldCharge:
		u.charge(at, value == 1)
	case slotboard.HoldUnprotect:
		u.unprotected = at + unprotectedFor
	case slotboard.HoldIdentityAck:
		u.unacked = false
	case slotboard.HoldVoltLimit, slotboard.HoldAmpLimit:
		u.holding[address] = value
		// The slot exists: New counted them.
		_ = u.world.LimitCharger(at, u.cabinet, u.slot, world.ChargeLimits{
			MV: int(u.holding[slotboard.HoldVoltLimit]) * deciVolt, MA: int(u.holding[slotboard.HoldAmpLimit]) * centiAmp,
		})
	case slotboard.HoldFaultClear:
		u.faults &^= slotboard.Fault(uint32(value) << 16)
		if u.faults&slotboard.LockJam == 0 {
			u.noReply = 0
		}
		u.judge(at, u.sense(at))
	default:
		u.holding[address] = value
	}
	return nil
}

// unlock executes a lock command once per new sequence number.
func (u *slotUnit) unlock(at time.Duration, value uint16) func(time.Duration) {
	seq, ok := slotboard.LockSeq(value)
	if !ok || seq == u.lock.Seq {
		return nil
	}
	u.lock.Seq = seq
	s := u.sense(at)
	switch {
	case s.CurrentMA > chargeCurrentMax:
		u.lock.Result = slotboard.LockRefusedCharging
		return nil
	case u.faults&(slotboard.CoilStuck|slotboard.LockJam|slotboard.SmokeAlarm) != 0:
		u.lock.Result = slotboard.LockRefusedFault
		return nil
	}
	u.lock.Result, u.pulseAt = slotboard.LockOpening, never
	pulse := time.Duration(u.holding[slotboard.HoldPulse]) * time.Millisecond
	return func(at time.Duration) {
		u.pulseAt = at
		// The slot exists: New counted them.
		_ = u.world.Pulse(at, u.cabinet, u.slot, pulse)
	}
}
