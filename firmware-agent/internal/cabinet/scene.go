package cabinet

import (
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

// Scene is what happens at the cabinet now, for who stands before it.
type Scene struct {
	// Alarm: keep away. Maintenance: staff work here, nothing is to be put in.
	Alarm, Maintenance bool
	// Out is why no swap may begin, "" when one may.
	Out protocol.Reason
	// Step is what the rider of the open swap is to do, "" when there is none;
	// Slot is the door that it speaks of, 0 when none.
	Step Step
	Slot int
	Soc  *int // of the deposited battery, %
	// Outcome and Reason are of the swap that ended last, EndedAt when, on the
	// agent's monotonic clock. "" while this boot has ended none.
	Outcome protocol.Outcome
	Reason  protocol.Reason
	EndedAt time.Duration
	// Charged and Empty count the slots that a swap could use.
	Charged, Empty int
}

// Step is what a rider is to do now.
type Step string

// The steps of an open swap. Those of an open door are named as its purpose.
const (
	StepGranted  Step = "granted"  // a door is about to open
	StepDeposit  Step = "deposit"  // put the battery into Slot, close the door
	StepReopen   Step = "reopen"   // plug it in, Slot opened again
	StepVerify   Step = "verify"   // closed: what is in is being recognised
	StepDispense Step = "dispense" // take the battery out of Slot, close the door
	StepReturn   Step = "return"   // take the own battery back out of Slot
	StepSettle   Step = "settle"   // after a restart: close the door, nothing more opens
)

// played is what is remembered of the swap for its Scene, in RAM.
type played struct {
	opened  bool // the door that was pulsed last has been open since
	closed  protocol.Closed
	endedAt time.Duration
}

// play follows what is about to be journalled.
func (c *Core) play(p protocol.Payload) {
	switch p := p.(type) {
	case protocol.Accept, protocol.Intent:
		c.played.opened = false
	case protocol.DoorMoved:
		c.played.opened = c.played.opened || p.Door == protocol.DoorOpen
	case protocol.Closed:
		c.played.closed, c.played.endedAt = p, c.now
	}
}

// forStaff: maintenance is under way, or the key switch is turned for it.
func (c *Core) forStaff() bool { return c.durable().Maintained != nil || c.key() == slot.Yes }

// scene is what the screen shows after a step.
func (c *Core) scene(slots []slot.View, out protocol.Reason) Scene {
	d := c.durable()
	s := Scene{
		Alarm: out == protocol.ReasonAlarm, Out: out,
		Maintenance: c.forStaff(),
		Outcome:     c.played.closed.Outcome, Reason: c.played.closed.Reason, EndedAt: c.played.endedAt,
	}
	for _, v := range slots {
		s.Charged += count(v.Charged && !d.Out(v))
		s.Empty += count(v.Presence() == protocol.PresenceEmpty && !d.Out(v))
	}
	o := d.Open
	if o == nil {
		return s
	}
	s.Step = StepGranted
	if o.Deposit != nil {
		s.Soc = o.Deposit.Soc
	}
	if len(o.Intents) > 0 {
		last := o.Intents[len(o.Intents)-1]
		s.Step, s.Slot = Step(last.Purpose), last.Slot
		if last.Slot <= len(slots) && c.used(last, slots[last.Slot-1]) {
			s.Step, s.Slot = StepVerify, 0
		}
	}
	if c.recovery != nil {
		s.Step = StepSettle
	}
	return s
}

// used: the door that was pulsed last has been open and is shut again. Who is quicker
// than two readings is known by the battery that is in.
func (c *Core) used(last swap.Intent, v slot.View) bool {
	put := last.Purpose == protocol.PurposeDeposit && v.Presence() == protocol.HoldsBattery
	return (c.played.opened || put) && shut(v)
}

// shut: the newest reading alone says that the door is shut and locked. Nothing is
// decided on that, but the rider sees at once that it was noticed.
func shut(v slot.View) bool { return v.Fresh && !v.Ajar }

// Scene is what happens at the cabinet now. Any goroutine may ask.
func (c *Cabinet) Scene() Scene { return c.look().scene }
