package cabinet

import (
	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

// Input is what a step of the Core takes: a Command, a swap.Configure, a
// swap.Rejected, a swap.Answered or a Tick. nil is that readings came.
type Input any

// Tick is that a little time has passed.
type Tick struct{}

// Effect is something that a step wants done: Append, Send, Pulse, Reread, Pace
// or Charge. They are done in order. When an Append fails, nothing after it is
// done, and no step follows.
type Effect interface{ effect() }

// Append writes records to the journal in one lot and syncs them.
type Append struct{ Payloads []protocol.Payload }

// Send hands a message to the link. It may be lost: the protocol asks again.
type Send struct{ Message protocol.Message }

// Pulse unlocks a slot once. That it is over comes back as swap.Answered, within
// swap.PulseTime; what came of it, the sensors tell.
type Pulse struct {
	Slot    int
	Purpose protocol.Purpose
	SwapID  protocol.SwapID
}

// Reread reads slots again before their turn.
type Reread struct{ Slots []int }

// Pace says how the slots are read from now on: as fast as the line allows, and
// these more often than the others.
type Pace struct {
	Hurry bool
	Watch []int
}

// Charge says which slots are to be charged from now on; the others are not. It
// holds for a short while and is said again.
type Charge struct{ Orders []charging.Order }

func (Append) effect() {}
func (Send) effect()   {}
func (Pulse) effect()  {}
func (Reread) effect() {}
func (Pace) effect()   {}
func (Charge) effect() {}

// maxLot bounds the records of one Append; a journal takes no more.
const maxLot = 16

func (c *Core) add(e Effect) { c.effects = append(c.effects, e) }

// append has records journalled.
func (c *Core) append(payloads []protocol.Payload) {
	for _, p := range payloads {
		c.note(p)
		c.play(p)
	}
	for len(payloads) > 0 {
		n := min(len(payloads), maxLot)
		c.add(Append{payloads[:n:n]})
		payloads = payloads[n:]
	}
}

// do takes over what the machine wants done.
func (c *Core) do(effects []swap.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case swap.Append:
			c.append(e.Payloads)
		case swap.Reply:
			c.reply(e.Message)
		case swap.Hurry:
			c.add(Reread{e.Slots})
		case swap.Rejected:
			c.reject(e)
		case swap.Prompt:
			c.stats.prompts.Add(1)
			c.o.Log.Info("a door waits to be closed", "slot", e.Slot, "event", e.Purpose, "swap_id", c.swapID())
		}
	}
}

func (c *Core) reply(m protocol.Message) {
	if p, ok := m.(protocol.Prepared); ok && len(p.DepositSlots) == 0 {
		c.pressed = false // one press, one swap
	}
	if r, ok := m.(protocol.Refused); ok {
		c.stats.refused.add(string(r.Reason))
		c.o.Log.Info("prepare refused", "swap_id", r.SwapID, "reason", r.Reason)
	}
	if a, ok := m.(protocol.MaintenanceAnswer); ok && a.Reason != "" {
		c.o.Log.Info("order of maintenance refused", "reason", a.Reason)
	}
	c.add(Send{m})
}
