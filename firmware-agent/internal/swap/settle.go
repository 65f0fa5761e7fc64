package swap

import (
	"slices"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// settle closes the swap as soon as everything that it touched is at rest, and
// reports whether it did. why is the reason that a plain end carries.
func (c *core) settle(why protocol.Reason, restart bool) bool {
	o := c.durable.Open
	if o.Taken == nil && !c.atRest(o, restart) {
		return false
	}
	e := judge(o, c.in.view, restart)
	if e.verify != 0 {
		dep, done := c.verify(c.in.view(e.verify), restart)
		if !done {
			return false
		}
		c.append(dep)
		return c.settle(why, restart)
	}
	c.close(e, why)
	return true
}

// close writes the end. An alarm that keeps a battery from being given out
// comes before CLOSED: a cut between the two closes the swap again, not the slot.
func (c *core) close(e ending, why protocol.Reason) {
	o, closed := c.durable.Open, e.closed
	for _, n := range e.held {
		c.raise(protocol.AlarmHeldBattery, n)
	}
	if closed.Outcome == protocol.OutcomeReview {
		closed.Inventory = c.inventory()
	} else {
		closed.Reason = why
		if closed.TakeSlot != 0 && o.Taken == nil {
			c.append(protocol.Taken{SwapID: o.SwapID, Slot: closed.TakeSlot, BatterySerial: closed.Taken})
		}
	}
	c.append(closed)
	c.unlicense()
	c.doorRecords = 0
}

// atRest reports whether every slot that the end depends on gives a final
// reading: closed, and its content decided or hopeless.
func (c *core) atRest(o *Open, restart bool) bool {
	touched := o.granted()
	if !restart {
		touched = o.pulsed(protocol.PurposeDeposit, protocol.PurposeDispense)
	}
	for _, n := range touched {
		if !c.slotAtRest(o, n, restart) {
			return false
		}
	}
	return !restart || c.othersAtRest(o, touched)
}

func (c *core) slotAtRest(o *Open, n int, restart bool) bool {
	v := c.in.view(n)
	if restart && o.purposeOf(n) == "" && c.lost(v) {
		return true
	}
	if !v.Fresh || !v.Closed {
		return false
	}
	if decided(v) {
		return true
	}
	if d := o.Deposit; d != nil && d.Slot == n && !d.Accepted {
		return true // it was judged as it is
	}
	return c.hopeless(n, restart)
}

// lost: a slot that no pulse is known of tells nothing, or staff have taken it out
// of service. The swap does not wait for it; what it holds is not known.
func (c *core) lost(v slot.View) bool {
	since := c.door(v.Slot).freshAt
	if v.Fresh && !v.Closed && slices.Contains(c.durable.Config.SlotsOut, v.Slot) {
		since = c.startedAt
	} else if v.Fresh {
		return false
	}
	return c.in.Now-since >= unknownWindow
}

// hopeless: the slot has been closed for long enough to know what it holds, and
// its signs still contradict each other or are silent.
func (c *core) hopeless(n int, restart bool) bool {
	window := verifyWindow
	if restart {
		window = bootWindow
	}
	d := c.door(n)
	return d.unclear && c.in.Now-d.unclearSince >= window
}

// othersAtRest waits for the slots that the grant does not name. One that stays
// silent, or that is out of service, does not keep the swap open.
func (c *core) othersAtRest(o *Open, touched []int) bool {
	for _, was := range o.Before {
		v := c.in.view(was.Slot)
		if slices.Contains(touched, was.Slot) || was.Out || c.durable.Out(v) {
			continue
		}
		if v.Fresh && v.Closed && v.Content != slot.Unclear {
			continue
		}
		if v.Fresh && !v.Closed || c.in.Now-c.startedAt < unknownWindow {
			return false
		}
	}
	return true
}

// verify judges the battery in a closed slot. It is not done while more readings
// may still help.
func (c *core) verify(v slot.View, restart bool) (protocol.Deposit, bool) {
	dep := protocol.Deposit{SwapID: c.durable.Open.SwapID, Slot: v.Slot, Battery: v.Battery}
	if !v.Fresh || !v.Closed {
		return dep, false
	}
	if v.Content != slot.Identified {
		dep.Reason = protocol.ReasonSensorsDisagree
		if v.Content == slot.Mute {
			dep.Reason = protocol.ReasonNotPluggedIn
		}
		return dep, c.hopeless(v.Slot, restart)
	}
	dep.Reason = c.refuses(v)
	if dep.Reason == "" {
		dep.Reason = slot.Implausible(v.Battery)
		since, window := v.ClosedSince, verifyWindow
		if restart {
			since, window = max(since, c.startedAt), bootWindow
		}
		if dep.Reason == protocol.ReasonVoltage && c.in.Now-since < window {
			return dep, false // the battery's numbers may still come
		}
	}
	dep.Accepted = dep.Reason == ""
	if dep.Accepted && restart {
		dep.Reason = protocol.ReasonPowerCut
	}
	return dep, true
}

// refuses says why the cabinet does not take this battery from this rider.
func (c *core) refuses(v slot.View) protocol.Reason {
	switch {
	case !slices.Contains(c.durable.Open.Expect, v.Serial) && c.durable.flagged(v.Serial):
		return protocol.ReasonFlagged
	case !slices.Contains(c.durable.Open.Expect, v.Serial):
		return protocol.ReasonNotExpected
	case c.elsewhere(v.Serial, v.Slot):
		return protocol.ReasonSameSerialTwice
	}
	return ""
}
