package board

import (
	"time"

	"batteryswap/protocol/slotboard"
	"batteryswap/simulator/world"
)

// image is everything that a slot's input registers say at one instant.
func (u *slotUnit) image(at time.Duration) slotboard.Slot {
	s := u.sense(at)
	fitted := slotboard.Status(0xFFFF) &^ slotboard.AntiTheft
	if u.withoutBolt {
		fitted &^= slotboard.BoltLocked
	}
	slot := slotboard.Slot{
		Fast: slotboard.Fast{
			Status: u.status(s) & fitted,
			Faults: u.faults,
			Air:    slotboard.Known(int32(s.AirDeciC)),
			Lock:   u.lock,
			Alive:  seconds(at - u.resetAt),
		},
		Identity: slotboard.Identity{Epoch: u.epoch},
		Limits: slotboard.ChargerLimits{
			MV: slotboard.Known(72_000), MA: slotboard.Known(10_000),
		},
		Firmware: firmware,
		Hardware: hardware,
		Board: slotboard.Board{
			UptimeS: uint32((at - u.resetAt) / time.Second), Fitted: fitted, Version: slotboard.Version,
		},
	}
	u.charger(s, &slot.Fast)
	if s.Battery != nil {
		describe(s, &slot)
	}
	return slot
}

func (u *slotUnit) status(s world.Sensed) slotboard.Status {
	var status slotboard.Status
	for bit, on := range map[slotboard.Status]bool{
		slotboard.DoorOpen:        s.DoorOpen,
		slotboard.CoilActive:      s.CoilActive,
		slotboard.BoltLocked:      s.BoltLocked,
		slotboard.BatteryPresent:  s.Present,
		slotboard.BatteryLink:     s.Battery != nil,
		slotboard.ChargerLink:     true,
		slotboard.Charging:        s.CurrentMA > chargeCurrentMax,
		slotboard.Full:            s.Battery != nil && s.Battery.SocPermille >= fullPermille,
		slotboard.Smoke:           s.Smoke,
		slotboard.FanOn:           u.fanOn(s),
		slotboard.HeaterOn:        u.heaterOn(s),
		slotboard.ChargeEnabled:   u.holding[slotboard.HoldCharge] == 1,
		slotboard.WatchdogTripped: u.tripped,
		slotboard.IdentityChanged: u.unacked,
		slotboard.AnyFault:        u.faults != 0,
	} {
		if on {
			status |= bit
		}
	}
	return status
}

func (u *slotUnit) fanOn(s world.Sensed) bool {
	switch u.holding[slotboard.HoldFan] {
	case 0:
		return s.AirDeciC > int(int16(u.holding[slotboard.HoldFanTemp]))
	case 2:
		return true
	}
	return false
}

func (u *slotUnit) heaterOn(s world.Sensed) bool {
	switch u.holding[slotboard.HoldHeater] {
	case 0:
		return s.AirDeciC < int(int16(u.holding[slotboard.HoldHeaterTemp]))
	case 2:
		return true
	}
	return false
}

func (u *slotUnit) charger(s world.Sensed, f *slotboard.Fast) {
	f.Charger = slotboard.ChargerIdle
	f.ChargerMV, f.ChargerMA = slotboard.Known(0), slotboard.Known(int32(s.CurrentMA))
	if s.CurrentMA > 0 {
		f.ChargerMV = slotboard.Known(fastChargerMV)
		f.Charger = slotboard.ChargerFast
		if s.Battery != nil && s.Battery.SocPermille >= taperPermille {
			f.Charger = slotboard.ChargerTaper
		}
	} else if s.Battery != nil && s.Battery.SocPermille >= fullPermille {
		f.Charger = slotboard.ChargerFull
	}
}

// describe fills in what the battery's own electronics say.
func describe(s world.Sensed, slot *slotboard.Slot) {
	b := *s.Battery
	n := func(v int) slotboard.Value { return slotboard.Known(int32(v)) }
	slot.Fast.SocPermille = n(b.SocPermille)
	slot.Fast.VoltageMV = n(b.VoltageMV())
	slot.Fast.CurrentMA = n(s.CurrentMA)
	if !b.NoTemp {
		slot.Fast.CellMax, slot.Fast.CellMin = n(b.TempDeciC), n(b.TempDeciC-5)
	}
	slot.Identity.Serial = b.Serial
	slot.Identity.Protocol = n(1)
	slot.Identity.Software, slot.Identity.Hardware, slot.Identity.Chemistry = n(0x21), n(3), n(2)
	slot.Identity.Cycles = n(b.Cycles)
	slot.Identity.NominalMAh = n(world.CapacityMAH)
	slot.Identity.RemainingMAh = n(world.CapacityMAH / 1000 * b.SocPermille)
	slot.Identity.Made = slotboard.Date{Year: 2025, Month: 9, Day: 1}
	slot.Identity.CellCount, slot.Identity.NTCCount = n(world.Cells), n(2)
	for i := range world.Cells {
		slot.Cells[i] = n(b.CellMV())
	}
	slot.NTC[0], slot.NTC[1] = slot.Fast.CellMax, slot.Fast.CellMin
}
