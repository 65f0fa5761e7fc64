package swap

import (
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// maintenanceWindow is for how long after its begin maintenance may open doors.
// The last pulse reaches its lock before it ends.
const maintenanceWindow = 15 * time.Minute

// Maintained is maintenance that has begun and is not over, as the journal tells
// it. No swap is open meanwhile.
type Maintained struct {
	MaintenanceID protocol.OrderID `json:"maintenance_id"`
	// BootSeq and MonoMS are of its begin: its boot, and the time since then.
	BootSeq uint32 `json:"boot_seq"`
	MonoMS  uint64 `json:"mono_ms"`
	Before  []Kept `json:"before"`           // the inventory at its begin
	Opened  []int  `json:"opened,omitempty"` // slots that were opened by order, each once
	// Forced are those of which TAMPER was told since they were last opened so.
	Forced []int `json:"forced,omitempty"`
}

// forced gives the maintenance with TAMPER told of a slot.
func (m *Maintained) forced(slotNumber int) *Maintained {
	n := *m
	if !slices.Contains(m.Forced, slotNumber) {
		n.Forced = append(slices.Clone(m.Forced), slotNumber)
	}
	return &n
}

// opened reports whether the last way into a slot was by order.
func (m *Maintained) opened(slotNumber int) bool {
	return slices.Contains(m.Opened, slotNumber) && !slices.Contains(m.Forced, slotNumber)
}

// foldMaintenance adds a MAINTENANCE record. The slots that are opened are told
// by it, not by INTENT: a flash that loses the last record does not lose both.
func (d Durable) foldMaintenance(monoMS uint64, p protocol.Maintenance) Durable {
	in := d.Maintained
	switch {
	case p.What == protocol.OrderBegin:
		d.Maintained = &Maintained{
			MaintenanceID: p.MaintenanceID, BootSeq: d.BootSeq, MonoMS: monoMS, Before: keep(p.Inventory),
		}
	case p.What == protocol.OrderEnd:
		d.Maintained = nil
	case in != nil:
		n := *in
		if !slices.Contains(in.Opened, p.Slot) {
			n.Opened = append(slices.Clone(in.Opened), p.Slot)
		}
		n.Forced = slices.DeleteFunc(slices.Clone(in.Forced), func(s int) bool { return s == p.Slot })
		d.Maintained = &n
	}
	return d
}

// keep is what of an inventory a later one is compared with.
func keep(inv protocol.Inventory) []Kept {
	var out []Kept
	for _, s := range inv {
		out = append(out, Kept{Slot: s.Slot, Out: s.Out, Presence: s.Presence, Serial: s.BatterySerial})
	}
	return out
}

// inWindow: the door was opened for maintenance whose time is not over, so that it
// may stand open without an alarm.
func (c *core) inWindow(d *door) bool {
	in := c.durable.Maintained
	return in != nil && d.licensed && in.BootSeq == c.durable.BootSeq && c.in.Now-in.began() < maintenanceWindow
}

func (m *Maintained) began() time.Duration { return time.Duration(m.MonoMS) * time.Millisecond }

// endMaintenance writes its end as soon as every slot is at rest, and reports
// whether it did. The same rules serve live maintenance and restarts.
func (c *core) endMaintenance(end protocol.Maintenance, restart bool) bool {
	in := c.durable.Maintained
	for _, was := range in.Before {
		if !c.restsAfter(in, was, restart) {
			return false
		}
	}
	c.hold(in)
	end.MaintenanceID, end.What = in.MaintenanceID, protocol.OrderEnd
	end.Inventory, end.Changes = c.inventory(), c.changes(in)
	c.append(end)
	c.unlicense()
	return true
}

// restsAfter reports whether a slot gives a final reading: closed, and its
// content decided or hopeless. One that no order has opened is not waited for
// when it is faulty, or silent for long; one that was opened only when staff have
// taken it out of service since.
func (c *core) restsAfter(in *Maintained, was Kept, restart bool) bool {
	v := c.in.view(was.Slot)
	if v.Fresh && v.Closed {
		return decided(v) || c.hopeless(v.Slot, restart)
	}
	byStaff := slices.Contains(c.durable.Config.SlotsOut, v.Slot)
	if slices.Contains(in.Opened, v.Slot) {
		return byStaff && c.lost(v)
	}
	return c.lost(v) || v.Fresh && (byStaff || c.faulty(v))
}

// faulty: what this slot says of its door is not to be relied on.
func (c *core) faulty(v slot.View) bool {
	return v.Fault != slot.NoFault || c.durable.Alarmed(protocol.AlarmSlotFault, v.Slot)
}

// changes are what maintenance did to the batteries. What was not read at both
// ends is none.
func (c *core) changes(in *Maintained) []protocol.Change {
	var out []protocol.Change
	for _, was := range in.Before {
		if v := c.in.view(was.Slot); c.tells(v, was) && v.Serial != was.Serial {
			out = append(out, protocol.Change{
				Slot: was.Slot, Removed: was.Serial, Added: v.Serial, Forced: !in.opened(was.Slot),
			})
		}
	}
	return out
}

// tells: it is known which battery, or none, was in the slot then, and now.
func (c *core) tells(v slot.View, was Kept) bool {
	before := was.Presence == protocol.PresenceEmpty || was.Presence == protocol.HoldsBattery && was.Serial != ""
	return before && v.Fresh && v.Closed && decided(v)
}

// hold keeps from riders what nobody can say how it came into a slot: what is in
// one that was opened while it was not known what it held before or holds now,
// and what came without an order. A battery that was held, or that TAMPER tells
// of, and has been changed for another by order is gone.
func (c *core) hold(in *Maintained) {
	for _, was := range in.Before {
		v := c.in.view(was.Slot)
		ordered, told := in.opened(was.Slot), c.tells(v, was)
		if ordered && told && v.Serial != was.Serial {
			c.clear(protocol.AlarmTamper, was.Slot) // of what is not in there any more
		}
		switch {
		case v.Fresh && v.Closed && v.Content == slot.Empty:
		case ordered && !told, !ordered && told && v.Serial != was.Serial:
			c.raise(protocol.AlarmHeldBattery, was.Slot)
		case ordered && v.Serial != was.Serial:
			c.clear(protocol.AlarmHeldBattery, was.Slot)
		}
	}
}
