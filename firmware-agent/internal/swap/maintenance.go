package swap

import (
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

const (
	// keySettles is how long the key switch must say "not turned" to be believed:
	// its contact bounces.
	keySettles = 2 * time.Second
	// maxOrders bounds the orders that wait for their grant.
	maxOrders = 4
	// maxOrderGrant bounds the envelope that a MAINTENANCE carries, in bytes: with
	// it, inventory and changes of 48 slots fit into one record.
	maxOrderGrant = 512
)

// MaintenanceRequest is a verified maintenance_request, with what the machine
// needs to answer it.
type MaintenanceRequest struct {
	protocol.MaintenanceRequest
	// Random becomes the nonce if one is minted.
	Random protocol.Nonce
}

// MaintenanceGrant is a verified maintenance_grant with the envelope that it came
// in.
type MaintenanceGrant struct {
	protocol.MaintenanceGrant
	Raw []byte
}

func (MaintenanceRequest) event() {}
func (MaintenanceGrant) event()   {}

// order is one that has a nonce and no grant yet.
type order struct {
	asked protocol.MaintenanceRequest
	nonce protocol.Nonce
	at    time.Duration
}

// stopping is how maintenance will end once every door is closed.
type stopping struct {
	on     bool
	record protocol.Maintenance
}

// askedOrder answers a request with a nonce, or with why the order would not be
// carried out now. A repeated request gets the same nonce.
func (m *Machine) askedOrder(ev MaintenanceRequest) {
	m.orders = slices.DeleteFunc(slices.Clone(m.orders), func(o order) bool { return m.in.Now-o.at >= grantWindow })
	i := slices.IndexFunc(m.orders, func(o order) bool { return o.asked.OrderID == ev.OrderID })
	answer := m.answer(ev.OrderID)
	switch {
	case i >= 0 && m.orders[i].asked != ev.MaintenanceRequest:
		m.add(Rejected{protocol.TypeMaintenanceRequest, whyOrder})
		return
	case i >= 0:
		answer.Nonce = m.orders[i].nonce
	default:
		if answer.Reason = m.refusesOrder(ev.What, ev.Slot); answer.Reason == "" {
			answer.Nonce = ev.Random
			m.orders = append(m.orders, order{ev.MaintenanceRequest, ev.Random, m.in.Now})
			m.orders = m.orders[max(0, len(m.orders)-maxOrders):]
		}
	}
	m.add(Reply{answer})
}

func (c *core) answer(id protocol.OrderID) protocol.MaintenanceAnswer {
	return protocol.MaintenanceAnswer{OrderID: id, Epoch: c.durable.Epoch, BootSeq: c.durable.BootSeq, BootID: c.durable.BootID}
}

// refusesOrder is why an order is not carried out now, "" when it is. No door
// moves without the key switch; to end, none is needed.
func (m *Machine) refusesOrder(what protocol.Order, slotNumber int) protocol.Reason {
	in := m.durable.Maintained
	switch {
	case what == protocol.OrderEnd && in == nil:
		return protocol.ReasonNoMaintenance
	case what == protocol.OrderEnd:
		return ""
	case m.in.Key != slot.Yes:
		return protocol.ReasonKeyNotTurned
	case m.in.Refuse != "" && m.in.Refuse != protocol.ReasonAlarm:
		return m.in.Refuse // nobody would hear of it
	case what == protocol.OrderBegin && in != nil:
		return protocol.ReasonMaintenance
	case what == protocol.OrderBegin && (m.phase != idle || m.waking() || m.ajar()):
		return protocol.ReasonBusy
	case what == protocol.OrderBegin:
		return ""
	case in == nil:
		return protocol.ReasonNoMaintenance
	case m.stopping.on || m.in.Now-in.began() >= maintenanceWindow-PulseTime:
		return protocol.ReasonMaintenanceOver
	}
	return m.refusesOpening(slotNumber)
}

// refusesOpening is why a slot is not opened for maintenance now. What is hot or
// in quarantine stays locked in until its alarm is cleared on site.
func (m *Machine) refusesOpening(slotNumber int) protocol.Reason {
	v := m.in.view(slotNumber)
	switch {
	case m.in.Halt || m.durable.Quarantined(slotNumber):
		return protocol.ReasonAlarm
	case !v.Fresh:
		return protocol.ReasonSlotSilent
	case v.Door == protocol.DoorOpen || !m.othersRest(slotNumber):
		return protocol.ReasonBusy
	case m.left() < 1:
		m.raise(protocol.AlarmPulses, 0)
		return protocol.ReasonBusy
	}
	return ""
}

// othersRest reports whether no other door is open, nor may open yet: at most one
// is commanded open.
func (m *Machine) othersRest(slotNumber int) bool {
	if m.act.slot != 0 && !m.actRests(slotNumber) {
		return false
	}
	opened := m.durable.Maintained.Opened
	for _, v := range m.in.Slots {
		switch {
		case v.Slot == slotNumber, v.Fresh && v.Closed:
		case slices.Contains(opened, v.Slot), v.Fresh && !m.faulty(v) && !slices.Contains(m.durable.Config.SlotsOut, v.Slot):
			return false
		}
	}
	return true
}

// actRests reports whether the last pulse has done what it will do. Its own slot
// may be pulsed again while its door sticks.
func (m *Machine) actRests(slotNumber int) bool {
	v := m.in.view(m.act.slot)
	if !m.act.answered || !v.Fresh || v.At <= m.act.answeredAt {
		return false
	}
	late := v.At >= m.act.answeredAt+openWindow
	return v.Closed && (late || m.door(v.Slot).opened) || late && m.act.slot == slotNumber
}

// actOver reports whether nothing more can come of the last pulse. Where its slot
// is not closed since, or silent, that alone is no end.
func (m *Machine) actOver() bool {
	if m.act.slot == 0 {
		return true
	}
	v, until := m.in.view(m.act.slot), m.act.answeredAt+openWindow
	return m.act.answered && m.in.Now >= until && (!v.Fresh || v.At >= until)
}

// grantedOrder carries an order out, once: its nonce dies with it.
func (m *Machine) grantedOrder(ev MaintenanceGrant) {
	reject := func(why string) { m.add(Rejected{protocol.TypeMaintenanceGrant, why}) }
	i := slices.IndexFunc(m.orders, func(o order) bool {
		return o.asked == protocol.MaintenanceRequest{OrderID: ev.OrderID, What: ev.What, Slot: ev.Slot} && o.nonce == ev.Nonce
	})
	switch {
	case i < 0 || m.in.Now-m.orders[i].at >= grantWindow:
		reject(whyNonce)
		return
	case ev.BootID != m.durable.BootID:
		reject(whyBoot)
		return
	case len(ev.Raw) > maxOrderGrant:
		reject(whyTooLarge)
		return
	}
	m.orders = slices.Delete(slices.Clone(m.orders), i, i+1)
	if why := m.refusesOrder(ev.What, ev.Slot); why != "" {
		answer := m.answer(ev.OrderID)
		answer.Reason = why
		m.add(Reply{answer})
		return
	}
	rec := protocol.Maintenance{OrderID: ev.OrderID, What: ev.What, Slot: ev.Slot, Grant: string(ev.Raw)}
	switch ev.What {
	case protocol.OrderBegin:
		rec.MaintenanceID, rec.Inventory = ev.OrderID, m.inventory()
		m.append(rec)
		m.enter(maintaining)
	case protocol.OrderOpen:
		rec.MaintenanceID = m.durable.Maintained.MaintenanceID
		m.append(rec)
		m.openForStaff(ev.OrderID, m.in.view(ev.Slot))
	case protocol.OrderEnd:
		m.endBy(rec)
	}
}

// openForStaff journals the INTENT and has the lock pulsed once. If its door does
// not open, staff see it and may order it again.
func (m *Machine) openForStaff(id protocol.OrderID, v slot.View) {
	m.append(protocol.Intent{OrderID: id, Slot: v.Slot, Purpose: protocol.PurposeMaintenance, Pulse: 1, BatterySerial: v.Serial})
	m.pulse = &Pulse{Slot: v.Slot, Purpose: protocol.PurposeMaintenance}
	m.act = act{slot: v.Slot, serial: v.Serial, purpose: protocol.PurposeMaintenance, at: m.in.Now}
	d := m.door(v.Slot)
	d.license()
	d.opened = false
}

// endBy ends maintenance as soon as every door is closed. The first cause stays.
func (m *Machine) endBy(rec protocol.Maintenance) {
	if !m.stopping.on {
		m.stopping = stopping{true, rec}
	}
}

// advanceMaintenance ends it when the key is turned back or its time is over, and
// writes the end when every door is closed.
func (m *Machine) advanceMaintenance() {
	if m.in.Key != slot.No {
		m.keyOffSince = m.in.Now
	}
	switch {
	case m.in.Now-m.keyOffSince >= keySettles:
		m.endBy(protocol.Maintenance{Reason: protocol.ReasonKeyNotTurned})
	case m.in.Now-m.durable.Maintained.began() >= maintenanceWindow:
		m.endBy(protocol.Maintenance{Reason: protocol.ReasonMaintenanceOver})
	}
	if !m.stopping.on || !m.actOver() || !m.endMaintenance(m.stopping.record, false) {
		return
	}
	m.act, m.stopping = act{}, stopping{}
	m.enter(idle)
}
