package swap

import (
	"time"

	"batteryswap/protocol"
)

// Recovery closes a swap, or maintenance, that a restart found open: it senses, and
// gives records and words. Its effects cannot contain a pulse.
type Recovery struct{ core }

// Boot is what a restart begins with: a machine when nothing was open, else a
// recovery that must come to its end first.
func Boot(d Durable, limits Limits, now time.Duration) (*Machine, *Recovery) {
	c := newCore(d, now)
	if d.Open == nil && d.Maintained == nil {
		return &Machine{core: c, limits: limits}, nil
	}
	for _, n := range c.Slots() {
		c.door(n).license()
	}
	return nil, &Recovery{core: c}
}

// Step senses. It gives the machine that goes on as soon as the swap is closed, or
// maintenance is. Every prepare and every order is refused meanwhile.
func (r Recovery) Step(limits Limits, in Input) (Recovery, *Machine, []Effect) {
	r.begin(in)
	switch ev := in.Event.(type) {
	case Prepare:
		r.add(Reply{protocol.Refused{SwapID: ev.SwapID, Reason: r.refusal()}})
	case Grant:
		r.add(Rejected{protocol.TypeGrant, whyNonce})
	case Cancel:
		r.cancel(ev.SwapID)
	case Wish:
		r.wish(ev)
	case MaintenanceRequest:
		answer := r.answer(ev.OrderID)
		answer.Reason = protocol.ReasonBusy
		r.add(Reply{answer})
	case MaintenanceGrant:
		r.add(Rejected{protocol.TypeMaintenanceGrant, whyNonce})
	case Configure:
		r.configure(ev)
	}
	if !r.closeOpen() {
		return r, nil, r.effects
	}
	m := Machine{core: r.core, limits: limits}
	m.effects = nil
	return r, &m, r.effects
}

// closeOpen closes what is open, and reports whether it did.
func (r *Recovery) closeOpen() bool {
	if r.durable.Maintained != nil {
		return r.endMaintenance(protocol.Maintenance{Reason: protocol.ReasonPowerCut}, true)
	}
	id := r.swapID()
	if !r.settle(protocol.ReasonPowerCut, true) {
		return false
	}
	r.remember(id)
	return true
}

// refusal is why no swap may begin.
func (r *Recovery) refusal() protocol.Reason {
	if r.durable.Maintained != nil {
		return protocol.ReasonMaintenance
	}
	return protocol.ReasonBusy
}
