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
	if c.in.Now-d.forcedAt >= tamperForgotten {
		d.trust = 0
	}
	d.trust = min(2*max(d.trust, tamperClear/2), tamperClearMax)
	d.forcedAt, d.proved = c.in.Now, Kept{}
	c.append(protocol.Tamper{Slot: slotNumber, Presence: was.Presence, BatterySerial: was.Serial, Inventory: c.inventory()})
	c.append(protocol.Alarm{Kind: protocol.AlarmTamper, Slot: slotNumber, SwapID: c.swapID()})
}

// prove keeps what a closed slot holds, when nobody who was let in can change it.
func (c *core) prove(v slot.View, d *door) {
	if !d.licensed && decided(v) && !c.letIn(v.Slot) {
		d.proved = keptIn(v)
	}
}

// letIn reports whether what a slot holds may still be changed by who was let in: by
// staff until maintenance ends; by a rider until the swap ends, or until what the
// rider has put in is judged. The door's own sensors may have lied.
func (c *core) letIn(slotNumber int) bool {
	if in := c.durable.Maintained; in != nil && slices.Contains(in.Opened, slotNumber) {
		return true
	}
	o := c.durable.Open
	if o == nil {
		return false
	}
	switch o.purposeOf(slotNumber) {
	case "":
		return false
	case protocol.PurposeDeposit, protocol.PurposeReopen:
		return o.Deposit == nil
	}
	return true
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
	if d.Maintained != nil {
		d.Maintained = d.Maintained.forced(p.Slot)
	}
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
