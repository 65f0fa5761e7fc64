package swap

import (
	"time"

	"batteryswap/protocol"
)

// Recovery closes a swap that a restart found open: it senses, and gives records
// and words. Its effects cannot contain a pulse.
type Recovery struct{ core }

// Boot is what a restart begins with: a machine when nothing was open, else a
// recovery that must come to its end first.
func Boot(d Durable, limits Limits, now time.Duration) (*Machine, *Recovery) {
	c := newCore(d, now)
	if d.Open == nil {
		return &Machine{core: c, limits: limits}, nil
	}
	for _, n := range d.Open.granted() {
		c.door(n).licensed = true
	}
	return nil, &Recovery{core: c}
}

// Step senses. It gives the machine that goes on as soon as the swap is closed.
// Every prepare is refused meanwhile.
func (r Recovery) Step(limits Limits, in Input) (Recovery, *Machine, []Effect) {
	r.begin(in)
	switch ev := in.Event.(type) {
	case Prepare:
		r.add(Reply{protocol.Refused{SwapID: ev.SwapID, Reason: protocol.ReasonBusy}})
	case Grant:
		r.add(Rejected{protocol.TypeGrant, whyNonce})
	case Cancel:
		r.cancel(ev.SwapID)
	case Wish:
		r.wish(ev)
	case Configure:
		r.configure(ev)
	}
	id := r.swapID()
	if !r.settle(protocol.ReasonPowerCut, true) {
		return r, nil, r.effects
	}
	r.remember(id)
	m := Machine{core: r.core, limits: limits}
	m.effects = nil
	return r, &m, r.effects
}
