package swap

import (
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// chooseWindow is how long a granted slot may stay unknown before the next one
// is chosen.
const chooseWindow = 5 * time.Second

// nextDeposit opens the first granted deposit slot that has not been tried. Each
// one tried before must be closed and empty.
func (m *Machine) nextDeposit() {
	o := m.durable.Open
	tried := o.pulsed(protocol.PurposeDeposit)
	for _, n := range tried {
		if v := m.in.view(n); v.Content != slot.Empty {
			m.finish(protocol.ReasonDoorDidNotOpen)
			return
		}
	}
	for _, n := range o.Deposits {
		v := m.in.view(n)
		if !slices.Contains(tried, n) && m.takesDeposit(v) && m.open(v, protocol.PurposeDeposit) {
			return
		}
	}
	m.finish(m.whyNot(protocol.ReasonDoorDidNotOpen))
}

// whyNot is why nothing more is pulsed.
func (m *Machine) whyNot(otherwise protocol.Reason) protocol.Reason {
	switch {
	case m.mayPulse():
		return otherwise
	case m.in.Halt:
		return protocol.ReasonAlarm
	}
	return protocol.ReasonPulseWindowEnded
}

// advanceUnlocked follows the door that was pulsed last.
func (m *Machine) advanceUnlocked() {
	v := m.in.view(m.act.slot)
	if !m.act.answered || !v.Fresh || v.At <= m.act.answeredAt || !v.Closed {
		return // only closed gives a final reading
	}
	if !m.door(v.Slot).opened && !m.moved(v) {
		m.notOpened(v)
		return
	}
	switch m.act.purpose {
	case protocol.PurposeDeposit, protocol.PurposeReopen:
		m.closedDeposit(v)
	default:
		m.finish("")
	}
}

// moved reports whether the content alone proves that the door was opened,
// between two readings.
func (m *Machine) moved(v slot.View) bool {
	if m.act.purpose == protocol.PurposeDeposit {
		return v.Content == slot.Mute || v.Content == slot.Identified
	}
	return v.Content == slot.Empty || v.Content == slot.Identified && v.Serial != m.act.serial
}

// notOpened: the door is closed and was not seen open. Within the window that
// means nothing; after it a second pulse, and then the slot is faulty.
func (m *Machine) notOpened(v slot.View) {
	undecided := v.Content == slot.Unclear && !m.hopeless(v.Slot, false)
	if v.At < m.act.answeredAt+openWindow || undecided {
		return
	}
	if m.open(v, m.act.purpose) {
		return
	}
	if m.durable.Open.pulses(v.Slot, m.act.purpose) >= maxPulses {
		m.raise(protocol.AlarmSlotFault, v.Slot)
	}
	switch m.act.purpose {
	case protocol.PurposeDeposit:
		m.nextDeposit()
	case protocol.PurposeDispense:
		m.enter(choose)
	case protocol.PurposeReopen:
		m.enter(verify)
	default:
		m.finish(m.whyNot(protocol.ReasonDoorDidNotOpen))
	}
}

// closedDeposit: the rider's door is closed after it was open.
func (m *Machine) closedDeposit(v slot.View) {
	if v.Content == slot.Empty {
		m.finish("")
		return
	}
	m.enter(verify)
}

// late: somebody closed the deposit door so long after its pulse that it may
// not have been the rider.
func (m *Machine) late(v slot.View) bool { return v.ClosedSince-m.act.at > lateDeposit }

// advanceVerify waits for the battery to say who it is, and judges it.
func (m *Machine) advanceVerify() {
	v := m.in.view(m.act.slot)
	if !v.Fresh || !v.Closed {
		return
	}
	if v.Content == slot.Empty {
		m.finish("")
		return
	}
	dep, done := m.verify(v, false)
	if !done {
		return
	}
	if dep.Reason == protocol.ReasonNotPluggedIn && !m.reopened && !m.late(v) && m.open(v, protocol.PurposeReopen) {
		m.reopened = true
		return
	}
	if !dep.Accepted {
		m.refused(v, dep)
		return
	}
	if m.late(v) {
		dep.Reason = protocol.ReasonDepositLate
	}
	m.append(dep)
	if dep.Reason != "" || !m.durable.Open.Kind.Dispenses() {
		m.finish(dep.Reason)
		return
	}
	m.enter(choose)
}

// refused journals that the battery is not accepted and gives it back once. A
// door that closed late is not opened again: nobody knows who stands there. Nor
// is one with a recalled battery: it stays.
func (m *Machine) refused(v slot.View, dep protocol.Deposit) {
	m.append(dep)
	stuck := m.act.purpose == protocol.PurposeReopen && !m.door(v.Slot).opened
	if m.late(v) || stuck || m.durable.flagged(v.Serial) || !m.open(v, protocol.PurposeReturn) {
		m.finish(dep.Reason)
		return
	}
	m.reason = dep.Reason
}

// advanceChoose picks the slot to dispense from. While one that was pulsed is
// not closed with its battery inside, no other opens.
func (m *Machine) advanceChoose() {
	o := m.durable.Open
	tried := o.pulsed(protocol.PurposeDispense)
	for _, n := range append(slices.Clone(tried), o.pulsed(protocol.PurposeDeposit)...) {
		v := m.in.view(n)
		switch holds := m.asJudged(n, v); {
		case holds:
		case !v.Fresh || !v.Closed || !decided(v) && !m.hopeless(n, false):
			return // not known, or not at rest
		default:
			m.finish("")
			return
		}
	}
	for _, f := range o.Offers {
		if slices.Contains(tried, f.Slot) {
			continue
		}
		v := m.in.view(f.Slot)
		if (!v.Fresh || v.Content == slot.Unclear) && m.in.Now-m.since < chooseWindow {
			return
		}
		if v.Fresh && v.Closed && v.Content == slot.Empty {
			m.raise(protocol.AlarmSlotFault, f.Slot) // what was offered is gone
		}
		if m.givesOffer(f) && !m.worse(v) && m.open(v, protocol.PurposeDispense) {
			return
		}
	}
	m.nothingToDispense()
}

// asJudged reports whether a slot that was pulsed is closed and holds what it
// must for another to be opened.
func (m *Machine) asJudged(n int, v slot.View) bool {
	o := m.durable.Open
	if !v.Fresh || !v.Closed {
		return false
	}
	if f, ok := o.offer(n); ok {
		return v.Content == slot.Identified && v.Serial == f.BatterySerial
	}
	if d := o.Deposit; d != nil && d.Slot == n {
		return holds(v, d)
	}
	return v.Content == slot.Empty
}

// worse: the rider's own battery holds more than this one.
func (m *Machine) worse(v slot.View) bool {
	d := m.durable.Open.Deposit
	return d != nil && d.Soc != nil && *v.Battery.Soc < *d.Soc
}

// nothingToDispense gives the rider's own battery back, if there is one. One
// that was recalled stays, and the rider is owed another.
func (m *Machine) nothingToDispense() {
	why := m.whyNot(protocol.ReasonNoChargedBattery)
	if len(m.durable.Open.pulsed(protocol.PurposeDispense)) > 0 {
		why = m.whyNot(protocol.ReasonDoorDidNotOpen)
	}
	if d := m.durable.Open.Deposit; d != nil && !m.durable.flagged(d.Serial) && m.open(m.in.view(d.Slot), protocol.PurposeReturn) {
		m.reason = why
		return
	}
	m.finish(why)
}
