package swap

import (
	"slices"

	"batteryswap/protocol"
)

// maxForced bounds the forced slots whose content is remembered. What an older
// one holds is held when its door is closed again, whatever it is.
const maxForced = 8

// foldTamper remembers what a slot held before its door was opened by force.
// TAMPER is the alarm too: a power cut may come before ALARM.
func (d Durable) foldTamper(p protocol.Tamper) Durable {
	if p.Slot == 0 {
		return d
	}
	d.Alarms = foldAlarm(d.Alarms, protocol.Alarm{Kind: protocol.AlarmTamper, Slot: p.Slot})
	if _, known := d.before(p.Slot); known {
		return d
	}
	forced := append(slices.Clone(d.Forced), Kept{Slot: p.Slot, Presence: p.Presence, Serial: p.BatterySerial})
	d.Forced = forced[max(0, len(forced)-maxForced):]
	return d
}

// before is what a forced slot held, as far as it is known.
func (d Durable) before(slotNumber int) (Kept, bool) {
	i := slices.IndexFunc(d.Forced, func(k Kept) bool { return k.Slot == slotNumber })
	if i < 0 {
		return Kept{}, false
	}
	return d.Forced[i], true
}

// without gives the list without a slot; nil when nothing is left.
func without(list []Kept, slotNumber int) []Kept {
	left := slices.DeleteFunc(slices.Clone(list), func(k Kept) bool { return k.Slot == slotNumber })
	if len(left) == 0 {
		return nil
	}
	return left
}
