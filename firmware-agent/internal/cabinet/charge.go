package cabinet

import (
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/firmware-agent/internal/swap"
)

const (
	// chargeAgain is how long to wait before a switch that the board's own
	// account does not show is ordered again; it doubles up to chargeSeldom.
	chargeAgain  = 2 * time.Second
	chargeSeldom = time.Minute
)

// chargeTurn bounds the orders of one slot: one at a time, then a pause.
type chargeTurn struct {
	under  bool // an order is under way
	on     bool // the last order
	pause  time.Duration
	nextAt time.Duration
}

// charge compares what the board says of each charge switch with what it should
// be, and orders the difference.
func (c *Core) charge(in swap.Input) {
	inUse, durable := c.inUse(), c.durable()
	for _, v := range in.Slots {
		turn := &c.chargeTurn[v.Slot]
		on := !in.Halt && charging.Decide(v, slices.Contains(inUse, v.Slot) || durable.Barred(v))
		if !v.Fresh || turn.under || v.ChargeEnabled == slot.TriOf(on) {
			if v.Fresh && !turn.under {
				turn.pause = 0
			}
			continue
		}
		if turn.on != on {
			turn.pause, turn.nextAt = 0, 0
		}
		if in.Now < turn.nextAt {
			continue
		}
		turn.pause = min(max(2*turn.pause, chargeAgain), chargeSeldom)
		turn.under, turn.on, turn.nextAt = true, on, in.Now+turn.pause
		c.add(Charge{v.Slot, on})
	}
}
