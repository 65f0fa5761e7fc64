package board

import (
	"fmt"
	"time"

	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
	"batteryswap/simulator/world"
)

// cabinetUnit is the cabinet's own board, unit 100.
type cabinetUnit struct {
	world   *world.World
	cabinet string
	resetAt time.Duration
	holding [6]uint16 // 0000 to 0005 as written
	door    slotboard.Lock
	frozen  []uint16 // the image when it froze
}

func newCabinetUnit(w *world.World, cabinet string, at time.Duration) *cabinetUnit {
	u := &cabinetUnit{world: w, cabinet: cabinet, resetAt: at}
	u.holding[slotboard.HoldContactor] = 1
	return u
}

func (u *cabinetUnit) number() int         { return world.CabinetBoard }
func (u *cabinetUnit) heard(time.Duration) {}

// fanAbove is the temperature above which the cabinet's fan runs by itself, in
// 0.1 °C.
const fanAbove = 350

// tick switches the fan, and forgets that the contactor was switched on when it
// has opened: it closes again only by a new command.
func (u *cabinetUnit) tick(at time.Duration) {
	if _, frozen := u.world.Strikes(u.cabinet, world.CabinetBoard, world.FrozenBoard); frozen {
		return
	}
	c, err := u.world.SenseCabinet(at, u.cabinet)
	if err != nil {
		return // the cabinet exists: New asked for its slots
	}
	if !c.ContactorClosed {
		u.holding[slotboard.HoldContactor] = 0
	}
	fan := u.holding[slotboard.HoldCabinetFan] == 2
	if u.holding[slotboard.HoldCabinetFan] == 0 {
		fan = c.UpperTempDeciC > fanAbove
	}
	if fan != c.FanOn {
		u.change(at, func(c *world.CabinetSensors) { c.FanOn = fan })
	}
}

func (u *cabinetUnit) answer(at time.Duration, q modbus.Request) (modbus.Reply, func(time.Duration), error) {
	_, frozen := u.world.Strikes(u.cabinet, world.CabinetBoard, world.FrozenBoard)
	if !frozen {
		u.frozen = nil
	}
	switch q.Function {
	case modbus.ReadInput:
		image := u.frozen
		if image == nil {
			now := u.image(at)
			image = now[:]
		}
		if frozen {
			u.frozen = image
		}
		r, err := readInputs(q, image)
		return r, nil, err
	case modbus.ReadHolding:
		end := int(q.Address) + int(q.Count)
		if end > len(u.holding) {
			return modbus.Reply{}, nil, fmt.Errorf("holding registers to %04X: %w", end-1, slotboard.ErrAddress)
		}
		r := modbus.ReplyTo(q)
		r.Registers = append([]uint16(nil), u.holding[q.Address:end]...)
		if q.Address == slotboard.HoldMainDoor {
			r.Registers[0] = 0
		}
		return r, nil, nil
	case modbus.WriteRegister:
		return u.write(at, q, []uint16{q.Value}, frozen)
	case modbus.WriteRegisters:
		return u.write(at, q, q.Registers, frozen)
	}
	return modbus.Reply{}, nil, fmt.Errorf("function %d: %w", q.Function, modbus.ErrFunction)
}

func (u *cabinetUnit) write(at time.Duration, q modbus.Request, values []uint16, frozen bool) (modbus.Reply, func(time.Duration), error) {
	for i, v := range values {
		if err := checkCabinet(q.Address+uint16(i), v); err != nil {
			return modbus.Reply{}, nil, err
		}
	}
	if frozen {
		return modbus.ReplyTo(q), nil, nil
	}
	var after func(time.Duration)
	for i, v := range values {
		address := q.Address + uint16(i)
		u.holding[address] = v
		switch address {
		case slotboard.HoldMainDoor:
			if seq, _ := slotboard.LockSeq(v); seq != u.door.Seq {
				u.door = slotboard.Lock{Seq: seq, Result: slotboard.LockOpened}
				after = func(at time.Duration) {
					u.change(at, func(c *world.CabinetSensors) { c.MainDoorOpen = true })
				}
			}
		case slotboard.HoldContactor:
			u.change(at, func(c *world.CabinetSensors) { c.ContactorClosed = v == 1 })
		}
	}
	return modbus.ReplyTo(q), after, nil
}

func (u *cabinetUnit) change(at time.Duration, change func(*world.CabinetSensors)) {
	// The cabinet exists: New asked for its slots.
	_ = u.world.SetCabinet(at, u.cabinet, change)
}

func checkCabinet(address, value uint16) error {
	high := uint16(0xFFFF)
	switch address {
	case slotboard.HoldMainDoor:
		if _, ok := slotboard.LockSeq(value); !ok {
			return fmt.Errorf("holding register %04X: %w", address, slotboard.ErrValue)
		}
	case slotboard.HoldCabinetFan:
		high = 2
	case slotboard.HoldCabinetLight, slotboard.HoldContactor:
		high = 1
	case slotboard.HoldSprinklerZones:
		high = 3
	case slotboard.HoldSprinklerZones + 1:
	default:
		return fmt.Errorf("holding register %04X: %w", address, slotboard.ErrAddress)
	}
	if value > high {
		return fmt.Errorf("holding register %04X is %d, expected at most %d: %w", address, value, high, slotboard.ErrValue)
	}
	return nil
}

func (u *cabinetUnit) image(at time.Duration) [slotboard.CabinetInputs]uint16 {
	c, err := u.world.SenseCabinet(at, u.cabinet)
	if err != nil {
		return [slotboard.CabinetInputs]uint16{} // the cabinet exists: New asked for its slots
	}
	status := slotboard.ArresterOK
	for bit, on := range map[slotboard.CabinetStatus]bool{
		slotboard.MainDoorOpen:    c.MainDoorOpen,
		slotboard.CabinetSmoke:    c.Smoke,
		slotboard.Water:           c.Water,
		slotboard.CabinetFan:      c.FanOn,
		slotboard.CabinetLight:    u.holding[slotboard.HoldCabinetLight] == 1,
		slotboard.BackupInUse:     c.BackupInUse,
		slotboard.Tilt:            c.Tilt,
		slotboard.Button:          c.Button,
		slotboard.MaintenanceKey:  c.MaintenanceKey,
		slotboard.EmergencyStop:   c.EmergencyStop,
		slotboard.ContactorClosed: c.ContactorClosed,
	} {
		if on {
			status |= bit
		}
	}
	return slotboard.Cabinet{
		Status:    status,
		Fitted:    1<<15 - 1, // every bit that has a meaning
		UpperTemp: slotboard.Known(int32(c.UpperTempDeciC)),
		LowerTemp: slotboard.Known(int32(c.LowerTempDeciC)),
		AirTemp:   slotboard.Known(int32(c.LowerTempDeciC)),
		Humidity:  slotboard.Known(int32(c.HumidityPermille)),
		BackupMV:  slotboard.Known(int32(c.BackupMV)),
		Alive:     seconds(at - u.resetAt),
		MainDoor:  u.door,
		Firmware:  firmware,
	}.Registers()
}
