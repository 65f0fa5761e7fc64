package charging

import (
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// Verdict is what the safety rules say now.
type Verdict struct {
	// Contactor: the main contactor may be closed.
	Contactor bool
	// Power says of each slot, by its number less 1, whether it may be charged.
	Power []bool
	// Halt: no lock is pulsed, no swap begins.
	Halt bool
	// Alarms are those that are on, sorted; all but supply_low are latched.
	Alarms []Alarm
	// Causes are why power is cut, latched or not, sorted. Their kinds are those
	// of alarms, and board_silent.
	Causes []Alarm
}

// Judge says what may have power now. It latches what two readings agree on.
func (g *Guard) Judge(now time.Duration) Verdict {
	active := g.causes(now)
	for _, a := range active {
		g.over[a] = now + calm
		if a.Kind == protocol.AlarmBoardSilent || a.Kind == protocol.AlarmSupply {
			g.over[a] = now // over as soon as it is over
		}
		if g.agreed(a, now) {
			g.latch(a)
		}
	}
	v := Verdict{Contactor: true, Power: make([]bool, len(g.slots)), Alarms: slices.Clone(g.latched)}
	for i := range v.Power {
		v.Power[i] = g.slots[i].fresh(g.limits.MaxAge, now)
	}
	for a, until := range g.over {
		if now > until {
			delete(g.over, a)
		} else {
			v.Causes = append(v.Causes, a)
		}
	}
	for _, a := range g.latched {
		if !slices.Contains(v.Causes, a) {
			v.Causes = append(v.Causes, a)
		}
	}
	slices.SortFunc(v.Causes, compareAlarm)
	for _, a := range v.Causes {
		g.apply(&v, a, now)
	}
	if !v.Contactor {
		clear(v.Power)
	}
	return v
}

// apply takes away what a cause forbids.
func (g *Guard) apply(v *Verdict, a Alarm, now time.Duration) {
	switch a.Kind {
	case protocol.AlarmTemperature, protocol.AlarmSensorSilent:
		if a.Slot == 0 {
			v.Contactor, v.Halt = false, true
			return
		}
		v.Power[a.Slot-1] = false
		for _, n := range g.limits.Neighbours(a.Slot) {
			v.Power[n-1] = false
		}
	case protocol.AlarmBoardSilent:
		if a.Slot == 0 {
			v.Contactor = false
			return
		}
		// A silent board has heard the order, or its own watchdog switches off. A
		// frozen one may do neither.
		s := &g.slots[a.Slot-1]
		if s.frozen || now-s.at <= g.limits.Watchdog+afterWatchdog {
			v.Contactor = false
		}
	case protocol.AlarmSupply:
		clear(v.Power)
		v.Halt = true
		if i, found := slices.BinarySearchFunc(v.Alarms, a, compareAlarm); !found {
			v.Alarms = slices.Insert(v.Alarms, i, a)
		}
	default:
		v.Contactor, v.Halt = false, true
	}
}

// agreed reports whether a cause that is there now is an alarm.
func (g *Guard) agreed(a Alarm, now time.Duration) bool {
	c := &g.cabinet
	if a.Slot == 0 {
		switch a.Kind {
		case protocol.AlarmSmoke:
			return c.smoke >= agree
		case protocol.AlarmWater:
			return c.water >= agree
		case protocol.AlarmEmergencyOff:
			return c.stop >= agree
		case protocol.AlarmContactor:
			return c.welded >= agree
		case protocol.AlarmTemperature:
			return g.hotSensors(agree, now) >= 2
		}
		return false
	}
	s := &g.slots[a.Slot-1]
	switch a.Kind {
	case protocol.AlarmTemperature:
		return s.hot >= agree
	case protocol.AlarmHeatRate:
		return s.rising >= agree
	case protocol.AlarmCurrentOff:
		return s.current >= agree
	case protocol.AlarmSmoke:
		return s.smog >= agree
	case protocol.AlarmSensorSilent:
		return now-s.silentSince >= silentLatch
	}
	return false
}

// causes are what the newest readings tell, and the silences.
func (g *Guard) causes(now time.Duration) []Alarm {
	var out []Alarm
	add := func(is bool, kind protocol.AlarmKind, slotNumber int) {
		if is {
			out = append(out, Alarm{kind, slotNumber})
		}
	}
	c := &g.cabinet
	add(c.smoke > 0, protocol.AlarmSmoke, 0)
	add(c.water > 0, protocol.AlarmWater, 0)
	add(c.stop > 0, protocol.AlarmEmergencyOff, 0)
	add(c.welded > 0, protocol.AlarmContactor, 0)
	low := c.last.BackupMV.Known && int(c.last.BackupMV.N) < g.limits.BackupMinMV
	add(low || c.last.BackupInUse == slot.Yes, protocol.AlarmSupply, 0)
	add(!c.fresh(g.limits.MaxAge, now) || c.misses >= silentMisses, protocol.AlarmBoardSilent, 0)
	add(g.hotSensors(1, now) >= 2, protocol.AlarmTemperature, 0)
	for i := range g.slots {
		s, n := &g.slots[i], i+1
		add(s.smog > 0, protocol.AlarmSmoke, n)
		add(s.hot > 0 || s.warm, protocol.AlarmTemperature, n)
		add(s.rising > 0, protocol.AlarmHeatRate, n)
		add(s.current >= agree, protocol.AlarmCurrentOff, n)
		add(s.silent, protocol.AlarmSensorSilent, n)
		unread := !s.fresh(g.limits.MaxAge, now) || s.misses >= silentMisses
		add(unread && s.unsure(), protocol.AlarmBoardSilent, n)
	}
	return out
}

// unsure: when the board was last read, or ever, its slot may have had power.
func (s *slotGuard) unsure() bool {
	return s.on || !s.heard || s.last.ChargeEnabled != slot.No || s.last.Charging == slot.Yes
}

// hotSensors counts the sensors that have been too hot in so many readings.
func (g *Guard) hotSensors(row int, now time.Duration) int {
	hot := 0
	for i := range g.slots {
		s := &g.slots[i]
		if s.hot < row || now-s.at > calm {
			continue
		}
		limit := g.limits.Types.Of(s.serial).HotC
		for _, is := range []bool{hotter(s.last.CellMax, limit), hotter(s.last.Air, limit) || s.last.Faults&faultSlotHot != 0} {
			if is {
				hot++
			}
		}
	}
	if hotter(g.cabinet.last.UpperTemp, g.limits.AirHotC) {
		hot++
	}
	return hot
}
