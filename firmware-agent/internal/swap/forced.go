package swap

import (
	"slices"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// maxForced bounds the forced slots whose content is remembered. What an older
// one holds is held when its door is closed again, whatever it is.
const maxForced = 8

// forced tells that a door was opened that nobody was granted.
func (c *core) forced(d *door, was Kept, slotNumber int) {
	d.trust = min(2*max(d.trust, tamperClear/2), tamperClearMax)
	d.forcedAt, d.proved = c.in.Now, Kept{}
	c.append(protocol.Tamper{Slot: slotNumber, Presence: was.Presence, BatterySerial: was.Serial, Inventory: c.inventory()})
	c.append(protocol.Alarm{Kind: protocol.AlarmTamper, Slot: slotNumber, SwapID: c.swapID()})
}

// prove keeps what a closed slot holds, from which no pulse can take it. What comes
// out of a slot that the open swap has opened to give is that swap's.
func (c *core) prove(v slot.View, d *door) {
	o := c.durable.Open
	if !d.licensed && decided(v) && (o == nil || o.purposeOf(v.Slot) != protocol.PurposeDispense) {
		d.proved = keptIn(v)
	}
}

// unlicense ends what pulses have allowed: what the slots hold now stays there.
func (c *core) unlicense() {
	for _, v := range c.in.Slots {
		d := c.door(v.Slot)
		d.licensed = false
		if v.Closed && !c.durable.Alarmed(protocol.AlarmTamper, v.Slot) {
			c.prove(v, d)
		}
	}
}

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
